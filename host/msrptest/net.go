// Package msrptest has peers for tests: scripted ones that say what the test
// tells them, legal or not, and an in-memory network that works in the virtual
// time of testing/synctest.
//
//	synctest.Test(t, func(t *testing.T) {
//		ln := msrptest.NewListener()
//		go relay.Serve(ctx, "edge", ln)
//		p := msrptest.NewPeer(t, ln.Dial())
//		p.Send("MSRP abcd SEND\nTo-Path: …\n…\n-------abcd$")
//		p.WantResponse("abcd", 481)
//		p.WantNothing(time.Minute) // free
//	})
//
// It is no MSRP endpoint: for one that does as it should, see msrp.Endpoint.
package msrptest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// defaultBuffer is what a Pipe holds each way, in bytes, like a socket's buffers.
const defaultBuffer = 4 << 20

// Pipe returns two ends of an in-memory connection. Unlike net.Pipe it is
// buffered, so that one goroutine can write a burst and then read; and it can
// be closed for writing alone.
func Pipe() (a, b net.Conn) { return PipeBetween(addr(1), addr(2)) }

// PipeBetween is Pipe with addresses, a's and b's.
func PipeBetween(addrA, addrB net.Addr) (a, b net.Conn) {
	x, y := newHalf(), newHalf()
	return newEnd(x, y, addrA, addrB), newEnd(y, x, addrB, addrA)
}

// Limit is how many bytes the network holds on the way to nc, an end of a Pipe;
// for what is beyond, the other end waits. 0 = 4 MiB.
func Limit(nc net.Conn, n int) {
	if n == 0 {
		n = defaultBuffer
	}
	h := nc.(*end).in
	h.set(func() { h.max = n })
}

// A half is one direction.
type half struct {
	mu     sync.Mutex
	buf    []byte
	max    int
	eof    bool          // nothing more is written
	closed bool          // nobody reads any more
	own    bool          // it was the writer who closed the connection
	change chan struct{} // closed and replaced whenever the fields above change
}

func newHalf() *half { return &half{max: defaultBuffer, change: make(chan struct{})} }

// wake lets whoever waits look again. mu is held.
func (h *half) wake() {
	close(h.change)
	h.change = make(chan struct{})
}

func (h *half) set(f func()) {
	h.mu.Lock()
	f()
	h.wake()
	h.mu.Unlock()
}

// A deadline can be moved while it is waited for.
type deadline struct {
	mu    sync.Mutex
	at    time.Time
	moved chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	d.at = t
	close(d.moved)
	d.moved = make(chan struct{})
	d.mu.Unlock()
}

// past reports whether the deadline is: then an operation fails even if it need
// not wait, as on a socket.
func (d *deadline) past() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

// wait waits for change, the deadline or its move, and reports whether the
// deadline is past.
func (d *deadline) wait(change <-chan struct{}) bool {
	d.mu.Lock()
	at, moved := d.at, d.moved
	d.mu.Unlock()
	var late <-chan time.Time
	if !at.IsZero() {
		if !time.Now().Before(at) {
			return true
		}
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-change:
	case <-moved:
	case <-late:
		return true
	}
	return false
}

// An end is one end of a Pipe.
type end struct {
	in, out       *half
	read, write   deadline
	local, remote net.Addr
}

func newEnd(in, out *half, local, remote net.Addr) *end {
	e := &end{in: in, out: out, local: local, remote: remote}
	e.read.moved, e.write.moved = make(chan struct{}), make(chan struct{})
	return e
}

func (e *end) Read(b []byte) (int, error) {
	for {
		h := e.in
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return 0, net.ErrClosed
		}
		if e.read.past() {
			h.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		if len(h.buf) > 0 {
			n := copy(b, h.buf)
			h.buf = h.buf[n:]
			h.wake()
			h.mu.Unlock()
			return n, nil
		}
		eof, change := h.eof, h.change
		h.mu.Unlock()
		if eof {
			return 0, io.EOF
		}
		if e.read.wait(change) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (e *end) Write(b []byte) (n int, err error) {
	for {
		h := e.out
		h.mu.Lock()
		if h.own {
			h.mu.Unlock()
			return n, net.ErrClosed
		}
		if h.eof || h.closed {
			h.mu.Unlock()
			return n, io.ErrClosedPipe
		}
		if e.write.past() {
			h.mu.Unlock()
			return n, os.ErrDeadlineExceeded
		}
		if k := min(len(b), h.max-len(h.buf)); k > 0 {
			h.buf = append(h.buf, b[:k]...)
			b, n = b[k:], n+k
			h.wake()
		}
		change := h.change
		h.mu.Unlock()
		if len(b) == 0 {
			return n, nil
		}
		if e.write.wait(change) {
			return n, os.ErrDeadlineExceeded
		}
	}
}

// Close implements net.Conn. What the other end has not read yet it still can.
func (e *end) Close() error {
	e.out.set(func() { e.out.eof, e.out.own = true, true })
	e.in.set(func() { e.in.closed, e.in.eof = true, true })
	return nil
}

// CloseWrite ends the direction to the other end.
func (e *end) CloseWrite() error {
	e.out.set(func() { e.out.eof = true })
	return nil
}

func (e *end) SetDeadline(t time.Time) error {
	e.read.set(t)
	e.write.set(t)
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.read.set(t)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.write.set(t)
	return nil
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.remote }

// addr is a documentation address, so that it looks like one from outside.
func addr(port uint16) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), port))
}

// A Listener accepts what its Dial makes.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewListener returns a Listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn, 16), done: make(chan struct{})}
}

// Dial returns the client's end of a new connection. After Close it is closed.
func (l *Listener) Dial() net.Conn { return l.DialFrom(addr(1)) }

// DialFrom is Dial by a client of this address.
func (l *Listener) DialFrom(from net.Addr) net.Conn {
	a, b := PipeBetween(from, l.Addr())
	select {
	case <-l.done:
		b.Close()
		return a
	default:
	}
	select {
	case l.conns <- b:
	case <-l.done:
		b.Close()
	}
	return a
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. What was not accepted is closed.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		for {
			select {
			case nc := <-l.conns:
				nc.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr(2855) }
