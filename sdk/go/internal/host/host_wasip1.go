package host

import "unsafe"

//go:wasmimport parley1 read
//go:noescape
func read(source, offset uint32, to unsafe.Pointer, capacity uint32) int32

//go:wasmimport parley1 write
//go:noescape
func write(sink uint32, p unsafe.Pointer, n uint32) int32

//go:wasmimport parley1 log
//go:noescape
func log(level uint32, p unsafe.Pointer, n uint32)

//go:wasmimport parley1 call
//go:noescape
func call(service uint32, p unsafe.Pointer, n uint32) int32

// Read copies a source, from offset on, and returns the size of all of it, or an
// errno.
func Read(source, offset uint32, to []byte) int32 {
	return read(source, offset, unsafe.Pointer(unsafe.SliceData(to)), uint32(len(to)))
}

// Write appends to a sink and returns the sink's size, or an errno.
func Write(sink uint32, p []byte) int32 {
	return write(sink, unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p)))
}

// Log logs a line.
func Log(level uint32, line string) {
	log(level, unsafe.Pointer(unsafe.StringData(line)), uint32(len(line)))
}

// Call asks a service and returns the size of its result, or an errno.
func Call(service uint32, request []byte) int32 {
	return call(service, unsafe.Pointer(unsafe.SliceData(request)), uint32(len(request)))
}

// asString returns b, which nobody writes to any more, as a string.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
