package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A lending lends, and says when it gets back.
type lending struct {
	buf   [16]byte
	back  int
	waits chan struct{} // if not nil, closed when the buffer is first given back
}

func (l *lending) Lend() []byte { return l.buf[:] }

func (l *lending) TakeBack() {
	if l.back++; l.back == 1 && l.waits != nil {
		close(l.waits)
	}
}

type lentReader interface {
	net.Conn
	ReadLent(b interface {
		Lend() []byte
		TakeBack()
	}) (int, error)
}

func lentConn(t *testing.T, nc net.Conn) lentReader {
	c, ok := nc.(lentReader)
	if !ok {
		t.Skipf("no ReadLent on %s", runtime.GOOS)
	}
	return c
}

func TestReadLent(t *testing.T) {
	tests := []struct {
		name string
		peer func(peer *tcpConn, c net.Conn)
		err  error
		read string
	}{
		{
			name: "data",
			peer: func(p *tcpConn, _ net.Conn) { _, _ = io.WriteString(p, "MSRP") },
			read: "MSRP",
		},
		{name: "end of stream", peer: func(p *tcpConn, _ net.Conn) { _ = p.CloseWrite() }, err: io.EOF},
		{
			name: "deadline",
			peer: func(_ *tcpConn, c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) },
			err:  os.ErrDeadlineExceeded,
		},
		{
			name: "reset",
			peer: func(p *tcpConn, _ net.Conn) { _ = p.SetLinger(0); _ = p.Close() },
			err:  syscall.ECONNRESET,
		},
		{name: "closed by us", peer: func(_ *tcpConn, c net.Conn) { _ = c.Close() }, err: net.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peer, accepted := pair(t)
			c := lentConn(t, accepted)
			l := &lending{waits: make(chan struct{})}
			done := make(chan error, 1)
			var n int
			go func() {
				var err error
				n, err = c.ReadLent(l)
				done <- err
			}()
			<-l.waits
			tt.peer(peer.(*tcpConn), c)
			if err := want(t, done); !errors.Is(err, tt.err) || string(l.buf[:n]) != tt.read {
				t.Fatalf("%q, %v; want %q, %v", l.buf[:n], err, tt.read, tt.err)
			}
		})
	}
}

func TestTryWrite(t *testing.T) {
	dialed, accepted := pair(t)
	w, ok := dialed.(interface {
		TryWrite(b [][]byte) (int, error)
	})
	if !ok {
		t.Skipf("no TryWrite on %s", runtime.GOOS)
	}
	// As much as there is room for, and no waiting for more.
	block := [][]byte{make([]byte, 100_000), make([]byte, 100_000)}
	sent := 0
	for {
		n, err := w.TryWrite(block)
		if err != nil {
			t.Fatal(err)
		}
		if sent += n; n == 0 {
			break
		}
	}
	if n, err := io.CopyN(io.Discard, accepted, int64(sent)); err != nil {
		t.Fatalf("%d of %d octets, %v", n, sent, err)
	}
	_ = dialed.SetWriteDeadline(time.Unix(1, 0))
	if n, err := w.TryWrite(block); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v after the deadline", n, err)
	}
	_ = dialed.SetWriteDeadline(time.Time{})
	_ = dialed.(*tcpConn).CloseWrite()
	if n, err := w.TryWrite(block); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%d, %v after the end", n, err)
	}
	_ = dialed.Close()
	if n, err := w.TryWrite(block); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d, %v when closed", n, err)
	}
}

func TestPollerAllocs(t *testing.T) {
	dialed, accepted := pair(t)
	c := lentConn(t, accepted)
	w := dialed.(interface {
		TryWrite(b [][]byte) (int, error)
	})
	out, l := [][]byte{{0}, {1}}, &lending{}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.TryWrite(out); err != nil {
			t.Error(err)
		}
		if _, err := c.ReadLent(l); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestWriteBuffers(t *testing.T) {
	dialed, accepted := pair(t)
	b := net.Buffers{[]byte("head"), []byte("body"), []byte("end")}
	w := dialed.(interface {
		WriteBuffers(*net.Buffers) (int64, error)
	})
	if n, err := w.WriteBuffers(&b); n != 11 || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	_ = dialed.Close()
	var got strings.Builder
	if _, err := io.Copy(&got, accepted); err != nil || got.String() != "headbodyend" {
		t.Errorf("got %q, %v", got.String(), err)
	}
}
