// Package admin is for those who run a server: metrics, health, profiles.
//
//	a := admin.New(admin.Config{Relay: r, Plugins: h, Ready: ready})
//	err := a.Serve(ctx, ln)
//
// It listens to nobody but who is given; there is no authentication, so the
// listener should be on loopback or in a network of its own. It changes nothing.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/wasm"
)

// A Config says what there is to tell about.
type Config struct {
	// Relay is required.
	Relay *relay.Relay
	// Plugins returns the plugins. Nil = there are none.
	Plugins func() []*wasm.Plugin
	// Checks say by name what is not ready, and why; nil = it is. Default: none.
	Checks map[string]func() error
	// Profiles serves /debug/pprof, by which memory can be read. Default: no.
	Profiles bool
	// Frames serves /debug/trace, by which chats can be read. Default: no.
	Frames  bool
	Version string       // that /metrics tells. Default: ""
	Log     *slog.Logger // default: nowhere
}

// A Server answers HTTP requests of operators.
type Server struct {
	// Set by New, then read-only.
	cfg     Config
	handler http.Handler

	readers atomic.Int32 // of frames

	mu      sync.Mutex // guards what follows
	checks  map[string]error
	checked time.Time
}

// shutdownTime is how long requests may take once the server ends.
const shutdownTime = 2 * time.Second

// New returns a server, which is an http.Handler, too.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector(), &collector{s},
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler(reg, cfg.Log))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /debug/check", s.check)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "/metrics\n/livez\n/readyz?verbose\n/debug/check")
	})
	if cfg.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	if cfg.Frames {
		mux.HandleFunc("GET /debug/trace", s.trace)
	}
	s.handler = mux
	return s
}

// handler serves metrics. A plugin can make some that contradict each other; then
// all others are served.
func handler(reg prometheus.Gatherer, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	})
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers what comes to ln until ctx is done.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s, BaseContext: func(net.Listener) context.Context { return ctx }, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		done <- errors.Join(ignore(srv.Shutdown(ctx), context.DeadlineExceeded), srv.Close())
	})
	err := ignore(srv.Serve(ln), http.ErrServerClosed)
	if !stop() {
		err = errors.Join(err, <-done)
	}
	return err
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func (s *Server) runChecks() map[string]error {
	results := map[string]error{}
	for name, check := range s.cfg.Checks {
		results[name] = check()
	}
	return results
}

// checkEvery is how often a scrape may have the checks run, some of which look at
// every connection.
const checkEvery = 30 * time.Second

// recentChecks returns what the checks said, not more than checkEvery ago.
func (s *Server) recentChecks() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.checks == nil || now.Sub(s.checked) >= checkEvery {
		s.checks, s.checked = s.runChecks(), now
	}
	return s.checks
}

// ready says 200 if every check passes, and 503 else. With ?verbose it names
// each.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	var lines []string
	good := true
	for name, err := range s.runChecks() {
		if err != nil {
			good = false
			lines = append(lines, fmt.Sprintf("[-] %s: %v", name, err))
		} else {
			lines = append(lines, "[+] "+name)
		}
	}
	slices.Sort(lines)
	if !good {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if !r.URL.Query().Has("verbose") {
		lines = []string{map[bool]string{true: "ok", false: "not ready"}[good]}
	}
	fmt.Fprintln(w, strings.Join(lines, "\n"))
}

// check says 200 if the relay's tables agree with each other, and 500 else.
func (s *Server) check(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Relay.Check(); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}
