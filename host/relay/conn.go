package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/trace"
	"github.com/parley-msrp/parley/host/transport"
)

// Reasons why the relay closes a connection.
var (
	errStopped   = errors.New("relay stopped")
	errForeign   = errors.New("request for another host")
	errPath      = errors.New("From-Path cannot be parsed")
	errProbation = errors.New("no successful request in time")
	errFailures  = errors.New("too many unsuccessful requests")
	errIdle      = errors.New("idle")
	errSlow      = errors.New("does not read what is sent to it")
	errCrowded   = errors.New("too many connections from this address")
	errTLS       = errors.New("TLS handshake failed")
	errHandshake = errors.New("WebSocket handshake refused")
	errBanned    = errors.New("too many wrong passwords from this address")
)

// A conn is a connection of the relay: to a client, to a peer, or to a next hop.
type conn struct {
	// Set before it is served, then read-only.
	r         *Relay
	id        uint64
	log       *slog.Logger
	m         *msrp.Conn
	l         *Listener // that it came to, as it was then; nil when dialled
	group     *group
	target    target     // of a dialled one
	iface     *Interface // by which it was dialled; nil = the default
	remote    netip.AddrPort
	local     netip.AddrPort
	sni       string
	idle      *time.Timer       // see watchIdle
	probation *time.Timer       // nil = there is none
	client    string            // subject of the TLS certificate that the peer showed, unverified
	cert      *x509.Certificate // that makes the peer a relay; nil = it is none, or was dialled
	secure    bool
	chunk     int // the longest body that it takes at once
	// identity is whose WebSocket it is, if its handshake said so.
	identity *hook.AuthReply

	// Owned by the goroutine of m.Serve.
	cur      current
	routes   map[string]*route
	failures int
	wrong    int            // answers to challenges
	wrongBy  map[string]int // the same of clients behind another relay, by URI

	proven  atomic.Bool  // a request succeeded: probation is over
	transit atomic.Int32 // AUTHs of this peer that another relay refused
	gone    atomic.Bool
	ends    atomic.Pointer[trace.Ends] // once it is connected
	slow    atomic.Bool                // was waited for in vain; false again once it has room

	// Guarded by r.mu.
	sessions map[*session]struct{}
	inner    []*inner // relays that it was met to be of
	place    *place   // where it counts; nil = nowhere
	opener   *conn    // for whom it was dialled
	opened   int      // dialled connections that were opened for this one
}

// newConn returns a connection of listener l, or with nil one to be dialled.
func (r *Relay) newConn(l *Listener) *conn {
	c := &conn{r: r, l: l, group: r.cfg().groups[Dialled], id: r.nextID.Add(1), chunk: math.MaxInt, routes: map[string]*route{}, sessions: map[*session]struct{}{}}
	if l != nil {
		c.group = r.cfg().groups[l.Name]
	}
	c.group.opened.Add(1)
	c.log = slog.New((*connLog)(c))
	cfg := msrp.ConnConfig{Handler: c, Limits: r.cfg().Limits.Conn, Log: c.log, Stats: &c.group.traffic, Trace: c}
	if l != nil && l.isWebSocket() {
		c.chunk = or(l.WebSocket.Chunk, 16<<10)
		cfg.Chunk = c.chunk
	}
	c.m = msrp.NewConn(cfg)
	return c
}

// serveConn serves one accepted connection until it ends. What needs much stack is
// done aside, for this goroutine stays as long as the connection.
func (r *Relay) serveConn(ctx context.Context, l *Listener, nc net.Conn) {
	var c *conn
	var end func(error)
	aside(func() {
		if c, nc = r.open(ctx, l, nc); c != nil {
			end = c.begin(ctx)
		}
	})
	if c != nil {
		end(c.m.Serve(nc))
	}
}

// aside runs f on another goroutine, waits for it, and panics if it did.
func aside(f func()) {
	done := make(chan any)
	go func() {
		var fault any = errors.New("goroutine ended")
		defer func() {
			if p := recover(); p != nil {
				fault = fmt.Errorf("%v\n%s", p, debug.Stack())
			}
			done <- fault
		}()
		f()
		fault = nil
	}()
	if fault := <-done; fault != nil {
		panic(fault)
	}
}

// open does what comes before the first frame, and returns nil if there will be none.
func (r *Relay) open(ctx context.Context, l *Listener, nc net.Conn) (*conn, net.Conn) {
	c := r.newConn(r.cfg().rules(l))
	c.remote = addrPort(nc.RemoteAddr())
	if r.Draining() {
		c.count(refusedDraining)
		c.group.closed.add("draining", 1)
		nc.Close()
		return nil, nil
	}
	r.mu.Lock()
	full := len(r.conns) >= r.cfg().Limits.connections()
	if !full {
		r.conns[c] = struct{}{}
	}
	r.mu.Unlock()
	if full {
		c.count(closedFull)
		c.group.closed.add("limit", 1)
		nc.Close()
		return nil, nil
	}
	nc, err := c.handshake(ctx, nc)
	if err != nil {
		r.forget(c)
		nc.Close()
		c.group.closed.add(closeReason(err), 1)
		level := slog.LevelDebug
		if _, ok := errors.AsType[*transport.ProxyError](err); ok && !errors.Is(err, io.EOF) {
			level = slog.LevelInfo // the operator trusts who sent it, and is to know
		}
		c.log.Log(ctx, level, "connection not served", "err", err)
		return nil, nil
	}
	if r.cfg().Relays.denied(c.cert) {
		r.forget(c)
		c.count(refusedRelay)
		c.group.closed.add("denied", 1)
		nc.Close()
		c.log.Info("connection closed: its relay is denied", "names", c.cert.DNSNames)
		return nil, nil
	}
	return c, nc
}

// handshake does those of TLS and WebSocket, unless the address has too many
// connections or is banned. It returns what MSRP is spoken on.
func (c *conn) handshake(ctx context.Context, nc net.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, or(c.r.cfg().Limits.Handshake, 10*time.Second))
	defer cancel()
	if err := transport.ProxyHeader(ctx, nc); err != nil {
		return nc, err
	}
	c.remote = addrPort(nc.RemoteAddr())
	if !c.proxied() {
		if err := c.admit(); err != nil {
			return nc, err
		}
	}
	begun := time.Now()
	if err := transport.Handshake(ctx, nc, -1); err != nil {
		return nc, fmt.Errorf("%w: %w", errTLS, err)
	}
	c.describe(nc)
	if c.secure {
		c.group.handshakes.Add(time.Since(begun))
	}
	if !c.l.isWebSocket() {
		return nc, nil
	}
	ws, err := c.upgrade(ctx, nc)
	if err != nil {
		return nc, err
	}
	return ws, nil
}

// describe takes what hooks may want to know.
func (c *conn) describe(nc net.Conn) {
	c.remote, c.local = addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	if t, ok := nc.(transport.Secure); ok {
		c.secure = true
		st := t.ConnectionState()
		c.sni = st.ServerName
		if len(st.PeerCertificates) > 0 {
			c.client = st.PeerCertificates[0].Subject.CommonName
		}
		if c.l != nil {
			c.cert = c.r.proof(&st)
		}
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// begin makes a connected conn ready to be served. What it returns is to be called with
// the reason when that is over, and takes the connection out of every table.
func (c *conn) begin(ctx context.Context) (end func(error)) {
	stop := context.AfterFunc(ctx, func() { c.finish(errStopped) })
	c.ends.Store(&trace.Ends{Local: c.local, Remote: c.remote, Transport: c.transport()})
	// RFC 4976 §6.1 (RELAY-36, RELAY-37): no successful request within the
	// probation period ends the connection.
	if !c.proven.Load() {
		c.probation = time.AfterFunc(or(c.r.cfg().Limits.Probation, 30*time.Second), func() {
			if !c.proven.Load() {
				c.count(closedProbation)
				c.finish(errProbation)
			}
		})
	}
	c.watchIdle()
	return func(err error) {
		c.idle.Stop()
		if c.probation != nil {
			c.probation.Stop()
		}
		stop()
		c.group.closed.add(closeReason(err), 1)
		c.ended()
		c.logEnd(err)
	}
}

// watchIdle closes the connection when it holds no session and was silent for
// too long (RFC 4976 §6.5). The timer sets itself anew.
func (c *conn) watchIdle() {
	max := or(c.r.cfg().Limits.Idle, time.Hour)
	if max < 0 {
		max = math.MaxInt64
	}
	c.r.mu.Lock() // or the timer could go off before it is set
	defer c.r.mu.Unlock()
	c.idle = time.AfterFunc(max, func() {
		c.r.mu.Lock()
		held, t := len(c.sessions) > 0, c.idle
		c.r.mu.Unlock()
		rest := max - c.m.Idle()
		switch {
		case held:
			t.Reset(max)
		case rest > 0:
			t.Reset(rest)
		default:
			c.count(closedIdle)
			c.finish(errIdle)
		}
	})
}

// ended runs when nothing more comes from the connection.
func (c *conn) ended() {
	c.lostMidChunk()
	sessions := c.r.forget(c)
	for _, s := range sessions {
		s.ended("connection closed")
	}
	clear(c.routes)
}

// forget takes c and the sessions that it holds out of the tables, at once so that
// these never contradict each other, and returns the sessions.
func (r *Relay) forget(c *conn) []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.gone.Store(true)
	delete(r.conns, c)
	c.leave()
	if r.targets[c.target] == c {
		delete(r.targets, c.target)
	}
	if c.opener != nil {
		c.opener.opened--
		c.opener = nil
	}
	for _, in := range c.inner {
		in.forgetConn(c)
	}
	c.inner = nil
	var ss []*session
	for s := range c.sessions {
		if s.drop() {
			ss = append(ss, s)
		}
	}
	return ss
}

func (c *conn) logEnd(err error) {
	rule, bad := msrp.IsPeerFault(err)
	if errors.Is(err, transport.ErrWebSocket) {
		rule, bad = "websocket", true
	}
	switch {
	case err == io.EOF || errors.Is(err, errStopped) || errors.Is(err, msrp.ErrClosed):
		c.log.Debug("connection closed", "why", err)
	case bad:
		c.log.Info("connection closed: the peer does not speak MSRP", "rule", rule, "err", err)
	default:
		c.log.Info("connection closed", "why", err)
	}
}

// A target is a next hop: what one dialled connection is for.
type target struct {
	secure bool
	host   string // lower case
	port   uint16 // 0 = by SRV records, and so not the same as with the port that they give
	iface  string
	source netip.Addr
	as     string // listener whose certificate is shown
}

// listener returns the listener whose rules count for what the peer asks of
// this relay itself: the one that it came to, or as which it was dialled.
func (c *conn) listener() *Listener {
	if c.l == nil {
		return c.r.cfg().listeners[c.target.as]
	}
	return c.r.cfg().rules(c.l)
}

// dial returns the connection to a next hop, opening one for client c if there
// is none: once per target, for all sessions (RFC 4976 §6.4.2, RELAY-51). What
// is sent on it waits until it is connected.
//
// as is the listener as which the relay shows itself to a secure next hop.
func (r *Relay) dial(c *conn, u *msrp.URI, iface *Interface, source netip.Addr, as *Listener) (*conn, error) {
	t := target{secure: u.Secure, host: strings.ToLower(u.Host), port: u.Port, source: source}
	tt := transport.Target{Host: u.Host, Port: u.Port, Secure: u.Secure, Source: source}
	if u.Secure {
		t.as, tt.TLS = as.Name, r.cfg().dialTLS[as.Name]
	}
	if iface != nil {
		t.iface, tt.Allow = iface.Name, iface.Allow
	}
	if r.cfg().Dialer == nil {
		return nil, errors.New("no dialer")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out := r.targets[t]; out != nil && !out.gone.Load() {
		return out, nil
	}
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if until := r.unreached[t]; time.Now().Before(until) {
		return nil, errors.New("was not reached a moment ago")
	}
	if c.opened >= or(r.cfg().Limits.DialledBy, 64) {
		return nil, &denial{refusedLimit, 403, "Too many connections to next hops"}
	}
	if len(r.targets) >= or(r.cfg().Limits.Dialled, 5000) && !r.retireIdle() {
		return nil, &denial{refusedLimit, 403, "Too many connections to next hops"}
	}
	out := r.newConn(nil)
	out.target, out.iface, out.opener = t, iface, c
	c.opened++
	out.proven.Store(true)
	r.conns[out], r.targets[t] = struct{}{}, out
	r.dialled.Add(1)
	go out.connect(tt)
	return out, nil
}

// retireIdle makes room for a next hop by closing the one that was silent
// longest (RFC 4976 §6.5). r.mu is held.
func (r *Relay) retireIdle() bool {
	var oldest *conn
	for _, out := range r.targets {
		if !out.gone.Load() && out.m.Pending() == 0 && (oldest == nil || out.m.Idle() > oldest.m.Idle()) {
			oldest = out
		}
	}
	if oldest == nil || oldest.m.Idle() < time.Minute {
		return false
	}
	delete(r.targets, oldest.target)
	oldest.finish(errIdle)
	return true
}

// notReached remembers that a target was not reached, so that it is not tried
// for every message.
func (r *Relay) notReached(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if len(r.unreached) >= 1000 {
		for t, until := range r.unreached {
			if now.After(until) {
				delete(r.unreached, t)
			}
		}
	}
	if len(r.unreached) < 1000 {
		r.unreached[t] = now.Add(or(r.cfg().Limits.DialAgain, 5*time.Second))
	}
}

// connect connects a dialled conn and serves it.
func (c *conn) connect(t transport.Target) {
	defer c.r.dialled.Done()
	ctx, cancel := context.WithTimeout(c.r.ctx, or(c.r.cfg().Limits.Dial, 15*time.Second))
	begun := time.Now()
	nc, err := c.r.cfg().Dialer.Dial(ctx, t)
	cancel()
	if err != nil {
		c.r.dialsFailed.Add(time.Since(begun))
		c.group.closed.add("unreachable", 1)
		c.log.Info("next hop not reached", "err", err)
		c.r.notReached(c.target)
		c.r.forget(c)
		c.m.Fail(unreachable{err}) // REPORTs what waited
		return
	}
	c.r.dials.Add(time.Since(begun))
	c.describe(nc)
	c.begin(c.r.ctx)(c.m.Serve(nc))
}

// lose takes a connection that was found closed out of the tables by which next
// hops are found, in case that its end has not done so yet.
func (r *Relay) lose(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.gone.Store(true)
	if r.targets[c.target] == c {
		delete(r.targets, c.target)
	}
}

// unreachable marks the end of a connection that never began.
type unreachable struct{ error }

func (u unreachable) Unwrap() error { return u.error }

// finish closes the connection once what is queued for it is written; nothing
// new goes out on it.
func (c *conn) finish(reason error) {
	c.gone.Store(true)
	c.m.Finish(reason)
}

// succeeded ends the probation (RFC 4976 §6.1).
func (c *conn) succeeded() {
	if !c.proven.Load() && c.proven.CompareAndSwap(false, true) && c.probation != nil {
		c.probation.Stop()
	}
}

// failed counts a refused request. In probation, several of them end the
// connection (RFC 4976 §6.1, RELAY-38).
func (c *conn) failed() {
	if c.proven.Load() {
		return
	}
	if c.failures++; c.failures >= or(c.r.cfg().Limits.Failures, 10) {
		c.count(closedFailures)
		c.finish(errFailures)
	}
}
