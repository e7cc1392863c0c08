package wasm

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"

	"golang.org/x/time/rate"

	"github.com/parley-msrp/parley/sdk/abi"
)

// maxLine bounds a line that a plugin logs, and maxOutput what is kept of one
// call's standard output and error, each; both in bytes.
const (
	maxLine   = 4096
	maxOutput = 8192
)

// An output logs the lines of one plugin, within its rate.
type output struct {
	log     *slog.Logger
	limit   *rate.Limiter
	dropped atomic.Uint64
}

var levels = map[uint32]slog.Level{
	abi.LevelError: slog.LevelError, abi.LevelWarn: slog.LevelWarn,
	abi.LevelInfo: slog.LevelInfo, abi.LevelDebug: slog.LevelDebug,
}

func (o *output) line(level slog.Level, hook, text string) {
	if !o.log.Enabled(context.Background(), level) {
		return
	}
	if !o.limit.Allow() {
		o.dropped.Add(1)
		return
	}
	args := []any{"hook", hook}
	if n := o.dropped.Swap(0); n > 0 {
		args = append(args, "lines_dropped", n)
	}
	o.log.Log(context.Background(), level, printable(text, maxLine), args...)
}

// lines logs what a call has written to standard output or error.
func (o *output) lines(level slog.Level, hook string, t *tail) {
	for line := range bytes.Lines(t.bytes()) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			o.line(level, hook, string(line[:min(len(line), maxLine)]))
		}
	}
}

// A tail keeps the end of what is written to it.
type tail struct {
	b   []byte
	cut bool
}

func (t *tail) reset() { t.b, t.cut = t.b[:0], false }

func (t *tail) write(p []byte) {
	if over := len(p) - maxOutput; over > 0 {
		p, t.cut = p[over:], true
	}
	// Seldom, lest a guest that writes octet by octet has us move all of it each time.
	if len(t.b)+len(p) > 2*maxOutput {
		t.b, t.cut = append(t.b[:0], t.b[len(t.b)+len(p)-maxOutput:]...), true
	}
	t.b = append(t.b, p...)
}

// bytes returns what was kept, from the first whole line on.
func (t *tail) bytes() []byte {
	b, cut := t.b, t.cut
	if over := len(b) - maxOutput; over > 0 {
		b, cut = b[over:], true
	}
	if cut {
		if _, rest, ok := bytes.Cut(b, []byte("\n")); ok {
			return rest
		}
	}
	return b
}

// printable makes text fit for a log that somebody reads on a terminal: one line
// of up to limit bytes, without control characters.
func printable(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "…"
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	if !strings.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	var b strings.Builder
	for _, c := range text {
		if !unicode.IsControl(c) {
			b.WriteRune(c)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRune(c), "'"))
	}
	return b.String()
}
