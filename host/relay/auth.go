package relay

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
)

// serveAuth answers an AUTH to this relay (RFC 4976 §6.3). Credentials are
// checked also where a handshake has named the user (RFC 7977 §7, WS-39).
func (c *conn) serveAuth(h *msrp.Head) {
	l := c.listener()
	if l == nil || !c.secure && !l.PlainAuth {
		// RFC 4976 §6.3, §9.2 (RELAY-26): credentials and session URIs need TLS.
		c.authEnded(authInsecure)
		c.refuse(h, refusedAuth, 403, "AUTH needs TLS")
		return
	}
	if c.r.Draining() || c.r.cfg().retired[l.Name] {
		c.authEnded(authDraining)
		c.refuse(h, refusedDraining, 403, "Draining")
		return
	}
	relay := c.relayOf(h.From)
	if c.secure && relay == "" && len(h.From.Rest()) > 0 {
		// RFC 4976 §6.3 (RELAY-29, RELAY-54): the previous hop comes first.
		c.authEnded(authRelay)
		c.refuse(h, refusedRelay, 403, "Not an authenticated relay")
		return
	}
	value, ok := h.Get("Authorization")
	known := c.identity != nil && len(h.From.Rest()) == 0
	if known && !c.isIdentity(h) {
		c.authEnded(authDenied)
		c.refuse(h, refusedAuth, 403, "This connection is another user's")
		return
	}
	if !ok && known {
		// RFC 7977 §5.3.1 (WS-37): the handshake was the proof.
		c.openSession(h, "", c.identity.Username, c.identity, nil)
		return
	}
	if !ok {
		// RFC 4976 §5.1 (RELAY-55), RFC 7977 §5.3.1 (WS-35). No failure: it is
		// how a client begins.
		c.authEnded(authChallenged)
		c.challenge(h, refusedChallenge, false)
		return
	}
	cred, err := auth.ParseCredentials(string(value))
	if err != nil {
		c.authEnded(authMalformed)
		c.refuse(h, refusedSyntax, 400, "Bad Authorization")
		return
	}
	if relay == "" && c.shunned(h, cred.Username) {
		return
	}
	// RFC 4976 §9.1 (RELAY-72, WS-40): the digest is over the rightmost To-Path URI.
	uri := string(h.To.Last())
	if known && cred.Username != c.identity.Username {
		c.authEnded(authDenied)
		c.refuse(h, refusedAuth, 403, "This connection is another user's") // WS-41
		return
	}
	server := c.r.cfg().Auth // that a Reload may replace
	check, err := server.Check(c.nonceConn(relay), cred)
	if err != nil {
		c.wrongCredentials(h)
		return
	}
	if len(h.From.Rest()) > 0 && c.wrongBy[string(h.From.Last())] >= or(c.r.cfg().Limits.AuthFailures, 5) {
		c.authEnded(authLimit)
		c.refuse(h, refusedAuth, 403, "Too many wrong passwords")
		return
	}
	c.m.FlushTouched()
	reply := c.ask(h, relay, &cred, uri)
	if reply.Verdict == hook.Deny {
		result := authDenied
		if reply.Failed {
			result = authError
		}
		c.authEnded(result)
		c.refuse(h, refusedHook, reply.Status, reply.Reason)
		return
	}
	secret := auth.Secret{HA1: reply.HA1, Password: reply.Password, Authenticated: reply.Authenticated}
	switch result := server.Verify(check, "AUTH", uri, secret); {
	case result.Stale:
		c.authEnded(authStale)
		c.challenge(h, refusedChallenge, true)
	case !result.OK:
		c.wrongCredentials(h)
	default:
		c.openSession(h, relay, cred.Username, &reply, &proof{server, check})
	}
}

// ask runs the authenticate chain. At its end nobody knows the user, which is
// no other answer than a wrong password (RELAY-79).
func (c *conn) ask(h *msrp.Head, relay string, cred *auth.Credentials, uri string) hook.AuthReply {
	l := c.listener()
	return l.Hooks.Authenticate.Run(c.r.ctx, &hook.AuthRequest{
		Listener: l.Name, Relay: relayHost(relay), Transport: c.transport(), LocalAddr: c.local, RemoteAddr: c.remote, SNI: c.sni, ClientCN: c.client,
		Realm: cred.Realm, Username: cred.Username, URI: uri, Method: "AUTH", Algorithm: string(cred.Algorithm),
		Nonce: cred.Nonce, Response: cred.Response, CNonce: cred.CNonce, NC: cred.NC, QOP: cred.QOP,
		FromPath: string(h.From), ToPath: string(h.To),
	})
}

func (c *conn) transport() string {
	switch {
	case c.l != nil && c.l.isWebSocket() && c.secure:
		return "wss"
	case c.l != nil && c.l.isWebSocket():
		return "ws"
	case c.secure:
		return "tls"
	}
	return "tcp"
}

// challenge answers 401 with a new nonce (RFC 4976 §5.1, §9.1).
func (c *conn) challenge(h *msrp.Head, why reason, stale bool) {
	c.count(why)
	var lines []byte
	for _, value := range c.r.cfg().Auth.Challenges(c.nonceConn(c.relayOf(h.From)), stale) {
		lines = append(append(append(lines, "WWW-Authenticate: "...), value...), "\r\n"...)
	}
	_ = c.m.Respond(h, 401, "", lines) // a closed connection needs no answer
	c.m.Touch(c.m)
}

// wrongCredentials answers 401, and closes the connection when that happened
// too often (RFC 4976 §6.3, RELAY-39, RELAY-56). A connection that carries the
// clients of another relay is kept (RELAY-40); then that client is refused.
func (c *conn) wrongCredentials(h *msrp.Head) {
	c.authEnded(authWrong)
	relayed := len(h.From.Rest()) > 0
	banned := c.relayOf(h.From) == "" && c.blame(relayed)
	c.challenge(h, refusedAuth, false)
	max := or(c.r.cfg().Limits.AuthFailures, 5)
	if banned && !relayed {
		c.finish(errBanned)
	}
	if relayed {
		if c.wrongBy == nil || len(c.wrongBy) >= or(c.r.cfg().Limits.Routes, 256) {
			c.wrongBy = map[string]int{}
		}
		c.wrongBy[string(h.From.Last())]++
		if c.relayOf(h.From) != "" {
			return
		}
		max *= 10 // anyone can say to be a relay
	}
	if c.wrong++; c.wrong >= max {
		c.count(closedFailures)
		c.finish(errFailures)
	}
}

// A proof is a digest that was right, and who has checked it: a Reload may have
// replaced the server since.
type proof struct {
	server *auth.Server
	check  *auth.Check
}

// openSession answers 200 with a session URI (RELAY-60), unless the time asked
// for is out of bounds. digest is nil if none was used: then there is no
// Authentication-Info (WS-42).
func (c *conn) openSession(h *msrp.Head, relay, user string, reply *hook.AuthReply, digest *proof) {
	lifetime, ok := c.lifetime(h, reply.MaxExpires)
	if !ok {
		return
	}
	back, err := msrp.ParseURI(string(h.From.First()))
	if err != nil {
		c.authEnded(authMalformed)
		c.refuseSyntax(h, err)
		return
	}
	l := c.listener()
	s := &session{user: user, listener: l, backSum: fingerprint(&back)}
	s.back.Store(&back)
	s.label(reply.Attributes)
	if d := c.r.newSession(c, s, relay, c.r.shown(l), lifetime, &reply.Limits); d != nil {
		c.authEnded(authLimit)
		c.refuse(h, d.why, d.code, d.comment)
		return
	}
	lines := fmt.Appendf(nil, "Use-Path: %s\r\nExpires: %d\r\n", usePath(h.From, s.main.raw), lifetime/time.Second)
	if digest != nil {
		lines = fmt.Appendf(lines, "Authentication-Info: %s\r\n", digest.server.Info(c.nonceConn(relay), digest.check, string(h.To.Last())))
	}
	_ = c.m.Respond(h, 200, "", lines) // a closed connection needs no answer
	c.m.Touch(c.m)
	c.authEnded(authOK)
	c.succeeded()
	c.wrong = 0
	delete(c.wrongBy, string(h.From.Last()))
	s.log.Info("session begun", "user", s.user, "uri", s.main.uri.Short(), "expires", lifetime.String())
}

// lifetime returns how long a session URI may live that is asked for by h, or
// answers 423 (RFC 4976 §4.6, §10.3, RELAY-5, RELAY-9, RELAY-57).
func (c *conn) lifetime(h *msrp.Head, max time.Duration) (time.Duration, bool) {
	expires := &c.r.cfg().expires
	lo, hi := expires.Min, expires.Max
	if max > 0 && max < hi {
		hi = max
	}
	lo = min(lo, hi)
	value, ok := h.Get("Expires")
	if !ok {
		return min(expires.Default, hi), true
	}
	secs, err := strconv.ParseUint(string(value), 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		secs, err = math.MaxInt64, nil
	}
	if err != nil {
		c.authEnded(authMalformed)
		c.refuse(h, refusedSyntax, 400, "Bad Expires")
		return 0, false
	}
	bound := ""
	switch {
	case secs < uint64(lo/time.Second):
		bound = fmt.Sprintf("Min-Expires: %d\r\n", lo/time.Second)
	case secs > uint64(hi/time.Second):
		bound = fmt.Sprintf("Max-Expires: %d\r\n", hi/time.Second)
	default:
		return time.Duration(secs) * time.Second, true
	}
	c.authEnded(authInterval)
	_ = c.m.Respond(h, 423, "", []byte(bound)) // a closed connection needs no answer
	c.m.Touch(c.m)
	return 0, false
}

// usePath is the path by which the client sends: the relays before this one, in
// the order of use, and this one (RFC 4976 §4.2, RELAY-62).
func usePath(from msrp.Path, own []byte) string {
	hops := strings.Fields(string(from))
	hops = hops[:len(hops)-1] // without the client
	slices.Reverse(hops)
	return strings.Join(append(hops, string(own)), " ")
}

// selectInterface asks the hook by which interface s leaves to next.
func (c *conn) selectInterface(s *session, next *msrp.URI, h *msrp.Head) (*exit, error) {
	x := &exit{front: s.main}
	cfg := c.r.cfg()
	chain := cfg.rules(s.listener).Hooks.SelectInterface
	if !chain.Has() {
		return x, nil
	}
	s.mu.Lock()
	attributes := s.attributes
	s.mu.Unlock()
	reply := chain.Run(c.r.ctx, &hook.InterfaceRequest{
		Listener: s.listener.Name, RemoteAddr: c.remote, Username: s.user, SessionID: s.main.uri.Short(), Attributes: attributes,
		Host: next.Host, Port: next.Port, Secure: next.Secure, Transport: next.Transport,
		FromPath: string(h.From), ToPath: string(h.To), Offers: cfg.offers,
	})
	switch reply.Verdict {
	case hook.Deny:
		return nil, &denial{refusedHook, reply.Status, reply.Reason}
	case hook.Next:
		return x, nil
	}
	s.label(reply.Attributes)
	x.iface = cfg.interfaces[reply.Interface]
	x.source = x.iface.Address
	if reply.Address.IsValid() {
		x.source = reply.Address
	}
	if l := cfg.listeners[x.iface.Listener]; l != nil {
		x.front = s.front(l)
	}
	return x, nil
}
