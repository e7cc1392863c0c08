// Package host is what a plugin imports: four functions, as sdk/abi/ABI.md
// describes them. In WebAssembly the host answers; on any other machine Fake
// does, so that plugins can be tested there.
package host

// An Imports answers in tests.
type Imports interface {
	Read(source, offset uint32, to []byte) int32
	Write(sink uint32, p []byte) int32
	Log(level uint32, line string)
	Call(service uint32, request []byte) int32
}

// Fake answers where there is no WebAssembly. Package parleytest sets it.
var Fake Imports

// ReadAll returns a whole source, whose size is n, or all there is if n is
// below zero. It allocates once, and what is cut out of it points into it.
func ReadAll(source uint32, n int32) string {
	if n < 0 {
		n = Read(source, 0, nil)
	}
	if n <= 0 {
		return ""
	}
	b := make([]byte, n)
	if got := Read(source, 0, b); got < n {
		b = b[:max(got, 0)]
	}
	return asString(b)
}
