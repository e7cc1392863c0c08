package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-msrp/parley/host/wasm"
	"github.com/parley-msrp/parley/sdk/abi"
)

type pluginCmd struct {
	New   pluginNewCmd   `cmd:"" help:"Make a folder with a plugin that works, its test and the SDK."`
	Check pluginCheckCmd `cmd:"" help:"Load a plugin as the relay would, and say what it is."`
	Call  pluginCallCmd  `cmd:"" help:"Ask a plugin: request, reply, logs and cost."`
	Bench pluginBenchCmd `cmd:"" help:"Ask a plugin again and again: how long a call takes."`
}

// pluginFlags say which plugin, and what it may do.
type pluginFlags struct {
	File   string        `arg:"" help:"The module, such as mine.wasm." type:"existingfile"`
	Config string        `help:"File with the plugin's configuration, which it gets as it is." type:"existingfile" placeholder:"FILE"`
	Grant  []string      `help:"What it may use: kv, clock, random." enum:"kv,clock,random" placeholder:"GRANT"`
	HTTP   []string      `name:"http" help:"URL that its HTTP requests may begin with." placeholder:"URL"`
	KV     []string      `name:"kv" help:"Entry of its store before the call; grants kv." placeholder:"KEY=VALUE" sep:"none"`
	Memory int64         `help:"MiB that an instance may use." default:"32"`
	Budget int64         `help:"Instructions that a call may take." default:"20000000"`
	Wait   time.Duration `name:"timeout" help:"How long a call may wait for services." default:"1s"`
	JSON   bool          `name:"json" help:"Print JSON."`
}

// load loads the plugin alone, with every line that it logs going to log.
func (f *pluginFlags) load(ctx context.Context, log *slog.Logger, parallel int) (*wasm.Host, *wasm.Plugin, error) {
	h, err := wasm.New(wasm.Options{Log: log})
	if err != nil {
		return nil, nil, err
	}
	p, err := h.Load(ctx, wasm.Settings{
		Name: "cli", File: f.File, Memory: f.Memory << 20, Budget: f.Budget, Timeout: f.Wait,
		Config: func() ([]byte, []string, error) {
			if f.Config == "" {
				return nil, nil, nil
			}
			text, err := os.ReadFile(f.Config)
			return text, []string{f.Config}, err
		},
		Grants: wasm.Grants{
			KV:    slices.Contains(f.Grant, "kv") || len(f.KV) > 0,
			Clock: slices.Contains(f.Grant, "clock"), Random: slices.Contains(f.Grant, "random"), HTTP: f.HTTP,
		},
		Instances: wasm.Instances{Max: max(1, parallel)},
		Breaker:   wasm.Breaker{Failures: -1},
		Output:    wasm.Output{Rate: 1e6, Burst: 1e6},
	})
	if err != nil {
		h.Close()
		return nil, nil, err
	}
	for _, kv := range f.KV {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			h.Close()
			return nil, nil, usageError{fmt.Errorf("--kv %s: write it as KEY=VALUE", kv)}
		}
		if err := p.Set(key, []byte(value), 0); err != nil {
			h.Close()
			return nil, nil, fmt.Errorf("--kv %s: %w", key, err)
		}
	}
	return h, p, nil
}

type pluginCheckCmd struct{ pluginFlags }

// Run prints what the plugin is.
func (cmd *pluginCheckCmd) Run(e *env) error {
	begin := time.Now()
	h, p, err := cmd.load(e.ctx, slog.New(newLineHandler(e.stderr)), 1)
	if err != nil {
		return err
	}
	defer h.Close()
	took := time.Since(begin)
	i := p.Info()
	if cmd.JSON {
		return writeJSON(e.stdout, map[string]any{
			"file": cmd.File, "abi": i.ABI, "hooks": i.Hooks, "imports": i.Imports, "bytes": i.Size, "sha256": fmt.Sprintf("%x", i.SHA256),
			"memory_bytes": i.Memory, "memory_max_bytes": i.MemoryMax, "start_instructions": i.Start, "load_seconds": took.Seconds(),
		})
	}
	fmt.Fprintf(e.stdout, `%s: a good plugin
  abi      %s (this host: %d.%d)
  hooks    %s
  imports  %s
  size     %d bytes, sha256 %x
  memory   %d KiB of at most %d KiB
  start    %d instructions; loaded in %v
`, cmd.File, i.ABI, abi.Major, abi.Minor, cmp.Or(strings.Join(i.Hooks, ", "), "none"), cmp.Or(strings.Join(i.Imports, ", "), "none"),
		i.Size, i.SHA256, i.Memory>>10, i.MemoryMax>>10, i.Start, took.Round(time.Millisecond))
	return nil
}

// question is a hook and a request.
type question struct {
	Hook   string   `arg:"" help:"The hook: authenticate or select_interface."`
	Fields []string `arg:"" optional:"" name:"field=value" help:"Fields of the request, such as username=alice; param.NAME=VALUE and attribute.NAME=VALUE; offer=NAME or offer=NAME,ADDRESS,LISTENER."`
}

func (q *question) export() string { return "on_" + strings.TrimPrefix(q.Hook, "on_") }

// encode makes the request. A field that is given takes the place of a default.
func (q *question) encode(timeout time.Duration) ([]byte, error) {
	var b []byte
	given := map[string]bool{}
	for _, kv := range q.Fields {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("%s: write it as FIELD=VALUE", kv)}
		}
		given[name] = true
		if pair, key, ok := strings.Cut(name, "."); ok && (pair == "param" || pair == "attribute") {
			f, _, _ := abi.Lookup(pair)
			b = abi.AppendPair(b, f, key, value)
			continue
		}
		f, kind, ok := abi.Lookup(name)
		switch {
		case !ok:
			return nil, usageError{fmt.Errorf("there is no field %q; sdk/abi/ABI.md has them all", name)}
		case name == "offer":
			parts := append(strings.Split(value, ","), "", "")
			var mark int
			b, mark = abi.Begin(b, f)
			for n, inner := range []abi.Field{abi.FieldName, abi.FieldAddress, abi.FieldListener} {
				if parts[n] != "" {
					b = abi.AppendText(b, inner, parts[n])
				}
			}
			b = abi.End(b, mark)
		case kind == abi.TypeUint:
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return nil, usageError{fmt.Errorf("%s: %q is no number", name, value)}
			}
			b = abi.AppendUint(b, f, n)
		case kind == abi.TypeBytes:
			b = abi.AppendBytes(b, f, []byte(value))
		case kind == abi.TypeText:
			b = abi.AppendText(b, f, value)
		default:
			return nil, usageError{fmt.Errorf("%s cannot be given here", name)}
		}
	}
	hook := strings.TrimPrefix(q.Hook, "on_")
	for _, d := range [][2]string{
		{"hook", hook}, {"binding", "cli"}, {"listener", "cli"}, {"transport", "tls"}, {"remote_addr", "127.0.0.1:40000"}, {"algorithm", "MD5"}, {"method", "AUTH"},
	} {
		if (hook == "select_interface") && (d[0] == "algorithm" || d[0] == "method") || given[d[0]] {
			continue
		}
		f, _, _ := abi.Lookup(d[0])
		b = abi.AppendText(b, f, d[1])
	}
	return abi.AppendUint(b, abi.FieldDeadlineUS, uint64(timeout.Microseconds())), nil
}

type pluginCallCmd struct {
	pluginFlags
	question
	Times int `help:"Ask this often, on one instance, and show the last answer." default:"1"`
}

// Run asks once and prints everything that happened.
func (cmd *pluginCallCmd) Run(e *env) error {
	request, err := cmd.encode(cmd.Wait)
	if err != nil {
		return err
	}
	lines := newLineHandler(e.stderr)
	if cmd.JSON {
		lines.w = io.Discard
	}
	h, p, err := cmd.load(e.ctx, slog.New(lines), 1)
	if err != nil {
		return err
	}
	defer h.Close()
	var call wasm.Call
	var took time.Duration
	for range max(1, cmd.Times) {
		call = wasm.Call{Hook: cmd.export(), Request: request}
		begin := time.Now()
		if err = p.Call(e.ctx, &call); err != nil {
			break
		}
		took = time.Since(begin)
	}
	req, reply := fields(request), fields(call.Reply)
	var failure *wasm.Error
	errors.As(err, &failure)
	if cmd.JSON {
		out := map[string]any{
			"hook": cmd.export(), "request": asMap(req), "reply": asMap(reply), "verdict": call.Verdict.String(), "log": lines.all(),
			"instructions": call.Instructions, "memory_bytes": call.Memory, "seconds": took.Seconds(),
		}
		if failure != nil {
			out["verdict"] = "failure"
			out["failure"] = map[string]any{"kind": failure.Kind, "message": failure.Message, "stack": failure.Stack, "stderr": failure.Stderr}
		}
		return errors.Join(err, writeJSON(e.stdout, out))
	}
	fmt.Fprintf(e.stdout, "%s\n", cmd.export())
	for _, f := range req {
		fmt.Fprintf(e.stdout, "  %s = %s\n", f[0], f[1])
	}
	if failure != nil {
		fmt.Fprintf(e.stdout, "failure: %s: %s\n", failure.Kind, failure.Message)
		for _, part := range []string{failure.Stack, failure.Stderr} {
			if part != "" {
				fmt.Fprintf(e.stdout, "  %s\n", strings.ReplaceAll(part, "\n", "\n  "))
			}
		}
		return err
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s\n", call.Verdict)
	for _, f := range reply {
		fmt.Fprintf(e.stdout, "  %s = %s\n", f[0], f[1])
	}
	fmt.Fprintf(e.stdout, "%d instructions, %d KiB of memory, %v\n", call.Instructions, call.Memory>>10, took.Round(time.Microsecond))
	return nil
}

type pluginBenchCmd struct {
	pluginFlags
	question
	Time     time.Duration `help:"How long." default:"1s"`
	Parallel int           `help:"Callers at once, each with an instance." default:"1"`
}

// Run asks until the time is up.
func (cmd *pluginBenchCmd) Run(e *env) error {
	request, err := cmd.encode(cmd.Wait)
	if err != nil {
		return err
	}
	h, p, err := cmd.load(e.ctx, slog.New(slog.DiscardHandler), cmd.Parallel)
	if err != nil {
		return err
	}
	defer h.Close()
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var last wasm.Call
	var wg sync.WaitGroup
	begin := time.Now()
	for range max(1, cmd.Parallel) {
		wg.Go(func() {
			var own []time.Duration
			call := wasm.Call{Hook: cmd.export(), Request: request}
			var err error
			for err == nil && e.ctx.Err() == nil && time.Since(begin) < cmd.Time {
				t := time.Now()
				call.Reply = call.Reply[:0]
				err = p.Call(e.ctx, &call)
				own = append(own, time.Since(t))
			}
			mu.Lock()
			defer mu.Unlock()
			took, last = append(took, own...), call
			failed = cmp.Or(failed, err)
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	if len(took) == 0 {
		return errors.New("there was no time for a call; see --time")
	}
	all := time.Since(begin)
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))] }
	if cmd.JSON {
		return writeJSON(e.stdout, map[string]any{
			"calls": len(took), "calls_per_second": float64(len(took)) / all.Seconds(), "p50_ns": at(0.5), "p99_ns": at(0.99), "max_ns": at(1),
			"instructions": last.Instructions, "memory_bytes": last.Memory,
		})
	}
	fmt.Fprintf(e.stdout, "%d calls, %.0f a second; half within %v, 99%% within %v, all within %v; %d instructions, %d KiB of memory\n",
		len(took), float64(len(took))/all.Seconds(), at(0.5), at(0.99), at(1), last.Instructions, last.Memory>>10)
	return nil
}

// fields returns a message in words.
func fields(m []byte) [][2]string {
	var out [][2]string
	r := abi.Read(m)
	for r.Next() {
		var text string
		switch r.Type {
		case abi.TypeUint:
			text = strconv.FormatUint(r.Uint(), 10)
		case abi.TypeMessage:
			var parts []string
			for _, f := range fields(r.Raw()) {
				parts = append(parts, f[0]+"="+f[1])
			}
			text = "{" + strings.Join(parts, ", ") + "}"
		default:
			text = string(r.Raw())
			if slices.ContainsFunc([]rune(text), func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }) {
				text = strconv.Quote(text)
			}
		}
		out = append(out, [2]string{r.Field.String(), text})
	}
	if err := r.Err(); err != nil {
		out = append(out, [2]string{"malformed", err.Error()})
	}
	return out
}

// asMap is for JSON: a field that repeats becomes a list.
func asMap(fs [][2]string) map[string]any {
	m := map[string]any{}
	for _, f := range fs {
		switch old := m[f[0]].(type) {
		case nil:
			m[f[0]] = f[1]
		case []string:
			m[f[0]] = append(old, f[1])
		case string:
			m[f[0]] = []string{old, f[1]}
		}
	}
	return m
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// A lineHandler prints what a plugin logs, for people, and keeps it.
type lineHandler struct {
	w     io.Writer
	lines *lineList
}

type lineList struct {
	mu   sync.Mutex
	list []string
}

func newLineHandler(w io.Writer) *lineHandler { return &lineHandler{w, &lineList{list: []string{}}} }

func (h *lineHandler) all() []string {
	h.lines.mu.Lock()
	defer h.lines.mu.Unlock()
	return slices.Clone(h.lines.list)
}

func (h *lineHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *lineHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *lineHandler) WithGroup(string) slog.Handler            { return h }

// Handle prints lines of the plugin only: they say from which hook they are.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := map[string]string{}
	r.Attrs(func(a slog.Attr) bool { attrs[a.Key] = a.Value.String(); return true })
	if attrs["hook"] == "" {
		return nil
	}
	line := fmt.Sprintf("%s %s: %s", strings.ToLower(r.Level.String()), attrs["hook"], r.Message)
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		if key != "hook" {
			line += " " + key + "=" + attrs[key]
		}
	}
	h.lines.mu.Lock()
	defer h.lines.mu.Unlock()
	h.lines.list = append(h.lines.list, line)
	_, err := fmt.Fprintln(h.w, line)
	return err
}
