package relay

import (
	"bytes"
	"errors"
	"strings"

	"github.com/parley-msrp/parley/host/msrp"
)

// maxLocalHops is how many of this relay's URIs may follow each other in a
// To-Path: two when both peers use it (RFC 7977 §8.3.2, RELAY-53).
const maxLocalHops = 4

// A route is what was decided for one pair of To-Path and From-Path on one
// connection. Requests with the same octets there need no second look.
type route struct {
	// Set by resolve, then read-only.
	in       *conn
	out      *conn
	setup    *setup                 // that decided it
	sessions [maxLocalHops]*session // whose URIs lead To-Path
	hops     int
	paths    []byte   // To-Path and From-Path for the next hop
	pushed   int      // URIs that were put before From-Path
	sender   *session // whose client sends on it; nil = a peer does
	receiver *session // whose client is sent to; nil = a next hop is
	toll     *toll    // nil = no limits

	all, partial *reporter // apart from the route, which they outlive
}

// from is From-Path as it goes out.
func (rt *route) from() msrp.Path {
	_, from, _ := bytes.Cut(rt.paths, []byte("\r\nFrom-Path: "))
	return msrp.Path(bytes.TrimSuffix(from, []byte("\r\n")))
}

// live reports whether the route still leads where it did, by the same rules.
func (rt *route) live() bool {
	if rt.out.gone.Load() || rt.setup != rt.in.r.cfg() {
		return false
	}
	for _, s := range rt.sessions[:rt.hops] {
		if s.dead.Load() {
			return false
		}
	}
	return true
}

// reporter returns who learns of failures of a SEND, or nil if the sender does
// not want to.
func (rt *route) reporter(h *msrp.Head) *reporter {
	switch h.Failure {
	case msrp.No:
		return nil
	case msrp.Partial:
		return rt.partial
	}
	return rt.all
}

// A denial is why a request is not forwarded.
type denial struct {
	why     reason
	code    int
	comment string
}

func (d *denial) Error() string { return d.comment }

// resolve decides what becomes of a request whose paths are not known yet. It
// returns nil when the request ends here: answered, dropped, or an AUTH.
func (c *conn) resolve(p *msrp.Piece) *route {
	h := p.Head
	// RFC 4976 §6.2 (RELAY-41): syntax first.
	if err := h.CheckPaths(); err != nil {
		c.refuseSyntax(h, err)
		return nil
	}
	if max(len(h.To), len(h.From)) > or(c.r.cfg().Limits.Path, 2<<10) {
		// Every answer would repeat it, and every next hop make it longer.
		c.count(refusedSyntax)
		c.finish(errPath)
		return nil
	}
	first, _ := msrp.ParseURI(string(h.To.First())) // parsed above
	last := len(h.To.Rest()) == 0
	e := c.r.entry(h.To.First(), &first)
	switch {
	case e == nil && c.r.own(&first, h.Is("AUTH") && last) == nil:
		// RFC 4976 §6.2 (RELAY-42): "drop the connection".
		c.count(refusedForeign)
		c.finish(errForeign)
		return nil
	case first.Secure && !c.secure && c.l != nil:
		// RFC 4975 §6 (CORE-4): msrps says that this hop is over TLS. Who was
		// dialled without it may answer the way it was asked.
		c.refuse(h, refusedGuard, 403, "This URI needs TLS")
		return nil
	case h.Is("AUTH") && last && first.Session == "":
		c.serveAuth(h)
		return nil
	case last:
		c.refuseHere(h, e)
		return nil
	case e == nil:
		// RFC 4976 §6.3 (RELAY-65): "discard"; the sender may know.
		c.refuse(h, refusedUnknown, 481, "")
		return nil
	}
	rt, err := c.walk(h, e)
	if err != nil {
		var d *denial
		if !errors.As(err, &d) {
			c.log.Info("no way to the next hop", "err", err)
			d = &denial{refusedUnreachable, 408, "Next hop not reached"}
		}
		c.refuse(h, d.why, d.code, d.comment)
		return nil
	}
	if len(c.routes) >= or(c.r.cfg().Limits.Routes, 256) {
		clear(c.routes)
	}
	c.routes[string(h.Paths)] = rt
	return rt
}

// refuseHere answers a request whose To-Path ends at this relay (RELAY-103).
func (c *conn) refuseHere(h *msrp.Head, e *entry) {
	switch {
	case h.Is("SEND") || h.Is("AUTH"):
		c.refuse(h, refusedUnknown, 481, "")
	case h.Is("REPORT"):
		c.count(droppedReport)
	default:
		c.refuse(h, refusedMethod, 501, "")
	}
}

// walk takes our URIs off the front of To-Path, each under the open-relay guard:
// "the first To-Path URI is one that this relay created", and either the next
// hop is the way back to its client (a), or the request comes from that client
// (b) (RFC 4976 §6.4, RELAY-43). For clients on WebSockets it is the same
// (RFC 7977 §5.1, WS-31); what stands further right is not looked at (WS-25).
func (c *conn) walk(h *msrp.Head, e *entry) (*route, error) {
	from := msrp.Path(bytes.Clone(h.From))
	own := bytes.Clone(h.To.First())
	rt := &route{
		in: c, setup: c.r.cfg(), all: &reporter{in: c, from: from, own: own}, partial: &reporter{in: c, from: from, own: own, partial: true},
	}
	to := h.To.Rest()
	local := false // the hop before was this relay itself
	for {
		s := e.session
		rt.sessions[rt.hops] = s
		rt.hops++
		next, err := msrp.ParseURI(string(to.First()))
		if err != nil {
			return nil, err
		}
		if s.leadsBack(&next) {
			// (a): never anywhere but over the connection of its AUTH (RELAY-47, RELAY-51).
			if !local && !s.comesFrom(c, h.From) {
				s.meet(h.From.First(), c)
			}
			rt.receiver = s
			if rt.out, err = s.wayBack(c); err != nil {
				return nil, err
			}
			rt.push(&from, s.main.raw)
			break
		}
		if local || !s.comesFrom(c, h.From) {
			return nil, &denial{refusedGuard, 403, "Not your session"}
		}
		// (b): from the client itself, who may send anywhere.
		rt.sender = s
		ours := c.r.own(&next, false)
		if ours == nil {
			w, err := c.nextHop(s, &next, h)
			if err != nil {
				return nil, err
			}
			rt.out = w.out
			rt.push(&from, w.front.raw)
			break
		}
		// RFC 7977 §8.3.2 (RELAY-53): the peer uses this relay, too.
		rt.push(&from, e.raw)
		e = c.r.entry(to.First(), &next)
		if to = to.Rest(); e == nil || len(to) == 0 || rt.hops == maxLocalHops {
			return nil, &denial{refusedUnknown, 481, ""}
		}
		local = true
	}
	rt.paths = msrp.AppendPaths(nil, to, from, nil)
	rt.toll = rt.newToll()
	return rt, nil
}

// push puts one of our URIs before from (RFC 4976 §6.4.1, RELAY-49).
func (rt *route) push(from *msrp.Path, uri []byte) {
	b := make([]byte, 0, len(uri)+1+len(*from))
	*from = append(append(append(b, uri...), ' '), *from...)
	rt.pushed++
}

// A way is where a session leaves to.
type way struct {
	out   *conn
	front *entry // the URI that stands for the session there
}

// nextHop finds the connection from session s to a next hop that is not ours.
func (c *conn) nextHop(s *session, next *msrp.URI, h *msrp.Head) (way, error) {
	if out := s.peer(string(h.To.Rest().First())); out != nil {
		return way{out, s.frontFor(out)}, nil
	}
	if next.Port == 0 && !h.Is("AUTH") {
		// RFC 4976 §8 (RELAY-20): every other request names the port.
		return way{}, &denial{refusedSyntax, 400, "Next hop without a port"}
	}
	if !strings.EqualFold(next.Transport, "tcp") {
		// RFC 7977 §5.3 (WS-26): only its own relay reaches a WebSocket client.
		return way{}, &denial{refusedUnreachable, 481, "Cannot connect to this transport"}
	}
	if next.Port == 0 && !next.Secure {
		next.Port = defaultPort
	}
	x, err := c.exit(s, next, h)
	if err != nil {
		return way{}, err
	}
	out, err := c.r.dial(c, next, x.iface, x.source, x.front.listener)
	if err != nil {
		return way{}, err
	}
	return way{out, x.front}, nil
}

// defaultPort is used for a next hop without port and TLS, for which there are
// no SRV records (RFC 4976 §8, RELAY-23, RELAY-24).
const defaultPort = 2855

// exit asks select_interface, once per session and next hop.
func (c *conn) exit(s *session, next *msrp.URI, h *msrp.Head) (*exit, error) {
	key := next.String()
	s.mu.Lock()
	x := s.exits[key]
	full := len(s.exits) >= or(c.r.cfg().Limits.Peers, 32)
	s.mu.Unlock()
	if x != nil {
		return x, nil
	}
	if full {
		return nil, &denial{refusedLimit, 403, "Too many peers in this session"}
	}
	c.m.FlushTouched()
	x, err := c.selectInterface(s, next, h)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exits == nil {
		s.exits = map[string]*exit{}
	}
	s.exits[key] = x
	return x, nil
}
