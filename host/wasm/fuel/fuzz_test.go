package fuel

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// outcome is what running a module has shown.
type outcome struct {
	Calls  []string // results or trap of each
	Memory []byte
	Global []string

	used      int64 // by all calls
	exhausted bool
	overflow  bool
}

// observe calls every function of a generated module twice, each under budget,
// and stops at the first call that exhausts it.
func observe(t testing.TB, config func() wazero.RuntimeConfig, module []byte, budget int64) (o outcome) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, config().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(4))
	defer rt.Close(ctx)
	m, err := rt.Instantiate(ctx, module)
	if err != nil {
		t.Fatalf("%v\n%x", err, module)
	}
	g := &guest{Module: m}
	g.slice, _ = m.ExportedGlobal(SliceGlobal).(api.MutableGlobal)
	g.left, _ = m.ExportedGlobal(LeftGlobal).(api.MutableGlobal)
	for i := range 2 * genFuncs {
		args := [][]uint64{{uint64(i)}, {uint64(i), 1 << 40}, {api.EncodeF64(2.5)}, {}}[i%genFuncs]
		results, used, err := g.run(budget, fmt.Sprint("f", i%genFuncs), args...)
		o.used += used
		text := fmt.Sprint(results)
		if err != nil {
			text, _, _ = strings.Cut(err.Error(), "\n")
		}
		o.Calls = append(o.Calls, text)
		o.overflow = o.overflow || strings.Contains(text, "stack overflow")
		if g.left != nil && g.exhausted() != (used > budget) || g.left != nil && g.exhausted() && err == nil {
			t.Fatalf("exhausted %t although %d of %d are used: %v", g.exhausted(), used, budget, err)
		}
		if g.left != nil && g.exhausted() {
			o.exhausted = true
			return o
		}
	}
	memory := m.Memory()
	o.Memory, _ = memory.Read(0, memory.Size())
	o.Memory = slices.Clone(o.Memory)
	for i := range genGlobals {
		o.Global = append(o.Global, fmt.Sprint(m.ExportedGlobal(fmt.Sprint("g", i))))
	}
	return o
}

func (o outcome) same(p outcome) bool {
	return slices.Equal(o.Calls, p.Calls) && bytes.Equal(o.Memory, p.Memory) && slices.Equal(o.Global, p.Global)
}

// wantEquivalent holds a generated module, rewritten, against what it was.
func wantEquivalent(t testing.TB, config func() wazero.RuntimeConfig, in []byte) (ran bool) {
	const budget = 30_000
	original := (&gen{in: in}).module()
	rewritten := wantInject(t, original, Limits{})
	got := observe(t, config, rewritten, budget)
	if got.exhausted || got.overflow {
		// It would not end, or is about to reach the end of the stack, which
		// comes earlier if it is the helper that is called there.
		return false
	}
	want := observe(t, config, original, 0)
	if !got.same(want) {
		t.Fatalf("computes\n%v %v\nwant\n%v %v\nmodule %x", got.Calls, got.Global, want.Calls, want.Global, original)
	}

	// Rule 1, against a count of each instruction.
	exact, err := inject(original, Limits{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	counted := observe(t, config, exact, budget)
	if !counted.same(want) || counted.used > got.used {
		t.Fatalf("%d instructions ran, %d were charged, for %x", counted.used, got.used, original)
	}

	// A budget of which one instruction is missing for the first call does not do.
	if small := got.used/genFuncs/2 - 1; small >= 0 {
		if less := observe(t, config, rewritten, small); !less.exhausted {
			t.Fatalf("%d used in calls with %d each, for %x", got.used, small, original)
		}
	}
	return true
}

func randomInput(seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	in := make([]byte, 20+rnd.IntN(600))
	for i := range in {
		in[i] = byte(rnd.Uint32())
	}
	return in
}

func TestEquivalent(t *testing.T) {
	for engine, n := range map[string]uint64{"interpreter": 100, "compiler": 12} {
		t.Run(engine, func(t *testing.T) {
			ran := 0
			for seed := range n {
				if wantEquivalent(t, engines[engine], randomInput(seed)) {
					ran++
				}
			}
			t.Logf("%d of %d ran to their end", ran, n)
			if ran < int(n)/2 {
				t.Error("the generator makes too many modules that do not end")
			}
		})
	}
}

func FuzzGenerated(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(randomInput(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4096 {
			t.Skip("slow")
		}
		wantEquivalent(t, engines["interpreter"], in)
	})
}

// FuzzInject: Inject does not panic, takes memory in proportion, and does not
// make a bad module of a good one.
func FuzzInject(f *testing.F) {
	for seed := range uint64(10) {
		f.Add((&gen{in: randomInput(seed)}).module())
	}
	f.Add(program(fn(nil, skips(2), push)))
	f.Add(mod(sec(1, vec(sigOne)), sec(2, vec(bin(1, "m", 1, "f", 0, 0), bin(1, "m", 1, "t", 1, 0x70, 0, 1), bin(1, "m", 1, "g", 3, tI32, 0))),
		oneMem, sec(6, vec(bin(tI32, 1, opGlobalGet, 0, opEnd))), sec(11, vec(bin(0, opGlobalGet, 0, opEnd, 1, "x")))))
	guests, err := filepath.Glob("../../../testdata/guests/*.wasm")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range guests {
		if b, err := os.ReadFile(name); err == nil && len(b) < 8<<10 {
			f.Add(b)
		}
	}
	ctx := context.Background()
	lim := Limits{Locals: 1000, AllLocals: 10_000, TableEntries: 1000}
	f.Fuzz(func(t *testing.T, module []byte) {
		if len(module) > 64<<10 {
			t.Skip("slow")
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		kept := slices.Clone(module)
		out, err := Inject(module, lim)
		runtime.ReadMemStats(&after)
		if !bytes.Equal(kept, module) {
			t.Fatal("the module has been changed")
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(64<<10+100*len(module)) {
			t.Fatalf("took %d octets for a module of %d", took, len(module))
		}
		if err != nil {
			return
		}
		rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2))
		defer rt.Close(ctx)
		_, original := rt.CompileModule(ctx, module)
		_, rewritten := rt.CompileModule(ctx, out)
		if (original == nil) != (rewritten == nil) {
			t.Fatalf("the original gives %v, the rewritten module %v\n%x\n%x", original, rewritten, module, out)
		}
	})
}
