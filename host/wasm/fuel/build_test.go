package fuel

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// bin joins octets: an int or byte is one, a string or slice several.
func bin(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			if p < 0 || p > 255 {
				panic(fmt.Sprint("not an octet: ", p))
			}
			b = append(b, byte(p))
		case byte:
			b = append(b, p)
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return b
}

func uleb(v int) []byte   { return appendUnsigned(nil, uint64(v)) }
func sleb(v int64) []byte { return appendSigned(nil, v) }

// sized is b behind its length.
func sized(b []byte) []byte { return append(uleb(len(b)), b...) }

// vec is a vector of items.
func vec(items ...[]byte) []byte {
	b := uleb(len(items))
	for _, i := range items {
		b = append(b, i...)
	}
	return b
}

func sec(id int, content ...any) []byte { return bin(id, sized(bin(content...))) }

func mod(sections ...[]byte) []byte {
	b := []byte(header)
	for _, s := range sections {
		b = append(b, s...)
	}
	return b
}

// fn is a function body without its last end, with groups of locals.
func fn(locals []byte, code ...any) []byte {
	if locals == nil {
		locals = bin(0)
	}
	return sized(bin(locals, bin(code...), opEnd))
}

func i32(v int) []byte { return bin(opI32Const, sleb(int64(v))) }

func repeat(n int, code ...any) []byte {
	return []byte(strings.Repeat(string(bin(code...)), n))
}

func export(name string, kind, index int) []byte {
	return bin(sized([]byte(name)), kind, uleb(index))
}

var (
	sigNone  = bin(0x60, 0, 0)
	sigOne   = bin(0x60, 1, tI32, 1, tI32) // (i32) → i32
	oneTable = sec(4, vec(bin(0x70, 0, 8)))
	oneMem   = sec(5, vec(bin(0, 1)))
)

// program is a module with one memory, one table of 8 entries, a passive
// segment of data and one of elements (the last function), and functions (i32) → i32 of which the
// first is exported as f.
func program(bodies ...[]byte) []byte {
	types := make([][]byte, len(bodies))
	for i := range types {
		types[i] = bin(0)
	}
	last := len(bodies) - 1
	return mod(sec(1, vec(sigOne, sigNone)), sec(3, vec(types...)), oneTable, oneMem,
		sec(7, vec(export("f", 0, 0), export("memory", 2, 0))),
		sec(9, vec(bin(1, 0, vec(uleb(last), uleb(last), uleb(last))))),
		sec(12, 1), sec(10, vec(bodies...)), sec(11, vec(bin(1, sized(make([]byte, 4096))))))
}

// engines are both of wazero's: they share the validation, but not what comes
// after it.
var engines = map[string]func() wazero.RuntimeConfig{
	"interpreter": wazero.NewRuntimeConfigInterpreter,
	"compiler":    wazero.NewRuntimeConfigCompiler,
}

type guest struct {
	api.Module
	slice, left api.MutableGlobal
}

// instantiate runs a module, which need not be rewritten.
func instantiate(t testing.TB, config func() wazero.RuntimeConfig, module []byte) (*guest, error) {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, config().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(1024))
	t.Cleanup(func() { rt.Close(ctx) })
	m, err := rt.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	g := &guest{Module: m}
	g.slice, _ = m.ExportedGlobal(SliceGlobal).(api.MutableGlobal)
	g.left, _ = m.ExportedGlobal(LeftGlobal).(api.MutableGlobal)
	return g, nil
}

// run calls a function under a budget.
func (g *guest) run(budget int64, name string, args ...uint64) (results []uint64, used int64, err error) {
	if g.slice != nil {
		g.slice.Set(0)
		g.left.Set(uint64(budget))
	}
	results, err = g.ExportedFunction(name).Call(context.Background(), args...)
	if g.slice != nil {
		used = budget - int64(g.left.Get()) - int64(g.slice.Get())
	}
	return results, used, err
}

func (g *guest) exhausted() bool { return int64(g.left.Get()) < 0 }

func wantInject(t testing.TB, module []byte, lim Limits) []byte {
	t.Helper()
	out, err := Inject(module, lim)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantGuest(t testing.TB, config func() wazero.RuntimeConfig, module []byte) *guest {
	t.Helper()
	g, err := instantiate(t, config, module)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
