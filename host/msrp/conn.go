package msrp

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of a Conn.
var (
	// ErrFull: the outbox, or the table of pending requests, has no room. Wait
	// with Request.Wait or Stream.Wait, or refuse.
	ErrFull = errors.New("msrp: outbox full")
	// ErrTimeout: no response came in time (RFC 4975 §7.1.1).
	ErrTimeout = errors.New("msrp: no response in time")
	// ErrClosed: the connection was closed by this side.
	ErrClosed = errors.New("msrp: connection closed")
)

// A Handler serves the requests that arrive on a Conn.
type Handler interface {
	// ServePiece is called from Serve's goroutine with each piece of each
	// request, in order. p is valid during the call. While it blocks, nothing
	// is read from this peer.
	ServePiece(c *Conn, p *Piece)
}

// A ConnConfig says how a Conn behaves. Handler must be set.
type ConnConfig struct {
	Handler Handler
	Limits  Limits
	Log     *slog.Logger // nil = none
	Stats   *Stats       // counts frames; nil = nobody does
	Trace   Tracer       // sees frames; nil = nobody does
	// Chunk, if not 0, says that the network connection carries messages, and
	// each frame is one of them (RFC 7977 §5.1): Serve needs a [MessageConn]. A
	// message cannot be interrupted, so a Stream ends its chunks after so many
	// bytes of body, or less.
	Chunk int
}

// A MessageConn is a network connection that carries messages, not a stream of
// octets, as a WebSocket does.
type MessageConn interface {
	net.Conn
	// NextMessage waits for the next message, of which Read then returns the
	// octets, and io.EOF at its end. It is not called before that. io.EOF means
	// that the peer closed the connection.
	NextMessage() error
	// Messages says how long the messages are that begin in what is written
	// until the next call. sizes is valid during the call.
	Messages(sizes []int)
}

// A Conn is one MSRP connection.
//
//  1. Requests leave in the order their Sends returned; responses and REPORTs
//     overtake requests that are not begun, and interrupt a Stream.
//  2. What waits to be written is bounded in bytes. Send returns ErrFull when
//     there is no room, at once or after Request.Wait; who waits is served in
//     order, and before those who do not wait.
//  3. Each request sent with a Transaction ends exactly once in a call of its
//     Owner; the 30 s for the response run from the last octet written.
//  4. An idle Conn holds no buffer and only the goroutine of Serve; if the network
//     connection can be waited for without reading, with the smallest stack.
//  5. The first error is final.
//
// A Conn can take frames before it is connected: they leave when Serve starts.
type Conn struct {
	// Set by NewConn, then read-only.
	h     Handler
	lim   Limits
	log   *slog.Logger
	trace Tracer
	chunk int // 0 = a stream
	// newTID is the function of this name, except in tests.
	newTID func(slot int32) [tidLen]byte
	stats  *Stats // nil = nobody counts

	// Owned by Serve.
	touched  []*Conn
	ended    Transaction // whose response is being served
	received received
	restAt   time.Time // when the read deadline passes; zero = none is set

	lastRead atomic.Int64  // since epoch; when octets last came
	deaf     atomic.Bool   // what the peer still sends is dropped
	inHand   atomic.Bool   // the Handler is at work: its answers are still to come
	done     chan struct{} // closed once the connection is closed
	writers  sync.WaitGroup

	mu       sync.Mutex // guards what follows; never held across I/O or a call of an Owner
	nc       net.Conn   // nil before Serve
	requests queue
	answers  queue
	inFlight int         // octets of requests in the write that runs
	written  uint64      // octets of requests ever written
	inFrame  bool        // the octets written last ended inside a frame
	writing  bool        // drain runs
	finish   error       // if set, the reason to close once all is written
	barred   bool        // after Abandon
	half     bool        // all was written, and the peer told so
	cutOff   *time.Timer // ends a Finish that takes too long
	open     *Stream
	slots    slots
	timer    *time.Timer   // runs expire; nil while no request waits
	room     chan struct{} // closed when there may be more room
	line     []uint64      // tickets of those who wait for it, first come first served
	tickets  uint64
	err      error // final once set
	sent     sent
}

// epoch is what times are counted from, so that those of all Conns compare.
var epoch = time.Now()

// NewConn returns a Conn that queues what is sent until Serve gets the network connection.
func NewConn(cfg ConnConfig) *Conn {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Conn{
		h: cfg.Handler, lim: cfg.Limits, log: log, trace: cfg.Trace, chunk: cfg.Chunk,
		newTID: newTID, stats: cfg.Stats, done: make(chan struct{}), slots: newSlots(),
		requests: queue{framed: cfg.Chunk > 0}, answers: queue{framed: cfg.Chunk > 0},
	}
	c.afterRead()
	return c
}

// Serve reads frames from nc until the connection ends, and returns why; io.EOF
// means that the peer closed it between two frames. It owns nc. When it returns,
// every goroutine of the Conn has ended and every transaction is done. If nc has
// a method CloseReason(error), it is told before Close and CloseWrite.
func (c *Conn) Serve(nc net.Conn) error {
	if !c.connect(nc) {
		return c.end()
	}
	return c.disconnect(c.serveAside(nc))
}

// connect takes nc and begins to write to it, unless c is closed.
func (c *Conn) connect(nc net.Conn) bool {
	if _, ok := nc.(MessageConn); c.chunk > 0 && !ok {
		nc.Close()
		c.Close(fmt.Errorf("msrp: %T does not carry messages", nc))
		return false
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		nc.Close()
		return false
	}
	c.nc = nc
	c.mu.Unlock()
	c.Flush()
	c.afterRead()
	return true
}

func (c *Conn) disconnect(err error) error {
	c.FlushTouched()
	c.Close(err)
	return c.end()
}

// restTime is how long nothing must come until a Conn gives back what it needs to serve:
// to begin again costs as much as some frames, which only matters if they come often.
const restTime = 50 * time.Millisecond

// beforeWait has the wait for octets end in time to rest.
func (c *Conn) beforeWait() {
	if now := time.Now(); c.restAt.Sub(now) < restTime/2 {
		c.restAt = now.Add(restTime)
		c.setRest(c.restAt)
	}
}

// rested reports whether it was that, and not Finish, what ended the wait.
func (c *Conn) rested() bool {
	c.restAt = time.Time{}
	return c.setRest(c.restAt)
}

func (c *Conn) setRest(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.half && c.nc.SetReadDeadline(t) == nil
}

// serveAside serves what comes on another goroutine, which ends when nothing does: a
// stack that has grown shrinks late, and never as far, so this one must not grow.
func (c *Conn) serveAside(nc net.Conn) error {
	quiet, ok := nc.(quietReader)
	if !ok {
		return c.serve(nc)
	}
	served := make(chan error)
	serve := func() { served <- c.serve(nc) }
	for {
		go serve()
		if err := <-served; err != errParked {
			return err
		}
		if err := quiet.WaitReadable(); err != nil {
			return err
		}
	}
}

// serve serves what comes until there is nothing to read, if that can be told.
func (c *Conn) serve(nc net.Conn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// A fault of ours must cost one connection, not the process.
			err = c.panicked(p)
		}
	}()
	rd := readers.Get().(*Reader)
	rd.init(nc, c.lim)
	rd.user = c
	for {
		p, err := rd.Next()
		if err != nil {
			rd.Close()
			readers.Put(rd)
			return err
		}
		if p.First && c.traced() {
			c.trace.Frame(&Traced{Head: p.Head.Raw, TID: p.Head.TID, Body: p.Body, HasBody: p.HasBody, Whole: p.Last, Flag: cmp.Or(p.Flag, Continue)})
		}
		c.countPiece(p)
		c.inHand.Store(true)
		switch {
		case c.deaf.Load():
		case !p.Head.IsResponse():
			c.h.ServePiece(c, p)
		case p.Last:
			c.serveResponse(p.Head)
		}
		c.inHand.Store(false)
		if c.deaf.Load() {
			c.finishIdle()
		}
		if c.answersFull() {
			// The peer asks without reading answers; let it wait for itself.
			c.FlushTouched()
			if err := c.waitAnswers(); err != nil {
				return err
			}
		}
	}
}

// Fail ends a Conn whose network connection could not be made.
func (c *Conn) Fail(err error) {
	c.Close(err)
	_ = c.end()
}

// end waits for the writer and gives the transactions back.
func (c *Conn) end() error {
	c.writers.Wait()
	c.mu.Lock()
	err := c.err
	c.flushReceived()
	if c.stats != nil {
		c.sent.forwarded.flush(c.stats.forwarding.cells[:])
	}
	for _, t := range []*time.Timer{c.timer, c.cutOff} {
		if t != nil {
			t.Stop()
		}
	}
	lost := c.takeTransactions()
	c.open = nil
	c.requests.drop()
	c.answers.drop()
	c.mu.Unlock()
	for i := range lost {
		c.tell(&lost[i], Result{Err: err})
	}
	return err
}

// takeTransactions takes all transactions out of their slots. mu is held.
func (c *Conn) takeTransactions() (lost []Transaction) {
	if c.open != nil && c.open.slot >= 0 {
		c.slots.all[c.open.slot].tx.Range.End = c.open.pos - 1
	}
	for c.slots.first >= 0 {
		lost = append(lost, c.slots.release(c.slots.first))
	}
	for i := range c.slots.all {
		if c.slots.all[i].state == slotOpen {
			lost = append(lost, c.slots.release(int32(i)))
		}
	}
	c.slots = newSlots()
	return lost
}

// Abandon is for who is about to Finish many connections whose transactions
// belong to each other: it gives all transactions back with reason, as the end of
// the connection would, while REPORTs can still be sent. Responses that come later
// are dropped, and new requests other than REPORTs get ErrClosed.
func (c *Conn) Abandon(reason error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return // end gives them back
	}
	c.barred = true
	c.writers.Add(1) // Serve must not return before the Owners know
	defer c.writers.Done()
	lost := c.takeTransactions()
	if c.open != nil {
		c.open.slot = -1
	}
	c.wake()
	c.mu.Unlock()
	for i := range lost {
		c.tell(&lost[i], Result{Err: reason})
	}
}

func (q *queue) drop() {
	for _, k := range q.blocks {
		blocks.Put(k.mem)
	}
	*q = queue{}
}

// Close ends the connection at once. The first reason is kept.
func (c *Conn) Close(reason error) {
	c.mu.Lock()
	nc := c.fail(reason)
	err := c.err
	c.mu.Unlock()
	if nc != nil {
		tellWhy(nc, err)
		_ = nc.Close() // the reason says it better
	}
}

// tellWhy gives a connection that can tell its peer why it is closed the reason.
func tellWhy(nc net.Conn, err error) {
	if w, ok := nc.(interface{ CloseReason(error) }); ok {
		w.CloseReason(err)
	}
}

// fail records the final error and returns what is to be closed once mu, which
// is held, is not: closing a TLS connection writes to it.
func (c *Conn) fail(reason error) net.Conn {
	if c.err != nil {
		return nil
	}
	switch {
	case c.finish != nil:
		c.err = c.finish
	case reason != nil:
		c.err = reason
	default:
		c.err = ErrClosed
	}
	close(c.done)
	c.wake()
	return c.nc
}

// lingerTime is how long a peer may still send after the last octet to it, so
// that a reset does not take that octet from it.
const lingerTime = time.Second

// Finish closes the connection once the piece in hand was served and what is
// queued has been written, or after Limits.Write. What the peer sends from now
// on is dropped. Who waits for room gets ErrClosed; responses and REPORTs are
// taken until all was written.
func (c *Conn) Finish(reason error) {
	if reason == nil {
		reason = ErrClosed
	}
	c.mu.Lock()
	if c.err != nil || c.finish != nil {
		c.mu.Unlock()
		return
	}
	c.finish = reason
	c.cutOff = time.AfterFunc(c.lim.write(), func() { c.Close(reason) })
	c.wake() // who waits for room gets none any more
	c.mu.Unlock()
	c.deaf.Store(true)
	c.finishIdle()
}

// finishIdle goes on with Finish when nothing holds it up: Serve calls it once
// the Handler has returned, and drain when all is written.
func (c *Conn) finishIdle() {
	c.mu.Lock()
	wait := c.err != nil || c.finish == nil || c.half || c.inHand.Load()
	if !wait {
		c.interrupt()
		c.flush()
		wait = !c.idle()
		c.half = !wait
	}
	c.mu.Unlock()
	if !wait {
		c.closeWrite()
	}
}

// closeWrite tells the peer that no more comes, and lets it finish.
func (c *Conn) closeWrite() {
	c.mu.Lock()
	nc, why := c.nc, c.finish
	c.mu.Unlock()
	tellWhy(nc, why)
	if half, ok := nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil ||
		nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		c.Close(nil)
	}
}

// idle reports whether nothing waits to be written. mu is held.
func (c *Conn) idle() bool {
	return !c.writing && c.requests.size == 0 && c.answers.size == 0
}

// Done is closed when the connection is.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection was closed, or nil.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	default:
		return nil
	}
}

// NetConn returns the network connection, or nil before Serve.
func (c *Conn) NetConn() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nc
}

// Idle returns how long no octet has come from the peer.
func (c *Conn) Idle() time.Duration {
	return time.Since(epoch) - time.Duration(c.lastRead.Load())
}

// Depth returns how many octets wait to be written.
func (c *Conn) Depth() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests.size + c.answers.size + c.inFlight
}

// Pending returns how many requests wait for their response.
func (c *Conn) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slots.used
}

// LastRead says when octets last came from the peer, or Serve began, for Request.Arrived.
func (c *Conn) LastRead() time.Duration { return time.Duration(c.lastRead.Load()) }

func (c *Conn) afterRead() { c.lastRead.Store(int64(time.Since(epoch))) }

func (c *Conn) beforeRead() {
	c.flushReceived()
	c.FlushTouched()
}

// Touch makes Serve flush d, which may be c, before it next waits for the
// peer: so all that one read brought in leaves d in few writes. It may be called
// from ServePiece and from Owners that Serve calls, no one else.
func (c *Conn) Touch(d *Conn) {
	// What a peer sends goes to few, and the answers to it.
	if n := len(c.touched); slices.Contains(c.touched[max(0, n-4):], d) {
		return
	}
	if len(c.touched) >= 64 {
		c.FlushTouched()
	}
	c.touched = append(c.touched, d)
}

// FlushTouched flushes what Touch put off, before a handler waits.
func (c *Conn) FlushTouched() {
	for i, d := range c.touched {
		d.Flush()
		c.touched[i] = nil
	}
	c.touched = c.touched[:0]
}

// startTimers gives the requests just written their time to be answered. mu is held.
func (c *Conn) startTimers() {
	if c.slots.next < 0 {
		return
	}
	now := time.Since(epoch)
	c.slots.written(c.written, now+c.lim.transaction(), func(k *slot) { c.countForwarded(k, now) })
	c.arm()
}

// arm runs expire when the first response is overdue. A timer that runs
// already goes off early at worst. mu is held.
func (c *Conn) arm() {
	if c.timer == nil && c.slots.first >= 0 && c.slots.all[c.slots.first].due != 0 {
		d := c.slots.all[c.slots.first].due - time.Since(epoch)
		c.timer = time.AfterFunc(d, c.expire)
	}
}

// expire ends the transactions that are overdue.
func (c *Conn) expire() {
	var late []Transaction
	c.mu.Lock()
	c.timer = nil
	if c.err == nil {
		c.writers.Add(1) // Serve must not return before the Owners know
		defer c.writers.Done()
		now := time.Since(epoch)
		for c.slots.first >= 0 {
			if k := &c.slots.all[c.slots.first]; k.due == 0 || k.due > now {
				break
			}
			late = append(late, c.slots.release(c.slots.first))
		}
		if c.slots.used == 0 {
			c.slots = newSlots() // give the memory of a burst back
		}
		c.arm()
		c.wake()
	}
	c.mu.Unlock()
	for i := range late {
		c.tell(&late[i], Result{Code: 408, Err: ErrTimeout})
	}
}

// tell calls an Owner from elsewhere than serve. As there, a fault of it costs
// this connection, and neither the process nor what other Owners are to be told.
func (c *Conn) tell(tx *Transaction, r Result) {
	defer func() {
		if p := recover(); p != nil {
			c.Close(c.panicked(p))
		}
	}()
	tx.Owner.Done(c, tx, r)
}

// panicked logs a panic and makes an error of it.
func (c *Conn) panicked(p any) error {
	c.log.Error("panic while serving a connection", "panic", p, "stack", string(debug.Stack()))
	return fmt.Errorf("msrp: panic: %v", p)
}

// serveResponse ends the transaction that a response names (RELAY-105).
func (c *Conn) serveResponse(h *Head) {
	if h.Err != nil {
		return // RFC 4976 §6.4.3 (RELAY-104): what cannot be parsed is dropped; the time-out tells
	}
	c.mu.Lock()
	i := c.slots.find(h.TID)
	if i < 0 {
		c.mu.Unlock()
		return // CORE-94: nobody waits for it
	}
	if c.open != nil && c.open.slot == i {
		c.slots.all[i].tx.Range.End = c.open.pos - 1
		c.open.slot = -1
	}
	c.countAnswered(&c.slots.all[i])
	c.ended = c.slots.release(i)
	if c.room != nil {
		c.wake()
	}
	c.mu.Unlock()
	c.ended.Owner.Done(c, &c.ended, Result{Code: h.Code, Head: h})
	c.ended = Transaction{}
}

// IsPeerFault reports whether a connection's end is the peer's doing in the
// sense of the protocol, and returns the rule it broke.
func IsPeerFault(err error) (rule string, ok bool) {
	var se *SyntaxError
	switch {
	case errors.As(err, &se):
		return se.Rule, true
	case errors.Is(err, ErrHeadTooLarge):
		return "head too large", true
	case errors.Is(err, ErrBodyTooLarge):
		return "body too large", true
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut frame", true
	}
	return "", false
}

// collides reports whether the end-line of tid could be found in body (CORE-34,
// in its strongest form: dashes and tid do not occur at all, CORE-163).
func collides(body []byte, tid *[tidLen]byte) bool {
	var mark [7 + tidLen]byte
	copy(mark[:], dashes)
	copy(mark[7:], tid[:])
	return bytes.Contains(body, mark[:])
}
