package msrptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

// patience is how long a Peer waits for what it wants. In virtual time it is free.
const patience = 5 * time.Minute

// A Header is one header line.
type Header struct{ Name, Value string }

// A Frame is a copy of a whole frame.
type Frame struct {
	Response bool
	TID      string
	Method   string // of a request
	Code     int    // of a response
	Comment  string // of a response
	To, From string
	Headers  []Header // To-Path and From-Path included, in order
	Body     []byte
	HasBody  bool
	Flag     byte
	Raw      string // start line and headers
}

// Get returns the value of the first header of this name, in any case.
func (f Frame) Get(name string) string {
	for _, h := range f.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// A Peer speaks for one end of a connection. What it does not get fails the test.
type Peer struct {
	t  testing.TB
	nc net.Conn
	rd *msrp.Reader
	in []byte // what was read and belongs to no frame that was returned
}

// NewPeer returns a Peer on nc, which is closed when the test ends.
func NewPeer(t testing.TB, nc net.Conn) *Peer {
	t.Cleanup(func() { nc.Close() })
	p := &Peer{t: t, nc: nc}
	p.rd = msrp.NewReader(p.source(), msrp.Limits{})
	return p
}

// source is what a new Reader reads: what was read already comes first.
func (p *Peer) source() io.Reader {
	if _, ok := p.nc.(msrp.MessageConn); ok {
		return (*messageTap)(p) // a message that was begun cannot be read on
	}
	return io.MultiReader(strings.NewReader(string(p.in)), (*tap)(p))
}

// A messageTap is a tap of a connection that carries messages: a message that
// is not one frame is no frame to the Peer.
type messageTap Peer

func (p *messageTap) Read(b []byte) (int, error) { return (*tap)(p).Read(b) }
func (p *messageTap) NextMessage() error         { return p.nc.(msrp.MessageConn).NextMessage() }

// A tap reads for a Peer and keeps what it read.
type tap Peer

func (p *tap) Read(b []byte) (int, error) {
	n, err := p.nc.Read(b)
	p.in = append(p.in, b[:n]...)
	return n, err
}

// Send writes lines, each of which gets a CRLF. It says nothing about whether
// they make a frame.
func (p *Peer) Send(lines string) {
	p.t.Helper()
	p.Write([]byte(strings.ReplaceAll(lines+"\n", "\n", "\r\n")))
}

// Write writes octets.
func (p *Peer) Write(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatalf("write to the other side: %v", err)
	}
}

// Close closes the connection.
func (p *Peer) Close() { p.nc.Close() }

// WebSocket makes a WebSocket of nc, as a client does, with further headers if
// header is not nil. A Peer on it writes one message with each Write, Send and
// SendFrame.
func WebSocket(t testing.TB, nc net.Conn, path string, header http.Header) *transport.WebSocket {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, err := transport.ConnectWebSocket(ctx, nc, "relay.example", path, header, transport.WebSocketConfig{
		Protocol: "msrp", Message: 1 << 30, Ping: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func (p *Peer) next(d time.Duration) (f Frame, err error) {
	_ = p.nc.SetReadDeadline(time.Now().Add(d))
	for {
		q, err := p.rd.Next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// A Reader's errors are final, but the test may go on: with a new one,
			// which starts where the last whole frame ended.
			p.rd = msrp.NewReader(p.source(), msrp.Limits{})
		}
		if err != nil {
			return f, err
		}
		if q.First {
			f = copyHead(q.Head)
			f.HasBody = q.HasBody
		}
		f.Body = append(f.Body, q.Body...)
		if q.Last {
			f.Flag = byte(q.Flag)
			p.in = p.in[bytes.Index(p.in, []byte("MSRP "))+f.size():]
			return f, nil
		}
	}
}

// size is how many octets f has on the wire.
func (f *Frame) size() int {
	n := len(f.Raw) + len("-------$\r\n") + len(f.TID)
	if f.HasBody {
		n += len("\r\n\r\n") + len(f.Body)
	}
	return n
}

func copyHead(h *msrp.Head) Frame {
	f := Frame{
		Response: h.IsResponse(), TID: string(h.TID), Method: string(h.Method), Code: h.Code, Comment: string(h.Comment),
		To: string(h.To), From: string(h.From), Raw: string(h.Raw),
	}
	f.parseHeaders()
	return f
}

func (f *Frame) parseHeaders() {
	lines := strings.Split(strings.TrimSuffix(f.Raw, "\r\n"), "\r\n")
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		f.Headers = append(f.Headers, Header{name, strings.TrimLeft(value, " \t")})
	}
}

// Next returns the next frame.
func (p *Peer) Next() Frame {
	p.t.Helper()
	f, err := p.next(patience)
	if err != nil {
		p.t.Fatalf("no frame: %v", err)
	}
	return f
}

// WantResponse returns the next frame, which must be this response.
func (p *Peer) WantResponse(tid string, code int) Frame {
	p.t.Helper()
	f := p.Next()
	if !f.Response || f.TID != tid || f.Code != code {
		p.t.Fatalf("want the response %d to %s, got\n%s", code, tid, f.Raw)
	}
	return f
}

// WantRequest returns the next frame, which must be a request of this method.
func (p *Peer) WantRequest(method string) Frame {
	p.t.Helper()
	f := p.Next()
	if f.Response || f.Method != method {
		p.t.Fatalf("want a %s, got\n%s", method, f.Raw)
	}
	return f
}

// WantNothing checks that for d no frame comes and the connection lives.
func (p *Peer) WantNothing(d time.Duration) {
	p.t.Helper()
	f, err := p.next(d)
	switch {
	case err == nil:
		p.t.Fatalf("want nothing, got\n%s", f.Raw)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		p.t.Fatalf("want nothing, but the connection ended: %v", err)
	}
}

// WantClosed checks that the other side closes the connection, whatever frames
// come before that.
func (p *Peer) WantClosed() {
	p.t.Helper()
	for {
		_, err := p.next(patience)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal("the connection is still open")
		}
		if err != nil {
			return
		}
	}
}

// Respond answers a request; extra are header lines.
func (p *Peer) Respond(f Frame, code int, extra ...string) {
	p.t.Helper()
	to := f.From
	if f.Method == "SEND" {
		to, _, _ = strings.Cut(to, " ") // RFC 4975 §7.2 (CORE-85)
	}
	own, _, _ := strings.Cut(f.To, " ")
	lines := append([]string{fmt.Sprintf("MSRP %s %03d", f.TID, code), "To-Path: " + to, "From-Path: " + own}, extra...)
	p.Send(strings.Join(append(lines, "-------"+f.TID+"$"), "\n"))
}

// A FrameSpec says what SendFrame writes. Nothing of it is checked, so that a
// frame can be as wrong as a test needs it.
type FrameSpec struct {
	TID      string // "" = a new one
	Method   string // "" = SEND; "200 OK" makes a response
	To, From string
	ID       string   // Message-ID; "" = none
	Range    string   // Byte-Range; "" = none
	Headers  []string // further lines, before Content-Type
	Type     string   // Content-Type; "" = text/plain if there is a body
	Body     string
	HasBody  bool   // set for an empty body; any other tells by itself
	Flag     byte   // 0 = '$'
	End      string // transaction id of the end-line; "" = TID
}

// SendFrame writes a frame and returns its transaction id.
func (p *Peer) SendFrame(s FrameSpec) (tid string) {
	p.t.Helper()
	or := func(v, def string) string {
		if v == "" {
			return def
		}
		return v
	}
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			b.WriteString(name + value + "\r\n")
		}
	}
	tid = or(s.TID, msrp.NewID(12))
	hasBody := s.HasBody || s.Body != ""
	line("MSRP "+tid+" ", or(s.Method, "SEND"))
	line("To-Path: ", s.To)
	line("From-Path: ", s.From)
	line("Message-ID: ", s.ID)
	line("Byte-Range: ", s.Range)
	for _, h := range s.Headers {
		line("", h)
	}
	if hasBody {
		line("Content-Type: ", or(s.Type, "text/plain"))
		b.WriteString("\r\n" + s.Body + "\r\n")
	} else {
		line("Content-Type: ", s.Type)
	}
	if s.Flag == 0 {
		s.Flag = '$'
	}
	b.WriteString("-------" + or(s.End, tid))
	b.WriteByte(s.Flag)
	b.WriteString("\r\n")
	p.Write([]byte(b.String()))
	return tid
}

// Limit is [Limit] for the connection of this Peer: with a small n it is a peer
// that does not read.
func (p *Peer) Limit(n int) { Limit(p.nc, n) }

// Peek returns the head of the next frame, which need not be complete, and
// leaves it unread. Only for a Pipe.
func (p *Peer) Peek() Frame {
	p.t.Helper()
	h := p.nc.(*end).in
	for {
		h.mu.Lock()
		// What came with the frame before was read with it.
		head, _, ok := bytes.Cut(slices.Concat(p.in, h.buf), []byte("\r\n\r\n"))
		f := Frame{Raw: string(head)}
		eof, change := h.eof, h.change
		h.mu.Unlock()
		switch {
		case ok:
			start := strings.Fields(f.Raw)
			f.TID, f.Method = start[1], start[2]
			f.parseHeaders()
			f.To, f.From = f.Get("To-Path"), f.Get("From-Path")
			return f
		case eof:
			p.t.Fatal("no frame: the connection is closed")
		}
		<-change
	}
}
