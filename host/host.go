// Package host builds a Parley server from a [Config] and runs it.
//
//	s, err := host.New(cfg, slog.Default())
//	…
//	if err := s.Listen(ctx); err != nil { … }
//	err = s.Serve(ctx) // until ctx is done
//
// It reads certificates, files of users and plugins, and nothing else: package
// config makes a Config from a file, command cmd/parley decides what is logged
// where.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/parley-msrp/parley/host/admin"
	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/transport"
	"github.com/parley-msrp/parley/host/wasm"
	"github.com/parley-msrp/parley/sdk/abi"
)

// A Server is one running Parley.
type Server struct {
	// Set by New, then read-only.
	cfg      Config
	log      *slog.Logger
	relay    *relay.Relay
	certs    map[string]*transport.Certificates // by listener
	watchers []func(context.Context) error
	plugins  *wasm.Host // nil without plugins

	// Set by Listen.
	listeners map[string]net.Listener
	admin     net.Listener // nil without one
}

// New builds what cfg describes. It opens no port. Log may be nil. Close or
// Serve must follow.
func New(cfg Config, log *slog.Logger) (_ *Server, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, certs: map[string]*transport.Certificates{}, listeners: map[string]net.Listener{}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	p, err := s.providers()
	if err != nil {
		return nil, err
	}
	dialer := &transport.Dialer{Guard: transport.Guard{Allow: cfg.Relay.Dial.Allow, Deny: cfg.Relay.Dial.Deny}}
	rc := relay.Config{
		Expires: relay.Expires(cfg.Relay.Expires), Limits: cfg.Relay.Limits.relay(), Log: log, Trace: cfg.Log.Trace,
		Dialer: dialer,
	}
	if dns := cfg.Relay.Dial.Resolver; dns.IsValid() {
		dialer.Resolver = transport.NewResolver(dns.String())
	}
	if rc.DialTLS, err = transport.TrustFile(cfg.Relay.Dial.CA); err != nil {
		return nil, fmt.Errorf("relay.dial.ca: %w", err)
	}
	rc.Relays = relay.Relays{Allow: cfg.Relay.Relays.Allow, Deny: cfg.Relay.Relays.Deny}
	if rc.Relays.Roots, err = transport.Authorities(cfg.Relay.Relays.CA); err != nil {
		return nil, fmt.Errorf("relay.relays.ca: %w", err)
	}
	var k keys
	if cfg.Relay.KeyFile != "" {
		if k, err = loadKeys(cfg.Relay.KeyFile, log); err != nil {
			return nil, fmt.Errorf("relay.key_file: %w", err)
		}
		rc.URIKey = k.uri
	}
	var algorithms []auth.Algorithm
	for _, name := range cfg.Relay.Digest.Algorithms {
		a, _ := auth.ParseAlgorithm(name) // validated
		algorithms = append(algorithms, a)
	}
	rc.Auth, err = auth.NewServer(auth.ServerConfig{
		Realm: cfg.realm(), Key: k.nonce, Lifetime: cfg.Relay.Digest.Lifetime, Algorithms: algorithms,
	})
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Interfaces)) {
		i := cfg.Interfaces[name]
		rc.Interfaces = append(rc.Interfaces, relay.Interface{Name: name, Address: i.Address, Listener: i.Listener, Allow: i.Allow})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listeners)) {
		l := cfg.Listeners[name]
		if _, err := netip.ParseAddr(l.URI.Host); err == nil {
			log.Warn("the uri of a listener should have a host name, not an address (RFC 4976 §4.2)", "listener", name)
		}
		auths, err1 := chain(s, name, hook.Authenticate, abi.ExportAuthenticate, l.Hooks.Authenticate, p.authenticate, (*wasm.Plugin).Authenticate)
		selects, err2 := chain(s, name, hook.SelectInterface, abi.ExportSelectInterface, l.Hooks.SelectInterface, p.selectInterface, (*wasm.Plugin).SelectInterface)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		rc.Listeners = append(rc.Listeners, relay.Listener{
			Name: name, URI: l.URI, Aliases: l.Aliases, Advertise: l.Advertise, PlainAuth: l.PlainAuth,
			Hooks: relay.Hooks{
				Authenticate:    auths,
				SelectInterface: selects,
			},
		})
		if l.URI.Secure {
			if s.certs[name], err = loadCertificates(log, l.TLS); err != nil {
				return nil, fmt.Errorf("listeners.%s.tls: %w", name, err)
			}
			s.watchers = append(s.watchers, s.certs[name].Watch)
			rc.Listeners[len(rc.Listeners)-1].Certificate = s.certs[name].ForClient(l.URI.Host)
		}
	}
	s.relay, err = relay.New(rc)
	return s, err
}

// Close frees what New has built. Serve does that itself.
func (s *Server) Close() {
	if s.relay != nil {
		s.relay.Close()
	}
	if s.plugins != nil {
		s.plugins.Close()
	}
}

func loadCertificates(log *slog.Logger, t TLS) (*transport.Certificates, error) {
	pairs := []transport.CertPair{{Certificate: t.Certificate, Key: t.Key}}
	for _, p := range t.More {
		pairs = append(pairs, transport.CertPair(p))
	}
	return transport.LoadCertificates(log, pairs...)
}

// providers are the built-in providers by name, under the hooks they answer.
type providers struct {
	authenticate    map[string]hook.Provider[hook.AuthRequest, hook.AuthReply]
	selectInterface map[string]hook.Provider[hook.InterfaceRequest, hook.InterfaceReply]
}

func (s *Server) providers() (providers, error) {
	if err := s.loadPlugins(context.Background()); err != nil {
		return providers{}, err
	}
	p := providers{
		authenticate:    map[string]hook.Provider[hook.AuthRequest, hook.AuthReply]{},
		selectInterface: map[string]hook.Provider[hook.InterfaceRequest, hook.InterfaceReply]{},
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Providers)) {
		c := s.cfg.Providers[name]
		var err error
		switch c.Type {
		case "static":
			users := map[string]hook.User{}
			for user, u := range c.Users {
				users[user] = hook.User(u)
			}
			p.authenticate[name], err = hook.NewStatic(users)
		case "htdigest":
			var h *hook.HTDigest
			if h, err = hook.NewHTDigest(c.File, s.log); err == nil {
				p.authenticate[name] = h
				s.watchers = append(s.watchers, h.Watch)
			}
		case "table":
			var rules []hook.Rule
			for _, r := range c.Rules {
				rules = append(rules, hook.Rule{
					To: r.To, Scheme: r.Scheme, From: r.From, Listener: r.Listener,
					Interface: r.Interface, Deny: r.Deny, Reason: r.Reason,
				})
			}
			p.selectInterface[name], err = hook.NewTable(rules, func(name string) bool {
				_, ok := s.cfg.Interfaces[name]
				return ok
			})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("providers.%s: %w", name, err))
		}
	}
	return p, errors.Join(errs...)
}

// chain builds the chain of one hook point at one listener: of providers, and
// of plugins, which export a function for it.
func chain[Q, A any](
	s *Server, listener string, point hook.Point, export string, bs []Binding,
	known map[string]hook.Provider[Q, A], provider func(p *wasm.Plugin, params map[string]any) hook.Provider[Q, A],
) (*hook.Chain[Q, A], error) {
	var bindings []hook.Binding[Q, A]
	var errs []error
	for i, b := range bs {
		bound := hook.Binding[Q, A]{Name: b.Provider, Provider: known[b.Provider], Timeout: b.Timeout, Params: b.Params}
		if b.OnError == "next" {
			bound.OnError = hook.OnErrorNext
		}
		for _, p := range s.Plugins() {
			if p.Name() != b.Plugin {
				continue
			}
			if err := p.Require(export); err != nil {
				errs = append(errs, fmt.Errorf("listeners.%s.hooks.%s.%d: %w", listener, point, i, err))
			}
			bound.Name, bound.Provider = b.Plugin, provider(p, b.Params)
		}
		bindings = append(bindings, bound)
	}
	l := &failureLog{log: s.log.With("listener", listener), limit: rate.NewLimiter(failureRate, failureBurst)}
	return hook.NewChain(l.failed, bindings...), errors.Join(errs...)
}

// How many failures of one chain are logged: a second, and at once. Peers cause
// them, so they must not fill a disk.
const (
	failureRate  = 10
	failureBurst = 100
)

// A failureLog logs failures of one chain.
type failureLog struct {
	log     *slog.Logger
	limit   *rate.Limiter
	dropped atomic.Uint64
}

// failed makes the one record of a provider that failed.
func (l *failureLog) failed(f hook.Failure) {
	level := slog.LevelWarn
	attrs := []any{"hook", f.Point, "provider", f.Binding, "kind", f.Kind, "err", f.Err}
	if e, ok := errors.AsType[*wasm.Error](f.Err); ok {
		attrs = []any{"hook", f.Point, "failure", e}
		if e.Kind == wasm.KindOpen { // said once, when the breaker opened
			level = slog.LevelDebug
		}
	}
	if f.Kind == hook.KindCanceled {
		level = slog.LevelDebug
	}
	if f.Stack != nil {
		attrs = append(attrs, "stack", string(f.Stack))
	}
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if !l.limit.Allow() {
		l.dropped.Add(1)
		return
	}
	if n := l.dropped.Swap(0); n > 0 {
		attrs = append(attrs, "records_dropped", n)
	}
	l.log.Log(context.Background(), level, "a provider failed", attrs...)
}

// Listen opens all listeners, or none.
func (s *Server) Listen(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			for _, open := range s.listeners {
				open.Close()
			}
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Listeners)) {
		l := s.cfg.Listeners[name]
		cfg := transport.ListenConfig{Bind: l.bind(), ProxyFrom: l.ProxyProtocol, Log: s.log.With("listener", name)}
		if certs := s.certs[name]; certs != nil {
			cfg.TLS = transport.ServerTLS(certs)
		}
		ln, err := transport.Listen(ctx, cfg)
		if err != nil {
			return fmt.Errorf("listeners.%s: %w", name, err)
		}
		s.listeners[name] = ln
	}
	if s.cfg.Admin.Bind == "" {
		return nil
	}
	if s.admin, err = transport.Listen(ctx, transport.ListenConfig{Bind: s.cfg.Admin.Bind, Log: s.log.With("listener", "admin")}); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if a, ok := s.admin.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		s.log.Warn("the admin listener is not on loopback, and asks nobody who they are", "address", a.String())
	}
	return nil
}

// AdminAddr returns where the admin listener listens; nil = there is none.
func (s *Server) AdminAddr() net.Addr {
	if s.admin == nil {
		return nil
	}
	return s.admin.Addr()
}

// Addr returns where a listener listens.
func (s *Server) Addr(listener string) net.Addr {
	if ln := s.listeners[listener]; ln != nil {
		return ln.Addr()
	}
	return nil
}

// Relay returns the relay.
func (s *Server) Relay() *relay.Relay { return s.relay }

// Serve serves until ctx is done; then it refuses what is new, writes what is
// queued and returns when everything has ended.
func (s *Server) Serve(ctx context.Context) error {
	defer s.Close()
	g, ctx := errgroup.WithContext(ctx)
	for name, ln := range s.listeners {
		g.Go(func() error { return s.relay.Serve(ctx, name, ln) })
	}
	if s.plugins != nil {
		g.Go(func() error { return s.plugins.Watch(ctx) })
	}
	if s.admin != nil {
		a := admin.New(admin.Config{
			Relay: s.relay, Plugins: s.Plugins, Profiles: s.cfg.Admin.Pprof, Log: s.log,
			Checks: map[string]func() error{"serving": ctx.Err, "tables": s.relay.Check},
		})
		g.Go(func() error { return a.Serve(ctx, s.admin) })
	}
	for _, watch := range s.watchers {
		g.Go(func() error { return watch(ctx) })
	}
	return g.Wait()
}
