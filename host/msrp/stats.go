package msrp

import (
	"strconv"
	"sync/atomic"
	"time"
)

// Stats counts what the Conns that share it read and send. The zero value is
// ready. What a Conn has in hand is added with its next read or write, so that
// a frame costs no atomic operation of its own.
type Stats struct {
	in         [kinds]cell
	_          [64]byte // the cores that read and those that write are rarely the same
	out        [kinds]cell
	_          [64]byte
	forwarding Durations
	answering  Durations
}

// A FrameCount is how many frames of one kind there were.
type FrameCount struct {
	Out    bool   // sent; else read
	Method string // of requests: SEND, REPORT, AUTH, or other
	Status string // of responses: a registered code, or other
	Frames uint64
	Octets uint64 // of these frames, end-lines included
}

// Frames returns the counts of all kinds.
func (s *Stats) Frames() []FrameCount {
	all := make([]FrameCount, 0, 2*kinds)
	for i, cells := range [...]*[kinds]cell{&s.in, &s.out} {
		for k := range cells {
			f := FrameCount{Out: i == 1, Frames: cells[k].n.Load(), Octets: cells[k].sum.Load()}
			switch {
			case kind(k) < kindResponse:
				f.Method = methodNames[k]
			case k == kinds-1:
				f.Status = "other"
			default:
				f.Status = strconv.Itoa(statusCodes[k-int(kindResponse)])
			}
			all = append(all, f)
		}
	}
	return all
}

// Forwarding is the time from Request.Arrived until the network has taken
// the last octet of that request.
func (s *Stats) Forwarding() Histogram { return s.forwarding.Snapshot() }

// Answering is the time from there until the response has come.
func (s *Stats) Answering() Histogram { return s.answering.Snapshot() }

// A kind is a request by its method, or a response by its code.
type kind uint8

const (
	kindSend kind = iota
	kindReport
	kindAuth
	kindRequest  // of any other method
	kindResponse // the first of statusCodes; the last kind is any other code
)

var (
	methodNames = [kindResponse]string{"SEND", "REPORT", "AUTH", "other"}
	statusCodes = [...]int{200, 400, 401, 403, 404, 408, 413, 415, 423, 481, 501, 506}
)

const kinds = int(kindResponse) + len(statusCodes) + 1

func methodKind(method []byte) kind {
	switch string(method) {
	case "SEND":
		return kindSend
	case "REPORT":
		return kindReport
	case "AUTH":
		return kindAuth
	}
	return kindRequest
}

func codeKind(code int) kind {
	for i, c := range statusCodes {
		if c == code {
			return kindResponse + kind(i)
		}
	}
	return kind(kinds - 1)
}

// A cell is a counter of things and of their size.
type cell struct{ n, sum atomic.Uint64 }

// A run is what is to be added to one of several cells. Frames of a kind come in
// rows, so that there is little to add and it need not be done for each.
type run struct {
	at  uint8
	n   uint32
	sum uint64
}

func (r *run) add(cells []cell, at int, n uint32, sum uint64) {
	if int(r.at) != at {
		r.flush(cells)
		r.at = uint8(at)
	}
	r.n += n
	r.sum += sum
}

func (r *run) flush(cells []cell) {
	if r.sum > 0 || r.n > 0 {
		cells[r.at].n.Add(uint64(r.n))
		cells[r.at].sum.Add(r.sum)
		r.n, r.sum = 0, 0
	}
}

// Durations counts durations by their length. The zero value is ready.
type Durations struct {
	cells [len(durationBounds) + 1]cell // the last for what is longer
}

// durationBounds spans from what a relay takes to forward a frame to what a peer
// may take to accept one.
var durationBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

func durationCell(d time.Duration) int {
	for i, b := range durationBounds {
		if d <= b {
			return i
		}
	}
	return len(durationBounds)
}

// Add counts d.
func (d *Durations) Add(t time.Duration) {
	c := &d.cells[durationCell(t)]
	c.n.Add(1)
	c.sum.Add(uint64(max(0, t)))
}

// A Histogram is a snapshot of Durations.
type Histogram struct {
	Buckets []Bucket
	Count   uint64
	Sum     time.Duration
}

// A Bucket is how many durations were not longer than Bound.
type Bucket struct {
	Bound time.Duration
	Count uint64
}

// Snapshot returns the counts.
func (d *Durations) Snapshot() Histogram {
	var h Histogram
	for i := range d.cells {
		h.Count += d.cells[i].n.Load()
		h.Sum += time.Duration(d.cells[i].sum.Load())
		if i < len(durationBounds) {
			h.Buckets = append(h.Buckets, Bucket{durationBounds[i], h.Count})
		}
	}
	return h
}

// What a Conn has counted and not yet added to its Stats is in two parts, far from
// each other in memory, since different goroutines write them. Requests and
// responses alternate on a connection, but each come in rows of their own.

// received is the part of Serve.
type received struct {
	kind                          kind // of the frame that arrives
	requests, responses, answered run
}

// sent is the part that Conn.mu guards.
type sent struct {
	requests, answers, forwarded run
}

// countPiece counts a piece that was read.
func (c *Conn) countPiece(p *Piece) {
	if c.stats == nil {
		return
	}
	t := &c.received
	frames, octets := uint32(0), len(p.Body)
	if p.First {
		frames = 1
		octets += len(p.Head.Raw)
		if p.HasBody {
			octets += 2 * len(crlf)
		}
		if p.Head.IsResponse() {
			t.kind = codeKind(p.Head.Code)
		} else {
			t.kind = methodKind(p.Head.Method)
		}
	}
	if p.Last {
		octets += len(dashes) + len(p.Head.TID) + len("$\r\n")
	}
	r := &t.requests
	if t.kind >= kindResponse {
		r = &t.responses
	}
	r.add(c.stats.in[:], int(t.kind), frames, uint64(octets))
}

// countSent counts what made q grow from size from: frames of kind k, or with
// none a part of one. mu is held.
func (c *Conn) countSent(q *queue, k kind, frames uint32, from uint64) {
	if c.stats == nil {
		return
	}
	r := &c.sent.requests
	if q == &c.answers {
		r = &c.sent.answers
	}
	r.add(c.stats.out[:], int(k), frames, q.total-from)
}

// flushReceived is called from Serve before it waits.
func (c *Conn) flushReceived() {
	if s, t := c.stats, &c.received; s != nil {
		t.requests.flush(s.in[:])
		t.responses.flush(s.in[:])
		t.answered.flush(s.answering.cells[:])
	}
}

// flushSent is called before and after each write, with mu held. What is never
// taken for a write was not sent.
func (c *Conn) flushSent() {
	if s, t := c.stats, &c.sent; s != nil {
		t.requests.flush(s.out[:])
		t.answers.flush(s.out[:])
		t.forwarded.flush(s.forwarding.cells[:])
	}
}

func (r *run) addDuration(d *Durations, t time.Duration) {
	at := int(r.at) // most are like the one before
	if at == len(durationBounds) || t > durationBounds[at] || at > 0 && t <= durationBounds[at-1] {
		at = durationCell(t)
	}
	r.add(d.cells[:], at, 1, uint64(max(0, t)))
}

// countForwarded counts one request that was written, now being the time since
// epoch. mu is held.
func (c *Conn) countForwarded(k *slot, now time.Duration) {
	if k.arrived != 0 && c.stats != nil {
		c.sent.forwarded.addDuration(&c.stats.forwarding, now-k.arrived)
	}
}

// countAnswered counts the request in a slot whose response has come. It may
// have come before we were told that the request was written. mu is held.
func (c *Conn) countAnswered(k *slot) {
	if c.stats == nil || k.state != slotSent {
		return
	}
	came, took := time.Duration(c.lastRead.Load()), time.Duration(0)
	if k.due != 0 {
		took = came - (k.due - c.lim.transaction())
	} else {
		c.countForwarded(k, came)
	}
	c.received.answered.addDuration(&c.stats.answering, took)
}
