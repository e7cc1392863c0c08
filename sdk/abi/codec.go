// Package abi is the contract between Parley and its plugins: numbers, names
// and the encoding of messages. ABI.md, beside it, is the whole contract in
// words; registry.json is where both come from (make gen).
//
//	var b []byte
//	b = abi.AppendText(b, abi.FieldUsername, "alice")
//	b, mark := abi.Begin(b, abi.FieldParam)
//	b = abi.AppendText(b, abi.FieldName, "group")
//	b = abi.End(b, mark)
//
//	for r := abi.Read(b); r.Next(); {
//		switch r.Field {
//		case abi.FieldUsername:
//			user := r.Text()
//			…
//		}
//	}
//
// A message is a sequence of fields, each a field number (2 octets), a type (2),
// a length (4) and that many octets of value, all little endian, without
// padding. Host and Go guests share this code, so it imports little and
// compiles under TinyGo. It knows nothing of WebAssembly.
package abi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// A Field says what a value means. Those of 0x8000 and above are private:
// nobody will ever define them here.
type Field uint16

// A Type says how a value is encoded.
type Type uint16

// A Verdict is what a hook function returns. Below zero the plugin says that
// it has failed.
type Verdict int32

// A Service is a number of the import call.
type Service uint32

// String returns the verdict's name.
func (v Verdict) String() string {
	if name, ok := verdictNames[v]; ok {
		return name
	}
	return "verdict " + strconv.Itoa(int(v))
}

// An Errno is what the imports return below zero.
type Errno int32

// Error returns the errno's name.
func (e Errno) Error() string {
	if name, ok := errnoNames[e]; ok {
		return name
	}
	return "errno " + strconv.Itoa(int(e))
}

// header is the size of what precedes a value.
const header = 8

// AppendBytes appends a field of octets.
func AppendBytes(b []byte, f Field, v []byte) []byte {
	return append(appendHeader(b, f, TypeBytes, len(v)), v...)
}

// AppendText appends a field of UTF-8.
func AppendText(b []byte, f Field, v string) []byte {
	return append(appendHeader(b, f, TypeText, len(v)), v...)
}

// AppendUint appends a field that is a number.
func AppendUint(b []byte, f Field, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(appendHeader(b, f, TypeUint, 8), v)
}

// AppendMessage appends a field that is an encoded message.
func AppendMessage(b []byte, f Field, m []byte) []byte {
	return append(appendHeader(b, f, TypeMessage, len(m)), m...)
}

// AppendPair appends a message of a name and a text: a parameter, an attribute,
// a header field or a label.
func AppendPair(b []byte, f Field, name, text string) []byte {
	b, mark := Begin(b, f)
	return End(AppendText(AppendText(b, FieldName, name), FieldText, text), mark)
}

// Begin begins a field that is a message, and End ends it.
func Begin(b []byte, f Field) (_ []byte, mark int) {
	b = appendHeader(b, f, TypeMessage, 0)
	return b, len(b)
}

// End ends the field whose Begin returned mark.
func End(b []byte, mark int) []byte {
	binary.LittleEndian.PutUint32(b[mark-4:], uint32(len(b)-mark))
	return b
}

func appendHeader(b []byte, f Field, t Type, n int) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(f))
	b = binary.LittleEndian.AppendUint16(b, uint16(t))
	return binary.LittleEndian.AppendUint32(b, uint32(n))
}

// ErrMalformed is in all errors of a Reader.
var ErrMalformed = errors.New("malformed message")

// A Reader walks over the fields of a message. What it returns points into the
// message. It checks lengths, and the type and value of each field that is asked
// for; a fault ends the walk and is kept.
type Reader struct {
	Field Field // of the current field
	Type  Type  // likewise

	value []byte
	rest  []byte
	total int
	err   error
}

// Read returns a Reader of m.
func Read(m []byte) Reader { return Reader{rest: m, total: len(m)} }

// Next goes on to the next field, and reports whether there is one.
func (r *Reader) Next() bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	if len(r.rest) < header {
		r.fail("offset %d: %d octets are less than a field's header", r.total-len(r.rest), len(r.rest))
		return false
	}
	n := binary.LittleEndian.Uint32(r.rest[4:])
	if uint64(n) > uint64(len(r.rest)-header) {
		r.fail("offset %d: a value of %d octets, where %d are left", r.total-len(r.rest), n, len(r.rest)-header)
		return false
	}
	r.Field = Field(binary.LittleEndian.Uint16(r.rest))
	r.Type = Type(binary.LittleEndian.Uint16(r.rest[2:]))
	r.value, r.rest = r.rest[header:header+n:header+n], r.rest[header+n:]
	return true
}

// Err returns what was wrong with the message so far, and nil if nothing was.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail(format string, args ...any) {
	r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func (r *Reader) is(t Type) bool {
	if r.err == nil && r.Type != t {
		r.fail("field %v has type %d, not %d", r.Field, r.Type, t)
	}
	return r.err == nil
}

// Raw returns the value, whatever its type.
func (r *Reader) Raw() []byte { return r.value }

// Bytes returns the value of a field of octets.
func (r *Reader) Bytes() []byte {
	if !r.is(TypeBytes) {
		return nil
	}
	return r.value
}

// Text returns the value of a field of UTF-8, without copying it.
func (r *Reader) Text() []byte {
	if !r.is(TypeText) {
		return nil
	}
	if !utf8.Valid(r.value) {
		r.fail("field %v is not UTF-8", r.Field)
		return nil
	}
	return r.value
}

// Uint returns the value of a field that is a number.
func (r *Reader) Uint() uint64 {
	if !r.is(TypeUint) {
		return 0
	}
	if len(r.value) != 8 {
		r.fail("field %v is a number of %d octets, not 8", r.Field, len(r.value))
		return 0
	}
	return binary.LittleEndian.Uint64(r.value)
}

// Message returns a Reader of a field that is a message.
func (r *Reader) Message() Reader {
	if !r.is(TypeMessage) {
		return Reader{err: r.err}
	}
	return Read(r.value)
}

// Pair returns what AppendPair has appended. Fields beside name and text are
// skipped.
func (r *Reader) Pair() (name, text []byte) {
	in := r.Message()
	for in.Next() {
		switch in.Field {
		case FieldName:
			name = in.Text()
		case FieldText:
			text = in.Text()
		}
	}
	if in.err != nil {
		r.err = in.err
		return nil, nil
	}
	return name, text
}

// String returns the field's name.
func (f Field) String() string {
	if name, ok := fieldNames[f]; ok {
		return name
	}
	return strconv.Itoa(int(f))
}

// Lookup returns a field by its name.
func Lookup(name string) (Field, Type, bool) {
	for f, n := range fieldNames {
		if n == name {
			return f, fieldTypes[f], true
		}
	}
	return 0, 0, false
}
