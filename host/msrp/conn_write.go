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

// Flush writes what the network takes at once of what is queued, and starts to
// write the rest.
func (c *Conn) Flush() {
	c.mu.Lock()
	w, quick := c.nc.(tryWriter)
	begun := c.beginDrain()
	c.mu.Unlock()
	switch {
	case !begun:
	case quick:
		c.drainQuickly(w)
	default:
		go c.drain(batches.Get().(*batch))
	}
}

// flush is Flush for who holds mu, and so must not write.
func (c *Conn) flush() {
	if c.beginDrain() {
		go c.drain(batches.Get().(*batch))
	}
}

// beginDrain reports whether somebody has to drain: at most one does. mu is held.
func (c *Conn) beginDrain() bool {
	if c.writing || c.nc == nil || c.err != nil || c.idle() {
		return false
	}
	c.writing = true
	c.writers.Add(1)
	return true
}

// A tryWriter is a connection that can be written to without waiting.
type tryWriter interface {
	TryWrite(b [][]byte) (int, error)
}

// quickBatches bounds what a goroutine that has something else to do writes for a
// connection whose queue others keep filling.
const quickBatches = 4

// drainQuickly writes without a goroutine of its own, which costs more than the write,
// and leaves what the network does not take at once, and its errors, to one.
func (c *Conn) drainQuickly(w tryWriter) {
	b := batches.Get().(*batch)
	for range quickBatches {
		if !c.takeBatch(b) {
			c.drained(b)
			return
		}
		n, err := w.TryWrite(b.unwritten)
		b.skip(n)
		c.wrote(b)
		if err != nil || len(b.unwritten) > 0 {
			break
		}
		b.release()
	}
	go c.drain(b)
}

func (c *Conn) drained(b *batch) {
	batches.Put(b)
	c.writers.Done()
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// drain writes the rest of b, and goes on until nothing is queued; there is one
// writer (RELAY-114).
func (c *Conn) drain(b *batch) {
	defer c.drained(b)
	for len(b.unwritten) > 0 || c.takeBatch(b) {
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
	b.unwritten, b.unpaid = b.iov, b.own
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
	if c.chunk > 0 {
		c.nc.(MessageConn).Messages(b.sizes) // Serve made sure
	}
	for len(b.unwritten) > 0 {
		// If no deadline can be set the connection is closing; the write says so better.
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.lim.write()))
		n, err := writeSome(c.nc, &b.unwritten)
		c.wrote(b)
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

// wrote accounts for what the network has taken of b. It is told after each step,
// for on a slow connection a write of many requests takes long.
func (c *Conn) wrote(b *batch) {
	n := b.pay()
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
