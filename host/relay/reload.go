package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
)

// A setup is what became of a Config. It is never changed: Reload swaps it
// whole, so that who reads it needs no lock.
type setup struct {
	Config
	expires    Expires
	maxHead    int // of what is forwarded: it must be read by a relay with the same limits
	listeners  map[string]*Listener
	retired    map[string]bool // listeners that are in no Config any more, but in use
	interfaces map[string]*Interface
	offers     []hook.Interface
	groups     map[string]*group      // by listener, and Dialled; those of the setup before are kept
	dialTLS    map[string]*tls.Config // by listener
}

func newSetup(cfg Config, old *setup) *setup {
	s := &setup{
		Config: cfg, expires: cfg.expires(), maxHead: or(cfg.Limits.Conn.Head, 16<<10) - 512,
		listeners: map[string]*Listener{}, retired: map[string]bool{}, interfaces: map[string]*Interface{}, dialTLS: map[string]*tls.Config{},
		groups: map[string]*group{},
	}
	if old != nil {
		maps.Copy(s.groups, old.groups)
	} else {
		s.groups[Dialled] = newGroup(Dialled)
	}
	for i := range cfg.Listeners {
		s.add(&cfg.Listeners[i])
	}
	for i := range cfg.Interfaces {
		f := &cfg.Interfaces[i]
		s.interfaces[f.Name] = f
		s.offers = append(s.offers, hook.Interface{Name: f.Name, Address: f.Address, Listener: f.Listener})
	}
	return s
}

func (s *setup) add(l *Listener) {
	s.listeners[l.Name] = l
	if s.groups[l.Name] == nil {
		s.groups[l.Name] = newGroup(l.Name)
	}
	s.dialTLS[l.Name] = s.DialTLS
	if l.Certificate != nil {
		t := s.DialTLS.Clone()
		if t == nil {
			t = new(tls.Config)
		}
		t.GetClientCertificate = l.Certificate
		s.dialTLS[l.Name] = t
	}
}

// cfg returns what counts now.
func (r *Relay) cfg() *setup { return r.now.Load() }

// Reload makes cfg count from now on, or changes nothing and returns an error.
//
//  1. Connections, sessions and what was decided for them stay: the interface by
//     which a session reaches a next hop, and the lifetime of its URIs.
//  2. All that is still to be decided is decided by cfg, also for sessions that
//     are there. Limits.Conn are those of connections that come.
//  3. A listener must keep its URI, as long as its name is used. One that is not in cfg
//     any more stays known for the sessions that have it, and refuses AUTH.
//  4. URIKey and Log cannot change; those of New stay.
//
// The listeners themselves are the caller's: see [Relay.Serve].
func (r *Relay) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	r.reloading.Lock()
	defer r.reloading.Unlock()
	old := r.cfg()
	cfg.Listeners, cfg.Interfaces = slices.Clone(cfg.Listeners), slices.Clone(cfg.Interfaces)
	cfg.URIKey, cfg.Log = old.URIKey, old.Log
	s := newSetup(cfg, old)
	for name, l := range old.listeners {
		switch now := s.listeners[name]; {
		case now != nil && now.URI.String() != l.URI.String():
			return fmt.Errorf("relay: listener %q: its URI cannot change while it runs", name)
		case now == nil && r.inUse(name):
			gone := *l
			gone.Aliases, gone.Hooks = nil, Hooks{}
			s.Listeners = append(s.Listeners, gone)
			s.retired[name] = true
		}
	}
	for i := range s.Listeners {
		s.add(&s.Listeners[i]) // again, as append may have moved them
	}
	r.now.Store(s)
	return nil
}

// inUse reports whether connections came to a listener, or sessions have its URI.
func (r *Relay) inUse(listener string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		if c.l != nil && c.l.Name == listener || c.target.as == listener {
			return true
		}
	}
	for _, e := range r.sessions {
		if e.listener.Name == listener || e.session.listener.Name == listener {
			return true
		}
	}
	return false
}

// rules returns the listener of this name as it is now, or l if it is gone.
func (s *setup) rules(l *Listener) *Listener {
	if l == nil {
		return nil
	}
	if now := s.listeners[l.Name]; now != nil {
		return now
	}
	return l
}

// Drain makes the relay refuse what is new: connections are closed, and AUTH is
// answered 403, as there is no code that says "elsewhere". Sessions go on until
// they end.
func (r *Relay) Drain() { r.draining.Store(true) }

// Draining reports whether Drain was called.
func (r *Relay) Draining() bool { return r.draining.Load() }

// How often Settle looks, and how long no peer may have sent anything for it to
// end early: what is on the way to the relay shall be answered, too.
const (
	settleLook  = 20 * time.Millisecond
	settleQuiet = 100 * time.Millisecond
)

// Settle ends the relay's work in order, before its connections are ended: it
// answers every request that comes now with an error (SEND: 481), waits until
// all that was forwarded is answered, or ctx is done, and gives up what is not:
// its senders get REPORTs (RFC 4976 §6.4.1, RELAY-84). Then whatever this relay has
// answered with 200 was taken by the next hop, or is reported.
func (r *Relay) Settle(ctx context.Context) {
	r.draining.Store(true)
	r.settling.Store(true)
	tick := time.NewTicker(settleLook)
	defer tick.Stop()
	for ctx.Err() == nil && !r.quiet() {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	r.mu.Lock()
	conns := make([]*conn, 0, len(r.conns))
	for c := range r.conns {
		conns = append(conns, c)
	}
	r.mu.Unlock()
	for _, c := range conns {
		c.m.Abandon(errStopped)
	}
}

// quiet reports whether nothing waits for a response, and no peer has just sent.
func (r *Relay) quiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		if c.m.Pending() > 0 || c.m.Idle() < settleQuiet {
			return false
		}
	}
	return true
}

// serveSettling answers requests after Settle. REPORTs go on.
func (c *conn) serveSettling(p *msrp.Piece) {
	h := p.Head
	if !p.First {
		if t := c.cur.transfer; t != nil {
			c.stopTransfer(t, msrp.Continue) // only its sender may give it up (RELAY-97)
			t.refuse(refusedDraining, 481, "Draining")
		}
		return
	}
	if err := h.CheckPaths(); h.Err != nil || err != nil {
		c.refuseSyntax(h, or(h.Err, err))
		return
	}
	code := 481
	if h.Is("AUTH") {
		code = 403
	}
	c.refuse(h, refusedDraining, code, "Draining")
}
