package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/parley-msrp/parley/host/wasm/fuel"
	"github.com/parley-msrp/parley/sdk/abi"
)

// A source is what a generation is made of.
type source struct {
	module []byte
	config []byte
	files  []string // that module and config were read from
	sum    [sha256.Size]byte
}

// readSource reads the plugin's files.
func (p *Plugin) readSource() (*source, error) {
	s := &source{files: []string{p.set.File}}
	limit := p.host.opts.ModuleSize
	def(&limit, 16<<20)
	switch info, err := os.Stat(p.set.File); { // opening what is no file may wait for ever
	case err != nil:
		return s, err
	case !info.Mode().IsRegular():
		return s, fmt.Errorf("%s: not a regular file", p.set.File)
	}
	f, err := os.Open(p.set.File)
	if err != nil {
		return s, err
	}
	defer f.Close()
	if s.module, err = io.ReadAll(io.LimitReader(f, limit+1)); err != nil {
		return s, err
	}
	if int64(len(s.module)) > limit {
		return s, fmt.Errorf("%s: larger than %d bytes", p.set.File, limit)
	}
	if sum := sha256.Sum256(s.module); p.set.SHA256 != "" && !strings.EqualFold(hex.EncodeToString(sum[:]), p.set.SHA256) {
		return s, fmt.Errorf("%s: has SHA-256 %x, and %s is asked for", p.set.File, sum, p.set.SHA256)
	}
	if p.set.Config != nil {
		text, files, err := p.set.Config()
		s.files = append(s.files, files...)
		if err != nil {
			return s, fmt.Errorf("config: %w", err)
		}
		s.config = text
	}
	s.sum = digest(s.module, s.config)
	return s, nil
}

// A generation is one module with one configuration. It lives until the plugin
// and all calls have let go of it.
type generation struct {
	// Set by load and replace, then read-only.
	plugin *Plugin
	set    Settings
	grants []*url.URL
	number uint64
	src    *source
	config []byte
	rt     wazero.Runtime
	module wazero.CompiledModule
	hooks  map[string]bool
	since  time.Time // when it began to serve
	abi    string    // of the first instance
	start  int64     // instructions that its start took

	refs    atomic.Int64
	breaker breaker

	mu      sync.Mutex // guards what follows; never held while an instance is made or runs
	idle    []*instance
	total   int // instances, and those being made
	waiting []chan *instance
	shrink  *time.Timer // nil unless there are idle instances beyond Warm
}

// load makes a generation of src, with its warm instances.
func (p *Plugin) load(ctx context.Context, src *source, number uint64) (_ *generation, err error) {
	g := &generation{plugin: p, set: p.set, number: number, src: src, config: src.config, hooks: map[string]bool{}}
	g.refs.Store(1)
	if !p.host.begin() {
		return nil, errClosed
	}
	g.breaker.limit = p.set.Breaker.Failures
	defer func() {
		// A module that breaks the compiler must not break us.
		if r := recover(); r != nil {
			err = fmt.Errorf("the module breaks the compiler: %v\n%s", r, debug.Stack())
		}
		if err != nil {
			g.close()
		}
	}()
	for _, text := range p.set.Grants.HTTP {
		u, err := parseGrant(text)
		if err != nil {
			return nil, err
		}
		g.grants = append(g.grants, u)
	}
	if err := g.compile(ctx); err != nil {
		return nil, err
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	if err := p.host.imports(ctx, g.rt); err != nil {
		return nil, err
	}
	for range p.set.Instances.Warm {
		i, err := g.newInstance(ctx)
		if err != nil {
			return nil, err
		}
		i.free = time.Now()
		g.idle = append(g.idle, i)
		g.total++
	}
	return g, nil
}

var (
	magic     = []byte("\x00asm")
	component = []byte("\x00asm\x0d\x00\x01\x00")
)

func (g *generation) compile(ctx context.Context) error {
	m := g.src.module
	switch {
	case bytes.HasPrefix(m, component):
		return errors.New("it is a component; build a core module (targets wasm32-wasip1 or wasm32-unknown-unknown)")
	case !bytes.HasPrefix(m, magic):
		return errors.New("it is not a WebAssembly module: it does not begin with \\0asm")
	}
	if !g.set.ByDeadline {
		var err error
		if m, err = fuel.Inject(m, fuel.Limits{}); err != nil {
			return fmt.Errorf("it is no module that can be run: %w", err)
		}
	}
	g.rt = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(uint32(g.set.Memory/pageSize)).
		WithCloseOnContextDone(g.set.ByDeadline).
		WithCompilationCache(g.plugin.host.cache))
	var err error
	if g.module, err = g.rt.CompileModule(ctx, m); err != nil {
		return fmt.Errorf("it is no valid module: %w", err)
	}
	return nil
}

// check holds the module's imports and exports against the contract, before any
// of its code runs.
func (g *generation) check() error {
	var missing []string
	for _, f := range g.module.ImportedFunctions() {
		module, name, _ := f.Import()
		if !g.provided(module, name) {
			missing = append(missing, module+"."+name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("it imports what this host does not have: %s", strings.Join(missing, ", "))
	}
	exports := g.module.ExportedFunctions()
	i32 := []api.ValueType{api.ValueTypeI32}
	wrong := func(name, want string) error {
		f := exports[name]
		return fmt.Errorf("its function %s has type %s, and must have %s", name, signature(f), want)
	}
	is := func(name string, params, results []api.ValueType) bool {
		f := exports[name]
		return slices.Equal(f.ParamTypes(), params) && slices.Equal(f.ResultTypes(), results)
	}
	switch _, start := exports["_start"]; {
	case exports[abi.ExportABI] != nil:
	case start:
		return errors.New("it is a command, which runs and ends; build a reactor (Go: -buildmode=c-shared; clang: -mexec-model=reactor or --no-entry)")
	default:
		return fmt.Errorf("it does not export %s: it is no Parley plugin", abi.ExportABI)
	}
	if !is(abi.ExportABI, nil, i32) {
		return wrong(abi.ExportABI, "() -> i32")
	}
	if f := exports["_initialize"]; f != nil && !is("_initialize", nil, nil) {
		return wrong("_initialize", "() -> ()")
	}
	for name := range exports {
		if !strings.HasPrefix(name, "on_") {
			continue
		}
		if !is(name, i32, i32) {
			return wrong(name, "(i32) -> i32")
		}
		if name != abi.ExportLoad {
			g.hooks[name] = true
		}
	}
	if g.module.ExportedMemories()["memory"] == nil {
		return errors.New("it does not export its memory as memory")
	}
	return nil
}

func (g *generation) provided(module, name string) bool {
	switch module {
	case abi.Module:
		return slices.Contains([]string{"read", "write", "log", "call"}, name)
	case "env":
		return name == "abort"
	case "wasi_snapshot_preview1":
		return g.plugin.host.wasi[name] != nil
	}
	return false
}

func signature(f api.FunctionDefinition) string {
	list := func(types []api.ValueType) string {
		var names []string
		for _, t := range types {
			names = append(names, api.ValueTypeName(t))
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(f.ParamTypes()) + " -> " + list(f.ResultTypes())
}

// enter holds the generation open for a call, unless it is closed already.
func (g *generation) enter() bool {
	for {
		n := g.refs.Load()
		if n == 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave lets go of it; the last one out closes it.
func (g *generation) leave() {
	if g.refs.Add(-1) == 0 {
		g.close()
	}
}

// close frees everything. The order matters: what is compiled is not freed with
// its runtime, since the cache is shared.
func (g *generation) close() {
	g.mu.Lock()
	idle := g.idle
	g.idle = nil
	if g.shrink != nil {
		g.shrink.Stop()
	}
	g.mu.Unlock()
	for _, i := range idle {
		i.close()
	}
	if g.module != nil {
		g.module.Close(context.Background())
	}
	if g.rt != nil {
		g.rt.Close(context.Background())
	}
	g.plugin.host.open.Done()
}
