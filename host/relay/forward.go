package relay

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

// maxFixed is the longest body of a chunk that may go out with a known
// range-end: what is longer must be interruptible (RFC 4975 §7.1.1, CORE-52).
const maxFixed = 2048

// current is the request that a connection is receiving. Frames of one
// connection follow each other, so there is never more than one.
type current struct {
	transfer *transfer // nil: what is left of the frame is dropped
}

// ServePiece implements [msrp.Handler].
func (c *conn) ServePiece(_ *msrp.Conn, p *msrp.Piece) {
	if c.r.settling.Load() && (!p.First || !p.Head.Is("REPORT")) {
		c.serveSettling(p)
		return
	}
	if !p.First {
		if t := c.cur.transfer; t != nil && (t.rt.toll == nil || c.payMore(t, p)) {
			c.continueTransfer(t, p)
		}
		return
	}
	c.cur.transfer = nil
	h := p.Head
	if h.Err != nil {
		c.refuseSyntax(h, h.Err)
		return
	}
	rt := c.routes[string(h.Paths)]
	if rt == nil || !rt.live() {
		if rt = c.resolve(p); rt == nil {
			return
		}
	}
	if rt.toll != nil && !c.pay(rt, p) {
		return
	}
	if c.forward(rt, p) {
		return
	}
	// The connection has ended a moment ago, and nothing was sent: there may be
	// another way.
	lost := rt.out
	c.r.lose(lost)
	if rt = c.resolve(p); rt != nil && (rt.out == lost || !c.forward(rt, p)) {
		c.refuse(h, refusedUnreachable, 481, "")
	}
}

// forward forwards a request, or a long chunk's first piece, or answers it. It
// reports false if it did neither, as rt.out is closed.
func (c *conn) forward(rt *route, p *msrp.Piece) bool {
	switch {
	case !p.Head.Is("SEND"):
		return c.forwardOther(rt, p)
	case p.Last && len(p.Body) <= rt.out.chunk:
		return c.forwardWhole(rt, p)
	}
	return c.startTransfer(rt, p)
}

// refuse answers a request with an error, if it wants one: a REPORT never is
// answered (CORE-88), a SEND with Failure-Report "no" neither (CORE-83).
func (c *conn) refuse(h *msrp.Head, why reason, code int, comment string) {
	c.count(why)
	if !h.Is("REPORT") && (!h.Is("SEND") || h.WantsFailure()) {
		_ = c.m.Respond(h, code, comment, nil) // a closed connection needs no answer
		c.m.Touch(c.m)
	}
	c.failed()
}

// refuseSyntax answers 400 if it is known to whom (CORE-41), and closes the
// connection if not (CORE-157).
func (c *conn) refuseSyntax(h *msrp.Head, err error) {
	if h.To == nil || h.From == nil || h.CheckPaths() != nil {
		c.count(refusedSyntax)
		c.finish(errors.Join(errPath, err))
		return
	}
	comment := ""
	var se *msrp.SyntaxError
	if errors.As(err, &se) {
		comment = "Bad " + se.Rule
	}
	c.refuse(h, refusedSyntax, 400, comment)
}

// forwardWhole forwards a SEND that is there whole: the hot path. All but
// Failure-Report "no" wait for a response (RELAY-110).
func (c *conn) forwardWhole(rt *route, p *msrp.Piece) bool {
	h := p.Head
	rng, ok := outRange(p)
	if !ok {
		c.refuse(h, refusedSyntax, 400, "Bad Byte-Range total")
		return true
	}
	rq := msrp.Request{
		Method: h.Method, Paths: rt.paths, Before: h.Before, Range: rng, After: h.After,
		Body: p.Body, HasBody: p.HasBody, Flag: p.Flag, Plain: p.Plain, Arrived: c.m.LastRead(),
	}
	if rq.HeadSize() > c.r.cfg().maxHead {
		c.refuse(h, refusedSyntax, 400, "Head too large to be forwarded")
		return true
	}
	var tx *msrp.Transaction
	if c.awaits(rt.out, h) {
		tx = &msrp.Transaction{Owner: rt.reporter(h), MessageID: msrp.MakeIdent(h.MessageID), Range: h.Range}
	}
	err := rt.out.m.Send(&rq, tx)
	if err == msrp.ErrFull {
		rq.Wait = c.patience(rt.out)
		err = c.patient(rt.out, rt.out.m.Send(&rq, tx))
	}
	switch {
	case err == msrp.ErrFull:
		c.refuse(h, refusedSlow, 413, "Receiver too slow")
		return true
	case err != nil:
		return false
	}
	if rt.out.slow.Load() {
		rt.out.slow.Store(false) // it had room, so it has read
	}
	c.m.Touch(rt.out.m)
	c.accept(h)
	return true
}

// awaits reports whether a response to h is worth remembering its request for.
// Success is never answered where Failure-Report is "partial", so that each such
// request is remembered for 30 s (RELAY-110); they must not take the room of others.
func (c *conn) awaits(out *conn, h *msrp.Head) bool {
	return h.WantsOK() || h.Failure == msrp.Partial && out.m.Pending() < or(c.r.cfg().Limits.Conn.Pending, 1<<16)/2
}

// outRange returns the Byte-Range that a chunk goes out with: the octets really
// sent (RFC 4976 §6.4.1, RELAY-91), with range-end "*" above 2048 (CORE-52). It
// reports whether the total leaves room for them (CORE-162).
func outRange(p *msrp.Piece) (r msrp.ByteRange, ok bool) {
	h := p.Head
	if !p.HasBody {
		if h.HasRange {
			r = h.Range
		}
		return r, true
	}
	r = h.Range
	r.End = r.Start + int64(len(p.Body)) - 1
	if r.Total != msrp.Unknown && r.End > r.Total {
		return r, false
	}
	switch {
	case len(p.Body) > maxFixed:
		r.End = msrp.Unknown
	case !h.HasRange:
		return msrp.ByteRange{}, true
	}
	return r, true
}

// accept answers a SEND that is on its way with 200, which says that this hop
// has it (RFC 4976 §6.4.1, RELAY-82, RELAY-83).
func (c *conn) accept(h *msrp.Head) {
	c.succeeded()
	if h.WantsOK() {
		_ = c.m.Respond(h, 200, "", nil) // a closed connection needs no answer
		c.m.Touch(c.m)
	}
}

// patience is how long c waits for room at out. While it waits, nothing is read
// from c: that is how a slow receiver slows its senders down. If c sends to
// others, too, the wait is short; and a receiver that was waited for in vain is
// not waited for again before it has read something.
func (c *conn) patience(out *conn) time.Duration {
	c.m.FlushTouched()
	switch lim := &c.r.cfg().Limits; {
	case out.slow.Load():
		return 0
	case c.sendsToOthers(out):
		return or(lim.SharedStall, time.Second)
	default:
		return or(lim.Stall, 10*time.Second)
	}
}

// patient takes the outcome of a wait into account.
func (c *conn) patient(out *conn, err error) error {
	switch {
	case err == nil:
		out.slow.Store(false)
	case err == msrp.ErrFull && c.r.cfg().Limits.CloseSlow:
		c.count(closedSlow)
		out.m.Close(errSlow)
	case err == msrp.ErrFull:
		out.slow.Store(true)
	}
	return err
}

func (c *conn) sendsToOthers(out *conn) bool {
	for _, rt := range c.routes {
		if rt.out != out && rt.live() {
			return true
		}
	}
	return false
}

// A transfer is a SEND whose body is longer than one piece. It is forwarded
// while it arrives (RFC 4976 §3, RELAY-96) and answered once, at its end or
// when it fails (RELAY-88).
type transfer struct {
	rt     *route
	from   *conn
	stream *msrp.Stream
	rng    msrp.ByteRange
	got    int64 // octets of the body so far
	begun  bool  // the next hop has, or will have, a part of it
	wantOK bool
	owner  *reporter // nil when nobody wants to hear of failures
	tid    msrp.Ident
	to     []byte // of the answer
	own    []byte

	mu       sync.Mutex // guards what follows
	answered bool
	failed   int // code with which the next hop refused a part of it; 0 = none
}

// startTransfer begins to forward a long chunk.
func (c *conn) startTransfer(rt *route, p *msrp.Piece) bool {
	h := p.Head
	t := &transfer{
		rt: rt, from: c, rng: h.Range, wantOK: h.WantsOK(), owner: rt.reporter(h),
		tid: msrp.MakeIdent(h.TID), to: bytes.Clone(h.From.First()), own: bytes.Clone(h.To.First()),
	}
	rq := msrp.Request{Paths: rt.paths, Before: h.Before, After: h.After, Range: h.Range}
	if rq.HeadSize() > c.r.cfg().maxHead {
		c.refuse(h, refusedSyntax, 400, "Head too large to be forwarded")
		return true
	}
	var tx *msrp.Transaction
	if c.awaits(rt.out, h) {
		tx = &msrp.Transaction{Owner: t, MessageID: msrp.MakeIdent(h.MessageID)}
	}
	t.stream = rt.out.m.NewStream(&rq, tx)
	c.cur.transfer = t
	return c.continueTransfer(t, p)
}

// continueTransfer forwards the next piece of a long chunk. It reports false if
// rt.out was closed before the first.
func (c *conn) continueTransfer(t *transfer, p *msrp.Piece) bool {
	t.got += int64(len(p.Body))
	if failed := t.hasFailed(); failed != 0 {
		// It was answered when it failed; the rest of it is dropped, and the next
		// hop told that no more comes (CORE-91).
		c.stopTransfer(t, msrp.Abort)
		return true
	}
	if t.rng.Total != msrp.Unknown && t.rng.Start+t.got-1 > t.rng.Total {
		c.stopTransfer(t, msrp.Abort)
		t.refuse(refusedSyntax, 400, "Bad Byte-Range total")
		return true
	}
	flag := msrp.Flag(0)
	if p.Last {
		flag = p.Flag
	}
	out := t.rt.out
	t.stream.Arrived, t.stream.Plain = c.m.LastRead(), p.Plain
	err := t.stream.Write(p.Body, flag)
	if err == msrp.ErrFull {
		t.stream.Wait = c.patience(out)
		err = c.patient(out, t.stream.Write(p.Body, flag))
		t.stream.Wait = 0
	}
	c.m.Touch(out.m)
	t.begun = t.begun || err == nil
	switch {
	case err == msrp.ErrFull:
		c.stopTransfer(t, msrp.Abort)
		t.refuse(refusedSlow, 413, "Receiver too slow")
	case err != nil && !t.begun:
		c.cur.transfer = nil
		return false
	case err != nil:
		c.cur.transfer = nil
		t.refuse(refusedUnreachable, 481, "")
	case p.Last:
		c.cur.transfer = nil
		c.succeeded()
		t.accept()
	default:
		c.succeeded() // it passed the guard; a long file must not be cut by probation
	}
	return true
}

// stopTransfer ends the outgoing chunk and drops what is left of the incoming one.
func (c *conn) stopTransfer(t *transfer, flag msrp.Flag) {
	c.cur.transfer = nil
	if t.begun {
		_ = t.stream.Write(nil, flag) // a closed connection needs no end, a full one gets none
		c.m.Touch(t.rt.out.m)
	}
}

// lostMidChunk ends what a lost connection had begun to send. Only the
// originator may give a message up, and it may go on in another session: so the
// outgoing chunk ends with "+" (RELAY-97).
func (c *conn) lostMidChunk() {
	if t := c.cur.transfer; t != nil {
		c.cur.transfer = nil
		_ = t.stream.Write(nil, msrp.Continue)
		t.rt.out.m.Flush()
	}
}

func (t *transfer) hasFailed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// claim reports whether the SEND is still to be answered, by who asks now.
func (t *transfer) claim(failed int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.answered
	t.answered = true
	if !was {
		t.failed = failed
	}
	return !was
}

func (t *transfer) accept() {
	if t.claim(0) && t.wantOK {
		t.respond(200, "")
	}
}

// refuse answers the incoming SEND with an error, unless it has an answer.
func (t *transfer) refuse(why reason, code int, comment string) {
	if !t.claim(code) {
		return
	}
	t.from.count(why)
	if t.owner != nil {
		t.respond(code, comment)
	}
}

func (t *transfer) respond(code int, comment string) {
	_ = t.from.m.SendResponse(&msrp.Response{
		TID: t.tid.Bytes(), Code: code, Comment: comment, To: t.to, From: t.own,
	}) // a closed connection needs no answer
	t.from.m.Flush()
}

// Done implements [msrp.Owner] for the chunks in which the SEND went out. While
// the SEND is not answered a failure is its answer, after that it is a REPORT
// (RELAY-88).
func (t *transfer) Done(c *msrp.Conn, tx *msrp.Transaction, r msrp.Result) {
	if r.OK() || !t.owner.cares(r) || t.hasFailed() != 0 {
		return
	}
	code, comment := failure(r)
	if t.claim(code) {
		t.respond(code, comment)
		return
	}
	t.owner.Done(c, tx, r)
}
