package parley

import "github.com/parley-msrp/parley/sdk/abi"

// A Message is a request, or the result of a service. Fields are looked for when
// they are asked for; texts point into the message and cost nothing. A field
// that is absent, or of another type than asked for, is empty. What is there
// more than once, and is no list, counts once: the last.
type Message struct{ s string }

// NewMessage returns the message that was encoded by package abi.
func NewMessage(encoded []byte) Message { return Message{string(encoded)} }

// header is the size of what precedes a value: field, type and length.
const header = 8

// cut returns the first field of s and what is after it. Package abi reads
// octets, and this strings, which can be handed out without copying them.
func cut(s string) (f abi.Field, t abi.Type, value, rest string, ok bool) {
	if len(s) < header {
		return 0, 0, "", "", false
	}
	n := uint32(s[4]) | uint32(s[5])<<8 | uint32(s[6])<<16 | uint32(s[7])<<24
	if uint64(n) > uint64(len(s)-header) {
		return 0, 0, "", "", false
	}
	f = abi.Field(uint16(s[0]) | uint16(s[1])<<8)
	t = abi.Type(uint16(s[2]) | uint16(s[3])<<8)
	end := header + int(n)
	return f, t, s[header:end], s[end:], true
}

// last returns the value of the last field f, if its type is t.
func (m Message) last(f abi.Field, t abi.Type) (value string, ok bool) {
	for rest := m.s; ; {
		field, kind, v, after, more := cut(rest)
		if !more {
			return value, ok
		}
		if field == f && kind == t {
			value, ok = v, true
		}
		rest = after
	}
}

// each calls do for all fields f that are messages.
func (m Message) each(f abi.Field, do func(Message)) {
	for rest := m.s; ; {
		field, kind, v, after, more := cut(rest)
		if !more {
			return
		}
		if field == f && kind == abi.TypeMessage {
			do(Message{v})
		}
		rest = after
	}
}

// Has reports whether there is a field f, which may be empty.
func (m Message) Has(f abi.Field) bool {
	for rest := m.s; ; {
		field, _, _, after, more := cut(rest)
		if !more || field == f {
			return more
		}
		rest = after
	}
}

// Text returns a field of UTF-8.
func (m Message) Text(f abi.Field) string {
	v, _ := m.last(f, abi.TypeText)
	return v
}

// Bytes returns a copy of a field of octets.
func (m Message) Bytes(f abi.Field) []byte {
	v, ok := m.last(f, abi.TypeBytes)
	if !ok {
		return nil
	}
	return []byte(v)
}

// Uint returns a field that is a number.
func (m Message) Uint(f abi.Field) uint64 {
	v, _ := m.last(f, abi.TypeUint)
	if len(v) != 8 {
		return 0
	}
	var n uint64
	for i := 7; i >= 0; i-- {
		n = n<<8 | uint64(v[i])
	}
	return n
}

// Messages returns each field f, which is a list of messages.
func (m Message) Messages(f abi.Field) []Message {
	var out []Message
	m.each(f, func(in Message) { out = append(out, in) })
	return out
}

// A Pair is a parameter, an attribute, a header field or a label.
type Pair struct{ Name, Text string }

// Pairs returns each field f, which is a list of names and texts.
func (m Message) Pairs(f abi.Field) []Pair {
	var out []Pair
	m.each(f, func(in Message) { out = append(out, Pair{in.Text(abi.FieldName), in.Text(abi.FieldText)}) })
	return out
}

// Pair returns the text of this name among fields f, and "" if there is none.
func (m Message) Pair(f abi.Field, name string) string {
	text := ""
	m.each(f, func(in Message) {
		if in.Text(abi.FieldName) == name {
			text = in.Text(abi.FieldText)
		}
	})
	return text
}

// PairList returns all texts of this name among fields f.
func (m Message) PairList(f abi.Field, name string) []string {
	var out []string
	m.each(f, func(in Message) {
		if in.Text(abi.FieldName) == name {
			out = append(out, in.Text(abi.FieldText))
		}
	})
	return out
}

// A Reply is what a hook answers: a verdict and fields. Its methods return it
// with one field more and leave the one they are called on as it was, so that a
// Reply can be kept and begun from again.
type Reply struct {
	verdict abi.Verdict
	b       []byte
}

// NewReply returns a reply without fields.
func NewReply(v abi.Verdict) Reply { return Reply{verdict: v} }

// Deny refuses. Status 0 stands for 403. The reason is one line of up to 128
// bytes, which the peer sees.
func Deny(status int, reason string) Reply {
	r := NewReply(abi.VerdictDeny)
	if status != 0 {
		r = r.Uint(abi.FieldStatus, uint64(status))
	}
	if reason != "" {
		r = r.Text(abi.FieldReason, reason)
	}
	return r
}

// Fail says that the plugin could not decide, and why, for the log: on_error
// applies.
func Fail(reason string) Reply {
	return NewReply(-1).Text(abi.FieldReason, reason)
}

// Verdict returns the verdict.
func (r Reply) Verdict() abi.Verdict { return r.verdict }

// Message returns the fields.
func (r Reply) Message() Message { return NewMessage(r.b) }

// own returns the fields, with no room behind them: what is appended must not be
// seen by another reply that began as this one.
func (r Reply) own() []byte { return r.b[:len(r.b):len(r.b)] }

// Text adds a field of UTF-8.
func (r Reply) Text(f abi.Field, v string) Reply {
	return Reply{r.verdict, abi.AppendText(r.own(), f, v)}
}

// Uint adds a field that is a number.
func (r Reply) Uint(f abi.Field, v uint64) Reply {
	return Reply{r.verdict, abi.AppendUint(r.own(), f, v)}
}

// Bytes adds a field of octets.
func (r Reply) Bytes(f abi.Field, v []byte) Reply {
	return Reply{r.verdict, abi.AppendBytes(r.own(), f, v)}
}

// Pair adds a name and a text to a list.
func (r Reply) Pair(f abi.Field, name, text string) Reply {
	return Reply{r.verdict, abi.AppendPair(r.own(), f, name, text)}
}
