package relay

import (
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

// A reason is why something was refused or dropped; each has a counter.
type reason int

const (
	refusedSyntax      reason = iota // 400
	refusedForeign                   // first To-Path URI is not ours: closed
	refusedUnknown                   // session URI not live: 481
	refusedGuard                     // open-relay guard: 403
	refusedHook                      // a hook said no
	refusedAuth                      // 401 with credentials
	refusedChallenge                 // 401 without
	refusedLimit                     // a quota: 403
	refusedSlow                      // 413: the receiver does not keep up
	refusedUnreachable               // 481: no way to the next hop
	refusedMethod                    // 501
	refusedDraining                  // 403 to AUTH, 481 to all else at the end
	refusedRelay                     // a relay without proof, or that is denied: 403, closed
	closedProbation
	closedFailures
	closedIdle
	closedFull
	closedSlow
	reportsMade
	droppedResponse
	droppedReport
	refusedHandshake // of a WebSocket

	refusedUserSessions    // 403
	refusedAddressSessions // 403
	refusedBanned          // 403: AUTH from a banned address
	refusedSessionMessages // 413, as all that follow
	refusedSessionBytes
	refusedUserMessages
	refusedUserBytes
	refusedPeerMessages // too many to a session
	refusedPeerBytes
	refusedMessage // too large
	refusedChunk
	refusedType   // 415
	closedBanned  // a new connection from a banned address
	closedAddress // too many connections from one address
	madeBan
	delayedAuth // the answer to a wrong password was held back
	throttled   // nothing was read for a while: too many bytes
	reasons
)

var reasonNames = [reasons]string{
	"syntax", "foreign", "unknown_session", "guard", "hook", "credentials", "challenge", "limit", "slow_receiver",
	"unreachable", "method", "draining", "relay", "probation", "failures", "idle", "connections", "closed_slow_receiver", "report_made",
	"response_dropped", "report_dropped", "handshake",
	"user_sessions", "address_sessions", "ban_auth", "session_messages", "session_bytes", "user_messages", "user_bytes",
	"peer_messages", "peer_bytes", "message_size", "chunk_size", "media_type", "ban_connection", "address_connections",
	"ban_made", "auth_delayed", "throttled",
}

// Dialled stands for a listener's name where connections to next hops are
// counted, which came by no listener.
const Dialled = "dialled"

// A group is connections that are counted together: those of a listener, or
// those to next hops.
type group struct {
	name       string
	traffic    msrp.Stats
	reasons    [reasons]atomic.Uint64
	opened     atomic.Uint64
	begun      atomic.Uint64 // sessions
	live       atomic.Int64  // sessions
	closed     counts
	ended      counts // sessions
	auth       counts
	handshakes msrp.Durations
}

func newGroup(name string) *group {
	g := &group{name: name}
	g.closed.init("proxy_header", "denied", "draining", "syntax", "unreachable", "network", "other", "peer", "write_timeout")
	for _, c := range closeReasons {
		g.closed.init(c.name)
	}
	if name != Dialled {
		g.ended.init("expired", "connection_closed", "relay_stopped")
		g.auth.init(authOK, authChallenged, authStale, authWrong, authDenied, authError, authRelay, authLimit, authInterval, authMalformed, authInsecure, authDraining)
	}
	return g
}

// Results of AUTHs to this relay.
const (
	authOK         = "ok"
	authChallenged = "challenged" // no credentials yet
	authStale      = "stale"      // right, for a nonce too old
	authWrong      = "wrong"
	authDenied     = "denied" // by a hook
	authError      = "error"  // a hook failed
	authRelay      = "relay"  // came through one without proof
	authLimit      = "limit"
	authInterval   = "interval" // 423
	authMalformed  = "malformed"
	authInsecure   = "insecure" // no TLS
	authDraining   = "draining"
)

// counts are counters by a name, for what happens rarely. Names come from this
// package only, and are few.
type counts struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (c *counts) init(names ...string) {
	for _, name := range names {
		c.add(name, 0)
	}
}

func (c *counts) add(name string, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]uint64{}
	}
	c.n[name] += n
}

func (c *counts) snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

func (g *group) count(why reason) { g.reasons[why].Add(1) }

func (c *conn) count(why reason) { c.group.count(why) }

// authEnded counts how an AUTH ended, at the listener whose rules it came under.
func (c *conn) authEnded(result string) {
	if l := c.listener(); l != nil {
		c.r.cfg().groups[l.Name].auth.add(result, 1)
	}
}

// closeReasons names the errors with which a connection ends.
var closeReasons = []struct {
	err  error
	name string
}{
	{errStopped, "stopped"},
	{errForeign, "foreign"},
	{errPath, "path"},
	{errProbation, "probation"},
	{errFailures, "failures"},
	{errIdle, "idle"},
	{errBanned, "banned"},
	{errCrowded, "limit"},
	{errTLS, "tls_handshake"},
	{errHandshake, "websocket_handshake"},
	{errSlow, "slow_receiver"},
	{msrp.ErrClosed, "closed"},
	{msrp.ErrFull, "answers_not_read"},
}

// closeReason is the metric label for how a connection ended.
func closeReason(err error) string {
	if err == io.EOF {
		return "peer"
	}
	for _, c := range closeReasons {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	if _, bad := msrp.IsPeerFault(err); bad {
		return "syntax"
	}
	_, proxy := errors.AsType[*transport.ProxyError](err)
	_, refused := errors.AsType[unreachable](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case proxy:
		return "proxy_header"
	case refused:
		return "unreachable"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "write_timeout" // a read has no deadline but while it lingers
	case network, errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return "network"
	}
	return "other"
}

// Stats are counts at one moment.
type Stats struct {
	Connections int               // open, dialled ones included
	Dialled     int               // of them to next hops
	Sessions    int               // live session URIs given to clients
	Users       int               // who have them
	Banned      int               // addresses, now
	Counts      map[string]uint64 // of refusals, drops and closes, by reason, since New
}

// Stats returns the relay's counts.
func (r *Relay) Stats() Stats {
	s := Stats{Banned: r.banned(), Counts: map[string]uint64{}}
	for _, g := range r.cfg().groups {
		for i, name := range reasonNames {
			s.Counts[name] += g.reasons[i].Load()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Connections, s.Dialled, s.Users = len(r.conns), len(r.targets), r.users()
	for c := range r.conns {
		s.Sessions += len(c.sessions)
	}
	for _, in := range r.inner {
		s.Sessions += len(in.sessions)
	}
	return s
}

// ListenerStats are the counts of one listener, or of connections to next hops.
// Maps are by reason, with all that are known from the start.
type ListenerStats struct {
	Name string // of the listener, or Dialled

	// Now.
	Connections int // open ones
	Sessions    int // live session URIs
	Outbox      int // octets that wait to be written, of all connections
	OutboxMax   int // and of the one with the most
	Waiting     int // connections for which something waits
	Slow        int // those that were waited for in vain, and have not read since
	Pending     int // requests without a response yet

	// Since New.
	Frames     []msrp.FrameCount
	Forwarding msrp.Histogram    // from a SEND's last octet read until it was written to a connection of this listener
	Answering  msrp.Histogram    // and from there until that peer's response
	Reasons    map[string]uint64 // refusals, drops, closes and REPORTs made
	Opened     uint64            // connections
	Closed     map[string]uint64 // connections
	Handshakes msrp.Histogram    // successful, of TLS
	Begun      uint64            // sessions
	Ended      map[string]uint64 // sessions
	Auth       map[string]uint64 // AUTHs to this relay
}

// A Snapshot is all that a relay counts.
type Snapshot struct {
	Listeners        []ListenerStats // by name, and last the dialled connections
	Dials            msrp.Histogram  // of connections to next hops that were made
	DialsFailed      msrp.Histogram  // and of those that were not
	MaxConnections   int             // Limits.Connections
	MaxDialled       int             // Limits.Dialled
	UnreachedTargets int             // next hops that are not tried again yet
	Users            int             // who have sessions
	Banned           int             // addresses, now
	Traces           int             // readers of frames, now
	TracesLost       uint64          // frames that a reader had no room for
}

// Snapshot returns everything. It looks at each connection, but holds none of
// the relay's locks for longer than copying the list of them takes.
func (r *Relay) Snapshot() Snapshot {
	s := Snapshot{
		Dials: r.dials.Snapshot(), DialsFailed: r.dialsFailed.Snapshot(),
		MaxConnections: r.cfg().Limits.connections(), MaxDialled: or(r.cfg().Limits.Dialled, 5000),
	}
	s.Banned = r.banned()
	s.Traces, s.TracesLost = r.frames.Readers(), r.frames.Lost()
	groups := r.cfg().groups
	s.Listeners = make([]ListenerStats, 0, len(groups)) // so that they stay where they are
	now := map[*group]*ListenerStats{}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(groups)), func(name string) bool { return name == Dialled })
	for _, name := range append(names, Dialled) {
		g := groups[name]
		s.Listeners = append(s.Listeners, g.snapshot())
		now[g] = &s.Listeners[len(s.Listeners)-1]
	}
	r.mu.Lock()
	s.UnreachedTargets = len(r.unreached)
	s.Users = r.users()
	conns := make([]*conn, 0, len(r.conns))
	for c := range r.conns {
		conns = append(conns, c)
	}
	r.mu.Unlock()
	for _, c := range conns {
		l, depth := now[c.group], c.m.Depth()
		l.Connections++
		l.Outbox += depth
		l.OutboxMax = max(l.OutboxMax, depth)
		l.Pending += c.m.Pending()
		if depth > 0 {
			l.Waiting++
		}
		if c.slow.Load() {
			l.Slow++
		}
	}
	return s
}

// snapshot returns what g has counted.
func (g *group) snapshot() ListenerStats {
	s := ListenerStats{
		Name: g.name, Frames: g.traffic.Frames(), Forwarding: g.traffic.Forwarding(), Answering: g.traffic.Answering(),
		Opened: g.opened.Load(), Closed: g.closed.snapshot(), Handshakes: g.handshakes.Snapshot(),
		Sessions: int(g.live.Load()), Begun: g.begun.Load(), Ended: g.ended.snapshot(), Auth: g.auth.snapshot(), Reasons: map[string]uint64{},
	}
	for i, name := range reasonNames {
		s.Reasons[name] = g.reasons[i].Load()
	}
	return s
}

// users is how many have sessions. r.mu is held.
func (r *Relay) users() (n int) {
	for _, a := range r.accounts {
		if a.sessions > 0 {
			n++
		}
	}
	return n
}

// banned is how many addresses are, now.
func (r *Relay) banned() int {
	if r.cfg().Bans == nil {
		return 0
	}
	return r.cfg().Bans.Active()
}

// label makes a metric label of a short text.
func label(text string) string { return strings.ReplaceAll(text, " ", "_") }
