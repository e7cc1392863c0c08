package relay

import (
	"bytes"
	"time"

	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/msrp"
)

// A toll is what requests on a route must meet: the limits of the session that
// sends, and of the one that is sent to. A route without limits has none, and
// pays nothing for there being such.
type toll struct {
	payers  []payer
	message int64 // octets of the largest; 0 = no limit
	chunk   int64
	types   [][]string // media types: one of each list
	seen    []byte     // the Content-Type that was allowed last
}

// A payer is a meter that requests are charged to.
type payer struct {
	meter                          *limit.Meter
	messages, bytes                reason
	tooManyMessages, tooManyOctets string
}

// newToll returns the toll of a new route, or nil.
//
// What a session is sent is metered apart from what it sends, at the same rates:
// else who floods a client would take its own voice from it. The meter of a user
// is for what the user sends only: otherwise a flood on one session would close
// the others of that user.
func (rt *route) newToll() *toll {
	t := &toll{chunk: rt.in.r.cfg().Limits.Chunk}
	for _, s := range []*session{rt.sender, rt.receiver} {
		if s == nil {
			continue
		}
		if s.message > 0 && (t.message == 0 || s.message < t.message) {
			t.message = s.message
		}
		if types := rt.in.r.cfg().rules(s.listener).MediaTypes; len(types) > 0 {
			t.types = append(t.types, types)
		}
	}
	if s := rt.sender; s != nil {
		t.add(s.out, refusedSessionMessages, refusedSessionBytes, "from this session")
		t.add(s.ofUser, refusedUserMessages, refusedUserBytes, "from this user")
	}
	if s := rt.receiver; s != nil {
		t.add(s.in, refusedPeerMessages, refusedPeerBytes, "to this session")
	}
	if len(t.payers) == 0 && t.message == 0 && t.chunk <= 0 && len(t.types) == 0 {
		return nil
	}
	return t
}

func (t *toll) add(m *limit.Meter, messages, bytes reason, what string) {
	if m != nil {
		t.payers = append(t.payers, payer{m, messages, bytes, "Too many messages " + what, "Too many bytes " + what})
	}
}

// pay takes the toll of a request whose first piece is p, or answers that it is
// not let through.
func (c *conn) pay(rt *route, p *msrp.Piece) bool {
	h, t := p.Head, rt.toll
	if h.ContentType != nil && !t.allows(h.ContentType) {
		c.refuse(h, refusedType, 415, "")
		return false
	}
	if h.Is("SEND") {
		if d := t.tooLarge(h.Range, int64(len(p.Body))); d != nil {
			c.refuse(h, d.why, d.code, d.comment)
			return false
		}
	}
	if !h.Is("REPORT") { // which others cause
		now := time.Now()
		for i := range t.payers {
			if y := &t.payers[i]; !y.meter.Message(now) {
				c.refuse(h, y.messages, 413, y.tooManyMessages)
				return false
			}
		}
	}
	if y := c.payBytes(rt, len(p.Body)); y != nil {
		c.refuse(h, y.bytes, 413, y.tooManyOctets)
		return false
	}
	return true
}

// payMore is pay for a later piece of a transfer, which it ends if that is too
// much (RFC 4975 §10.5: 413 says to stop this message).
func (c *conn) payMore(t *transfer, p *msrp.Piece) bool {
	if t.hasFailed() != 0 {
		return true // it is about to end anyway
	}
	d := t.rt.toll.tooLarge(t.rng, t.got+int64(len(p.Body)))
	if d == nil {
		if y := c.payBytes(t.rt, len(p.Body)); y != nil {
			d = &denial{y.bytes, 413, y.tooManyOctets}
		}
	}
	if d == nil {
		return true
	}
	c.stopTransfer(t, msrp.Abort)
	t.refuse(d.why, d.code, d.comment)
	return false
}

// payBytes charges n octets and returns who cannot pay them, if any. What can be
// paid a little later is waited for, so that a long file goes on at the rate that
// it may have instead of being lost.
func (c *conn) payBytes(rt *route, n int) *payer {
	if n == 0 {
		return nil
	}
	now := time.Now()
	for i := range rt.toll.payers {
		y := &rt.toll.payers[i]
		if y.meter.Bytes(now, n) {
			continue
		}
		wait, ok := y.meter.Owe(now, n, c.throttle(rt))
		if !ok {
			return y
		}
		c.count(throttled)
		c.m.Pause(wait)
		now = time.Now()
	}
	return nil
}

// throttle is how long c may be kept waiting, and nothing read from it, for what
// rt sends too fast: not at all if other users would wait, too.
func (c *conn) throttle(rt *route) time.Duration {
	if c.l == nil || c.cert != nil {
		return 0 // a next hop or another relay: it speaks for many
	}
	for _, other := range c.routes {
		if other.sessions[0].account != rt.sessions[0].account && other.live() {
			return 0
		}
	}
	return max(0, or(c.r.cfg().Limits.Throttle, 10*time.Second))
}

// allows reports whether a Content-Type is among those that are allowed.
func (t *toll) allows(contentType []byte) bool {
	if len(t.types) == 0 || bytes.Equal(contentType, t.seen) {
		return true
	}
	for _, types := range t.types {
		if !msrp.AcceptsType(types, contentType) {
			return false
		}
	}
	if len(contentType) <= 256 {
		t.seen = append(t.seen[:0], contentType...)
	}
	return true
}

// tooLarge judges a chunk by its Byte-Range, and by how much of it has come: a
// total may be unknown, or untrue (RFC 4975 §7.1.1).
func (t *toll) tooLarge(r msrp.ByteRange, got int64) *denial {
	if t.message > 0 && (r.Total > t.message || r.Start-1 > t.message-got) {
		return &denial{refusedMessage, 413, "Message too large"}
	}
	if t.chunk > 0 && (r.End-r.Start >= t.chunk || got > t.chunk) {
		return &denial{refusedChunk, 413, "Chunk too large"}
	}
	return nil
}
