package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/parley-msrp/parley/host/wasm/fuel"
	"github.com/parley-msrp/parley/sdk/abi"
)

// An instance is a module with its own memory. Whoever has got it from the pool
// owns it, alone: two calls at once on one instance crash the process.
type instance struct {
	// Set by newInstance, then read-only.
	gen         *generation
	mod         api.Module
	mem         api.Memory
	slice, left api.MutableGlobal // nil ByDeadline
	atStart     uint32            // size of the memory when it began
	hooks       map[string]api.Function
	ctx         callContext // see under

	// Owned by whoever has checked it out.
	caller context.Context
	calls  int64
	free   time.Time // since when it is idle
	stack  [4]uint64
	call   *Call // nil while it starts
	hook   string
	out    []byte // sink reply
	result []byte // of the last service
	set    []byte // attributes set by service session_set
	stdout tail
	stderr tail
	ticks  int64 // readings of a clock that is not granted
}

// callContext is the ctx that calls run under. It brings the instance to the
// imports without an allocation for each call: as the clock ends no call, all
// can have the same.
type callContext struct {
	context.Context
	inst *instance
}

type instanceKey struct{}

func (c *callContext) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return c.inst
	}
	return nil // wazero asks at each call; nothing of the caller's is for it
}

// startTime bounds the making of an instance ByDeadline.
const startTime = 10 * time.Second

// newInstance makes an instance and runs _initialize and on_load.
func (g *generation) newInstance(ctx context.Context) (*instance, error) {
	if g.set.ByDeadline {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTime)
		defer cancel()
	}
	i := &instance{gen: g, hooks: map[string]api.Function{}}
	i.ctx = callContext{context.Background(), i}
	i.caller = ctx
	defer func() { i.caller = nil }()
	fail := func(fn string, err error) error {
		e := &Error{Plugin: g.set.Name, Generation: g.number, Hook: fn, Kind: KindDeclared, Message: err.Error()}
		if !errors.As(err, new(refusal)) {
			i.explain(e, err)
		}
		if i.mod != nil {
			e.Instructions = i.used(g.set.StartBudget)
			i.mod.Close(context.Background())
		}
		return e
	}
	// No _start: that is what commands have. The module's own start function, if
	// any, runs here, on the budget that fuel has put into the module.
	mod, err := g.rt.InstantiateModule(i.under(ctx), g.module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, fail("start", err)
	}
	i.mod = mod
	i.attach(mod)
	i.refuel(g.set.StartBudget)
	run := func(name string, args ...uint64) (int32, error) {
		f := mod.ExportedFunction(name)
		if f == nil {
			return 0, nil
		}
		i.hook = name
		var results []uint64
		results, err := f.Call(i.under(ctx), args...)
		if err != nil {
			return 0, fail(name, err)
		}
		if len(results) == 0 {
			return 0, nil
		}
		return int32(uint32(results[0])), nil
	}
	if _, err := run("_initialize"); err != nil {
		return nil, err
	}
	built, err := run(abi.ExportABI)
	if err != nil {
		return nil, err
	}
	if built>>16 != abi.Major {
		return nil, fail(abi.ExportABI, refusal(fmt.Sprintf("it was built for plugin ABI %d.%d, and this host has %d.%d", built>>16, built&0xffff, abi.Major, abi.Minor)))
	}
	v, err := run(abi.ExportLoad, uint64(uint32(len(g.config))))
	if err != nil {
		return nil, err
	}
	if v < 0 {
		return nil, fail(abi.ExportLoad, refusal("it refuses to load: "+reason(i.out, v)))
	}
	i.flush()
	if g.abi == "" { // the first instance: nobody else knows g yet
		g.abi, g.start = fmt.Sprintf("%d.%d", built>>16, built&0xffff), i.used(g.set.StartBudget)
	}
	i.atStart = i.mem.Size()
	for name := range g.hooks {
		i.hooks[name] = mod.ExportedFunction(name)
	}
	return i, nil
}

func (i *instance) attach(mod api.Module) {
	i.mem = mod.Memory()
	if !i.gen.set.ByDeadline {
		i.slice = mod.ExportedGlobal(fuel.SliceGlobal).(api.MutableGlobal)
		i.left = mod.ExportedGlobal(fuel.LeftGlobal).(api.MutableGlobal)
	}
}

// reason returns why a plugin says that it has failed.
func reason(reply []byte, v int32) string {
	text := ""
	r := abi.Read(reply)
	for r.Next() {
		if r.Field == abi.FieldReason {
			text = string(r.Text())
		}
	}
	if text == "" || r.Err() != nil {
		return fmt.Sprintf("without a reason (%d)", v)
	}
	return printable(text, maxMessage)
}

// explain says how a call of the runtime failed.
func (i *instance) explain(e *Error, err error) {
	e.explain(err)
	switch {
	case i.left != nil && int64(i.left.Get()) < 0:
		e.Kind, e.Message = KindBudget, errBudget.Error()
	case e.Kind == KindTrap && i.mem != nil && int64(i.mem.Size()) > i.gen.set.Memory/10*9 && !errors.As(err, new(abortFault)):
		e.Kind = KindMemory
	}
	e.Stderr = strings.TrimSpace(string(i.stderr.bytes()))
}

// under returns what a call for ctx runs under. ByDeadline that is ctx itself,
// which the runtime watches, also for a moment after the call.
func (i *instance) under(ctx context.Context) context.Context {
	if i.gen.set.ByDeadline {
		return &callContext{ctx, i}
	}
	return &i.ctx
}

// refuel gives the next call its budget.
func (i *instance) refuel(budget int64) {
	if i.slice != nil {
		i.slice.Set(0)
		i.left.Set(uint64(budget))
	}
}

// used is how many instructions have been counted since refuel.
func (i *instance) used(budget int64) int64 {
	if i.slice == nil {
		return 0
	}
	return budget - int64(i.left.Get()) - int64(i.slice.Get())
}

// charge counts work of the host as instructions: what an import does must not
// cost less than what it costs us.
func (i *instance) charge(n int) {
	if i.slice == nil {
		return
	}
	left := int64(i.slice.Get()) - int64(n)
	i.slice.Set(uint64(left))
	if left+int64(i.left.Get()) < 0 {
		panic(errBudget)
	}
}

// flush logs what the call has written to standard output and error.
func (i *instance) flush() {
	if len(i.stdout.b) > 0 {
		i.gen.plugin.out.lines(slog.LevelInfo, i.hook, &i.stdout)
		i.stdout.reset()
	}
	if len(i.stderr.b) > 0 {
		i.gen.plugin.out.lines(slog.LevelWarn, i.hook, &i.stderr)
		i.stderr.reset()
	}
}

// do runs one call. Whether the instance can be used again is in keep.
func (i *instance) do(ctx context.Context, c *Call) (keep bool, err error) {
	g := i.gen
	fn := i.hooks[c.Hook]
	i.caller, i.call, i.hook = ctx, c, c.Hook
	defer func() { i.caller, i.call = nil, nil }()
	i.out, i.set, i.result = i.out[:0], i.set[:0], i.result[:0]
	i.calls++
	i.refuel(g.set.Budget)
	i.stack[0] = uint64(uint32(len(c.Request)))
	err = fn.CallWithStack(i.under(ctx), i.stack[:])
	c.Instructions = i.used(g.set.Budget)
	c.Memory = int64(i.mem.Size())
	if err != nil {
		e := g.fail(c, KindTrap, "")
		i.explain(e, err)
		return false, e
	}
	i.flush()
	v := int32(uint32(i.stack[0]))
	switch c.Verdict = abi.Verdict(v); {
	case v < 0:
		return true, g.fail(c, KindDeclared, fmt.Sprintf("it says that it has failed (%d): %s", v, reason(i.out, v)))
	case c.Verdict > abi.VerdictDrop:
		return true, g.fail(c, KindDeclared, fmt.Sprintf("it returned %d, which is no verdict", v))
	}
	r := abi.Read(i.out)
	for r.Next() {
	}
	if err := r.Err(); err != nil {
		return false, g.fail(c, KindReply, err.Error())
	}
	c.Reply = append(c.Reply, i.out...)
	if c.Verdict == abi.VerdictDone {
		c.Reply = append(c.Reply, i.set...)
	}
	if c.accept != nil {
		if err := c.accept(c.Verdict, c.Reply); err != nil {
			return false, g.fail(c, KindReply, printable(err.Error(), maxMessage))
		}
	}
	return true, nil
}

// spent reports whether the instance should be replaced: memories never shrink.
// One that is as large as a new one is kept.
func (i *instance) spent() bool {
	s := &i.gen.set
	return s.Instances.Calls > 0 && i.calls >= s.Instances.Calls ||
		i.mem.Size() > i.atStart && int64(i.mem.Size()) > s.Memory/100*int64(s.Instances.Memory)
}

func (i *instance) close() { i.mod.Close(context.Background()) }
