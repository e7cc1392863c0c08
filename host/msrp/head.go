package msrp

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// A Flag ends a frame and says whether its message goes on (RFC 4975 §7.1, CORE-32).
type Flag byte

// The three continuation flags.
const (
	Complete Flag = '$' // this chunk holds the end of the message
	Continue Flag = '+' // more chunks follow
	Abort    Flag = '#' // the sender gave the message up
)

func (f Flag) valid() bool { return f == Complete || f == Continue || f == Abort }

// A ReportWish is the value of a Success-Report or Failure-Report header.
type ReportWish uint8

// The zero ReportWish stands for an absent header, which means Yes for
// Failure-Report and No for Success-Report (RFC 4975 §7.1.1, CORE-45).
const (
	Absent ReportWish = iota
	Yes
	No
	Partial // Failure-Report only
)

func (w ReportWish) String() string { return [...]string{"", "yes", "no", "partial"}[w] }

// A Path is the value of a To-Path or From-Path header: URIs parted by a space,
// octet for octet as they came.
type Path []byte

// First returns the leftmost URI.
func (p Path) First() []byte {
	if i := bytes.IndexByte(p, ' '); i >= 0 {
		return p[:i]
	}
	return p
}

// Rest returns what follows the leftmost URI; it is empty when there is no more.
func (p Path) Rest() Path {
	if i := bytes.IndexByte(p, ' '); i >= 0 {
		return p[i+1:]
	}
	return nil
}

// Last returns the rightmost URI.
func (p Path) Last() []byte { return p[bytes.LastIndexByte(p, ' ')+1:] }

// URIs parses every URI of p. The result does not share memory with p.
func (p Path) URIs() ([]URI, error) {
	var us []URI
	for s := range strings.SplitSeq(string(p), " ") {
		u, err := ParseURI(s)
		if err != nil {
			return nil, err
		}
		us = append(us, u)
	}
	return us, nil
}

// check reports whether every URI of p parses, without allocating.
func (p Path) check() error {
	if len(p) == 0 {
		return syntaxError("path without a URI", "")
	}
	for len(p) > 0 {
		one := p.First()
		if _, err := ParseURI(view(one)); err != nil {
			return err
		}
		if len(one) < len(p) && len(p.Rest()) == 0 {
			return syntaxError("path ending in a space", "")
		}
		p = p.Rest()
	}
	return nil
}

// view returns b as a string without a copy; it must not outlive b's content.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// A Head is the start line and the headers of a frame. Its slices point into
// the Reader's buffer and are valid until the next call of Next.
type Head struct {
	// Raw is everything from "MSRP" to the last header, each line with its CRLF.
	Raw []byte
	TID []byte

	Method  []byte // of a request; nil in a response
	Code    int    // of a response
	Comment []byte // of a response

	// Paths is the two lines To-Path and From-Path as they came, and To and
	// From are their values.
	Paths    []byte
	To, From Path

	// Before and After are the other header lines, in order and octet for
	// octet, on both sides of Byte-Range. Without Byte-Range all are in After.
	Before, After []byte

	MessageID   []byte
	HasRange    bool
	Range       ByteRange // 1-*/* when absent (RFC 4975 §7.3.1)
	Success     ReportWish
	Failure     ReportWish
	Status      Status // of a REPORT
	HasStatus   bool
	ContentType []byte // nil when absent

	// Err is the first fault that left the framing intact; a request that has
	// one deserves a 400, if its paths can be read.
	Err error
}

// A Status is the value of a Status header or of a response's start line.
type Status struct {
	Code    int
	Comment string
}

// IsResponse reports whether the frame is a response.
func (h *Head) IsResponse() bool { return h.Method == nil }

// Is reports whether the frame is a request of this method; methods are
// case-sensitive (RFC 4975 §9, CORE-26).
func (h *Head) Is(method string) bool { return string(h.Method) == method }

// WantsOK reports whether a 200 is due for a SEND (RFC 4975 §7.2, CORE-81).
func (h *Head) WantsOK() bool { return h.Failure == Absent || h.Failure == Yes }

// WantsFailure reports whether the sender wants to hear of failures at all
// (RFC 4975 §7.1.4, CORE-82, CORE-83).
func (h *Head) WantsFailure() bool { return h.Failure != No }

// Get returns the value of the first header of this name (any case) after
// From-Path.
func (h *Head) Get(name string) (value []byte, ok bool) {
	for _, lines := range [...][]byte{h.Before, h.After} {
		for len(lines) > 0 {
			var line []byte
			line, lines = cutLine(lines)
			if n, v, ok := cutHeader(line); ok && equalFoldASCII(n, name) {
				return v, true
			}
		}
	}
	return nil, false
}

// cutLine splits at the first CRLF, which lines must hold.
func cutLine(lines []byte) (line, rest []byte) {
	i := bytes.IndexByte(lines, '\n')
	return lines[:i-1], lines[i+1:]
}

// cutHeader splits a header line. White space after the colon is dropped: one
// space is the rule, more is tolerated on receipt (CORE-25).
func cutHeader(line []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return nil, nil, false
	}
	value = line[i+1:]
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	return line[:i], value, true
}

// isHeader compares without regard to case; most peers write names as the RFC does.
func isHeader(name []byte, want string) bool {
	return string(name) == want || len(name) == len(want) && equalFoldASCII(name, want)
}

// fault keeps the first one.
func (h *Head) fault(rule string, near []byte) {
	if h.Err == nil {
		h.Err = syntaxError(rule, near)
	}
}

// parseStart parses the start line. A line without a usable transaction id is
// fatal, for without it the end of the frame cannot be found (CORE-42).
func (h *Head) parseStart(line []byte) error {
	rest, ok := bytes.CutPrefix(line, []byte("MSRP "))
	if !ok {
		return syntaxError("start line", line)
	}
	tid, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || !isIdent(tid) {
		return syntaxError("transaction id", line)
	}
	h.TID = tid
	word, comment, _ := bytes.Cut(rest, []byte(" "))
	switch {
	case len(word) == 3 && all(word, digits):
		h.Code = int(word[0]-'0')*100 + int(word[1]-'0')*10 + int(word[2]-'0')
		h.Comment = comment
		if !isText(comment) {
			h.fault("comment", comment)
		}
	case len(word) > 0 && len(word) == len(rest) && all(word, uppers):
		if h.Method = word; string(word) == "SEND" {
			h.Method = methodSend
		}
	default:
		return syntaxError("method", line)
	}
	return nil
}

// methodSend does not lie in a Reader's buffer, which it would keep in memory.
var methodSend = []byte("SEND")

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

// isIdent follows the "ident" rule of RFC 4975 §9: 4 to 32 characters.
func isIdent(b []byte) bool {
	return len(b) >= 4 && len(b) <= 32 && isAlphanum(b[0]) && all(b, identSet)
}

// parse fills h from raw, the whole head; ends are the offsets just past the
// CRLF of each line. The start line has been parsed, and the paths, too, if known has any.
func (h *Head) parse(raw []byte, ends []int, maxHeaders int, known *paths) {
	h.Raw = raw
	h.Range = ByteRange{1, Unknown, Unknown}
	if len(ends)-1 > maxHeaders {
		h.fault("number of headers", nil)
	}
	rest, rangeFrom, rangeTo := ends[0], -1, -1
	first := 0
	if known.size > 0 {
		first, rest = 2, ends[2]
		h.Paths = raw[ends[0]:rest]
		h.To, h.From = Path(raw[ends[0]+known.to:ends[1]-2]), Path(raw[ends[1]+known.from:rest-2])
	}
	for i := first; i < len(ends)-1; i++ {
		from, end := ends[i], ends[i+1]
		line := raw[from : end-2]
		name, value, ok := cutHeader(line)
		if !ok {
			h.fault("header", line)
			continue
		}
		if !isText(value) {
			h.fault("header value", name)
		}
		switch {
		case isHeader(name, "To-Path"):
			if i != 0 {
				h.fault("To-Path position", line[:7])
				continue
			}
			h.To = value
		case isHeader(name, "From-Path"):
			if i != 1 {
				h.fault("From-Path position", line[:9])
				continue
			}
			h.From, rest = value, end
			h.Paths = raw[ends[0]:end]
		case isHeader(name, "Message-ID"):
			if h.MessageID != nil || !isIdent(value) {
				h.fault("Message-ID", line)
			}
			h.MessageID = value
		case isHeader(name, "Byte-Range"):
			r, err := ParseByteRange(value)
			if h.HasRange || err != nil {
				h.fault("Byte-Range", line)
				continue
			}
			h.Range, h.HasRange = r, true
			rangeFrom, rangeTo = from, end
		case isHeader(name, "Success-Report"):
			h.wish(&h.Success, value, line)
			if h.Success == Partial {
				h.fault("Success-Report", line)
			}
		case isHeader(name, "Failure-Report"):
			h.wish(&h.Failure, value, line)
		case isHeader(name, "Status"):
			h.parseStatus(value, line)
		case isHeader(name, "Content-Type"):
			if h.ContentType != nil || !isMediaType(value) {
				h.fault("Content-Type", line)
			}
			h.ContentType = value
		case !isAlpha(name[0]) || !all(name, tokenChars):
			h.fault("header", line)
		}
	}
	// RFC 4975 §9 (CORE-23): To-Path comes first, From-Path second.
	if h.To == nil {
		h.fault("frame without To-Path", h.TID)
	} else if h.From == nil {
		h.fault("frame without From-Path", h.TID)
	}
	h.After = raw[rest:]
	if rangeFrom >= rest {
		h.Before, h.After = raw[rest:rangeFrom], raw[rangeTo:]
	}
}

func (h *Head) wish(w *ReportWish, value, line []byte) {
	if *w != Absent {
		h.fault("header given twice", line)
	}
	switch {
	case equalFoldASCII(value, "yes"):
		*w = Yes
	case equalFoldASCII(value, "no"):
		*w = No
	case equalFoldASCII(value, "partial"):
		*w = Partial
	default:
		h.fault("report wish", line)
		*w = No // do not answer what cannot be understood with what was not asked for
	}
}

// parseStatus reads "000 code [comment]". Namespaces other than 000 are not
// defined and are left alone (RFC 4975 §7.1.3, CORE-101).
func (h *Head) parseStatus(value, line []byte) {
	if h.HasStatus || len(value) < 7 || !all(value[:3], digits) || value[3] != ' ' ||
		!all(value[4:7], digits) || len(value) > 7 && value[7] != ' ' {
		h.fault("Status", line)
		return
	}
	h.HasStatus = true
	if string(value[:3]) == "000" {
		h.Status.Code = int(value[4]-'0')*100 + int(value[5]-'0')*10 + int(value[6]-'0')
	}
	if len(value) > 8 {
		h.Status.Comment = string(value[8:])
	}
}

// finish checks what depends on the method and on whether a body follows.
func (h *Head) finish(hasBody bool) {
	switch {
	case h.IsResponse():
		if hasBody {
			h.fault("response with a body", h.TID) // RFC 4975 §7.2 (CORE-33)
		}
		return
	case hasBody && h.ContentType == nil:
		h.fault("body without Content-Type", h.TID) // CORE-161
	case !hasBody && h.ContentType != nil:
		h.fault("Content-Type without a body", h.TID) // RFC 4975 §7.1 (CORE-30)
	}
	switch {
	case h.Is("SEND"):
		if h.MessageID == nil {
			h.fault("SEND without Message-ID", h.TID) // RFC 4975 §7.1.1 (CORE-160)
		}
	case h.Is("REPORT"):
		if h.MessageID == nil {
			h.fault("REPORT without Message-ID", h.TID) // RFC 4975 §7.1.2 (CORE-98)
		} else if !h.HasStatus {
			h.fault("REPORT without Status", h.TID)
		}
	}
}

// CheckPaths parses every URI of both paths. The Reader leaves this to the
// caller, who may know the very same octets from an earlier frame.
func (h *Head) CheckPaths() error {
	if err := h.To.check(); err != nil {
		return err
	}
	return h.From.check()
}

// isMediaType checks the two tokens and the slash of a Content-Type; its
// parameters are passed on unread.
func isMediaType(v []byte) bool {
	v, _, _ = bytes.Cut(v, []byte(";"))
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	typ, sub, ok := bytes.Cut(v, []byte("/"))
	return ok && len(typ) > 0 && len(sub) > 0 && all(typ, tokenChars) && all(sub, tokenChars)
}

// isText follows RFC 4975 §9 "utf8text": HTAB, printable ASCII and UTF-8.
func isText(b []byte) bool {
	ascii := true
	for i := 0; i+8 <= len(b); i += 8 {
		// Eight octets at once: is the top bit set in one, or is one below
		// 0x20 or equal to 0x7F? A false alarm only costs the slow loop.
		w := binary.LittleEndian.Uint64(b[i:])
		const lo, hi = 0x0101010101010101, 0x8080808080808080
		x := w ^ 0x7F*lo
		if w&hi != 0 || (w-0x20*lo)&^w&hi != 0 || (x-lo)&^x&hi != 0 {
			return slowText(b)
		}
	}
	for _, c := range b[len(b)&^7:] {
		ascii = ascii && 0x20 <= c && c < 0x7F
	}
	return ascii || slowText(b)
}

func slowText(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7F {
			return false
		}
	}
	return utf8.Valid(b)
}
