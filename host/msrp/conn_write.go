package msrp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Flush starts to write what is queued.
func (c *Conn) Flush() {
	c.mu.Lock()
	c.flush()
	c.mu.Unlock()
}

// flush is Flush with mu held. At most one drain runs.
func (c *Conn) flush() {
	if !c.writing && c.nc != nil && c.err == nil && (c.requests.size > 0 || c.answers.size > 0) {
		c.writing = true
		c.writers.Add(1)
		go c.drain()
	}
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// drain writes until nothing is queued; there is one writer (RELAY-114).
func (c *Conn) drain() {
	defer c.writers.Done()
	b := batches.Get().(*batch)
	defer batches.Put(b)
	for c.takeBatch(b) {
		err := c.write(b)
		b.release()
		if err != nil {
			c.Close(err)
		}
	}
}

// takeBatch fills b with what is to be written next; when there is nothing, the
// drain that asks is over.
func (c *Conn) takeBatch(b *batch) bool {
	c.mu.Lock()
	if c.err != nil || c.requests.size == 0 && c.answers.size == 0 {
		c.writing, c.inFlight = false, 0
		c.mu.Unlock()
		c.finishIdle()
		return false
	}
	defer c.mu.Unlock()
	c.flushSent()
	b.requests = c.requests.take(b.requests, batchBlocks)
	b.answers = c.answers.take(b.answers, len(c.answers.blocks))
	placed, inFrame := b.order(c.inFrame)
	if !placed && len(b.answers) > 0 {
		// No frame ends in what was taken: the answers wait for the next round.
		c.answers.unget(b.answers)
		b.answers = b.answers[:0]
	}
	if c.chunk > 0 {
		// Answers are placed before the first request that begins in b.
		b.sizes = c.answers.begin(b.sizes[:0], octets(b.answers))
		b.sizes = c.requests.begin(b.sizes, b.sent)
	}
	c.inFrame, c.inFlight = inFrame, b.sent
	return true
}

// unget puts blocks back at the head.
func (q *queue) unget(ks []block) {
	for _, k := range ks {
		q.size += k.n
	}
	q.blocks = append(append([]block(nil), ks...), q.blocks...)
}

// write writes b. The peer has Limits.Write for each step of progress.
func (c *Conn) write(b *batch) error {
	b.unwritten = b.iov
	if c.chunk > 0 {
		c.nc.(MessageConn).Messages(b.sizes) // Serve made sure
	}
	for own := b.own; len(b.unwritten) > 0; {
		// If no deadline can be set the connection is closing; the write says so better.
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.lim.write()))
		n, err := writeSome(c.nc, &b.unwritten)
		sent := 0
		for ; len(own) > len(b.unwritten); own = own[1:] {
			sent += own[0]
		}
		c.wrote(sent)
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

// wrote accounts for octets of requests that the network has taken. It is told
// after each step, for on a slow connection a write of many requests takes long.
func (c *Conn) wrote(n int) {
	c.mu.Lock()
	c.inFlight -= n
	c.written += uint64(n)
	c.startTimers()
	c.flushSent()
	c.wake()
	c.mu.Unlock()
}

// A vectorWriter is a connection that hides a TCP connection, and so the
// single system call that net.Buffers makes for one.
type vectorWriter interface {
	WriteBuffers(*net.Buffers) (int64, error)
}

// writeSome writes from the head of iov: all of it in one system call where
// that can be done, else one buffer. It reports octets beside a time-out only
// if what follows them can still be written; TLS is broken by one.
func writeSome(nc net.Conn, iov *net.Buffers) (int64, error) {
	switch nc := nc.(type) {
	case vectorWriter:
		return nc.WriteBuffers(iov)
	case *net.TCPConn:
		return iov.WriteTo(nc)
	}
	_, err := nc.Write((*iov)[0])
	if err != nil {
		return 0, err
	}
	n := len((*iov)[0])
	*iov = (*iov)[1:]
	return int64(n), nil
}

// wake lets everyone who waits for room look again. mu is held.
func (c *Conn) wake() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// await waits until ready reports true, for d at most. mu is held on entry and
// on return.
func (c *Conn) await(d time.Duration, ready func() bool) error {
	var timeout <-chan time.Time
	for c.err == nil && !ready() {
		if timeout == nil {
			t := time.NewTimer(d)
			defer t.Stop()
			timeout = t.C
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.flush()
		c.mu.Unlock()
		var late bool
		select {
		case <-room:
		case <-timeout:
			late = true
		}
		c.mu.Lock()
		if late && c.err == nil && !ready() {
			return ErrFull
		}
	}
	return c.err
}

// Pause waits for d, or until the connection has ended or is to: then it returns
// early, and false. A handler may call it, to have its peer wait.
func (c *Conn) Pause(d time.Duration) bool {
	c.FlushTouched()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.await(d, func() bool { return c.finish != nil }) == ErrFull
}

// roomWithin waits until a request of n octets can be sent, for d at most; then
// it returns ErrFull. mu is held. Who waits gets in line: without it the
// one whom the scheduler prefers gets all the room (CORE-57), and a large
// request never finds as much as the small ones leave.
func (c *Conn) roomWithin(n int, d time.Duration) error {
	if d <= 0 && c.err == nil && !c.hasRoom(n) {
		return ErrFull
	}
	c.tickets++
	ticket := c.tickets
	c.line = append(c.line, ticket)
	err := c.await(d, func() bool { return c.finish != nil || c.barred || c.line[0] == ticket && c.fits(n) })
	i := slices.Index(c.line, ticket)
	c.line = slices.Delete(c.line, i, i+1)
	c.wake()
	if err == nil && (c.finish != nil || c.barred) {
		return ErrClosed
	}
	return err
}

// hasRoom reports whether there is room that nobody waits for. mu is held.
func (c *Conn) hasRoom(n int) bool { return len(c.line) == 0 && c.fits(n) }

// fits: a request larger than the outbox is taken when the outbox is empty,
// otherwise it could never be sent. mu is held.
func (c *Conn) fits(n int) bool {
	waiting := c.requests.size + c.inFlight
	return (waiting == 0 || waiting+n <= c.lim.outbox()) && c.slots.used < c.lim.pending()
}

func (c *Conn) answersFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers.size > c.lim.answers()
}

func (c *Conn) waitAnswers() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.await(2*c.lim.write(), func() bool { return c.answers.size <= c.lim.answers()/2 })
	if err == ErrFull {
		return fmt.Errorf("peer does not read its answers: %w", err)
	}
	return err
}
