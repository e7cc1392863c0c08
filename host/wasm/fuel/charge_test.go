package fuel

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// Pieces of code for function bodies with one parameter.
var (
	arg     = bin(opLocalGet, 0)
	push    = bin(opI32Const, 7)
	pushPop = bin(push, opDrop)
	block0  = bin(0x02, tNone)
	loop0   = bin(0x03, tNone)
	if0     = bin(opIf, tNone)
	countup = bin(arg, opI32Const, 1, 0x6b, opLocalTee, 0) // the parameter less one
)

// skips is a chain of branches each of which passes a charge, if only straight
// lines were charged: a region of 64 ends with the branch, which lands behind the
// first instruction of the next. It would run for nothing, however long.
func skips(n int) []byte {
	return bin(push, repeat(31, pushPop),
		repeat(n, block0, 0x0c, 0, opUnreachable, opEnd, repeat(31, pushPop)), opDrop)
}

func TestPrice(t *testing.T) {
	wide := bin(1, uleb(640), tI32) // 640 locals
	tests := []struct {
		name  string
		arg   int
		price int64
		body  []byte
		more  [][]byte // functions from 1 on
	}{
		{"straight line", 0, 1, fn(nil, push), nil},
		{"structure is free", 0, 1, fn(nil, block0, loop0, 1, opEnd, opEnd, push), nil},
		{"longer than a region", 0, 201, fn(nil, repeat(100, pushPop), push), nil},
		{"if", 1, 5, fn(nil, arg, if0, 1, opEnd, push, opDrop, arg), nil},
		{"region paid although not run", 0, 7, fn(nil, arg, if0, pushPop, opEnd, push, opDrop, arg), nil},
		{"then not run", 0, 65, fn(nil, arg, if0, repeat(100, pushPop), opEnd, push), nil},
		{"then run", 1, 203, fn(nil, arg, if0, repeat(100, pushPop), opEnd, push), nil},
		{"else run", 0, 64 + 200 + 1, fn(nil, arg, if0, repeat(100, pushPop), 5, repeat(100, pushPop), opEnd, push), nil},
		{"else not run", 1, 2 + 200 + 1 + 1, fn(nil, arg, if0, repeat(100, pushPop), 5, repeat(100, pushPop), opEnd, push), nil},
		{"loop", 10, 10*5 + 1, fn(nil, loop0, countup, 0x0d, 0, opEnd, push), nil},
		{"loop in a loop", 4, 4*2 + 4*(2+4+1) + 1, fn(bin(1, 1, tI32),
			loop0, pushPop, loop0, opEnd, pushPop, countup, 0x0d, 0, opEnd, push), nil},
		{"br_table", 1, 2 + 1, fn(nil, block0, block0, arg, 0x0e, 1, 0, 1, opEnd, push, 0x0f, opEnd, push), nil},
		{"chain of skipped charges", 0, 64 + 10*64, fn(nil, skips(10), push), nil},
		{"call", 3, 2 + 3, fn(nil, arg, opCall, 1), [][]byte{fn(nil, push, push, 0x6a)}},
		{"call_indirect", 3, 7 + 3 + 1, fn(nil, i32(0), i32(0), i32(3), 0xfc, 12, 0, 0, arg, i32(2), 0x11, 0, 0), [][]byte{fn(nil, push)}},
		{"many locals", 0, 36 + 1 + 36, fn(wide, push), nil},
		{"branch with many locals", 0, 36 + 1 + 36 + 1 + 36, fn(wide, block0, 0x0c, 0, opEnd, push), nil},
		{"memory.fill", 1 << 16, 5 + 4096, fn(nil, i32(0), i32(1), arg, 0xfc, 11, 0, push), nil},
		{"memory.copy", 100, 5 + 6, fn(nil, i32(0), i32(1), arg, 0xfc, 10, 0, 0, push), nil},
		{"memory.init", 4096, 5 + 256, fn(nil, i32(0), i32(0), arg, 0xfc, 8, 0, 0, push), nil},
		{"memory.grow", 3, 2 + exit + 3*4096, fn(nil, arg, opMemoryGrow, 0), nil},
		{"memory.grow fails", -1, 2 + exit + 512*4096, fn(nil, arg, opMemoryGrow, 0), nil},
		{"table.fill", 8, 5 + 8, fn(nil, i32(0), opRefNull, 0x70, arg, 0xfc, 17, 0, push), nil},
		{"table.copy", 8, 5 + 8, fn(nil, i32(0), i32(0), arg, 0xfc, 14, 0, 0, push), nil},
		{"table.init", 3, 5 + 3, fn(nil, i32(0), i32(0), arg, 0xfc, 12, 0, 0, push), nil},
		{"table.grow", 1000, 3 + exit + 1000, fn(nil, opRefNull, 0x70, arg, 0xfc, 15, 0), nil},
		{"table.grow fails", -1, 3 + exit + 1<<17, fn(nil, opRefNull, 0x70, arg, 0xfc, 15, 0), nil},
		{"ref.func", 0, 3 + exit, fn(nil, opRefFunc, 0, opDrop, push), nil},
	}
	for _, tt := range tests {
		for engine, config := range engines {
			t.Run(tt.name+"/"+engine, func(t *testing.T) {
				module := wantInject(t, program(append([][]byte{tt.body}, tt.more...)...), Limits{})
				g := wantGuest(t, config, module)
				_, used, err := g.run(1<<40, "f", uint64(uint32(tt.arg)))
				if err != nil || used != tt.price {
					t.Fatalf("used %d, want %d, error %v", used, tt.price, err)
				}
				// Rule 1: the price is enough, and anything less is not.
				for _, budget := range []int64{tt.price, tt.price - 1, 0} {
					g := wantGuest(t, config, module)
					_, used, err := g.run(budget, "f", uint64(uint32(tt.arg)))
					enough := budget == tt.price
					if (err == nil) != enough || g.exhausted() == enough || enough != (used <= budget) {
						t.Errorf("budget %d: used %d, exhausted %t, error %v", budget, used, g.exhausted(), err)
					}
				}
			})
		}
	}
}

func TestStopped(t *testing.T) {
	tree := make([][]byte, 31) // f calls 1 twice, 1 calls 2 twice …: 2^31 calls without a loop
	for i := range tree {
		tree[i] = fn(nil, arg, opCall, uleb(i+1), opCall, uleb(i+1))
	}
	tests := []struct {
		name   string
		bodies [][]byte
	}{
		{"infinite loop", [][]byte{fn(nil, loop0, 0x0c, 0, opEnd, push)}},
		{"loop with nothing but structure", [][]byte{fn(nil, loop0, loop0, block0, 0x0c, 2, opEnd, opEnd, opEnd, push)}},
		{"loop of a conditional branch", [][]byte{fn(nil, loop0, push, 0x0d, 0, opEnd, push)}},
		{"loop by br_table", [][]byte{fn(nil, loop0, push, 0x0e, 0, 0, opEnd, push)}},
		{"loop that skips charges", [][]byte{fn(nil, loop0, skips(50), 0x0c, 0, opEnd, push)}},
		{"calls without a loop", append(tree, fn(nil, arg))},
		{"recursion", [][]byte{fn(nil, arg, opCall, 0)}},
		{"mutual recursion", [][]byte{fn(nil, arg, opCall, 1), fn(nil, arg, opCall, 0)}},
		{"recursion and a long way back", [][]byte{fn(nil, countup, if0, arg, opCall, 0, opDrop, opEnd, repeat(2000, pushPop), push)}},
		{"memory.fill in a loop", [][]byte{fn(nil, i32(511), opMemoryGrow, 0, opDrop, loop0, i32(0), i32(1), i32(32<<20), 0xfc, 11, 0, 0x0c, 0, opEnd, push)}},
		{"memory.copy in a loop", [][]byte{fn(nil, i32(511), opMemoryGrow, 0, opDrop, loop0, i32(0), i32(1), i32(32<<20-1), 0xfc, 10, 0, 0, 0x0c, 0, opEnd, push)}},
		{"memory.grow(0) in a loop", [][]byte{fn(nil, loop0, i32(0), opMemoryGrow, 0, opDrop, 0x0c, 0, opEnd, push)}},
		{"table.grow in a loop", [][]byte{fn(nil, loop0, opRefNull, 0x70, i32(1000), 0xfc, 15, 0, opDrop, 0x0c, 0, opEnd, push)}},
		{"ref.func in a loop", [][]byte{fn(nil, loop0, opRefFunc, 0, opDrop, 0x0c, 0, opEnd, push)}},
		{"a length that would overflow", [][]byte{fn(nil, loop0, i32(0), i32(0), i32(-1), 0xfc, 11, 0, 0x0c, 0, opEnd, push)}},
	}
	for _, tt := range tests {
		for engine, config := range engines {
			t.Run(tt.name+"/"+engine, func(t *testing.T) {
				g := wantGuest(t, config, wantInject(t, program(tt.bodies...), Limits{}))
				budget := int64(300_000)
				if engine == "interpreter" {
					budget = 100_000
				}
				for range 2 { // a budget can be given again
					_, used, err := g.run(budget, "f", 1_000_000)
					switch {
					case err == nil:
						t.Fatal("not stopped")
					case strings.Contains(err.Error(), "stack overflow"):
					case !g.exhausted() || used <= budget || used > budget+1<<28+100:
						t.Fatalf("used %d, exhausted %t, error %v", used, g.exhausted(), err)
					}
				}
			})
		}
	}
}

// TestNoFreeInstructions checks rule 1 against a count of what is really run:
// that of a module in which every instruction is charged for by itself.
func TestNoFreeInstructions(t *testing.T) {
	for name, body := range map[string][]byte{
		"skipped charges": fn(nil, loop0, skips(50), countup, 0x0d, 0, opEnd, push),
		"forward if":      fn(nil, loop0, repeat(10, arg, if0, repeat(40, pushPop), opEnd, repeat(31, pushPop)), countup, 0x0d, 0, opEnd, push),
		"else":            fn(nil, loop0, repeat(10, push, if0, pushPop, 5, repeat(40, pushPop), opEnd, repeat(31, pushPop)), countup, 0x0d, 0, opEnd, push),
		"out of a loop":   fn(nil, loop0, block0, loop0, 0x0c, 1, opEnd, opEnd, repeat(30, pushPop), countup, 0x0d, 0, opEnd, push),
	} {
		t.Run(name, func(t *testing.T) {
			var used [2]int64
			for i, price := range []uint32{1, regionPrice} {
				module, err := inject(program(body), Limits{}, price)
				if err != nil {
					t.Fatal(err)
				}
				g := wantGuest(t, wazero.NewRuntimeConfigInterpreter, module)
				if _, used[i], err = g.run(1<<40, "f", 20); err != nil {
					t.Fatal(err)
				}
			}
			if exact, charged := used[0], used[1]; charged < exact || charged > 3*exact {
				t.Errorf("%d instructions charged as %d", exact, charged)
			}
		})
	}
}

// TestStart: the start function runs before the host can set a budget.
func TestStart(t *testing.T) {
	start := func(body []byte) []byte {
		return mod(sec(1, vec(sigNone)), sec(3, vec(bin(0))), oneMem, sec(8, 0), sec(10, vec(body)))
	}
	config := wazero.NewRuntimeConfigCompiler
	if _, err := instantiate(t, config, wantInject(t, start(fn(nil, loop0, 0x0c, 0, opEnd)), Limits{})); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("a start function that spins: error %v", err)
	}
	g := wantGuest(t, config, wantInject(t, start(fn(nil, pushPop)), Limits{}))
	if used := StartBudget - int64(g.left.Get()) - int64(g.slice.Get()); used != 2 {
		t.Errorf("start used %d, want 2", used)
	}
}

// TestYield counts the calls of the added function that leaves native code.
func TestYield(t *testing.T) {
	module := wantInject(t, program(fn(nil, loop0, repeat(100, pushPop), 0x0c, 0, opEnd, push)), Limits{})
	calls := 0
	ctx := experimental.WithFunctionListenerFactory(context.Background(), experimental.FunctionListenerFactoryFunc(
		func(def api.FunctionDefinition) experimental.FunctionListener {
			if def.Index() != 1 { // 0 is f
				return nil
			}
			return experimental.FunctionListenerFunc(func(context.Context, api.Module, api.FunctionDefinition, []uint64, experimental.StackIterator) {
				calls++
			})
		}))
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer rt.Close(ctx)
	m, err := rt.Instantiate(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	m.ExportedGlobal(LeftGlobal).(api.MutableGlobal).Set(20 * Slice)
	if _, err := m.ExportedFunction("f").Call(ctx, 0); err == nil {
		t.Fatal("not stopped")
	}
	if calls != 21 && calls != 22 {
		t.Errorf("%d yields in %d slices", calls, 20)
	}
}

// TestCollect: a garbage collection ends although a guest spins. Without the
// yields it would wait for the guest.
func TestCollect(t *testing.T) {
	g := wantGuest(t, wazero.NewRuntimeConfigCompiler, wantInject(t, program(fn(nil, loop0, 0x0c, 0, opEnd, push)), Limits{}))
	done := make(chan error)
	go func() {
		_, _, err := g.run(500_000_000, "f", 0)
		done <- err
	}()
	for {
		runtime.GC()
		select {
		case err := <-done:
			if err == nil {
				t.Error("not stopped")
			}
			return
		default:
		}
	}
}

// TestTableCapped: wazero would let a table without a maximum grow to 32 GiB.
func TestTableCapped(t *testing.T) {
	for name, table := range map[string][]byte{
		"no maximum":    bin(0x70, 0, 8),
		"large maximum": bin(0x70, 1, 8, uleb(1<<30)),
	} {
		t.Run(name, func(t *testing.T) {
			module := mod(sec(1, vec(sigOne)), sec(3, vec(bin(0))), sec(4, vec(table)), oneMem,
				sec(7, vec(export("f", 0, 0))), sec(10, vec(fn(nil, opRefNull, 0x70, arg, 0xfc, 15, 0))))
			g := wantGuest(t, wazero.NewRuntimeConfigInterpreter, wantInject(t, module, Limits{TableEntries: 100}))
			for _, step := range []struct{ grow, want uint64 }{{93, 0xffffffff}, {92, 8}, {1, 0xffffffff}, {0, 100}} {
				if got, _, err := g.run(1<<40, "f", step.grow); err != nil || got[0] != step.want {
					t.Errorf("table.grow(%d) = %v, %v, want %d", step.grow, got, err, step.want)
				}
			}
		})
	}
}

// TestMissingSections: what is added goes into sections that need not exist.
func TestMissingSections(t *testing.T) {
	for name, module := range map[string][]byte{
		"all":           mod(oneMem),
		"all but types": mod(sec(1, vec(sigOne)), sec(2, vec()), oneMem, sec(9, vec()), sec(11, vec())),
		"names":         mod(sec(0, 4, "name", 0, 2, 1, "m", 1, 4, 1, 0, 1, "f", 2, 6, 1, 0, 1, 0, 1, "x", 9, 1, 0), oneMem),
		"custom around": mod(sec(0, 1, "a"), oneMem, sec(0, 1, "b"), sec(12, 0), sec(0, 1, "c")),
	} {
		t.Run(name, func(t *testing.T) {
			g := wantGuest(t, wazero.NewRuntimeConfigInterpreter, wantInject(t, module, Limits{}))
			if g.slice == nil || g.left == nil || g.left.Get() != StartBudget {
				t.Error("no globals")
			}
		})
	}
}

// TestImports: imports of every kind come before what the module has itself.
func TestImports(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	from := mod(sec(1, vec(sigOne)), sec(3, vec(bin(0))), oneTable, oneMem,
		sec(6, vec(bin(tI32, 0, i32(5), opEnd))),
		sec(7, vec(export("f", 0, 0), export("t", 1, 0), export("g", 3, 0))),
		sec(9, vec(bin(0, i32(0), opEnd, vec(bin(0))))), sec(10, vec(fn(nil, arg, arg, 0x6a))))
	if _, err := rt.InstantiateWithConfig(ctx, wantInject(t, from, Limits{}), wazero.NewModuleConfig().WithName("m")); err != nil {
		t.Fatal(err)
	}
	name := bin(1, "m", 1)
	// f(x) = g + own global + m.f(x) + table[0](x) + own function(x)
	module := mod(sec(1, vec(sigNone, sigOne)),
		sec(2, vec(bin(name, "f", 0, 1), bin(name, "t", 1, 0x70, 0, 8), bin(name, "g", 3, tI32, 0))),
		sec(3, vec(bin(1), bin(1))), oneMem, sec(6, vec(bin(tI32, 1, opGlobalGet, 0, opEnd))),
		sec(7, vec(export("f", 0, 1))),
		sec(10, vec(
			fn(nil, opGlobalGet, 0, opGlobalGet, 1, 0x6a, arg, opCall, 0, 0x6a, arg, i32(0), 0x11, 1, 0, 0x6a, arg, opCall, 2, 0x6a),
			fn(nil, arg, i32(100), 0x6a))))
	m, err := rt.InstantiateWithConfig(ctx, wantInject(t, module, Limits{}), wazero.NewModuleConfig().WithName(""))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.ExportedFunction("f").Call(ctx, 7); err != nil || got[0] != 5+5+14+14+107 {
		t.Errorf("got %d, %v", got, err)
	}
	if used := StartBudget - int64(m.ExportedGlobal(LeftGlobal).Get()) - int64(m.ExportedGlobal(SliceGlobal).Get()); used != 13+3 {
		t.Errorf("used %d, want %d: what is imported pays for itself", used, 13+3)
	}
}
