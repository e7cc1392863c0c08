package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/trace"
)

func (t *TraceFilter) trace() trace.Filter {
	f := trace.Filter{Session: t.Session, User: t.User, Listener: t.Listener, Bodies: t.Bodies}
	f.Peer, _ = trace.ParsePeer(t.Peer) // validated
	return f
}

// maxKey bounds a key file, in bytes.
const maxKey = 1 << 10

// traces returns what shows frames while cfg counts. One that fails says so in the
// log, and costs nothing else.
func traces(cfg *Config, log *slog.Logger, r func() *relay.Relay) (run []func(context.Context) error, err error) {
	add := func(what string, show func(context.Context, *trace.Sub) error) {
		run = append(run, func(ctx context.Context) error {
			sub := r().Trace(cfg.Trace.Filter.trace())
			defer sub.Close()
			// What came before the end is shown, too.
			defer context.AfterFunc(ctx, sub.Close)()
			if err := show(context.WithoutCancel(ctx), sub); err != nil && !errors.Is(err, context.Canceled) {
				log.Error("frames are not shown any more", "where", what, "err", err)
			}
			return nil
		})
	}
	if cfg.Log.Trace {
		add("log", func(ctx context.Context, s *trace.Sub) error { return trace.Log(ctx, s, log) })
	}
	if f := cfg.Trace.File; f.Path != "" {
		size := int64(f.Size)
		if size == 0 {
			size = 100 << 20
		}
		add("trace.file", func(ctx context.Context, s *trace.Sub) error { return trace.File(ctx, s, f.Path, size) })
	}
	if h := cfg.Trace.HEP; h.Address != "" {
		hep := trace.HEP{Address: h.Address, ID: h.ID, Protocol: h.Protocol}
		if hep.ID == 0 {
			hep.ID = 2855
		}
		if hep.Protocol == 0 {
			hep.Protocol = 100
		}
		if h.KeyFile != "" {
			key, err := os.ReadFile(h.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("trace.hep.key_file: %w", err)
			}
			if hep.Key = strings.TrimSpace(string(key)); hep.Key == "" || len(key) > maxKey {
				return nil, fmt.Errorf("trace.hep.key_file: %s: 1 to %d bytes are wanted", h.KeyFile, maxKey)
			}
		}
		add("trace.hep", func(ctx context.Context, s *trace.Sub) error { return hep.Send(ctx, s) })
	}
	return run, nil
}
