package msrp_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

// A script is a peer that writes and reads raw frames.
type script struct {
	t   *testing.T
	nc  net.Conn
	in  chan epFrame
	end chan error
}

type epFrame struct {
	head, body string
	tid        string
	hasBody    bool
	flag       msrp.Flag
}

func (f epFrame) String() string {
	return fmt.Sprintf("%s%q %c", f.head, f.body, f.flag)
}

// newScript reads frames from nc until it ends.
func newScript(t *testing.T, nc net.Conn) *script {
	p := &script{t: t, nc: nc, in: make(chan epFrame, 10000), end: make(chan error, 1)}
	done := make(chan struct{})
	go func() { defer close(done); p.read() }()
	t.Cleanup(func() { nc.Close(); <-done })
	return p
}

func (p *script) read() {
	rd := msrp.NewReader(p.nc, msrp.Limits{})
	var f epFrame
	for {
		piece, err := rd.Next()
		if err != nil {
			p.end <- err
			return
		}
		if piece.First {
			f = epFrame{head: string(piece.Head.Raw), tid: string(piece.Head.TID), hasBody: piece.HasBody}
		}
		f.body += string(piece.Body)
		if f.flag = piece.Flag; piece.Last {
			p.in <- f
		}
	}
}

// write writes text, its line feeds as CRLF.
func (p *script) write(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		p.t.Errorf("write: %v", err)
	}
}

func epHead(tid, method string) string {
	return "MSRP " + tid + " " + method + "\nTo-Path: " + epLocal + "\nFrom-Path: " + epPeer + "\n"
}

// chunk writes a SEND with a body; headers end in "\n" each.
func (p *script) chunk(tid, headers, body string, flag msrp.Flag) {
	p.t.Helper()
	p.write(epHead(tid, "SEND") + headers + "Content-Type: text/plain\n\n" + body + "\n-------" + tid + string(flag) + "\n")
}

// answer writes a response to f.
func (p *script) answer(f epFrame, code string) {
	p.t.Helper()
	p.write("MSRP " + f.tid + " " + code + "\nTo-Path: " + epLocal + "\nFrom-Path: " + epPeer + "\n-------" + f.tid + "$\n")
}

// report writes a REPORT.
func (p *script) report(id, byteRange, status string) {
	p.t.Helper()
	p.write(epHead("rep1", "REPORT") + "Message-ID: " + id + "\nByte-Range: " + byteRange + "\nStatus: " + status + "\n-------rep1$\n")
}

// next returns the next frame.
func (p *script) next() epFrame {
	p.t.Helper()
	select {
	case f := <-p.in:
		return f
	case <-time.After(time.Hour):
		p.t.Fatal("no frame came")
		panic("unreachable")
	}
}

// want checks that the next frame's start line, its tid apart, begins with
// start, and that the head has each of lines.
func (p *script) want(start string, lines ...string) epFrame {
	p.t.Helper()
	f := p.next()
	_, rest, _ := strings.Cut(strings.TrimPrefix(f.head, "MSRP "), " ")
	if !strings.HasPrefix(rest, start) {
		p.t.Fatalf("got %q, want %q", f.head, start)
	}
	for _, l := range lines {
		if !strings.Contains(f.head, "\r\n"+l+"\r\n") {
			p.t.Errorf("got %q, want in it %q", f.head, l)
		}
	}
	return f
}

// wantCode checks that the next frame is the response to tid.
func (p *script) wantCode(tid string, code int) epFrame {
	p.t.Helper()
	f := p.want(fmt.Sprint(code))
	if f.tid != tid {
		p.t.Fatalf("response to %s, want %s", f.tid, tid)
	}
	return f
}

func (p *script) wantNothing() {
	p.t.Helper()
	synctest.Wait()
	select {
	case f := <-p.in:
		p.t.Errorf("got %v, want nothing", f)
	default:
	}
}

// A valve holds a script's reading up, so that its peer's outbox fills. What
// was read first it lets through, to tell the first transaction id.
type valve struct {
	opened chan struct{}
	mu     sync.Mutex
	head   []byte
}

func newValve() *valve { return &valve{opened: make(chan struct{})} }
func (v *valve) open() { close(v.opened) }
func (v *valve) tid() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Fields(string(v.head))[1]
}

type valved struct {
	net.Conn
	*valve
}

func (c valved) Read(b []byte) (int, error) {
	c.mu.Lock()
	told := len(c.head) > 64
	c.mu.Unlock()
	if told {
		<-c.opened
	}
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	if len(c.head) < 100 {
		c.head = append(c.head, b[:min(n, 100)]...)
	}
	c.mu.Unlock()
	return n, err
}
