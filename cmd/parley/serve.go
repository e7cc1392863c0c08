package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/config"
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

// Run runs the relay until a signal comes.
func (cmd *serveCmd) Run(e *env) error {
	cfg, hints, err := cmd.load()
	if err != nil {
		return usageError{err}
	}
	log := newLogger(cfg.Log, e.stderr)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before plugins are compiled, which may take seconds
	defer signal.Stop(hup)
	s, err := host.New(cfg, log)
	if err != nil {
		return usageError{err}
	}
	s.Version = programVersion()
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
	var reloads sync.WaitGroup
	reloads.Go(func() { reloadOn(e.ctx, hup, s, log) })
	err = s.Serve(e.ctx)
	signal.Stop(hup)
	close(hup)
	reloads.Wait()
	st := s.Relay().Stats()
	for _, p := range plugins {
		log.Info("what the plugin did", "plugin", p.Name(), "", p.Stats())
	}
	log.Info("stopped", "peak_memory_MiB", peakMemory()>>20, "reports_made", st.Counts["report_made"])
	return err
}

// reloadOn reloads on each signal, until there are no more.
func reloadOn(ctx context.Context, hup <-chan os.Signal, s *host.Server, log *slog.Logger) {
	for range hup {
		if err := s.Reload(ctx); err != nil {
			log.Error("not all could be reloaded; what could not goes on as it was", "err", err)
			continue
		}
		log.Info("reloaded: plugins are what their files say")
	}
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

// newLogger logs for people on a terminal, for machines elsewhere.
func newLogger(cfg host.Log, w io.Writer) *slog.Logger {
	f, _ := w.(*os.File)
	tty := f != nil && isatty.IsTerminal(f.Fd())
	if cfg.Format == "json" || cfg.Format != "text" && !tty {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: cfg.Level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: cfg.Level, TimeFormat: time.TimeOnly, NoColor: !tty}))
}
