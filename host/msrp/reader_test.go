package msrp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// frame returns a SEND; a body of "" stands for none.
func frame(tid, body string, flag Flag) string {
	head := "MSRP " + tid + " SEND\r\nTo-Path: msrp://b.example:1/x;tcp\r\nFrom-Path: msrp://a.example:1/y;tcp\r\nMessage-ID: m123\r\n"
	if body == "" {
		return head + "-------" + tid + string(flag) + "\r\n"
	}
	return head + "Content-Type: text/plain\r\n\r\n" + body + "\r\n-------" + tid + string(flag) + "\r\n"
}

// got is what a test keeps of a frame.
type got struct {
	raw, body string
	to, from  string
	hasBody   bool
	flag      Flag
	fault     string
}

// readAll reads every frame and joins the pieces of each.
func readAll(r io.Reader, lim Limits) (fs []got, err error) {
	mr := NewReader(r, lim)
	for {
		p, err := mr.Next()
		if err != nil {
			return fs, err
		}
		if p.First {
			g := got{raw: string(p.Head.Raw), to: string(p.Head.To), from: string(p.Head.From), hasBody: p.HasBody}
			if p.Head.Err != nil {
				g.fault = p.Head.Err.(*SyntaxError).Rule
			}
			fs = append(fs, g)
		}
		if len(fs) == 0 || len(p.Body) > max(lim.piece(), lim.otherBody()) || p.Plain && bytes.Contains(p.Body, dashes) {
			return fs, fmt.Errorf("invariant broken: %+v", p)
		}
		f := &fs[len(fs)-1]
		f.body += string(p.Body)
		if p.Last {
			f.flag = p.Flag
		}
	}
}

// A quietSource has nothing to read every other time.
type quietSource struct {
	io.Reader
	quiet bool
}

func (s *quietSource) ReadNow(b []byte) (int, error) {
	if s.quiet = !s.quiet; s.quiet {
		return 0, nil
	}
	return s.Read(b)
}

func (*quietSource) WaitReadable() error { return nil }

func quiet(r io.Reader) io.Reader { return &quietSource{Reader: r} }

func TestReaderBodies(t *testing.T) {
	all256 := make([]byte, 256)
	for i := range all256 {
		all256[i] = byte(i)
	}
	for _, tt := range []struct{ name, body string }{
		{"none", ""},
		{"short", "hi"},
		{"all octets", string(all256)},
		{"CRLF", "a\r\nb\r\n"},
		{"seven dashes", "a\r\n-------\r\n-------"},
		{"another's end-line", "a\r\n-------wxyz$\r\nb"},
		{"own tid, wrong flag", "a\r\n-------abcd!\r\nb\r\n-------abcd$x"},
		{"own tid, longer", "a\r\n-------abcde$\r\nb"},
		{"a long rule", strings.Repeat("-", 100) + "\r\n" + strings.Repeat("-", 100)},
		{"dashes before the end-line", "a\r\n--------abcd$\r\n---"},
		{"own tid without CRLF before", "a-------abcd$\r\nb"},
		{"ends in CR", "a\r"},
		{"ends in part of the marker", "a\r\n-------abc"},
		{"marker twice", "\r\n-------abcd\r\n-------abcd"},
		{"long", strings.Repeat("0123456789\r\n", 5000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := frame("abcd", tt.body, Continue) + "\r\n\r\n" + frame("wxyz", "next", Complete)
			for how, wrap := range map[string]func(io.Reader) io.Reader{
				"whole":           func(r io.Reader) io.Reader { return r },
				"bytes":           iotest.OneByteReader,
				"half":            iotest.HalfReader,
				"data with error": iotest.DataErrReader,
				"quiet":           quiet,
				"quiet, bytes":    func(r io.Reader) io.Reader { return quiet(iotest.OneByteReader(r)) },
			} {
				for _, lim := range []Limits{{}, {Head: 256, Piece: 16}} {
					fs, err := readAll(wrap(strings.NewReader(in)), lim)
					if err != io.EOF || len(fs) != 2 {
						t.Fatalf("%s: %d frames, %v", how, len(fs), err)
					}
					if fs[0].body != tt.body || fs[0].flag != Continue || fs[1].body != "next" || fs[1].flag != Complete {
						t.Errorf("%s: got %.60q %c, %q %c", how, fs[0].body, fs[0].flag, fs[1].body, fs[1].flag)
					}
				}
			}
		})
	}
}

// TestReaderSplit cuts a stream in two at every octet (CORE-36).
func TestReaderSplit(t *testing.T) {
	in := frame("abcd", "hello\r\n-------abc", Continue) + frame("wxyz", "", Complete) +
		"MSRP qrst 200 OK\r\nTo-Path: msrp://b.example:1/x;tcp\r\nFrom-Path: msrp://a.example:1/y;tcp\r\n-------qrst$\r\n"
	want, _ := readAll(strings.NewReader(in), Limits{})
	if len(want) != 3 {
		t.Fatalf("%d frames", len(want))
	}
	for i := range len(in) {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, quiet} {
			fs, err := readAll(wrap(io.MultiReader(strings.NewReader(in[:i]), strings.NewReader(in[i:]))), Limits{})
			if err != io.EOF || fmt.Sprint(fs) != fmt.Sprint(want) {
				t.Fatalf("cut at %d: %v %v", i, fs, err)
			}
		}
	}
}

// TestReaderPaths: paths that were met before are taken for what they are, and others
// for nothing else, whatever came between.
func TestReaderPaths(t *testing.T) {
	send := frame("abcd", "hello", Complete)
	long := strings.Replace(send, "b.example", "b.example.com", 1)
	frames := []string{
		send, send, long, long, send,
		strings.Replace(send, "From-Path: ", "from-path:  ", 1),
		strings.Replace(send, "/y;tcp", "/z;tcp", 1),
		strings.Replace(send, "To-Path", "Ti-Path", 1),
		send,
		strings.Replace(send, "/y;tcp\r\n", "/y;tcp\r\nFrom-Path: x\r\n", 1),
		"MSRP qrst 200 OK\r\nTo-Path: msrp://b.example:1/x;tcp\r\nFrom-Path: msrp://a.example:1/y;tcp\r\n-------qrst$\r\n",
		send,
		"MSRP qrst 200 OK\r\nTo-Path: msrp://b.example:1/x;tcp\r\nFrom-Path: msrp://a.example:1/y;tcp\r\n-------qrst$\r\n",
		send[:strings.Index(send, "From-Path")] + "-------abcd$\r\n",
		send,
	}
	var want []got
	for _, f := range frames {
		fs, _ := readAll(strings.NewReader(f), Limits{})
		want = append(want, fs...)
	}
	in := strings.Join(frames, "")
	for i := range len(in) {
		fs, err := readAll(io.MultiReader(strings.NewReader(in[:i]), strings.NewReader(in[i:])), Limits{})
		if err != io.EOF || !slices.Equal(fs, want) {
			t.Fatalf("cut at %d: %v %v", i, fs, err)
		}
	}
}

// TestReaderStows: while the rest of a frame does not come, the large buffer is given
// back if there is little in it.
func TestReaderStows(t *testing.T) {
	send := frame("abcd", strings.Repeat("x", 5000), Complete)
	for held, want := range map[int]bool{1: true, 300: true, stowSize: true, stowSize + 1: false} {
		r := NewReader(quiet(strings.NewReader(send)), Limits{})
		r.w = copy(r.lend(), send[:held])
		r.takeBack()
		if got := r.stowed != nil && r.buf == nil; got != want {
			t.Errorf("%d octets are stowed: %v", held, got)
		}
		if r.lend(); string(r.buf[:r.w]) != send[:held] || r.stowed != nil {
			t.Errorf("%d octets became %q", held, r.buf[:r.w])
		}
	}
}

func TestReaderErrors(t *testing.T) {
	head := "To-Path: msrp://b.example:1;tcp\r\nFrom-Path: msrp://a.example:1;tcp\r\n"
	for _, tt := range []struct {
		name string
		in   string
		err  error
	}{
		{"nothing", "", io.EOF},
		{"keep-alives", "\r\n\r\n\r\n", io.EOF},
		{"half a keep-alive", "\r", io.ErrUnexpectedEOF},
		{"cut in head", "MSRP abcd SEND\r\nTo-", io.ErrUnexpectedEOF},
		{"cut in body", strings.TrimSuffix(frame("abcd", "hi", '$'), "$\r\n"), io.ErrUnexpectedEOF},
		{"another protocol", "GET / HTTP/1.1\r\n\r\n", &SyntaxError{Rule: "start line"}},
		{"another protocol, no line end", "\x16\x03\x01", &SyntaxError{Rule: "start line"}},
		{"lower-case MSRP", "msrp abcd SEND\r\n", &SyntaxError{Rule: "start line"}},
		{"bare LF", "\n", &SyntaxError{Rule: "start line"}},
		{"short tid", "MSRP abc SEND\r\n", &SyntaxError{Rule: "transaction id"}},
		{"long tid", "MSRP " + strings.Repeat("a", 33) + " SEND\r\n", &SyntaxError{Rule: "transaction id"}},
		{"tid of bad characters", "MSRP ab_cd SEND\r\n", &SyntaxError{Rule: "transaction id"}},
		{"no method", "MSRP abcd\r\n", &SyntaxError{Rule: "transaction id"}},
		{"lower-case method", "MSRP abcd send\r\n", &SyntaxError{Rule: "method"}},
		{"two methods", "MSRP abcd SEND SEND\r\n", &SyntaxError{Rule: "method"}},
		{"two digits", "MSRP abcd 20 OK\r\n", &SyntaxError{Rule: "method"}},
		{"line ends in LF", "MSRP abcd SEND\r\nTo-Path: msrp://b.example:1;tcp\n", &SyntaxError{Rule: "line ending"}},
		{"another's end-line", "MSRP abcd SEND\r\n" + head + "-------abce$\r\n", &SyntaxError{Rule: "end-line"}},
		{"bad flag", "MSRP abcd SEND\r\n" + head + "-------abcd!\r\n", &SyntaxError{Rule: "end-line"}},
		{"endless line", "MSRP abcd SEND\r\nX: " + strings.Repeat("a", 1<<15), ErrHeadTooLarge},
		{"endless head", "MSRP abcd SEND\r\n" + strings.Repeat("X: a\r\n", 1<<13), ErrHeadTooLarge},
		{"long body of another method", "MSRP abcd REPORT\r\n" + head + "Content-Type: text/plain\r\n\r\n" + strings.Repeat("a", 10241) + "\r\n-------abcd$\r\n", ErrBodyTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in))} {
				_, err := readAll(r, Limits{})
				if want, ok := tt.err.(*SyntaxError); ok {
					var se *SyntaxError
					if !errors.As(err, &se) || se.Rule != want.Rule {
						t.Errorf("err = %v, want %s", err, want.Rule)
					}
				} else if err != tt.err {
					t.Errorf("err = %v, want %v", err, tt.err)
				}
			}
		})
	}
}

// TestHeadFaults: a fault within a frame leaves the next frame readable
// (CORE-22, CORE-24).
func TestHeadFaults(t *testing.T) {
	const (
		to   = "To-Path: msrp://b.example:1;tcp\r\n"
		from = "From-Path: msrp://a.example:1;tcp\r\n"
		id   = "Message-ID: m123\r\n"
		end  = "-------abcd$\r\n"
		body = "\r\nx\r\n-------abcd$\r\n"
		ct   = "Content-Type: text/plain\r\n"
	)
	for _, tt := range []struct{ name, in, rule string }{
		{"fine", "SEND\r\n" + to + from + id + ct + body, ""},
		{"fine without a body", "SEND\r\n" + to + from + id + end, ""},
		{"names in any case", "SEND\r\nTO-PATH:msrp://b.example:1;tcp\r\nfrom-path: \t msrp://a.example:1;tcp\r\nmessage-id: m123\r\n" + end, ""},
		{"no further header", "200 OK\r\n" + to + from + end, ""},
		{"UTF-8 text", "SEND\r\n" + to + from + id + "Subject: grüße\t世界 and more\r\n" + end, ""},
		{"no To-Path", "SEND\r\n" + from + id + end, "From-Path position"},
		{"no From-Path", "SEND\r\n" + to + id + end, "frame without From-Path"},
		{"no paths", "SEND\r\n" + id + end, "frame without To-Path"},
		{"no header at all", "SEND\r\n" + end, "frame without To-Path"},
		{"paths swapped", "SEND\r\n" + from + to + id + end, "From-Path position"},
		{"two To-Paths", "SEND\r\n" + to + from + to + id + end, "To-Path position"},
		{"two From-Paths", "SEND\r\n" + to + from + from + id + end, "From-Path position"},
		{"no Message-ID", "SEND\r\n" + to + from + end, "SEND without Message-ID"},
		{"bad Message-ID", "SEND\r\n" + to + from + "Message-ID: a b\r\n" + end, "Message-ID"},
		{"two Message-IDs", "SEND\r\n" + to + from + id + id + end, "Message-ID"},
		{"two Byte-Ranges", "SEND\r\n" + to + from + id + "Byte-Range: 1-1/1\r\nByte-Range: 1-1/1\r\n" + end, "Byte-Range"},
		{"bad Byte-Range", "SEND\r\n" + to + from + id + "Byte-Range: 0-1/1\r\n" + end, "Byte-Range"},
		{"bad Failure-Report", "SEND\r\n" + to + from + id + "Failure-Report: maybe\r\n" + end, "report wish"},
		{"two Failure-Reports", "SEND\r\n" + to + from + id + "Failure-Report: no\r\nFailure-Report: yes\r\n" + end, "header given twice"},
		{"partial Success-Report", "SEND\r\n" + to + from + id + "Success-Report: partial\r\n" + end, "Success-Report"},
		{"two Success-Reports", "SEND\r\n" + to + from + id + "Success-Report: no\r\nSuccess-Report: yes\r\n" + end, "header given twice"},
		{"no colon", "SEND\r\n" + to + from + id + "Oops\r\n" + end, "header"},
		{"folded line", "SEND\r\n" + to + from + id + "X: a\r\n b: c\r\n" + end, "header"},
		{"control character", "SEND\r\n" + to + from + id + "X: a\x00b\r\n" + end, "header value"},
		{"bare CR", "SEND\r\n" + to + from + id + "X: a\rb\r\n" + end, "header value"},
		{"bad UTF-8", "SEND\r\n" + to + from + id + "X: a\xffb\r\n" + end, "header value"},
		{"body without type", "SEND\r\n" + to + from + id + body, "body without Content-Type"},
		{"type without body", "SEND\r\n" + to + from + id + ct + end, "Content-Type without a body"},
		{"two types", "SEND\r\n" + to + from + id + ct + ct + body, "Content-Type"},
		{"bad type", "SEND\r\n" + to + from + id + "Content-Type: text\r\n" + body, "Content-Type"},
		{"REPORT without Status", "REPORT\r\n" + to + from + id + end, "REPORT without Status"},
		{"REPORT without Message-ID", "REPORT\r\n" + to + from + "Status: 000 200 OK\r\n" + end, "REPORT without Message-ID"},
		{"bad Status", "REPORT\r\n" + to + from + id + "Status: 200 OK\r\n" + end, "Status"},
		{"two Statuses", "REPORT\r\n" + to + from + id + "Status: 000 200\r\nStatus: 000 200\r\n" + end, "Status"},
		{"response with a body", "200 OK\r\n" + to + from + ct + body, "response with a body"},
		{"65 headers", "SEND\r\n" + to + from + id + strings.Repeat("X: y\r\n", 62) + end, "number of headers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := "MSRP abcd " + tt.in + frame("wxyz", "next", Complete)
			for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
				fs, err := readAll(r, Limits{})
				if err != io.EOF || len(fs) != 2 || fs[1].body != "next" {
					t.Fatalf("%v %v", fs, err)
				}
				if fs[0].fault != tt.rule {
					t.Errorf("fault = %q, want %q", fs[0].fault, tt.rule)
				}
			}
		})
	}
}

func TestHeadFields(t *testing.T) {
	in := "MSRP abcd SEND\r\nTo-Path: msrp://b.example:1/x;tcp msrp://c.example:2/z;tcp\r\nFrom-Path: msrp://a.example:1/y;tcp\r\n" +
		"Message-ID: m123\r\nX-One:  1\r\nByte-Range: 5-*/20\r\nSuccess-Report: YES\r\nx-two: 2\r\nFailure-Report: partial\r\n" +
		"Content-Disposition: attachment\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhi\r\n-------abcd#\r\n"
	p, err := NewReader(strings.NewReader(in), Limits{}).Next()
	if err != nil || p.Head.Err != nil {
		t.Fatal(err, p.Head.Err)
	}
	h := p.Head
	x, _ := h.Get("x-ONE")
	y, ok := h.Get("X-Three")
	for i, eq := range []bool{
		string(h.TID) == "abcd", h.Is("SEND"), !h.IsResponse(),
		string(h.To.First()) == "msrp://b.example:1/x;tcp", string(h.To.Rest()) == "msrp://c.example:2/z;tcp",
		string(h.To.Last()) == "msrp://c.example:2/z;tcp", len(h.From.Rest()) == 0,
		string(h.MessageID) == "m123", h.Range == ByteRange{5, Unknown, 20}, h.Success == Yes, h.Failure == Partial,
		string(h.ContentType) == "text/plain; charset=utf-8", string(x) == "1", !ok && y == nil,
		string(h.Before) == "Message-ID: m123\r\nX-One:  1\r\n",
		string(h.After) == "Success-Report: YES\r\nx-two: 2\r\nFailure-Report: partial\r\nContent-Disposition: attachment\r\nContent-Type: text/plain; charset=utf-8\r\n",
		p.First, p.Last, p.Flag == Abort, string(p.Body) == "hi", h.CheckPaths() == nil,
	} {
		if !eq {
			t.Errorf("check %d failed: %+v", i, h)
		}
	}
}

func TestReaderTorture(t *testing.T) {
	for _, kind := range []string{"valid", "invalid"} {
		files, err := filepath.Glob("../../testdata/torture/" + kind + "/*.msrp")
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s torture files: %v", kind, err)
		}
		for _, file := range files {
			t.Run(kind+"/"+filepath.Base(file), func(t *testing.T) {
				in, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				fs, err := readAll(bytes.NewReader(in), Limits{})
				fault := err != io.EOF
				for _, f := range fs {
					fault = fault || f.fault != ""
				}
				if fault != (kind == "invalid") {
					t.Errorf("%v, %v", fs, err)
				}
			})
		}
	}
}

// TestReaderHoldsNothingIdle: between frames a Reader holds no buffer.
func TestReaderHoldsNothingIdle(t *testing.T) {
	for _, in := range []string{"", frame("abcd", "hello", Complete), "\r\n"} {
		var r *Reader
		src := iotest.OneByteReader(strings.NewReader(in))
		r = NewReader(readerFunc(func(b []byte) (int, error) {
			if r.w == r.frame && !r.body && (r.buf != nil || !reflect.DeepEqual(r.head, Head{}) || !reflect.DeepEqual(r.piece, Piece{Head: &r.head})) {
				t.Errorf("after %q: a buffer is held with nothing in it", in)
			}
			return src.Read(b)
		}), Limits{})
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
		if r.buf != nil {
			t.Errorf("after %q: a buffer is held at the end", in)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// FuzzReader checks that how the octets arrive does not matter: the property
// that stream parsers most often break.
func FuzzReader(f *testing.F) {
	f.Add(frame("abcd", "hello\r\n-------abc", '$') + frame("wxyz", "", '+'))
	f.Add(strings.Repeat(frame("abcd", "-------", '$'), 2) + frame("abcd", "--------\r\n-", '$'))
	f.Add("MSRP a b\r\n")
	f.Add("\r\nMSRP abcd 200 OK\r\nTo-Path: msrp://b;tcp\r\nFrom-Path: msrp://a;tcp\r\n-------abcd$\r\n")
	f.Add("MSRP abcd AUTH\r\nTo-Path: msrp://b;tcp\r\n\r\nbody\r\n-------abcd$\r\n")
	f.Add("MSRP abcd SEND\r\nContent-Type: a/b\r\n\r\n-------abcd$\r\nMSRP abcd SEND\r\n-------abcd$\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		lim := Limits{Head: 128, Headers: 6, Piece: 8, OtherBody: 12}
		a, errA := readAll(strings.NewReader(in), lim)
		b, errB := readAll(iotest.OneByteReader(strings.NewReader(in)), lim)
		c, errC := readAll(quiet(iotest.HalfReader(strings.NewReader(in))), lim)
		if fmt.Sprint(errA) != fmt.Sprint(errB) || fmt.Sprint(errA) != fmt.Sprint(errC) {
			t.Fatalf("errors differ: %v, %v, %v", errA, errB, errC)
		}
		if errA != io.EOF {
			// The last frame was cut, and how much of it was handed on depends on arrival.
			n := max(0, min(len(a), len(b), len(c))-1)
			a, b, c = a[:n], b[:n], c[:n]
		}
		if !slices.Equal(a, b) || !slices.Equal(a, c) {
			t.Fatalf("frames differ: %v, %v, %v", a, b, c)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	for _, size := range []int{200, 2048, 60000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			in := []byte(frame("abcdefgh", strings.Repeat("x", size), '$'))
			rd := bytes.NewReader(nil)
			r := NewReader(rd, Limits{})
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				rd.Reset(in)
				for last := false; !last; {
					p, err := r.Next()
					if err != nil {
						b.Fatal(err)
					}
					last = p.Last
				}
			}
		})
	}
}

func TestReaderAllocates(t *testing.T) {
	in := []byte(frame("abcdefgh", strings.Repeat("x", 2048), '$'))
	rd := bytes.NewReader(nil)
	r := NewReader(rd, Limits{})
	n := testing.AllocsPerRun(1000, func() {
		rd.Reset(in)
		if p, err := r.Next(); err != nil || !p.Last || p.Head.CheckPaths() != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a frame that fits the buffer, want 0", n)
	}
}
