package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
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
	s, err := host.New(cfg, log)
	if err != nil {
		return usageError{err}
	}
	if err := s.Listen(e.ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listeners)) {
		fmt.Fprintf(e.stdout, "ready: %s on %s\n", name, s.Addr(name))
	}
	fmt.Fprint(e.stdout, hints)
	err = s.Serve(e.ctx)
	st := s.Relay().Stats()
	log.Info("stopped", "peak_memory_MiB", peakMemory()>>20, "reports_made", st.Counts["report_made"])
	return err
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
		_, err = host.New(cfg, nil) // reads certificates and user files
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
