package fuel

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// A reader is a cursor over a module. Its first error is final: from then on
// everything reads as zero and the cursor stands at the end, so that loops over
// declared counts must look at err, and nothing else has to.
type reader struct {
	b  []byte // up to the end of the part being read, from the module's beginning
	at int    // offset in the module

	// Where the cursor is, for errors.
	section string
	item    string // "function"; empty if none
	n       int    // its index

	err error
}

// fail reports what is wrong at offset at.
func (r *reader) fail(at int, format string, args ...any) {
	if r.err != nil {
		return
	}
	where := r.section
	if r.item != "" {
		where = fmt.Sprintf("%s: %s %d", where, r.item, r.n)
	}
	if where != "" {
		where += ": "
	}
	r.err = fmt.Errorf("%soffset 0x%x: %s", where, at, fmt.Sprintf(format, args...))
	r.at = len(r.b)
}

func (r *reader) more() bool { return r.at < len(r.b) }

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.fail(r.at, "unexpected end")
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

// zero reads a byte that must be zero: the index of the only memory. A longer
// encoding of zero is refused, as wazero does.
func (r *reader) zero(what string) {
	if at := r.at; r.byte() != 0 {
		r.fail(at, "%s is not zero", what)
	}
}

// skip passes over n bytes and returns them.
func (r *reader) skip(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.at) {
		r.fail(r.at, "%d bytes do not fit into what is left", n)
		return nil
	}
	r.at += int(n)
	return r.b[r.at-int(n) : r.at]
}

// u32 reads an unsigned LEB128 of at most 32 bits, which may be padded.
func (r *reader) u32() uint32 {
	if r.at < len(r.b) && r.b[r.at] < 0x80 {
		r.at++
		return uint32(r.b[r.at-1])
	}
	return r.u32long()
}

func (r *reader) u32long() (v uint32) {
	at := r.at
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail(at, "number does not fit into 32 bits")
	return 0
}

// signed reads a signed LEB128 of at most bits (32, 33 or 64) bits.
func (r *reader) signed(bits int) (v int64) {
	at := r.at
	for shift := 0; shift < bits; shift += 7 {
		c := r.byte()
		if used := bits - shift; used < 7 {
			// In the last byte the bits above the number repeat its sign.
			if rest := int8(c<<1) >> used; c >= 0x80 || rest != 0 && rest != -1 {
				break
			}
		}
		v |= int64(c&0x7f) << shift
		if c < 0x80 {
			if shift+7 < 64 && c&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
	r.fail(at, "number does not fit into %d bits", bits)
	return 0
}

// count reads how many items follow, each of which takes at least size bytes.
// A count that cannot be true is refused before anyone allocates for it; wazero
// would.
func (r *reader) count(what string, size int) int {
	at := r.at
	n := r.u32()
	if uint64(n)*uint64(size) > uint64(len(r.b)-r.at) {
		r.fail(at, "%d %s do not fit into what is left", n, what)
		return 0
	}
	return int(n)
}

// atMost refuses more than max of what a module declares.
func (r *reader) atMost(what string, n uint64, max int) {
	if n > uint64(max) {
		r.fail(r.at, "%d %s, at most %d are allowed", n, what, max)
	}
}

// index reads an index that must be one of n. What the rewriter adds comes
// behind these.
func (r *reader) index(what string, n int) uint32 {
	at := r.at
	i := r.u32()
	if uint64(i) >= uint64(n) && r.err == nil {
		r.fail(at, "%s %d does not exist", what, i)
		return 0
	}
	return i
}

func (r *reader) name() []byte {
	at := r.at
	name := r.skip(r.u32())
	if !utf8.Valid(name) {
		r.fail(at, "name is not UTF-8")
	}
	return name
}

const valueTypes = "\x7f\x7e\x7d\x7c\x7b\x70\x6f"

// valueType reads i32, i64, f32, f64, v128, funcref or externref. Typed
// references and those of other proposals are refused.
func (r *reader) valueType() {
	at := r.at
	if t := r.byte(); bytes.IndexByte([]byte(valueTypes), t) < 0 {
		r.fail(at, "value type 0x%02x is not allowed", t)
	}
}

func (r *reader) refType() {
	at := r.at
	if t := r.byte(); t != 0x70 && t != 0x6f {
		r.fail(at, "reference type 0x%02x is not allowed", t)
	}
}

func appendUnsigned(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendSigned(b []byte, v int64) []byte {
	for v < -0x40 || v >= 0x40 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v)&0x7f)
}
