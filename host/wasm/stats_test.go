package wasm

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
)

func TestHistogram(t *testing.T) {
	var h histogram
	for v := range uint64(1000) {
		h.add(v)
	}
	h.add(1 << 63)
	s := h.snapshot()
	if s.Count() != 1001 || s.Sum != 499500+1<<63 {
		t.Errorf("%d values, sum %d", s.Count(), s.Sum)
	}
	for q, want := range map[float64]uint64{0.001: 1, 0.5: 511, 0.9: 1023, 1: 1<<63 - 1} {
		if got := s.Quantile(q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if (&Histogram{}).Quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

func TestStats(t *testing.T) {
	p := &Plugin{out: &output{}}
	p.stats.init()
	s := &p.stats
	c := &Call{Hook: abi.ExportAuthenticate, Verdict: abi.VerdictDeny, Instructions: 100}
	s.record(c, time.Microsecond, nil)
	s.record(c, time.Microsecond, nil)
	s.record(c, time.Microsecond, &Error{Kind: KindTrap})
	s.record(&Call{}, 0, &Error{Kind: KindOpen})
	got := p.Stats()
	if got.Calls[abi.ExportAuthenticate]["deny"] != 2 || got.Failures[KindTrap] != 1 || got.Failures[KindOpen] != 1 ||
		got.Duration.Count() != 3 || got.Instructions.Sum != 300 {
		t.Errorf("%+v", got)
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "", got)
	for _, part := range []string{"on_authenticate:map[deny:2]", "trap:1", "p99=1.023µs", "instructions_p99=127"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("%s lacks %q", b.String(), part)
		}
	}
}

// TestMetrics: what a plugin may call its metrics, and how many there may be.
func TestMetrics(t *testing.T) {
	var s stats
	s.init()
	for i := range maxSeries {
		if e := s.count(Series{Name: "n", Kind: "counter", Labels: [][2]string{{"i", string(rune('a' + i))}}}, 1); e != 0 {
			t.Fatal(i, e)
		}
	}
	if e := s.count(Series{Name: "one_more", Kind: "counter"}, 1); e != abi.ErrAgain {
		t.Error(e)
	}
	if e := s.count(Series{Name: "n", Kind: "counter", Labels: [][2]string{{"i", "a"}}}, 5); e != 0 {
		t.Error("an old one", e)
	}
	if e := s.count(Series{Name: "n", Kind: "gauge", Labels: [][2]string{{"i", "a"}}}, 5); e != abi.ErrInval {
		t.Error("another kind", e)
	}
	for name, want := range map[string]bool{"a_B9": true, "": false, "9a": false, "a-b": false, "ä": false, strings.Repeat("a", 65): false} {
		if isName(name) != want {
			t.Errorf("name %q", name)
		}
	}
}
