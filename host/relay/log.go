package relay

import (
	"context"
	"fmt"
	"log/slog"
)

// A connLog adds to each record of a conn what tells which it is. To keep that for a
// conn would take more memory than many a conn otherwise does.
type connLog conn

func (c *connLog) Enabled(ctx context.Context, level slog.Level) bool {
	return c.r.log.Enabled(ctx, level)
}

func (c *connLog) Handle(ctx context.Context, r slog.Record) error {
	return c.made().Handle(ctx, r)
}

// WithAttrs returns a handler that does not keep the conn.
func (c *connLog) WithAttrs(attrs []slog.Attr) slog.Handler { return c.made().WithAttrs(attrs) }

func (c *connLog) WithGroup(name string) slog.Handler { return c.made().WithGroup(name) }

func (c *connLog) made() slog.Handler {
	attrs := []slog.Attr{slog.Uint64("conn", c.id)}
	if c.l == nil {
		where := c.target.host
		if c.target.port != 0 {
			where = fmt.Sprintf("%s:%d", where, c.target.port)
		}
		attrs = append(attrs, slog.String("next_hop", where))
	} else {
		attrs = append(attrs, slog.String("listener", c.l.Name))
	}
	switch {
	case c.remote.Port() != 0:
		attrs = append(attrs, slog.String("remote", c.remote.String()))
	case c.remote.IsValid(): // as an HTTP proxy tells it
		attrs = append(attrs, slog.String("remote", c.remote.Addr().String()))
	}
	return c.r.log.Handler().WithAttrs(attrs)
}
