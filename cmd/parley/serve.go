package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/config"
	"github.com/parley-msrp/parley/host/watch"
)

type settings struct {
	LogLevel  string   `help:"Log level: debug, info, warn or error." placeholder:"LEVEL"`
	LogFormat string   `help:"Log format: text, json, or auto (text on a terminal)." placeholder:"FORMAT"`
	Trace     bool     `help:"Log the head of every frame, without bodies and credentials."`
	Set       []string `help:"Override a key of the configuration, such as relay.expires.max=2h." placeholder:"KEY=VALUE" sep:"none"`
}

// apply overrides what a file or the environment set.
func (s *settings) apply() (map[string]string, error) {
	set := map[string]string{}
	for _, kv := range s.Set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: write it as KEY=VALUE", kv)
		}
		set[key] = value
	}
	if s.LogLevel != "" {
		set["log.level"] = s.LogLevel
	}
	if s.LogFormat != "" {
		set["log.format"] = s.LogFormat
	}
	if s.Trace {
		set["log.trace"] = "true"
	}
	return set, nil
}

type serveCmd struct {
	Config string `help:"Configuration file. Without it: a demo on loopback." type:"path" placeholder:"FILE"`
	settings
}

// Help is what --help says beside the flags.
func (serveCmd) Help() string {
	return "SIGHUP, or a change of the file, reloads the configuration; one with a fault changes nothing. " +
		"SIGTERM and SIGINT drain for drain.timeout and end; a second one ends at once. SIGUSR1 drains and stays. " +
		"Under systemd it says when it is ready, answers its watchdog, and takes sockets by FileDescriptorName = listener."
}

// Run runs the relay until a signal comes.
func (cmd *serveCmd) Run(e *env) error {
	cfg, hints, err := cmd.load()
	if err != nil {
		return usageError{err}
	}
	out := newLogOutput(cfg.Log, e.stderr)
	log := slog.New(out)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, append(drainSignals, syscall.SIGHUP)...) // before plugins are compiled, which may take seconds
	defer signal.Stop(signals)
	sockets, err := inherited(cfg)
	if err != nil {
		return err
	}
	s, err := host.New(cfg, log)
	if err != nil {
		return usageError{err}
	}
	s.Version = programVersion()
	s.Inherit(sockets)
	if err := s.Listen(e.ctx); err != nil {
		s.Close()
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listeners)) {
		fmt.Fprintf(e.stdout, "ready: %s on %s\n", name, s.Addr(name))
	}
	if a := s.AdminAddr(); a != nil {
		fmt.Fprintf(e.stdout, "ready: admin on http://%s\n", a)
	}
	fmt.Fprint(e.stdout, hints)
	plugins := s.Plugins()
	ctx, stop := context.WithCancel(context.WithoutCancel(e.ctx)) // ends what runs beside Serve
	var beside sync.WaitGroup
	r := &reloader{cmd: cmd, s: s, log: log, out: out, cfg: cfg}
	beside.Go(func() { r.run(ctx, signals) })
	if cmd.Config != "" {
		beside.Go(func() { r.watch(ctx) })
	}
	beside.Go(func() { watchdog(ctx, s, log) })
	ending := context.AfterFunc(e.ctx, func() { notify(log, daemon.SdNotifyStopping+"\nSTATUS=Draining") })
	defer ending()
	notify(log, daemon.SdNotifyReady+"\nSTATUS=Serving")
	err = s.Serve(e.ctx)
	stop()
	beside.Wait()
	st := s.Relay().Stats()
	for _, p := range plugins {
		log.Info("what the plugin did", "plugin", p.Name(), "", p.Stats())
	}
	log.Info("stopped", "peak_memory_MiB", peakMemory()>>20, "reports_made", st.Counts["report_made"])
	return err
}

// A reloader reloads the configuration of a server that runs.
type reloader struct {
	cmd *serveCmd
	s   *host.Server
	log *slog.Logger
	out *logOutput

	mu   sync.Mutex // one reload at a time; guards what follows
	cfg  host.Config
	last [sha256.Size]byte // of the file, when watch last saw it
}

// run does what signals ask for, until ctx is done.
func (r *reloader) run(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				r.s.Drain()
				notify(r.log, "STATUS=Draining")
				continue
			}
			notifyReloading(r.log)
			_ = r.reload(ctx) // it is logged
			notify(r.log, daemon.SdNotifyReady)
		}
	}
}

// watch reloads when the file has changed, until ctx is done.
func (r *reloader) watch(ctx context.Context) {
	file := r.cmd.Config
	sum := func() [sha256.Size]byte {
		text, _ := os.ReadFile(file) // a file that is gone is as good as an empty one: it has a fault
		return sha256.Sum256(text)
	}
	r.last = sum()
	err := watch.Files(ctx, func() []string { return []string{file} }, func() error {
		now := sum()
		if now == r.last || !r.current().Reload.Watch {
			return nil
		}
		r.last = now
		_ = r.reload(ctx) // it is logged
		return nil
	}, func(err error) { r.log.Warn("the configuration file is not watched well", "err", err) })
	if err != nil {
		r.log.Warn("the configuration file is not watched: use SIGHUP", "err", err)
	}
}

func (r *reloader) current() host.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg
}

// reload reads the configuration again and logs what it did.
func (r *reloader) reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg := r.cfg
	var err error
	if r.cmd.Config != "" { // the demo is what it is; its plugins may be others
		cfg, _, err = r.cmd.load()
	}
	var diff host.Diff
	if err == nil {
		diff, err = r.s.Reload(ctx, cfg)
	}
	if err != nil {
		r.log.Error("not reloaded: the running configuration stays", "err", err)
		return err
	}
	r.cfg = cfg
	r.out.set(cfg.Log)
	for _, c := range diff {
		if c.Restart {
			r.log.Warn("changed, but needs a restart", "", c)
			continue
		}
		r.log.Info("changed", "", c)
	}
	r.log.Info("reloaded", "changes", len(diff))
	return nil
}

func (cmd *serveCmd) load() (cfg host.Config, hints string, err error) {
	set, err := cmd.apply()
	if err != nil {
		return cfg, "", err
	}
	if cmd.Config != "" {
		cfg, err = config.Load(config.Sources{File: cmd.Config, Environ: os.Environ(), Set: set})
		return cfg, "", err
	}
	d, err := openDemo(true)
	if err != nil {
		return cfg, "", err
	}
	cfg, err = config.Parse(d.config(), os.Environ(), set)
	cfg.Drain.Timeout = 0 // who tries it wants it to end
	return cfg, d.hints(), err
}

type checkConfigCmd struct {
	File string `arg:"" help:"Configuration file." type:"path"`
}

// Run reports every fault of a configuration file.
func (cmd *checkConfigCmd) Run(e *env) error {
	cfg, err := config.Load(config.Sources{File: cmd.File, Environ: os.Environ()})
	if err == nil {
		var s *host.Server
		if s, err = host.New(cfg, nil); err == nil { // reads certificates, user files and plugins
			s.Close()
		}
	}
	if err != nil {
		return usageError{err}
	}
	fmt.Fprintf(e.stdout, "%s: no fault\n", cmd.File)
	return nil
}
