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
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/parley-msrp/parley/host/admin"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/transport"
	"github.com/parley-msrp/parley/host/wasm"
)

// A Server is one running Parley.
type Server struct {
	// Version of the program, for metrics. It may be set before Serve.
	Version string

	// Set by New, then read-only.
	log     *slog.Logger
	keys    keys
	relay   *relay.Relay
	plugins *wasm.Host

	now atomic.Pointer[build] // swapped whole by Reload

	mu      sync.Mutex              // guards what follows; held while a Reload runs
	sockets map[string]net.Listener // by listener; see Inherit
	ports   map[string]*port
	admin   net.Listener // nil without one

	group   *errgroup.Group // nil when not serving
	ended   bool            // nothing more is served
	work    context.Context // of what runs in the group
	unwatch func()          // ends the watchers of the build in use
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
	s := &Server{log: log, ports: map[string]*port{}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if cfg.Relay.KeyFile != "" {
		if s.keys, err = loadKeys(cfg.Relay.KeyFile, log); err != nil {
			return nil, fmt.Errorf("relay.key_file: %w", err)
		}
	}
	s.plugins, err = wasm.New(wasm.Options{Log: log, CacheDir: cfg.PluginCache.Dir, CacheSize: int64(cfg.PluginCache.Size)})
	if err != nil {
		return nil, fmt.Errorf("plugin_cache.dir: %w", err)
	}
	b, err := s.build(context.Background(), cfg, nil)
	if err != nil {
		return nil, err
	}
	s.now.Store(b)
	s.plugins.Replace(b.fresh)
	s.relay, err = relay.New(b.relay)
	return s, err
}

// Close frees what New has built, and closes what Inherit was given. Serve does that
// itself.
func (s *Server) Close() {
	s.mu.Lock()
	s.closeSockets()
	s.mu.Unlock()
	if s.relay != nil {
		s.relay.Close()
	}
	if b := s.now.Load(); b != nil && b.bans != nil {
		b.bans.Close()
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

func (b *build) providers() (providers, error) {
	p := providers{
		authenticate:    map[string]hook.Provider[hook.AuthRequest, hook.AuthReply]{},
		selectInterface: map[string]hook.Provider[hook.InterfaceRequest, hook.InterfaceReply]{},
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(b.cfg.Providers)) {
		c := b.cfg.Providers[name]
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
			if h, err = hook.NewHTDigest(c.File, b.log); err == nil {
				p.authenticate[name] = h
				b.watchers = append(b.watchers, h.Watch)
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
				_, ok := b.cfg.Interfaces[name]
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
	built *build, listener string, point hook.Point, export string, bs []Binding,
	known map[string]hook.Provider[Q, A], provider func(p *wasm.Plugin, params map[string]any) hook.Provider[Q, A],
) (*hook.Chain[Q, A], error) {
	var bindings []hook.Binding[Q, A]
	var errs []error
	for i, b := range bs {
		bound := hook.Binding[Q, A]{Name: b.Provider, Provider: known[b.Provider], Timeout: b.Timeout, Params: b.Params}
		if b.OnError == "next" {
			bound.OnError = hook.OnErrorNext
		}
		if p := built.plugins[b.Plugin]; p != nil {
			if err := p.Require(export); err != nil {
				errs = append(errs, fmt.Errorf("listeners.%s.hooks.%s.%d: %w", listener, point, i, err))
			}
			bound.Name, bound.Provider = b.Plugin, provider(p, b.Params)
		}
		bindings = append(bindings, bound)
	}
	l := &failureLog{log: built.log.With("listener", listener), limit: rate.NewLimiter(failureRate, failureBurst)}
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

// Inherit gives TCP sockets that are open already, as systemd passes them, to the
// listeners of these names: they are used instead of bind. Before Listen. They stay
// open while their listener is taken from the configuration, and serve it again when it
// comes back; what connects meanwhile waits.
func (s *Server) Inherit(sockets map[string]net.Listener) { s.sockets = sockets }

// closeSockets closes what Inherit was given. s.mu is held.
func (s *Server) closeSockets() {
	for _, ln := range s.sockets {
		_ = ln.Close() // it may be closed
	}
}

// Listen opens all listeners, or none.
func (s *Server) Listen(ctx context.Context) error {
	b := s.now.Load()
	opened, err := s.open(ctx, b)
	if err != nil {
		return err
	}
	s.ports = opened
	if b.cfg.Admin.Bind == "" {
		return nil
	}
	s.admin, err = transport.Listen(ctx, transport.ListenConfig{Bind: b.cfg.Admin.Bind, Log: s.log.With("listener", "admin")})
	if err != nil {
		closeAll(opened)
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[listener]; p != nil {
		return p.Addr()
	}
	return nil
}

// Relay returns the relay.
func (s *Server) Relay() *relay.Relay { return s.relay }

// Serve serves until ctx is done; then it drains, for as long as drain.timeout
// says, writes what is queued and returns when everything has ended.
func (s *Server) Serve(ctx context.Context) error {
	defer s.Close()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	s.mu.Lock()
	s.group, s.work = g, work
	for _, p := range s.ports {
		s.serve(p)
	}
	b := s.now.Load()
	s.watch(b)
	s.mu.Unlock()
	if s.admin != nil {
		a := admin.New(admin.Config{
			Relay: s.relay, Plugins: s.Plugins, Profiles: b.cfg.Admin.Pprof, Frames: b.cfg.Admin.Trace, Version: s.Version, Log: s.log,
			Checks: map[string]func() error{"serving": s.ready, "tables": s.relay.Check},
		})
		g.Go(func() error { return a.Serve(work, s.admin) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			s.drain(work)
		case <-work.Done():
		}
		s.mu.Lock() // nothing more is started
		s.group, s.ended = nil, true
		s.mu.Unlock()
		stop()
		return nil
	})
	return g.Wait()
}

func (s *Server) ready() error {
	if s.relay.Draining() {
		return errors.New("draining")
	}
	return nil
}
