// Package wasm runs plugins: WebAssembly modules that answer hooks, as
// sdk/abi/ABI.md describes.
//
//	h, err := wasm.New(wasm.Options{Log: log})
//	…
//	defer h.Close()
//	p, err := h.Load(ctx, wasm.Settings{Name: "users", File: "users.wasm"})
//	…
//	chain := hook.NewChain(failed, hook.Binding[hook.AuthRequest, hook.AuthReply]{
//		Name: "users", Provider: p.Authenticate(nil),
//	})
//
// Whatever a plugin does, it can hurt nobody: it reaches nothing but what is
// granted, its instructions, memory and output are bounded, and a call that goes
// wrong costs one instance and is one error. It is no boundary against somebody
// who attacks the machine through the compiler.
//
// A [Plugin] stays while its module and configuration are swapped under it. How
// a module is made to count its instructions is package fuel's business.
package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"golang.org/x/sync/errgroup"
)

// Options are what all plugins of a [Host] share. Zero values are the defaults.
type Options struct {
	// Log gets the lines and the failures of plugins. Nil = nowhere.
	Log *slog.Logger
	// CacheDir keeps compiled modules, which makes the next start quick: a Go
	// plugin takes a second to compile. What is in there is run as native code,
	// so it must belong to us alone (mode 0700). Default: in memory only.
	CacheDir string
	// CacheSize bounds CacheDir in bytes; the oldest files go. Zero = 512 MiB,
	// negative = no bound.
	CacheSize int64
	// ModuleSize bounds a module, in bytes. Zero = 16 MiB.
	ModuleSize int64
	// HTTP answers service http. Default: a client without proxies.
	HTTP http.RoundTripper
}

// A Host runs plugins.
type Host struct {
	// Set by New, then read-only.
	opts  Options
	log   *slog.Logger
	cache wazero.CompilationCache
	wasi  map[string]api.FunctionDefinition
	http  http.RoundTripper

	ctx        context.Context // done when Close begins
	cancel     context.CancelFunc
	background sync.WaitGroup
	open       sync.WaitGroup // generations

	mu      sync.Mutex
	plugins []*Plugin
	closed  bool
}

// New returns a Host without plugins.
func New(opts Options) (*Host, error) {
	h := &Host{opts: opts, log: opts.Log, http: opts.HTTP}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.http == nil {
		// Neither a proxy from the environment, nor connections without end.
		h.http = &http.Transport{
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, // Instances.Max bounds those in use
			TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: maxHTTPHeader, ForceAttemptHTTP2: true,
		}
	}
	var err error
	if opts.CacheDir == "" {
		h.cache = wazero.NewCompilationCache()
	} else if h.cache, err = openCache(opts.CacheDir); err != nil {
		return nil, err
	}
	if h.wasi, err = wasiFunctions(); err != nil {
		return nil, err
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h, nil
}

// openCache refuses a directory that others can write to: they could run any
// code as us.
func openCache(dir string) (wazero.CompilationCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache of plugins: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("cache of plugins: %w", err)
	}
	if mode := info.Mode(); !mode.IsDir() || mode.Perm()&0o077 != 0 || !isOurs(info) {
		return nil, fmt.Errorf("cache of plugins: %s has mode %v and must be a directory that only its owner, who we are, can use (chmod 700): what is in it is run", dir, mode)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cache of plugins: %w", err)
	}
	return cache, nil
}

// pruneCache removes the oldest files while the cache is too large: every
// version of a plugin that was ever loaded leaves one.
func (h *Host) pruneCache() {
	limit := h.opts.CacheSize
	if limit == 0 {
		limit = 512 << 20
	}
	if h.opts.CacheDir == "" || limit < 0 {
		return
	}
	type file struct {
		path string
		size int64
		time time.Time
	}
	var files []file
	var total int64
	err := filepath.WalkDir(h.opts.CacheDir, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(h.opts.CacheDir, path)
		if err != nil || !d.Type().IsRegular() || !strings.HasPrefix(rel, "wazero-") {
			return err // also what is somebody else's
		}
		if info, err := d.Info(); err == nil {
			files = append(files, file{path, info.Size(), info.ModTime()})
			total += info.Size()
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return a.time.Compare(b.time) })
	for _, f := range files {
		if total <= limit {
			break
		}
		if e := os.Remove(f.path); !errors.Is(e, fs.ErrNotExist) { // somebody else may prune, too
			err = errors.Join(err, e)
		}
		total -= f.size
	}
	if err != nil {
		h.log.Warn("cache of plugins not pruned", "dir", h.opts.CacheDir, "err", err)
	}
}

// wasiFunctions returns what WASI has, by name: plugins may import all of it,
// and most of it answers that there is nothing there.
func wasiFunctions() (map[string]api.FunctionDefinition, error) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	m, err := wasi_snapshot_preview1.NewBuilder(rt).Compile(ctx)
	if err != nil {
		return nil, fmt.Errorf("WASI: %w", err)
	}
	return m.ExportedFunctions(), nil
}

// Load loads a plugin. The error says what is wrong with it, and where.
func (h *Host) Load(ctx context.Context, s Settings) (*Plugin, error) {
	p, err := h.Prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	if !h.Replace(append(h.Plugins(), p)) {
		return nil, fmt.Errorf("plugin %s: %w", s.Name, errClosed)
	}
	return p, nil
}

// Prepare is Load of a plugin that is not yet one of Plugins: Replace makes it
// one, or Discard ends it, and one of them must.
func (h *Host) Prepare(ctx context.Context, s Settings) (*Plugin, error) {
	p, err := newPlugin(h, s)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", s.Name, err)
	}
	if err := p.Reload(ctx); err != nil {
		p.store.close()
		return nil, fmt.Errorf("plugin %s: %w", s.Name, err)
	}
	return p, nil
}

// Replace makes these all plugins there are, and ends the others: calls of them
// that run end first, later ones fail. Their stores are lost. When the host is
// closed it ends these, and returns false.
func (h *Host) Replace(plugins []*Plugin) bool {
	h.mu.Lock()
	old, closed := h.plugins, h.closed
	if closed {
		old, plugins = plugins, nil
	}
	h.plugins = slices.Clone(plugins)
	h.mu.Unlock()
	for _, p := range old {
		if !slices.Contains(plugins, p) {
			h.Discard(p)
		}
	}
	return !closed
}

// Discard ends a plugin of Prepare. Its memory goes with its last call.
func (h *Host) Discard(p *Plugin) {
	p.mu.Lock()
	p.ended = true // a reload that waits must not bring it back
	p.mu.Unlock()
	p.close()
	p.forget()
	p.store.close()
}

var errClosed = errors.New("plugins are closed")

// Plugins returns all plugins, in the order in which they were loaded.
func (h *Host) Plugins() []*Plugin {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.plugins)
}

// Watch reloads the plugins there are now when their files change, until ctx is
// done; then it returns nil.
func (h *Host) Watch(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range h.Plugins() {
		g.Go(func() error { return p.watch(ctx) })
	}
	return g.Wait()
}

// Reload reloads every plugin whose module or configuration is another now. A
// plugin that cannot be reloaded goes on as it is; the errors are joined.
func (h *Host) Reload(ctx context.Context) error {
	var errs []error
	for _, p := range h.Plugins() {
		if err := p.Reload(ctx); err != nil {
			errs = append(errs, fmt.Errorf("plugin %s: %w", p.set.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Close ends all plugins. Calls that run end first; later ones fail.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed = true
	plugins := h.plugins
	h.plugins = nil
	h.mu.Unlock()
	h.cancel()
	h.background.Wait()
	for _, p := range plugins {
		p.close()
	}
	h.open.Wait() // code that runs must not lose its memory
	for _, p := range plugins {
		p.forget()
		p.store.close()
	}
	h.cache.Close(context.Background())
	if t, ok := h.http.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// begin counts a generation, which ends with its close, unless Close has begun.
func (h *Host) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.open.Add(1)
	}
	return !h.closed
}

// inBackground runs f on a goroutine that Close waits for, unless it has begun.
func (h *Host) inBackground(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.background.Go(f)
	}
}

// digest is a SHA-256, over parts that cannot run into each other.
func digest(parts ...[]byte) (sum [sha256.Size]byte) {
	d := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(d, "%d:", len(p))
		d.Write(p)
	}
	d.Sum(sum[:0])
	return sum
}
