package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/transport"
	"github.com/parley-msrp/parley/host/wasm"
	"github.com/parley-msrp/parley/sdk/abi"
)

// A build is what one Config became. It is never changed once it is in use.
type build struct {
	cfg      Config
	log      *slog.Logger
	relay    relay.Config
	certs    map[string]*transport.Certificates // by listener
	bans     *limit.Bans                        // nil when nobody is banned
	plugins  map[string]*wasm.Plugin
	fresh    []*wasm.Plugin // of them, those that the build before did not have
	watchers []func(context.Context) error
}

// build makes what cfg describes; of old, which may be nil, it takes what has not
// changed. When it fails nothing is left of it.
func (s *Server) build(ctx context.Context, cfg Config, old *build) (_ *build, err error) {
	b := &build{cfg: cfg, log: s.log, certs: map[string]*transport.Certificates{}, plugins: map[string]*wasm.Plugin{}}
	defer func() {
		if err != nil {
			s.discard(b, old)
		}
	}()
	if err := s.buildPlugins(ctx, b, old); err != nil {
		return nil, err
	}
	p, err := b.providers()
	if err != nil {
		return nil, err
	}
	b.relay = relay.Config{
		Expires: relay.Expires(cfg.Relay.Expires), Limits: cfg.Relay.Limits.relay(), Log: s.log, URIKey: s.keys.uri,
	}
	rc := &b.relay
	dialer := &transport.Dialer{Guard: transport.Guard{Allow: cfg.Relay.Dial.Allow, Deny: cfg.Relay.Dial.Deny}}
	if dns := cfg.Relay.Dial.Resolver; dns.IsValid() {
		dialer.Resolver = transport.NewResolver(dns.String())
	}
	rc.Dialer = dialer
	if rc.DialTLS, err = transport.TrustFile(cfg.Relay.Dial.CA); err != nil {
		return nil, fmt.Errorf("relay.dial.ca: %w", err)
	}
	rc.Relays = relay.Relays{Allow: cfg.Relay.Relays.Allow, Deny: cfg.Relay.Relays.Deny}
	if rc.Relays.Roots, err = transport.Authorities(cfg.Relay.Relays.CA); err != nil {
		return nil, fmt.Errorf("relay.relays.ca: %w", err)
	}
	rc.Addresses = cfg.Relay.addresses()
	if b.bans, err = s.bans(&cfg, old); err != nil {
		return nil, fmt.Errorf("relay.bans: %w", err)
	}
	rc.Bans = b.bans
	shows, err := traces(&b.cfg, s.log, s.Relay)
	if err != nil {
		return nil, err
	}
	b.watchers = append(b.watchers, shows...)
	if rc.Auth, err = s.digest(&cfg, old); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Interfaces)) {
		i := cfg.Interfaces[name]
		rc.Interfaces = append(rc.Interfaces, relay.Interface{Name: name, Address: i.Address, Listener: i.Listener, Allow: i.Allow})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listeners)) {
		l := cfg.Listeners[name]
		if _, err := netip.ParseAddr(l.URI.Host); err == nil {
			s.log.Warn("the uri of a listener should have a host name, not an address (RFC 4976 §4.2)", "listener", name)
		}
		auths, err1 := chain(b, name, hook.Authenticate, abi.ExportAuthenticate, l.Hooks.Authenticate, p.authenticate, (*wasm.Plugin).Authenticate)
		selects, err2 := chain(b, name, hook.SelectInterface, abi.ExportSelectInterface, l.Hooks.SelectInterface, p.selectInterface, (*wasm.Plugin).SelectInterface)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		rl := relay.Listener{
			Name: name, URI: l.URI, Aliases: l.Aliases, Advertise: l.Advertise, PlainAuth: l.PlainAuth, MediaTypes: l.MediaTypes,
			Hooks: relay.Hooks{Authenticate: auths, SelectInterface: selects}, WebSocket: l.WebSocket.relay(),
		}
		if l.doesTLS() {
			certs, err := certificates(s.log, name, &cfg, old)
			if err != nil {
				return nil, fmt.Errorf("listeners.%s.tls: %w", name, err)
			}
			b.certs[name] = certs
			b.watchers = append(b.watchers, certs.Watch)
			rl.Certificate = certs.ForClient(l.URI.Host)
		}
		rc.Listeners = append(rc.Listeners, rl)
	}
	return b, rc.Validate()
}

// discard ends what only b has, which will not be used.
func (s *Server) discard(b, old *build) {
	for _, p := range b.fresh {
		s.plugins.Discard(p)
	}
	if b.bans != nil && (old == nil || b.bans != old.bans) {
		b.bans.Close()
	}
}

// bans returns those of old, if there are any: who is banned stays so.
func (s *Server) bans(cfg *Config, old *build) (*limit.Bans, error) {
	switch {
	case cfg.Relay.Bans.After < 0:
		return nil, nil
	case old != nil && old.bans != nil:
		return old.bans, nil
	}
	bc := cfg.Relay.bans()
	bc.Log = s.log
	return limit.NewBans(bc)
}

// certificates returns the certificates of a listener, as its files are now.
func certificates(log *slog.Logger, name string, cfg *Config, old *build) (*transport.Certificates, error) {
	t := cfg.Listeners[name].TLS
	if old != nil && old.certs[name] != nil && reflect.DeepEqual(old.cfg.Listeners[name].TLS, t) {
		return old.certs[name], old.certs[name].Reload()
	}
	return loadCertificates(log, t)
}

// digest returns the server of Digest: a new one, whose nonces are new, if what
// it is made from has changed.
func (s *Server) digest(cfg *Config, old *build) (*auth.Server, error) {
	if old != nil && old.cfg.realm() == cfg.realm() && reflect.DeepEqual(old.cfg.Relay.Digest, cfg.Relay.Digest) {
		return old.relay.Auth, nil
	}
	var algorithms []auth.Algorithm
	for _, name := range cfg.Relay.Digest.Algorithms {
		a, _ := auth.ParseAlgorithm(name) // validated
		algorithms = append(algorithms, a)
	}
	return auth.NewServer(auth.ServerConfig{
		Realm: cfg.realm(), Key: s.keys.nonce, Lifetime: cfg.Relay.Digest.Lifetime, Algorithms: algorithms,
	})
}

// keepRunning gives next the values of old where they cannot change.
func keepRunning(next *Config, old *Config) {
	next.PluginCache, next.Admin, next.Relay.KeyFile = old.PluginCache, old.Admin, old.Relay.KeyFile
	if old.Relay.Bans.After >= 0 {
		next.Relay.Bans.File = old.Relay.Bans.File
	}
	next.Listeners = maps.Clone(next.Listeners)
	for name, l := range next.Listeners {
		switch o, ok := old.Listeners[name]; {
		case ok && o.URI.String() != l.URI.String():
			next.Listeners[name] = o
		case ok:
			l.ProxyProtocol = o.ProxyProtocol
			if o.doesTLS() != l.doesTLS() {
				l.WebSocket.Proxies = o.WebSocket.Proxies
			}
			next.Listeners[name] = l
		}
	}
}

// Reload makes cfg count from now on, while connections and sessions go on, or
// changes nothing and returns an error that says why. The Diff is what cfg has
// that is new; what of it needs a restart is marked, and stays as it was.
//
//  1. Files that cfg names are read again: modules and configurations of plugins,
//     certificates, files of users.
//  2. A listener whose bind is another opens there before it closes here; one that
//     is gone accepts no more, and its connections and sessions live on until they
//     end, without AUTH.
//  3. A plugin whose settings are others is loaded as a new one, with an empty
//     store. The old one ends with its last call.
func (s *Server) Reload(ctx context.Context, cfg Config) (Diff, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ports == nil || s.ended || s.relay.Draining() {
		return nil, errors.New("the server does not listen yet, or is about to end")
	}
	old := s.now.Load()
	diff := Compare(&old.cfg, &cfg)
	for i, c := range diff {
		diff[i].Restart = c.Restart || s.stays(c.Key, &cfg)
	}
	keepRunning(&cfg, &old.cfg)
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("with what needs a restart as it was: %w", err)
	}
	b, err := s.build(ctx, cfg, old)
	if err != nil {
		return nil, err
	}
	opened, err := s.open(ctx, b)
	if err == nil {
		err = s.relay.Reload(b.relay)
	}
	if err != nil {
		closeAll(opened)
		s.discard(b, old)
		return nil, err
	}
	// From here on nothing fails.
	s.now.Store(b)
	switch {
	case b.bans != nil:
		b.bans.Configure(cfg.Relay.bans())
	case old.bans != nil:
		old.bans.Close()
	}
	for name, p := range s.ports {
		if opened[name] != nil || !has(cfg.Listeners, name) {
			p.retire()
			delete(s.ports, name)
			continue
		}
		p.certs.Store(b.certs[name])
	}
	for name, p := range opened {
		s.ports[name] = p
		s.serve(p)
	}
	s.plugins.Replace(slices.Collect(maps.Values(b.plugins)))
	s.watch(b)
	return diff, nil
}

func has(m map[string]Listener, name string) bool {
	_, ok := m[name]
	return ok
}

// stays reports whether key is of a listener whose uri is another one: all of it
// stays as it is then. So do its proxies if they decide whether it does TLS.
func (s *Server) stays(key string, cfg *Config) bool {
	for name, l := range s.now.Load().cfg.Listeners {
		next, ok := cfg.Listeners[name]
		switch at := "listeners." + name + "."; {
		case !ok:
		case next.URI.String() != l.URI.String() && strings.HasPrefix(key, at),
			next.doesTLS() != l.doesTLS() && key == at+"websocket.proxies":
			return true
		}
	}
	return false
}

// A port is an open listener. It is its own net.Listener, to see Accept end.
type port struct {
	net.Listener
	name    string
	bind    string
	certs   atomic.Pointer[transport.Certificates]
	retired atomic.Bool // closed by us
	ended   atomic.Bool // Accept returned that it is closed
}

// Accept is that of the listener.
func (p *port) Accept() (net.Conn, error) {
	nc, err := p.Listener.Accept()
	if errors.Is(err, net.ErrClosed) {
		p.ended.Store(true)
	}
	return nc, err
}

// retire ends accepting; connections live on.
func (p *port) retire() {
	p.retired.Store(true)
	_ = p.Close() // whoever connects sees it
}

// open opens the ports of b that are not open: all, or none.
func (s *Server) open(ctx context.Context, b *build) (_ map[string]*port, err error) {
	opened := map[string]*port{}
	defer func() {
		if err != nil {
			closeAll(opened)
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(b.cfg.Listeners)) {
		l := b.cfg.Listeners[name]
		if p := s.ports[name]; p != nil && (p.bind == l.bind() || s.sockets[name] != nil) {
			continue
		}
		p := &port{name: name, bind: l.bind()}
		cfg := transport.ListenConfig{Bind: l.bind(), Socket: s.sockets[name], ProxyFrom: l.ProxyProtocol, Log: s.log.With("listener", name)}
		if certs := b.certs[name]; certs != nil {
			p.certs.Store(certs)
			cfg.TLS = transport.ServerTLS(certs)
			if l.isWebSocket() {
				// Chromium gives a WebSocket up when it is asked for a certificate,
				// and no relay comes by one (RFC 7977 §1).
				cfg.TLS.ClientAuth = tls.NoClientCert
			}
			cfg.TLS.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return p.certs.Load().GetCertificate(hello)
			}
		}
		if p.Listener, err = transport.Listen(ctx, cfg); err != nil {
			return nil, fmt.Errorf("listeners.%s: %w", name, err)
		}
		opened[name] = p
	}
	return opened, nil
}

func closeAll(ports map[string]*port) {
	for _, p := range ports {
		p.retire()
	}
}

// serve serves a port; before Serve it has nothing to do. s.mu is held.
func (s *Server) serve(p *port) {
	if s.group == nil {
		return
	}
	ctx := s.work
	s.group.Go(func() error {
		err := s.relay.Serve(ctx, p.name, p)
		if p.retired.Load() && errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	})
}

// watch watches the files of b, and no longer those of the build before; before
// Serve it has nothing to do. s.mu is held.
func (s *Server) watch(b *build) {
	if s.group == nil {
		return
	}
	if s.unwatch != nil {
		s.unwatch()
	}
	ctx, cancel := context.WithCancel(s.work)
	s.unwatch = cancel
	for _, watch := range append(b.watchers, s.plugins.Watch) {
		s.group.Go(func() error { return watch(ctx) })
	}
}

// lastAnswers bounds how long answers from next hops are waited for at the end.
const lastAnswers = 5 * time.Second

// Drain refuses what is new: listeners close, AUTH is answered 403, and the
// server is not ready any more. Sessions go on. Only a restart undoes it.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay.Draining() {
		return
	}
	s.relay.Drain()
	closeAll(s.ports)
	s.closeSockets()
	s.log.Info("draining: nothing new is taken", "sessions", s.relay.Stats().Sessions)
}

// drainLook is how often drain looks whether sessions are left.
const drainLook = 50 * time.Millisecond

// drain is Drain, and waits for the sessions, as long as is configured; then it
// ends the relay's work in order.
func (s *Server) drain(ctx context.Context) {
	s.Drain()
	timeout := s.now.Load().cfg.Drain.Timeout
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for wait.Err() == nil && s.relay.Stats().Sessions > 0 {
		select {
		case <-wait.Done():
		case <-tick.C:
		}
	}
	if n := s.relay.Stats().Sessions; n > 0 && timeout > 0 {
		s.log.Warn("sessions are ended: they did not end in time", "sessions", n, "timeout", timeout.String())
	}
	settle, cancel := context.WithTimeout(ctx, min(lastAnswers, timeout))
	defer cancel()
	s.relay.Settle(settle)
}

// Check returns what is wrong with the running server: tables that do not agree, or
// a listener that accepts no more. Nil is expected until it drains.
func (s *Server) Check() error {
	if !s.mu.TryLock() {
		return s.relay.Check() // a Reload runs, which may take seconds
	}
	defer s.mu.Unlock()
	errs := []error{s.relay.Check()}
	for name, p := range s.ports {
		if p.ended.Load() && !p.retired.Load() {
			errs = append(errs, fmt.Errorf("listener %s accepts no more", name))
		}
	}
	return errors.Join(errs...)
}
