package transport

import (
	"bytes"
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

type quietConn interface {
	net.Conn
	ReadNow(b []byte) (int, error)
	WaitReadable() error
}

func quiet(t *testing.T, nc net.Conn) quietConn {
	t.Helper()
	c, ok := nc.(quietConn)
	if !ok {
		t.Skipf("no ReadNow on %s", runtime.GOOS)
	}
	return c
}

func TestWaitReadable(t *testing.T) {
	tests := []struct {
		name string
		peer func(peer *tcpConn, c net.Conn)
		err  error  // of WaitReadable
		read string // by ReadNow, then
		end  error  // of that
	}{
		{
			name: "data",
			peer: func(p *tcpConn, _ net.Conn) { _, _ = io.WriteString(p, "MSRP") },
			read: "MSRP",
		},
		{name: "end of stream", peer: func(p *tcpConn, _ net.Conn) { _ = p.CloseWrite() }, end: io.EOF},
		{
			name: "deadline",
			peer: func(_ *tcpConn, c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) },
			err:  os.ErrDeadlineExceeded,
		},
		{
			name: "reset",
			peer: func(p *tcpConn, _ net.Conn) { _ = p.SetLinger(0); _ = p.Close() },
			end:  syscall.ECONNRESET,
		},
		{name: "closed by us", peer: func(_ *tcpConn, c net.Conn) { _ = c.Close() }, err: net.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peer, accepted := pair(t)
			c := quiet(t, accepted)
			b := make([]byte, 16)
			if n, err := c.ReadNow(b); n != 0 || err != nil {
				t.Fatalf("read %d, %v while nothing had come", n, err)
			}
			done := make(chan error, 1)
			go func() { done <- c.WaitReadable() }()
			select {
			case err := <-done:
				t.Fatalf("returned while nothing had happened: %v", err)
			default:
			}
			tt.peer(peer.(*tcpConn), c)
			if err := want(t, done); !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			if tt.err != nil {
				return
			}
			if n, err := c.ReadNow(b); string(b[:n]) != tt.read || !errors.Is(err, tt.end) {
				t.Errorf("read %q, %v; want %q, %v", b[:n], err, tt.read, tt.end)
			}
		})
	}
}

// TestReadNowTLS: octets come as they were sent, however they are cut, and a read that
// has nothing to read breaks nothing.
func TestReadNowTLS(t *testing.T) {
	server, client := tlsPair(t)
	c := quiet(t, server)
	raw := client.(Secure).NetConn()
	var got bytes.Buffer
	b := make([]byte, 5000)
	read := func() {
		for {
			n, err := c.ReadNow(b)
			if err != nil {
				t.Fatal(err)
			}
			if got.Write(b[:n]); n == 0 {
				return
			}
		}
	}
	read()
	// Nor does a deadline that has passed.
	_ = c.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.ReadNow(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := c.WaitReadable(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	want := bytes.Repeat([]byte("0123456789"), 4000)
	done := make(chan error, 1)
	go func() {
		for i := 0; i < len(want); i += 8000 {
			if _, err := client.Write(want[i : i+8000]); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for got.Len() < len(want) {
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		read()
	}
	if err := <-done; err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d octets, %v", got.Len(), err)
	}
	// A part of a record is waited for.
	_, _ = raw.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})
	if err := c.WaitReadable(); err != nil {
		t.Fatal(err)
	}
	read()
	_ = raw.Close()
	if err := c.WaitReadable(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.ReadNow(b); n != 0 || err != io.ErrUnexpectedEOF {
		t.Errorf("read %d, %v", n, err)
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
	c := quiet(t, accepted)
	w := dialed.(interface {
		TryWrite(b [][]byte) (int, error)
	})
	out, in := [][]byte{{0}, {1}}, make([]byte, 16)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.TryWrite(out); err != nil {
			t.Error(err)
		}
		for n := 0; n < 2; {
			if err := c.WaitReadable(); err != nil {
				t.Fatal(err)
			}
			k, err := c.ReadNow(in)
			if err != nil {
				t.Fatal(err)
			}
			n += k
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
