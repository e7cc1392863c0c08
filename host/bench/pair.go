package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/parley-msrp/parley/host/msrp"
)

// Bodies are parts of pattern: octet o of message m of pair p is pattern[(start(p, m)+o)
// % period]. The period is a prime, so that messages and chunks, whose sizes are
// round, do not look alike. No part looks like an end-line.
const period = 65521

var pattern = func() []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	rnd := rand.New(rand.NewPCG(4975, 4976))
	b := make([]byte, 2*period)
	for i := range period {
		b[i] = letters[rnd.IntN(len(letters))]
		b[i+period] = b[i]
	}
	return b
}()

// at returns up to n octets of a body from its octet off.
func at(pair int, msg, off, n int64) []byte {
	i := (int64(pair)*7919 + msg*104729 + off) % period
	return pattern[i : i+min(n, period)]
}

// A pair is a sender and a receiver.
type pair struct {
	// Set by newPair, then read-only.
	load      *load
	n         int
	snd, rcv  *link
	to, from  []byte // paths of a SEND, as sent
	arrivesTo []byte // To-Path, as it arrives
	here      []byte // the receiver's URI
	back      []byte // To-Path of a REPORT; nil = the From-Path that came
	msgID     string // what all Message-IDs begin with
	tidStart  string
	mask      uint64

	// Owned by send.
	sent     uint64 // SENDs
	messages int64  // begun

	// Owned by receive.
	msg, off  int64 // what must come next
	cameFrom  []byte
	tid       []byte
	inFrame   frameState
	latency   *hdrhistogram.Histogram
	unflushed int64
	stamp     int64 // when octets last came

	// Safe from any goroutine.
	arrived  atomic.Int64   // octets of bodies
	answered atomic.Uint64  // SENDs
	reported atomic.Int64   // messages
	offered  atomic.Uint64  // SENDs that were given to the connection
	started  atomic.Int64   // messages of them
	goal     atomic.Int64   // octets that are to arrive in the end; -1 = not known yet
	begun    []atomic.Int64 // stamp of message n, at n & mask
	asked    []atomic.Bool  // SEND n waits for its response, at n & mask
	waiting  atomic.Bool    // send wants to be woken
	wake     chan struct{}
	closing  atomic.Bool

	// Owned by load.watch.
	lastSum  int64
	lastMove time.Time
}

type frameState struct {
	end    int64 // of the chunk, from its Byte-Range
	answer bool
}

func newPair(ctx context.Context, l *load, n int) (*pair, error) {
	size := ring(l.cfg.window())
	p := &pair{
		load: l, n: n, mask: uint64(size - 1), msgID: msrp.NewID(8), tidStart: msrp.NewID(4),
		begun: make([]atomic.Int64, size), asked: make([]atomic.Bool, size), wake: make(chan struct{}, 1),
		latency: hdrhistogram.New(1, int64(100*time.Second), 2),
	}
	p.goal.Store(-1)
	var err error
	if l.cfg.Through != "" {
		err = p.direct(ctx)
	} else {
		err = p.relayed(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.snd.before = func() error { p.kickIfWaiting(); return nil }
	p.rcv.before = p.flushReceiver
	p.rcv.after = func() { p.stamp = l.now() }
	return p, nil
}

// relayed makes a pair whose SENDs go by the relay's session URIs.
func (p *pair) relayed(ctx context.Context) error {
	d := p.load.dialer
	k, there, err := d.open(ctx)
	if err != nil {
		return err
	}
	p.rcv = k
	hops := there.use
	mine := session{uri: d.localURI()}
	if p.load.cfg.OneSession {
		p.snd, err = d.dial(ctx)
	} else {
		p.snd, mine, err = d.open(ctx)
		hops = append(mine.use, there.use...)
	}
	if err != nil {
		return err
	}
	p.here = []byte(there.uri)
	p.to, p.from = []byte(strings.Join(append(hops, there.uri), " ")), []byte(mine.uri)
	p.arrivesTo = p.here
	return nil
}

// direct makes a pair through a forwarder. Paths are as long as a relay's, or a
// forwarder would be measured with other frames.
func (p *pair) direct(ctx context.Context) error {
	d := p.load.dialer
	var err error
	if p.snd, err = d.dial(ctx); err != nil {
		return err
	}
	nc, err := accept(ctx, p.load.cfg.Listener)
	if err != nil {
		return fmt.Errorf("the forwarder does not connect to %s: %w", p.load.cfg.Listener.Addr(), err)
	}
	p.rcv = newLink(nc)
	hop := func() string {
		u := msrp.URI{Secure: d.target.Secure, Host: "relay.invalid", Port: 2855, Session: msrp.NewID(22), Transport: "tcp"}
		return u.String()
	}
	hops := []string{hop(), hop()}
	if p.load.cfg.OneSession {
		hops = hops[1:]
	}
	here, from := d.localURI(), d.localURI()
	p.here, p.from = []byte(here), []byte(from)
	p.to = []byte(strings.Join(append(hops, here), " "))
	p.arrivesTo = p.to
	for i, j := 0, len(hops)-1; i < j; i, j = i+1, j-1 {
		hops[i], hops[j] = hops[j], hops[i]
	}
	p.back = []byte(strings.Join(append(hops, from), " "))
	return nil
}

func accept(ctx context.Context, ln net.Listener) (net.Conn, error) {
	type result struct {
		nc  net.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		nc, err := ln.Accept()
		got <- result{nc, err}
	}()
	wait := time.NewTimer(30 * time.Second)
	defer wait.Stop()
	var err error
	select {
	case r := <-got:
		if hs, ok := r.nc.(interface{ HandshakeContext(context.Context) error }); ok {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			if r.err = hs.HandshakeContext(ctx); r.err != nil {
				r.nc.Close()
			}
		}
		return r.nc, r.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-wait.C:
		err = context.DeadlineExceeded
	}
	ln.Close() // ends the Accept; there will be no other
	if r := <-got; r.err == nil {
		r.nc.Close()
	}
	return nil, err
}

func (p *pair) close() {
	p.closing.Store(true)
	for _, k := range []*link{p.snd, p.rcv} {
		if k != nil {
			k.close()
		}
	}
	p.kick()
}

func (p *pair) fault(format string, args ...any) error {
	return &Fault{p.n, fmt.Sprintf(format, args...)}
}

// kick wakes send.
func (p *pair) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pair) kickIfWaiting() {
	if p.waiting.Load() && p.waiting.CompareAndSwap(true, false) {
		p.kick()
	}
}

// Sending

// octets is how many octets the first n SENDs have.
func (p *pair) octets(n int64) int64 {
	size, chunk := p.load.cfg.size(), p.load.cfg.chunk()
	per := (size + chunk - 1) / chunk
	return n/per*size + n%per*chunk
}

// room is how many SENDs may go now.
func (p *pair) room() int {
	w := int64(p.load.cfg.window())
	n := w
	// How many have arrived follows from their octets: the relay may have cut them anew.
	if under := p.octets(int64(p.sent)) - p.arrived.Load(); under > 0 {
		lo, hi := int64(0), n // the largest k with octets(sent+k) - arrived <= octets(sent+k) - octets(sent+k-w)
		for lo < hi {
			k := (lo + hi + 1) / 2
			if int64(p.sent)+k <= w || p.octets(int64(p.sent)+k-w) <= p.arrived.Load() {
				lo = k
			} else {
				hi = k - 1
			}
		}
		n = lo
	}
	if p.load.cfg.failure() {
		n = min(n, w-int64(p.sent-p.answered.Load()))
	}
	if p.load.cfg.Success && p.messages-p.reported.Load() >= w {
		n = 0
	}
	return int(max(0, n))
}

// send sends until the load stops, and then waits until all of it has arrived.
func (p *pair) send(ctx context.Context) error {
	cfg := &p.load.cfg
	size, chunk := cfg.size(), cfg.chunk()
	var every time.Duration
	var due int64 // when the next message is to go
	if cfg.Rate > 0 {
		every = time.Duration(float64(time.Second) * float64(cfg.pairs()) / cfg.Rate)
		due = p.load.now() + int64(every)*int64(p.n)/int64(cfg.pairs())
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var off int64 // within the message
	blocked := false
	for ctx.Err() == nil {
		if off == 0 && (p.load.stop.Load() || cfg.Messages > 0 && p.messages == cfg.Messages) {
			break
		}
		if every > 0 && off == 0 {
			if d := due - p.load.now(); d > 0 {
				blocked = false
				timer.Reset(time.Duration(d))
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
				continue
			}
		}
		n := p.room()
		if n == 0 {
			blocked = true
			p.await(ctx, func() bool { return p.room() > 0 || off == 0 && p.load.stop.Load() })
			continue
		}
		stamp := p.load.now()
		for n > 0 && len(p.snd.out) < 64<<10 {
			if off == 0 {
				if p.load.stop.Load() || cfg.Messages > 0 && p.messages == cfg.Messages || every > 0 && due > stamp {
					break
				}
				from := stamp
				if every > 0 {
					if blocked {
						from = due // it would have gone, had the window let it
					}
					due += int64(every)
				}
				p.begun[uint64(p.messages)&p.mask].Store(from)
				p.messages++
			}
			part := min(chunk, size-off)
			if err := p.appendSend(off, part); err != nil {
				return err
			}
			if off += part; off == size {
				off = 0
			}
			n--
		}
		p.offered.Store(p.sent)
		p.started.Store(p.messages)
		if err := p.snd.flush(); err != nil {
			return p.lost(err)
		}
		blocked = every > 0 && p.load.now() > due // by a connection that is full
	}
	p.goal.Store(p.messages * size)
	p.await(ctx, p.finished)
	return nil
}

// await returns once ok, or when the run is over.
func (p *pair) await(ctx context.Context, ok func() bool) {
	for {
		p.waiting.Store(true)
		if ok() || p.closing.Load() {
			p.waiting.Store(false)
			return
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (p *pair) finished() bool {
	goal := p.goal.Load()
	return goal >= 0 && p.arrived.Load() == goal &&
		(!p.load.cfg.failure() || p.answered.Load() == p.sent) &&
		(!p.load.cfg.Success || p.reported.Load() == p.messages)
}

const digits = 12 // of the numbers in ids

func appendNumber(b []byte, n uint64) []byte {
	var d [digits]byte
	for i := digits - 1; i >= 0; i-- {
		d[i] = "0123456789abcdef"[n&15]
		n >>= 4
	}
	return append(b, d[:]...)
}

// number reads what appendNumber wrote behind start.
func number(b []byte, start string) (n uint64, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte(start))
	if !ok || len(b) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b), 16, 64)
	return n, err == nil
}

// appendSend appends the SEND of a part of the message that was begun last.
func (p *pair) appendSend(off, part int64) error {
	cfg := &p.load.cfg
	if cfg.failure() && p.asked[p.sent&p.mask].Swap(true) {
		return p.fault("no response to SEND %d, while later ones were answered", p.sent-p.mask-1)
	}
	msg := p.messages - 1
	from := len(p.snd.out)
	b := append(p.snd.out, "MSRP "...)
	tid := len(b)
	b = appendNumber(append(b, p.tidStart...), p.sent)
	end := len(b)
	b = append(append(b, " SEND\r\nTo-Path: "...), p.to...)
	b = append(append(b, "\r\nFrom-Path: "...), p.from...)
	b = append(append(b, "\r\nMessage-ID: "...), p.msgID...)
	b = append(appendNumber(b, uint64(msg)), "\r\n"...)
	if cfg.Success {
		b = append(b, "Success-Report: yes\r\n"...)
	}
	if cfg.Failure != msrp.Absent {
		b = append(append(append(b, "Failure-Report: "...), cfg.Failure.String()...), "\r\n"...)
	}
	b = msrp.ByteRange{Start: off + 1, End: off + part, Total: cfg.size()}.Append(append(b, "Byte-Range: "...))
	b = append(append(append(b, "\r\nContent-Type: "...), contentType...), "\r\n\r\n"...)
	flag := msrp.Complete
	if off+part < cfg.size() {
		flag = msrp.Continue
	}
	for part > 0 {
		body := at(p.n, msg, off, part)
		b = append(b, body...)
		off, part = off+int64(len(body)), part-int64(len(body))
	}
	b = append(append(b, "\r\n-------"...), b[tid:end]...)
	p.snd.out = append(b, byte(flag), '\r', '\n')
	p.snd.end(from)
	p.sent++
	return nil
}

const contentType = "application/octet-stream"

// lost says that a connection ended which should not have.
func (p *pair) lost(err error) error {
	if p.closing.Load() {
		return nil
	}
	return p.fault("connection lost: %v", err)
}

// listen reads what comes back to the sender: responses and REPORTs.
func (p *pair) listen() error {
	for {
		piece, err := p.snd.rd.Next()
		if err != nil {
			return p.lost(err)
		}
		h := piece.Head
		switch {
		case h.Err != nil:
			return p.fault("the sender got a frame with a fault: %v", h.Err)
		case h.IsResponse():
			err = p.response(h)
		case h.Is("REPORT") && piece.Last:
			err = p.report(h)
		default:
			err = p.fault("the sender got a %s", h.Method)
		}
		if err != nil {
			return err
		}
	}
}

func (p *pair) response(h *msrp.Head) error {
	n, ok := number(h.TID, p.tidStart)
	switch {
	case !ok:
		return p.fault("a response to a transaction %q that is none", h.TID)
	case h.Code != 200:
		return p.fault("SEND %d is answered %d %s", n, h.Code, h.Comment)
	case !p.load.cfg.failure():
		return p.fault("SEND %d is answered, which Failure-Report does not want", n)
	case string(h.To) != string(p.from):
		return p.fault("the response to SEND %d has To-Path %q", n, h.To)
	case !p.asked[n&p.mask].Swap(false):
		return p.fault("SEND %d is answered twice", n)
	}
	p.answered.Add(1)
	return nil
}

func (p *pair) report(h *msrp.Head) error {
	n, ok := number(h.MessageID, p.msgID)
	next := p.reported.Load()
	size := p.load.cfg.size()
	switch {
	case !ok:
		return p.fault("a REPORT on a message %q that is none", h.MessageID)
	case !h.HasStatus || h.Status.Code != 200:
		return p.fault("the REPORT on message %d says %d %s", n, h.Status.Code, h.Status.Comment)
	case !p.load.cfg.Success:
		return p.fault("a REPORT on message %d, which Success-Report does not want", n)
	case int64(n) != next:
		return p.fault("a REPORT on message %d instead of %d", n, next)
	case h.Range != (msrp.ByteRange{Start: 1, End: size, Total: size}):
		return p.fault("the REPORT on message %d has Byte-Range %v", n, h.Range)
	case !bytes.Equal(h.From.Last(), p.here):
		return p.fault("the REPORT on message %d is from %q", n, h.From)
	}
	p.reported.Store(next + 1)
	return nil
}

// Receiving

// receive reads SENDs, checks each octet of them, and answers.
func (p *pair) receive() error {
	cfg := &p.load.cfg
	for {
		piece, err := p.rcv.rd.Next()
		if err != nil {
			return p.lost(err)
		}
		if piece.First {
			if err := p.head(piece); err != nil {
				return err
			}
		}
		n := int64(len(piece.Body))
		for body := piece.Body; len(body) > 0; {
			want := at(p.n, p.msg, p.off, int64(len(body)))
			if !bytes.Equal(body[:len(want)], want) {
				i := int64(0)
				for body[i] == want[i] {
					i++
				}
				return p.fault("octet %d of message %d is %q instead of %q", p.off+i, p.msg, body[i], want[i])
			}
			p.off += int64(len(want))
			body = body[len(want):]
		}
		p.unflushed += n
		if !piece.Last {
			continue
		}
		if err := p.finish(piece.Flag); err != nil {
			return err
		}
		if p.inFrame.answer {
			from := len(p.rcv.out)
			p.rcv.out = appendFrame(p.rcv.out, p.tid, "200 OK", msrp.Path(p.cameFrom).First(), p.here)
			p.rcv.end(from)
		}
		if p.off < cfg.size() {
			continue
		}
		begun := p.begun[uint64(p.msg)&p.mask].Load()
		if p.load.tally.counts(begun) {
			_ = p.latency.RecordValue(min(max(1, p.stamp-begun), int64(100*time.Second))) // it is in range
		}
		if cfg.Success {
			p.appendReport()
		}
		p.msg, p.off = p.msg+1, 0
	}
}

// head checks the head of a SEND.
func (p *pair) head(piece *msrp.Piece) error {
	h := piece.Head
	size := p.load.cfg.size()
	n, ok := number(h.MessageID, p.msgID)
	switch {
	case h.Err != nil:
		return p.fault("the receiver got a frame with a fault: %v", h.Err)
	case h.IsResponse():
		return p.fault("the receiver got a response, %d %s", h.Code, h.Comment)
	case !h.Is("SEND"):
		return p.fault("the receiver got a %s", h.Method)
	case !bytes.Equal(h.To, p.arrivesTo):
		return p.fault("message %d came with To-Path %q instead of %q", p.msg, h.To, p.arrivesTo)
	case !ok:
		return p.fault("a message %q that nobody sent", h.MessageID)
	case int64(n) != p.msg:
		return p.fault("message %d came instead of %d", n, p.msg)
	case p.goal.Load() >= 0 && (p.msg+1)*size > p.goal.Load():
		return p.fault("message %d came, which was not sent", n)
	case h.Range.Start != p.off+1 || h.Range.Total != size:
		return p.fault("Byte-Range %v of message %d instead of %d-*/%d", h.Range, n, p.off+1, size)
	case string(h.ContentType) != contentType:
		return p.fault("message %d has Content-Type %q", n, h.ContentType)
	case h.WantsOK() != p.load.cfg.failure() || h.Failure == msrp.Partial != (p.load.cfg.Failure == msrp.Partial):
		return p.fault("message %d has Failure-Report %q", n, h.Failure)
	case (h.Success == msrp.Yes) != p.load.cfg.Success:
		return p.fault("message %d has Success-Report %q", n, h.Success)
	}
	if p.cameFrom == nil {
		if !bytes.Equal(h.From.Last(), p.from) {
			return p.fault("message %d came with From-Path %q, which does not end in %q", n, h.From, p.from)
		}
		p.cameFrom = append(p.cameFrom, h.From...)
	} else if !bytes.Equal(h.From, p.cameFrom) {
		return p.fault("message %d came with From-Path %q, after %q", n, h.From, p.cameFrom)
	}
	p.tid = append(p.tid[:0], h.TID...)
	p.inFrame = frameState{h.Range.End, h.WantsOK()}
	return nil
}

// finish checks what the end-line says.
func (p *pair) finish(flag msrp.Flag) error {
	size := p.load.cfg.size()
	want := msrp.Continue
	if p.off == size {
		want = msrp.Complete
	}
	switch {
	case p.off > size:
		return p.fault("message %d has %d octets instead of %d", p.msg, p.off, size)
	case flag != want:
		return p.fault("message %d: a chunk that ends at %d of %d has the flag %q", p.msg, p.off, size, byte(flag))
	case p.inFrame.end != msrp.Unknown && p.inFrame.end != p.off:
		return p.fault("message %d: a chunk ends at %d, and its Byte-Range at %d", p.msg, p.off, p.inFrame.end)
	}
	return nil
}

// appendReport appends the REPORT on the message that is complete.
func (p *pair) appendReport() {
	to := p.cameFrom
	if p.back != nil {
		to = p.back
	}
	from := len(p.rcv.out)
	b := append(p.rcv.out, "MSRP "...)
	tid := len(b)
	b = appendNumber(append(b, "rpt"...), uint64(p.msg))
	end := len(b)
	b = append(append(b, " REPORT\r\nTo-Path: "...), to...)
	b = append(append(b, "\r\nFrom-Path: "...), p.here...)
	b = append(append(b, "\r\nMessage-ID: "...), p.msgID...)
	b = append(appendNumber(b, uint64(p.msg)), "\r\nByte-Range: "...)
	b = msrp.ByteRange{Start: 1, End: p.load.cfg.size(), Total: p.load.cfg.size()}.Append(b)
	b = append(append(b, "\r\nStatus: 000 200 OK\r\n-------"...), b[tid:end]...)
	p.rcv.out = append(b, "$\r\n"...)
	p.rcv.end(from)
}

// flushReceiver sends the answers, and lets the sender go on.
func (p *pair) flushReceiver() error {
	err := p.rcv.flush()
	if p.unflushed > 0 {
		p.arrived.Add(p.unflushed)
		p.unflushed = 0
		p.kickIfWaiting()
	}
	return err
}

// stalled returns a fault if the pair has waited too long. It is for one goroutine.
func (p *pair) stalled(now time.Time, limit time.Duration) error {
	arrived, answered, reported := p.arrived.Load(), p.answered.Load(), p.reported.Load()
	sum := arrived + int64(answered) + reported
	offered := p.offered.Load()
	underWay := arrived < p.octets(int64(offered)) || p.load.cfg.failure() && answered < offered || p.load.cfg.Success && reported < p.started.Load()
	if sum != p.lastSum || p.lastMove.IsZero() || !underWay {
		p.lastSum, p.lastMove = sum, now
		return nil
	}
	if now.Sub(p.lastMove) < limit {
		return nil
	}
	return p.fault("nothing came for %v: of %d SENDs with %d octets %d octets have arrived and %d responses came; of %d messages %d were reported",
		limit, offered, p.octets(int64(offered)), arrived, answered, p.started.Load(), reported)
}
