package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-msrp/parley/host/watch"
	"github.com/parley-msrp/parley/sdk/abi"
)

// A Plugin is a module under a name. Its methods are safe from any goroutine.
type Plugin struct {
	// Set by newPlugin, then read-only.
	host  *Host
	set   Settings // with defaults
	out   *output
	store *store

	stats stats

	// Nil before the first load and after close.
	current atomic.Pointer[generation]

	mu       sync.Mutex  // one reload at a time; held while it runs
	last     uint64      // number of the last generation
	previous *source     // of the generation before, while the current one is on probation
	expire   *time.Timer // ends the probation
	files    []string    // to watch
	required []string    // functions that no reload may lose
	bad      [32]byte    // digest of what was rolled back
	ended    bool        // by Host.Discard
}

func newPlugin(h *Host, s Settings) (*Plugin, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	s = s.withDefaults()
	p := &Plugin{host: h, set: s, files: []string{s.File}}
	p.out = &output{log: h.log.With("plugin", s.Name), limit: rate.NewLimiter(rate.Limit(s.Output.Rate), s.Output.Burst)}
	p.stats.init()
	if s.Grants.KV {
		p.store = newStore(s.Store)
	}
	return p, nil
}

// Name returns the plugin's name.
func (p *Plugin) Name() string { return p.set.Name }

// Has reports whether the plugin exports a function, such as on_authenticate.
func (p *Plugin) Has(export string) bool {
	g := p.current.Load()
	return g != nil && g.hooks[export]
}

// Require makes every later reload fail that would lose a function that a
// binding needs.
func (p *Plugin) Require(export string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.Has(export) {
		return fmt.Errorf("plugin %s does not export %s; it exports %v", p.set.Name, export, p.Hooks())
	}
	if !slices.Contains(p.required, export) {
		p.required = append(p.required, export)
	}
	return nil
}

// Hooks returns the hook functions that the plugin exports, sorted.
func (p *Plugin) Hooks() []string {
	g := p.current.Load()
	if g == nil {
		return nil
	}
	var names []string
	for name := range g.hooks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Info is what a plugin's module says of itself.
type Info struct {
	File      string   // that it was read from
	ABI       string   // the contract that it was built for, such as 1.0
	Hooks     []string // functions that it answers, sorted
	Imports   []string // functions that it needs, sorted
	Size      int      // of the module, bytes
	SHA256    [32]byte // of the module
	Memory    int64    // of an instance after on_load, bytes
	MemoryMax int64    // what Settings allow it, bytes
	Start     int64    // instructions of _initialize and on_load; 0 ByDeadline
}

// Info describes the module that runs, by an instance that is idle.
func (p *Plugin) Info() Info {
	g := p.enter()
	if g == nil {
		return Info{}
	}
	defer g.leave()
	info := Info{File: g.set.File, Hooks: p.Hooks(), Size: len(g.src.module), SHA256: sha256.Sum256(g.src.module), MemoryMax: g.set.Memory, Start: g.start, ABI: g.abi}
	for _, f := range g.module.ImportedFunctions() {
		module, name, _ := f.Import()
		info.Imports = append(info.Imports, module+"."+name)
	}
	slices.Sort(info.Imports)
	info.Imports = slices.Compact(info.Imports)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) > 0 {
		info.Memory = int64(g.idle[0].mem.Size())
	}
	return info
}

// Set writes an entry of the plugin's store, as if the plugin had.
func (p *Plugin) Set(key string, value []byte, ttl time.Duration) error {
	if p.store == nil {
		return errors.New("the plugin has no store: grant kv")
	}
	if _, e := p.store.set(key, value, ttl); e != 0 {
		return e
	}
	return nil
}

// Reload loads the plugin anew, if its module or configuration is another than
// the one that runs: the new generation is built while the old one works, then
// takes its place, and the old one ends with its last call. If that fails, the
// old one goes on; so it does, with an error, if what is there has been rolled
// back.
func (p *Plugin) Reload(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	src, err := p.readSource()
	p.files = src.files
	if p.ended {
		return errClosed
	}
	if err != nil {
		return err
	}
	old := p.current.Load()
	if p.bad == src.sum {
		return errRolledBack
	}
	if old != nil && old.src.sum == src.sum {
		return nil
	}
	return p.replace(ctx, src, old)
}

var errRolledBack = errors.New("it failed again and again and was rolled back; it is not loaded until its file or configuration changes")

// replace is for who holds mu.
func (p *Plugin) replace(ctx context.Context, src *source, old *generation) error {
	begin := time.Now()
	g, err := p.load(ctx, src, p.last+1)
	if err == nil {
		for _, export := range p.required {
			if !g.hooks[export] {
				err = fmt.Errorf("it does not export %s any more, which a listener is bound to", export)
				g.close()
				break
			}
		}
	}
	if err != nil {
		p.stats.reloads[reloadFailed].Add(1)
		return err
	}
	p.last++
	p.bad = [32]byte{}
	g.since = time.Now()
	p.keep(old)
	if !p.current.CompareAndSwap(old, g) { // closed meanwhile
		g.close()
		return errClosed
	}
	if old != nil {
		old.leave()
	}
	p.stats.reloads[reloadDone].Add(1)
	p.out.log.Info("plugin loaded", "generation", g.number, "sha256", hex.EncodeToString(src.sum[:4]),
		"hooks", p.Hooks(), "took", time.Since(begin).Round(time.Millisecond).String())
	p.host.pruneCache()
	return nil
}

// keep keeps what old was made of while its successor is on probation; or, if
// old is that itself, what came before it.
func (p *Plugin) keep(old *generation) {
	probation := p.set.Breaker.Probation
	switch {
	case old == nil || probation < 0:
		p.previous = nil
		return
	case p.previous == nil || time.Since(old.since) >= probation:
		p.previous = old.src
	}
	number := p.last
	if p.expire != nil {
		p.expire.Stop()
	}
	p.expire = time.AfterFunc(probation, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.last == number {
			p.previous = nil
		}
	})
}

// rollBack brings the generation before back, since g has failed within its
// probation.
func (p *Plugin) rollBack(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Load() != g || p.previous == nil {
		return
	}
	src, bad := p.previous, g.src.sum
	err := p.replace(p.host.ctx, src, g)
	if err != nil {
		p.out.log.Error("the generation before cannot be brought back", "generation", g.number, "err", err)
		return
	}
	p.previous, p.bad = nil, bad
	p.stats.reloads[reloadRolledBack].Add(1)
	p.out.log.Error("plugin failed again and again after a reload: the generation before is back, until the file or its configuration changes", "generation", g.number)
}

// watch reloads when files change, until ctx is done.
func (p *Plugin) watch(ctx context.Context) error {
	files := func() []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.files
	}
	reload := func() error {
		if err := p.Reload(ctx); !errors.Is(err, errRolledBack) { // which was said then
			return err
		}
		return nil
	}
	return watch.Files(ctx, files, reload, func(err error) {
		p.out.log.Warn("plugin not reloaded, the old generation goes on", "err", err)
	})
}

func (p *Plugin) close() {
	if g := p.current.Swap(nil); g != nil {
		g.leave()
	}
}

// forget drops what is kept for a rollback.
func (p *Plugin) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.previous = nil
	if p.expire != nil {
		p.expire.Stop()
	}
}

// enter returns the current generation, held open.
func (p *Plugin) enter() *generation {
	for {
		g := p.current.Load()
		if g == nil || g.enter() {
			return g
		}
	}
}

// A Call is one call of a plugin.
type Call struct {
	Hook    string // the function, such as on_authenticate
	Request []byte // an encoded message

	// Set by Plugin.Call.
	Reply        []byte // appended to: an encoded message
	Verdict      abi.Verdict
	Generation   uint64
	Instructions int64 // taken, imports included; 0 ByDeadline
	Memory       int64 // of the instance, bytes

	deadline time.Time
	accept   func(v abi.Verdict, reply []byte) error // what is wrong with the reply; nil = nobody asks
}

// Call asks the plugin. It returns an *Error, or ctx's when ctx is done. The
// plugin is asked for at most Settings.Timeout and until ctx's deadline.
func (p *Plugin) Call(ctx context.Context, c *Call) error {
	g := p.enter()
	if g == nil {
		return &Error{Plugin: p.set.Name, Hook: c.Hook, Kind: KindClosed, Message: errClosed.Error()}
	}
	defer g.leave()
	c.Generation = g.number
	begin := time.Now()
	allowed, probe := g.breaker.allow(begin)
	if !allowed {
		err := g.fail(c, KindOpen, "it is not asked, since it has failed again and again")
		p.stats.record(c, 0, err)
		return err
	}
	c.deadline = begin.Add(g.set.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(c.deadline) {
		c.deadline = d
	}
	said := failed // also after a panic
	var err error
	defer func() { p.tell(g, probe, said, err) }()
	err = g.run(ctx, c)
	p.stats.record(c, time.Since(begin), err)
	said = outcomeOf(ctx, err)
	return err
}

// tell tells the breaker how a call has ended.
func (p *Plugin) tell(g *generation, probe bool, o outcome, err error) {
	now := time.Now()
	opened, closed := g.breaker.done(probe, o, now)
	switch {
	case opened > 0:
		p.out.log.Error("plugin fails again and again: it is not asked for a while", "generation", g.number, "for", opened.String(), "err", err)
		if g.set.Breaker.Probation > 0 && now.Sub(g.since) < g.set.Breaker.Probation && opened == openFirst {
			p.host.inBackground(func() { p.rollBack(g) })
		}
	case closed:
		p.out.log.Info("plugin is well again", "generation", g.number)
	}
}

// outcomeOf says what err tells about the plugin.
func outcomeOf(ctx context.Context, err error) outcome {
	if err == nil {
		return well
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind == KindBusy || e.Kind == KindRequest || errors.Is(ctx.Err(), context.Canceled) {
		return neither
	}
	return failed
}

func (g *generation) run(ctx context.Context, c *Call) error {
	switch {
	case !g.hooks[c.Hook]:
		return g.fail(c, KindRequest, "it does not export this function")
	case len(c.Request) > g.set.Message:
		return g.fail(c, KindRequest, fmt.Sprintf("a request of %d bytes is larger than message, which is %d", len(c.Request), g.set.Message))
	}
	i, err := g.get(ctx, c, c.deadline)
	if err != nil {
		return err
	}
	if g.set.ByDeadline {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.deadline)
		defer cancel()
	}
	keep := false
	defer func() {
		// Also after a panic: whatever has happened, nobody uses it again.
		if keep && !i.spent() {
			g.put(i)
			return
		}
		g.plugin.stats.recycled.Add(1)
		i.close()
		g.put(nil)
	}()
	keep, err = i.do(ctx, c)
	return err
}

func (g *generation) fail(c *Call, kind Kind, message string) *Error {
	return &Error{Plugin: g.set.Name, Generation: g.number, Hook: c.Hook, Kind: kind, Message: message, Instructions: c.Instructions}
}
