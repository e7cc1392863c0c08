package msrp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// messages is a source of messages, read some octets at a time.
type messages struct {
	all  []string
	now  *strings.Reader
	step int
}

func (m *messages) NextMessage() error {
	if m.now != nil && m.now.Len() > 0 {
		panic("a message was not read to its end")
	}
	if len(m.all) == 0 {
		return io.EOF
	}
	m.now, m.all = strings.NewReader(m.all[0]), m.all[1:]
	return nil
}

func (m *messages) Read(b []byte) (int, error) { return m.now.Read(b[:min(len(b), m.step)]) }

// TestReaderMessages: a message holds one frame, wherever its octets are cut (WS-15).
func TestReaderMessages(t *testing.T) {
	one := "MSRP aaaa1111 SEND\r\nTo-Path: msrp://a:1/x;tcp\r\nFrom-Path: msrp://b:1/x;ws\r\nMessage-ID: m1234\r\n" +
		"Content-Type: a/b\r\n\r\nhello\r\n-------aaaa1111$\r\n"
	head := "MSRP bbbb1111 200 OK\r\nTo-Path: msrp://a:1/x;tcp\r\nFrom-Path: msrp://b:1/x;ws\r\n-------bbbb1111$\r\n"
	for _, tt := range []struct {
		name   string
		in     []string
		frames int
		err    string
	}{
		{"none", nil, 0, "EOF"},
		{"two", []string{one, head}, 2, "EOF"},
		{"line breaks", []string{"", "\r\n", one, "\r\n\r\n", "", head}, 2, "EOF"},
		{"two in one", []string{head + one}, 1, `msrp: bad message near "M`},
		{"line break behind", []string{one + "\r\n", head}, 1, `msrp: bad message near "\r`},
		{"line break before", []string{"\r\n" + one}, 1, "EOF"},
		{"cut in the head", []string{head[:30], head[30:]}, 0, "unexpected EOF"},
		{"cut in the body", []string{one[:len(one)-25], one[len(one)-25:]}, 0, "unexpected EOF"},
		{"cut before the end", []string{one[:len(one)-1], "\n"}, 0, "unexpected EOF"},
	} {
		for _, step := range []int{1, 2, 7, 1000} {
			rd := NewReader(&messages{all: tt.in, step: step}, Limits{})
			n := 0
			var err error
			for {
				var p *Piece
				if p, err = rd.Next(); err != nil {
					break
				}
				if p.Last {
					n++
				}
			}
			if n != tt.frames || !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("%s, %d at a time: %d frames, then %v", tt.name, step, n, err)
			}
		}
	}
}

// FuzzMessages: where messages end matters, but not how their octets come; and
// each message that is no fault is one frame, or blank.
func FuzzMessages(f *testing.F) {
	f.Add("MSRP aaaa1111 SEND\r\nTo-Path: msrp://a:1/x;tcp\r\n\r\nhello\r\n-------aaaa1111$\r\n", 70)
	f.Add("\r\nMSRP aaaa1111 200 OK\r\n-------aaaa1111$\r\nMSRP aaaa1111 200 OK\r\n-------aaaa1111$\r\n", 42)
	f.Fuzz(func(t *testing.T, in string, cut int) {
		cut = min(max(cut, 0), len(in))
		read := func(step int) (out []string, err error) {
			rd := NewReader(&messages{all: []string{in[:cut], in[cut:]}, step: step}, Limits{Head: 256, Piece: 64, OtherBody: 64})
			body := ""
			for {
				p, err := rd.Next()
				if err != nil {
					return out, err
				}
				if p.First {
					body = string(p.Head.Raw)
				}
				if body += string(p.Body); p.Last {
					out = append(out, body)
				}
			}
		}
		a, errA := read(1)
		b, errB := read(1000)
		if !slices.Equal(a, b) || errors.Is(errA, io.EOF) != errors.Is(errB, io.EOF) {
			t.Fatalf("octet by octet %q, %v; at once %q, %v", a, errA, b, errB)
		}
		blank := func(s string) bool { return strings.Trim(s, "\r\n") == "" }
		want := 2
		for _, s := range []string{in[:cut], in[cut:]} {
			if blank(s) {
				want--
			}
		}
		if errA == io.EOF && len(a) != want {
			t.Fatalf("%d frames in %d messages", len(a), want)
		}
	})
}

// A messageSink takes messages, and checks that they are as long as was said.
type messageSink struct {
	net.Conn
	mu    sync.Mutex
	sizes []int
	left  []byte
	got   []string
	block chan struct{} // a write waits for it
	gone  chan struct{}
	once  sync.Once
}

func (s *messageSink) NextMessage() error               { <-s.gone; return io.EOF }
func (s *messageSink) Close() error                     { s.once.Do(func() { close(s.gone) }); return nil }
func (s *messageSink) SetWriteDeadline(time.Time) error { return nil }
func (s *messageSink) Messages(sizes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes = append(s.sizes, sizes...)
}

func (s *messageSink) Write(b []byte) (int, error) {
	<-s.block
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, b...)
	for len(s.sizes) > 0 && len(s.left) >= s.sizes[0] {
		s.got = append(s.got, string(s.left[:s.sizes[0]]))
		s.left, s.sizes = s.left[s.sizes[0]:], s.sizes[1:]
	}
	return len(b), nil
}

// TestConnMessages: requests, answers and long streams leave as one message
// each, whatever overtakes what and wherever blocks end (WS-11).
func TestConnMessages(t *testing.T) {
	sink := &messageSink{block: make(chan struct{}), gone: make(chan struct{})}
	c := NewConn(ConnConfig{Chunk: 5000, Limits: Limits{Outbox: 64 << 20}})
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(sink) }()
	paths := AppendPaths(nil, []byte("msrp://a:1/x;tcp"), []byte("msrp://b:1/x;ws"), nil)
	wg := sync.WaitGroup{}
	const rounds = 200
	var octets int
	for worker := range 3 {
		wg.Go(func() {
			for i := range rounds {
				switch worker {
				case 0:
					_ = c.Send(&Request{Method: []byte("SEND"), Paths: paths, Body: bytes.Repeat([]byte("s"), i*50), HasBody: true, Flag: Complete}, nil)
				case 1:
					_ = c.SendResponse(&Response{TID: fmt.Appendf(nil, "tid%05d", i), Code: 200, To: Path("msrp://a:1/x;tcp"), From: Path("msrp://b:1/x;ws")})
				case 2:
					st := c.NewStream(&Request{Method: []byte("SEND"), Paths: paths, Range: ByteRange{1, Unknown, Unknown}}, nil)
					for range 3 {
						_ = st.Write(bytes.Repeat([]byte("~"), i*100), 0)
					}
					_ = st.Write(nil, Complete)
				}
				c.Flush()
				if worker == 0 {
					select {
					case sink.block <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	for i := range rounds {
		octets += i*50 + 3*i*100
	}
	wg.Wait()
	close(sink.block)
	c.Finish(nil)
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if len(sink.left)+len(sink.sizes) > 0 {
		t.Errorf("%d octets left, and sizes %v", len(sink.left), sink.sizes)
	}
	frames, body := 0, 0
	for _, m := range sink.got {
		rd := NewReader(&messages{all: []string{m}, step: 1 << 20}, Limits{})
		for {
			p, err := rd.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v in %q", err, m)
			}
			if body += len(p.Body); p.Last {
				frames++
			}
		}
		if n := strings.Count(m, "~"); n > 5000 {
			t.Errorf("a chunk of %d octets", n)
		}
	}
	if frames != len(sink.got) || body != octets {
		t.Errorf("%d frames in %d messages, with %d octets of %d", frames, len(sink.got), body, octets)
	}
}
