//go:build !wasip1

package host

import "github.com/parley-msrp/parley/sdk/abi"

// Read copies a source, from offset on, and returns the size of all of it, or an
// errno. Without a Fake every source is empty.
func Read(source, offset uint32, to []byte) int32 {
	if Fake == nil {
		return 0
	}
	return Fake.Read(source, offset, to)
}

// Write appends to a sink and returns the sink's size, or an errno.
func Write(sink uint32, p []byte) int32 {
	if Fake == nil {
		return int32(abi.ErrInval)
	}
	return Fake.Write(sink, p)
}

// Log logs a line. Without a Fake it is lost.
func Log(level uint32, line string) {
	if Fake != nil {
		Fake.Log(level, line)
	}
}

// Call asks a service and returns the size of its result, or an errno. Without a
// Fake there are no services.
func Call(service uint32, request []byte) int32 {
	if Fake == nil {
		return int32(abi.ErrNoSys)
	}
	return Fake.Call(service, request)
}

// asString returns b as a string.
func asString(b []byte) string { return string(b) }
