package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

type waitReader interface {
	net.Conn
	WaitRead() error
}

func TestWaitRead(t *testing.T) {
	tests := []struct {
		name string
		peer func(peer *tcpConn, c net.Conn)
		err  error  // of WaitRead
		read string // all that can be read then, up to the end
	}{
		{
			name: "data",
			peer: func(p *tcpConn, _ net.Conn) { _, _ = io.WriteString(p, "MSRP"); _ = p.CloseWrite() },
			read: "MSRP",
		},
		{name: "end of stream", peer: func(p *tcpConn, _ net.Conn) { _ = p.CloseWrite() }},
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
			c := accepted.(waitReader)
			done := make(chan error, 1)
			go func() { done <- c.WaitRead() }()
			select {
			case err := <-done:
				t.Fatalf("returned while nothing had happened: %v", err)
			default:
			}
			tt.peer(peer.(*tcpConn), c)
			if err := want(t, done); !errors.Is(err, tt.err) {
				t.Fatalf("WaitRead: %v, want %v", err, tt.err)
			}
			if tt.err != nil {
				return
			}
			if err := c.WaitRead(); err != nil {
				t.Errorf("again: %v", err)
			}
			if got, err := io.ReadAll(c); string(got) != tt.read || err != nil {
				t.Errorf("read %q, %v; want %q", got, err, tt.read)
			}
		})
	}
}

func TestWaitReadAllocs(t *testing.T) {
	dialed, accepted := pair(t)
	c := accepted.(waitReader)
	out, in := []byte{0}, make([]byte, 1)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := dialed.Write(out); err != nil {
			t.Error(err)
		}
		if err := c.WaitRead(); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(in); err != nil {
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
