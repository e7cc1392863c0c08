package wasm

import (
	"errors"
	"log/slog"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
)

// Stats is what a plugin has done since it was loaded first, and what it is now.
type Stats struct {
	Generation uint64
	SHA256     [32]byte // of module and configuration
	Breaker    string   // closed, open or half-open
	Instances  int      // idle and at work
	Memory     int64    // bytes of the idle instances' memories

	Calls        map[string]map[string]uint64 // by function and verdict
	Failures     map[Kind]uint64
	Duration     Histogram // nanoseconds per call, waiting included
	Instructions Histogram // per call that ran
	Recycled     uint64    // instances dropped and replaced
	Reloads      map[string]uint64
	LinesDropped uint64 // since the last line that was logged
	Series       []Series
	StoreEntries int
}

// LogValue is the short form, for one line of a log.
func (s Stats) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Any("calls", s.Calls), slog.Any("failures", s.Failures), slog.Any("reloads", s.Reloads), slog.Uint64("recycled", s.Recycled)}
	if s.Generation > 0 { // it has not been closed
		attrs = append(attrs, slog.Uint64("generation", s.Generation), slog.String("breaker", s.Breaker),
			slog.Int("instances", s.Instances), slog.Int64("memory", s.Memory))
	}
	if n := s.Duration.Count(); n > 0 {
		attrs = append(attrs, slog.String("p50", time.Duration(s.Duration.Quantile(0.5)).String()), slog.String("p99", time.Duration(s.Duration.Quantile(0.99)).String()))
	}
	if n := s.Instructions.Count(); n > 0 {
		attrs = append(attrs, slog.Uint64("instructions_p99", s.Instructions.Quantile(0.99)))
	}
	return slog.GroupValue(attrs...)
}

// A Histogram counts values by their size: Buckets[n] counts those below 2^n and
// not below 2^(n-1).
type Histogram struct {
	Buckets [64]uint64
	Sum     uint64
}

// Count returns how many values there are.
func (h *Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// Quantile returns a value that the part q of all values does not exceed: the
// bound of a bucket, so at most twice too large.
func (h *Histogram) Quantile(q float64) uint64 {
	want := uint64(math.Ceil(q * float64(h.Count())))
	seen := uint64(0)
	for n, b := range h.Buckets {
		if seen += b; seen >= want && want > 0 {
			return 1<<n - 1
		}
	}
	return 0
}

// A Series is a metric that a plugin has made.
type Series struct {
	Name      string
	Kind      string // counter, gauge or histogram
	Labels    [][2]string
	Value     uint64    // of counter and gauge
	Histogram Histogram // of a histogram
}

func (h *Histogram) add(v uint64) {
	h.Buckets[min(bits.Len64(v), 63)]++
	h.Sum += v
}

type histogram struct {
	buckets [64]atomic.Uint64
	sum     atomic.Uint64
}

func (h *histogram) add(v uint64) {
	h.buckets[min(bits.Len64(v), 63)].Add(1)
	h.sum.Add(v)
}

func (h *histogram) snapshot() (s Histogram) {
	for i := range h.buckets {
		s.Buckets[i] = h.buckets[i].Load()
	}
	s.Sum = h.sum.Load()
	return s
}

// Ends of reloads.
const (
	reloadDone       = "done"
	reloadFailed     = "failed"
	reloadRolledBack = "rolled_back"
)

type callKey struct {
	hook    string
	verdict abi.Verdict
}

type stats struct {
	// Set by init, then read-only: only their values change.
	calls    map[callKey]*atomic.Uint64
	failures map[Kind]*atomic.Uint64
	reloads  map[string]*atomic.Uint64

	duration, instructions histogram
	recycled               atomic.Uint64

	mu     sync.Mutex
	series map[string]*Series
	kinds  map[string]string // of series, by name
}

var kinds = []Kind{
	KindTrap, KindBudget, KindMemory, KindPointer, KindReply, KindTimeout, KindStart, KindDeclared, KindRequest, KindBusy, KindOpen, KindClosed,
}

func (s *stats) init() {
	s.calls, s.failures, s.reloads = map[callKey]*atomic.Uint64{}, map[Kind]*atomic.Uint64{}, map[string]*atomic.Uint64{}
	for _, hook := range []string{abi.ExportAuthenticate, abi.ExportSelectInterface} {
		for v := abi.VerdictNext; v <= abi.VerdictDrop; v++ {
			s.calls[callKey{hook, v}] = new(atomic.Uint64)
		}
	}
	for _, k := range kinds {
		s.failures[k] = new(atomic.Uint64)
	}
	for _, name := range []string{reloadDone, reloadFailed, reloadRolledBack} {
		s.reloads[name] = new(atomic.Uint64)
	}
	s.series, s.kinds = map[string]*Series{}, map[string]string{}
}

// record counts a call and how it ended.
func (s *stats) record(c *Call, took time.Duration, err error) {
	if err == nil {
		if n := s.calls[callKey{c.Hook, c.Verdict}]; n != nil {
			n.Add(1)
		}
	} else if e, ok := errors.AsType[*Error](err); ok {
		s.failures[e.Kind].Add(1)
		if e.Kind == KindOpen {
			return
		}
	} else {
		return // the caller has left
	}
	s.duration.add(uint64(took))
	if c.Instructions > 0 {
		s.instructions.add(uint64(c.Instructions))
	}
}

// Stats returns a snapshot.
func (p *Plugin) Stats() Stats {
	s := Stats{
		Calls: map[string]map[string]uint64{}, Failures: map[Kind]uint64{}, Reloads: map[string]uint64{},
		Duration: p.stats.duration.snapshot(), Instructions: p.stats.instructions.snapshot(),
		Recycled: p.stats.recycled.Load(), LinesDropped: p.out.dropped.Load(),
	}
	for k, n := range p.stats.calls {
		if v := n.Load(); v > 0 {
			if s.Calls[k.hook] == nil {
				s.Calls[k.hook] = map[string]uint64{}
			}
			s.Calls[k.hook][k.verdict.String()] = v
		}
	}
	for k, n := range p.stats.failures {
		if v := n.Load(); v > 0 {
			s.Failures[k] = v
		}
	}
	for k, n := range p.stats.reloads {
		s.Reloads[k] = n.Load()
	}
	p.stats.mu.Lock()
	for _, m := range p.stats.series {
		s.Series = append(s.Series, *m)
	}
	p.stats.mu.Unlock()
	if p.store != nil {
		s.StoreEntries = p.store.cache.EstimatedSize()
	}
	g := p.enter()
	if g == nil {
		return s
	}
	defer g.leave()
	s.Generation, s.SHA256, s.Breaker = g.number, g.src.sum, g.breaker.state(time.Now())
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Instances = g.total
	for _, i := range g.idle {
		s.Memory += int64(i.mem.Size())
	}
	return s
}
