package msrp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A quietPipe is an end of a net.Pipe that can be waited for.
type quietPipe struct {
	net.Conn

	mu       sync.Mutex
	buf      []byte
	err      error
	deadline time.Time
	changed  chan struct{} // closed when one of these changes
}

func newQuietPipe(nc net.Conn) *quietPipe {
	p := &quietPipe{Conn: nc, changed: make(chan struct{})}
	go func() {
		for b := make([]byte, 100); p.err == nil; {
			n, err := nc.Read(b)
			p.change(func() { p.buf, p.err = append(p.buf, b[:n]...), err })
		}
	}()
	return p
}

func (p *quietPipe) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *quietPipe) SetReadDeadline(t time.Time) error {
	p.change(func() { p.deadline = t })
	return nil
}

func (p *quietPipe) late() bool { return !p.deadline.IsZero() && !time.Now().Before(p.deadline) }

func (p *quietPipe) ReadNow(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late() {
		return 0, os.ErrDeadlineExceeded
	}
	if len(p.buf) == 0 {
		return 0, p.err
	}
	n := copy(b, p.buf)
	p.buf = p.buf[n:]
	return n, nil
}

func (p *quietPipe) WaitReadable() error {
	for {
		p.mu.Lock()
		changed, ready, late := p.changed, len(p.buf) > 0 || p.err != nil, p.late()
		rest := time.Until(p.deadline)
		if p.deadline.IsZero() {
			rest = time.Hour
		}
		p.mu.Unlock()
		switch {
		case late:
			return os.ErrDeadlineExceeded
		case ready:
			return nil
		}
		select {
		case <-changed:
		case <-time.After(rest):
		}
	}
}

// resting reports whether nothing but the wait for octets is left.
func (p *quietPipe) resting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deadline.IsZero()
}

// TestRest: a Conn that has nothing to read waits without being woken again and again, and
// what comes then is served as ever.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		nc := newQuietPipe(near)
		var got []string
		c := NewConn(ConnConfig{Handler: handler(func(_ *Conn, p *Piece) {
			if p.Last {
				got = append(got, string(p.Head.TID))
			}
		})})
		ended := make(chan error, 1)
		go func() { ended <- c.Serve(nc) }()
		for _, step := range []struct {
			octets string
			frames int
		}{
			{"", 0},
			{frame("abcd", "hello", '$') + frame("efgh", "hello", '$'), 2},
			{"\r\n", 2},
			{frame("ijkl", "hello", '$')[:20], 2},
			{frame("ijkl", "hello", '$')[20:], 3},
			{frame("mnop", "hello", '$'), 4},
		} {
			_, _ = io.WriteString(far, step.octets)
			time.Sleep(10*restTime + restTime/3)
			synctest.Wait()
			if len(got) != step.frames || !nc.resting() {
				t.Errorf("after %q: %q, resting: %v", step.octets, got, nc.resting())
			}
		}
		// Neither keeps it from ending.
		why := errors.New("enough")
		c.Finish(why)
		synctest.Wait()
		if err := <-ended; err != why {
			t.Error(err)
		}
		far.Close()
	})
}
