// Package fuel rewrites a WebAssembly module so that every call into it can be
// bounded by a number of instructions, and so that it leaves native code often
// enough for Go's scheduler and garbage collector.
//
//	module, err := fuel.Inject(module, fuel.Limits{})
//	… compile and instantiate it …
//	slice := instance.ExportedGlobal(fuel.SliceGlobal).(api.MutableGlobal)
//	left := instance.ExportedGlobal(fuel.LeftGlobal).(api.MutableGlobal)
//
//	slice.Set(0) // before each call
//	left.Set(budget)
//	_, err = function.Call(ctx)
//	exhausted := int64(left.Get()) < 0 // the call has ended with a trap
//	used := budget - int64(left.Get()) - int64(slice.Get())
//
// A runtime that compiles to native code cannot be interrupted: a guest that
// spins keeps Go from ever stopping the world. wazero's own remedy,
// WithCloseOnContextDone, makes loops ten to twenty times slower and does not
// see recursion. Counting costs a Go guest a tenth to a half of its time, and sees
// everything:
//
//  1. No instruction runs before it has been paid for, so a call that runs to
//     its end has used at most its budget, and one that would need more traps.
//  2. At least every Slice instructions the guest does a memory.grow(0), which
//     leaves native code, and so lets a pending garbage collection go ahead.
//  3. A module cannot name what is added to it: no instruction, export, element
//     or initializer reaches the globals and functions.
//  4. What is accepted computes what it computed before, but for table.grow,
//     which fails at Limits.TableEntries.
//  5. What is not understood is refused, with the place where it was found.
//  6. Inject takes time and memory in proportion to the module's length, not to
//     what the module declares.
//
// Paid for is a region: the instructions from one charge to the next, at most
// 64 of them. Charges are at the entry of a function, the header of a loop,
// behind its end, behind a br_table, and where a branch lands that has passed a
// charge. A larger region would cost guests that hardly run it: Go compiles a
// function to one loop around a br_table, and charging whole loops overcharged
// Go ten times. The price of one instruction is 1, with these exceptions:
//
//   - Nothing for nop, block, loop and end: they are not executed.
//   - A branch, a label, a call and a function's entry cost 1 more for every 16
//     locals, parameters and results above 64 that may have to be moved.
//   - memory.copy, .fill and .init: 1 more for each 16 bytes; table.copy, .fill
//     and .init: 1 more for each entry. They are charged before they run.
//   - memory.grow: 4096 more for each page, up to 512 pages; table.grow: 1 more
//     for each entry, up to Limits.TableEntries. What is above fails or happens
//     once in an instance's life, as nothing shrinks.
//   - 64 more for memory.grow, table.grow and ref.func, which leave native code.
//
// What the package does not do: it does not validate a module, the runtime does
// that to what Inject returns, and must (types are not looked at here). It does
// not bound the time it takes to compile a module, the memory of an instance,
// nor what imported functions do: the host can charge for these by taking from
// SliceGlobal. The features understood are those of WebAssembly 2.0, which is
// wazero's api.CoreFeaturesV2; more must not be enabled.
package fuel

// Names of the exported mutable i64 globals that Inject adds.
const (
	SliceGlobal = "parley:slice" // instructions left before the next yield
	LeftGlobal  = "parley:left"  // instructions left after this slice; below zero = exhausted
)

// Slice is how many instructions run between two yields.
const Slice = 1_000_000

// StartBudget is how many instructions an instance may use before the host has
// set a budget: those of the module's start function.
const StartBudget = 50_000_000

// Limits bounds what a module may declare. Zero means the default.
type Limits struct {
	Functions    int    // functions with a body; 100,000
	Globals      int    // globals, imported ones too; 100,000
	Locals       int    // locals and parameters of one function; 10,000
	AllLocals    int    // locals of all functions; 4,000,000
	Nesting      int    // blocks open at once in a function; 65,536
	Tables       int    // tables, imported ones too; 16
	TableEntries uint32 // entries a table of the module can grow to; 131,072
}

func (l Limits) withDefaults() Limits {
	or := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	or(&l.Functions, 100_000)
	or(&l.Globals, 100_000)
	or(&l.Locals, 10_000)
	or(&l.AllLocals, 4_000_000)
	or(&l.Nesting, 1<<16)
	or(&l.Tables, 16)
	if l.TableEntries == 0 {
		l.TableEntries = 1 << 17
	}
	return l
}

// Inject returns module rewritten so that it counts its instructions. The module
// is not changed and not kept.
func Inject(module []byte, lim Limits) ([]byte, error) {
	return inject(module, lim, regionPrice)
}

func inject(module []byte, lim Limits, price uint32) ([]byte, error) {
	w := &rewriter{r: reader{b: module}, lim: lim.withDefaults(), price: price}
	w.out = make([]byte, 0, len(module)+len(module)/2+512)
	w.module()
	if w.r.err != nil {
		return nil, w.r.err
	}
	return w.out, nil
}
