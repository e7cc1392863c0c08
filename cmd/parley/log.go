package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"github.com/parley-msrp/parley/host"
)

// A logOutput is a slog.Handler whose level and format can change while loggers
// that were derived from it are in use.
type logOutput struct {
	w    io.Writer
	root *atomic.Pointer[slog.Handler]
	with []func(slog.Handler) slog.Handler // what was derived, in order
	made atomic.Pointer[derived]
}

// derived is with applied to a root.
type derived struct{ root, handler *slog.Handler }

func newLogOutput(cfg host.Log, w io.Writer) *logOutput {
	o := &logOutput{w: w, root: new(atomic.Pointer[slog.Handler])}
	o.set(cfg)
	return o
}

// set logs for people on a terminal, for machines elsewhere.
func (o *logOutput) set(cfg host.Log) {
	f, _ := o.w.(*os.File)
	tty := f != nil && isatty.IsTerminal(f.Fd())
	var h slog.Handler
	if cfg.Format == "json" || cfg.Format != "text" && !tty {
		h = slog.NewJSONHandler(o.w, &slog.HandlerOptions{Level: cfg.Level})
	} else {
		h = tint.NewTextHandler(o.w, &tint.Options{Level: cfg.Level, TimeFormat: time.TimeOnly, NoColor: !tty})
	}
	o.root.Store(&h)
}

func (o *logOutput) handler() slog.Handler {
	root := o.root.Load()
	if d := o.made.Load(); d != nil && d.root == root {
		return *d.handler
	}
	h := *root
	for _, f := range o.with {
		h = f(h)
	}
	o.made.Store(&derived{root, &h})
	return h
}

func (o *logOutput) Enabled(ctx context.Context, l slog.Level) bool {
	return (*o.root.Load()).Enabled(ctx, l)
}

func (o *logOutput) Handle(ctx context.Context, r slog.Record) error {
	return o.handler().Handle(ctx, r)
}

func (o *logOutput) WithAttrs(attrs []slog.Attr) slog.Handler {
	return o.derive(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (o *logOutput) WithGroup(name string) slog.Handler {
	return o.derive(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (o *logOutput) derive(f func(slog.Handler) slog.Handler) slog.Handler {
	return &logOutput{w: o.w, root: o.root, with: append(slices.Clip(o.with), f)}
}
