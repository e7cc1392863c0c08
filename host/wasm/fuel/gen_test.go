package fuel

// A gen makes a valid module out of octets: each decides one thing. When they
// are used up the answer is zero, for which every choice is the simplest.
type gen struct {
	in     []byte
	b      []byte // code of the function being made
	locals []byte // types
	params int
	labels [][]byte // types that a branch to each label carries
	depth  int
}

const (
	tF32  = 0x7d
	tF64  = 0x7c
	tV128 = 0x7b
)

var numbers = []byte{tI32, tI64, tF32, tF64, tV128}

// The types of a generated module: its functions have the first genFuncs.
var genTypes = []struct{ params, results []byte }{
	{[]byte{tI32}, []byte{tI32}},
	{[]byte{tI32, tI64}, []byte{tI64, tI32}},
	{[]byte{tF64}, nil},
	{nil, []byte{tI64}},
	{[]byte{tI32}, []byte{tI32, tF64}},
	{[]byte{tI64, tI32}, []byte{tI64}},
}

const genFuncs = 4

// genGlobals are i32, i64, f64 and v128, all mutable.
var genGlobals = []byte{tI32, tI64, tF64, tV128}

func (g *gen) n(below int) int {
	if len(g.in) == 0 || below < 2 {
		return 0
	}
	v := g.in[0]
	g.in = g.in[1:]
	return int(v) % below
}

func (g *gen) emit(parts ...any) { g.b = append(g.b, bin(parts...)...) }

// module makes a module whose functions are exported as f0 to f3, with its
// memory and globals.
func (g *gen) module() []byte {
	var types, funcs, bodies, globals [][]byte
	exports := [][]byte{export("memory", 2, 0)}
	for _, t := range genTypes {
		types = append(types, bin(0x60, sized(t.params), sized(t.results)))
	}
	for i, t := range genGlobals {
		globals = append(globals, bin(t, 1, zeroOf(t), opEnd))
		exports = append(exports, export("g"+string(rune('0'+i)), 3, i))
	}
	for i := range genFuncs {
		funcs = append(funcs, bin(i))
		exports = append(exports, export("f"+string(rune('0'+i)), 0, i))
		bodies = append(bodies, g.function(i))
	}
	return mod(sec(1, vec(types...)), sec(3, vec(funcs...)), oneTable, sec(5, vec(bin(1, 1, 4))),
		sec(6, vec(globals...)), sec(7, vec(exports...)),
		sec(9, vec(bin(0, i32(0), opEnd, vec(bin(0), bin(1), bin(2), bin(3))), bin(1, 0, vec(bin(3), bin(2), bin(1))))),
		sec(12, 1), sec(10, vec(bodies...)), sec(11, vec(bin(1, sized([]byte("0123456789abcdef"))))))
}

func zeroOf(t byte) []byte {
	switch t {
	case tI32:
		return bin(opI32Const, 0)
	case tI64:
		return bin(opI64Const, 0)
	case tF32:
		return bin(opF32Const, 0, 0, 0, 0)
	case tF64:
		return bin(opF64Const, make([]byte, 8))
	}
	return bin(opVector, vecConst, make([]byte, 16))
}

func (g *gen) function(i int) []byte {
	t := genTypes[i]
	g.b, g.params = nil, len(t.params)
	g.locals = append(append([]byte{}, t.params...), tI32, tI64, tF32, tF64, tV128, tI32)
	g.labels = [][]byte{t.results}
	for range g.n(12) {
		g.stmt()
	}
	for _, r := range t.results {
		g.expr(r)
	}
	groups := uleb(0)
	if n := len(g.locals) - g.params; n > 0 {
		var l [][]byte
		for _, t := range g.locals[g.params:] {
			l = append(l, bin(1, t))
		}
		if g.n(8) == 1 { // enough for branches to cost more
			l = append(l, bin(uleb(200), tI64))
		}
		groups = vec(l...)
	}
	return fn(groups, g.b)
}

// local picks one of a type. There always is one.
func (g *gen) local(t byte) int {
	var all []int
	for i, l := range g.locals {
		if l == t {
			all = append(all, i)
		}
	}
	return all[g.n(len(all))]
}

func (g *gen) within(results []byte, f func()) {
	g.labels = append(g.labels, results)
	f()
	g.labels = g.labels[:len(g.labels)-1]
	g.emit(opEnd)
}

func (g *gen) stmts() {
	for range g.n(5) {
		g.stmt()
	}
}

// address leaves one that mostly is within memory.
func (g *gen) address() {
	g.expr(tI32)
	if g.n(16) != 15 {
		g.emit(opI32Const, sleb(0xfff0), 0x71)
	}
}

// length leaves a small number, mostly.
func (g *gen) length(mask int) {
	g.expr(tI32)
	if g.n(32) != 31 {
		g.emit(i32(mask), 0x71)
	}
}

func (g *gen) stmt() {
	if g.depth++; g.depth > 8 {
		g.depth--
		return
	}
	defer func() { g.depth-- }()
	switch g.n(22) {
	case 0:
		t := numbers[g.n(5)]
		g.expr(t)
		g.emit(0x21, uleb(g.local(t)))
	case 1:
		i := g.n(len(genGlobals))
		g.expr(genGlobals[i])
		g.emit(opGlobalSet, i)
	case 2:
		g.address()
		stores := []struct{ op, t byte }{{0x36, tI32}, {0x37, tI64}, {0x38, tF32}, {0x39, tF64}, {0x3a, tI32}, {0x3e, tI64}}
		s := stores[g.n(len(stores))]
		g.expr(s.t)
		g.emit(s.op, 0, uleb(g.n(256)))
	case 3:
		g.emit(0x02, tNone)
		g.within(nil, g.stmts)
	case 4:
		g.expr(tI32)
		g.emit(opIf, tNone)
		g.within(nil, func() {
			g.stmts()
			if g.n(2) == 1 {
				g.emit(5)
				g.stmts()
			}
		})
	case 5, 6: // a loop with a counter of its own
		i := len(g.locals)
		g.locals = append(g.locals, tI32)
		g.emit(i32(g.n(10)+1), 0x21, uleb(i), 0x03, tNone)
		g.within(nil, func() {
			g.stmts()
			g.emit(opLocalGet, uleb(i), i32(1), 0x6b, opLocalTee, uleb(i), 0x0d, 0)
		})
	case 7: // a loop that only its body may leave
		g.emit(0x02, tNone)
		g.within(nil, func() {
			g.emit(0x03, tNone)
			g.within(nil, func() { g.stmts(); g.expr(tI32); g.emit(0x0d, 0) })
		})
	case 8, 9:
		d := g.n(len(g.labels))
		for _, t := range g.labels[len(g.labels)-1-d] {
			g.expr(t)
		}
		g.expr(tI32)
		g.emit(0x0d, d)
		for range g.labels[len(g.labels)-1-d] {
			g.emit(opDrop)
		}
	case 10: // br_table to labels without values, in a block as what follows is dead
		g.emit(0x02, tNone)
		g.within(nil, func() {
			to := make([]byte, g.n(40)+1)
			for i := range to {
				if d := g.n(len(g.labels)); len(g.labels[len(g.labels)-1-d]) == 0 {
					to[i] = byte(d)
				}
			}
			g.expr(tI32)
			g.emit(0x0e, uleb(len(to)-1), to)
		})
	case 11:
		i := g.n(genFuncs)
		g.call(i, func() { g.emit(opCall, i) })
	case 12:
		i := g.n(len(genTypes))
		g.call(i, func() { g.expr(tI32); g.emit(i32(7), 0x71, 0x11, i, 0) })
	case 13:
		g.address()
		g.expr(tI32)
		g.length(0xfff)
		g.emit(0xfc, 11, 0)
	case 14:
		g.address()
		g.address()
		g.length(0xfff)
		g.emit(0xfc, 10, 0, 0)
	case 15:
		g.address()
		g.length(7)
		g.length(7)
		g.emit(0xfc, 8, 0, 0)
	case 16:
		g.length(3)
		g.length(3)
		g.length(3)
		g.emit([][]byte{{0xfc, 14, 0, 0}, {0xfc, 12, 1, 0}}[g.n(2)]) // table.copy, or .init of the passive segment
	case 17:
		switch g.n(4) {
		case 0:
			g.emit(opRefNull, 0x70)
			g.length(7)
			g.emit(0xfc, 15, 0, opDrop)
		case 1:
			g.length(7)
			g.emit(opRefFunc, g.n(genFuncs))
			g.length(3)
			g.emit(0xfc, 17, 0)
		case 2:
			g.emit(0xfc, 13, 1) // elem.drop
		case 3:
			g.emit(0xfc, 9, 0) // data.drop
		}
	case 18: // a straight line across several regions
		for range g.n(100) {
			g.emit(opI64Const, 1, opDrop)
		}
	case 19: // a branch over one
		g.emit(0x02, tNone)
		g.within(nil, func() {
			g.expr(tI32)
			g.emit(0x0d, 0)
			for range g.n(100) {
				g.emit(opI64Const, 1, opDrop)
			}
		})
	case 20: // several values through a block that has parameters
		g.expr(tI64)
		g.expr(tI32)
		g.emit(0x02, 5)
		g.within([]byte{tI64}, func() {
			g.emit(opDrop)
			g.stmts()
		})
		g.emit(opGlobalSet, 1)
	case 21:
		switch g.n(3) {
		case 0:
			for _, t := range g.labels[0] {
				g.expr(t)
			}
			g.emit(0x0f)
		case 1:
			g.length(3)
			g.emit(opMemoryGrow, 0, opDrop)
		case 2:
			g.emit(0x01)
		}
	}
}

// call pushes the parameters of a type, calls and stores the results.
func (g *gen) call(typ int, call func()) {
	for _, t := range genTypes[typ].params {
		g.expr(t)
	}
	call()
	for i := len(genTypes[typ].results) - 1; i >= 0; i-- {
		g.emit(0x21, uleb(g.local(genTypes[typ].results[i])))
	}
}

// unary and binary are by type, loads too.
var (
	unary = map[byte][][]byte{
		tI32: {{0x67}, {0x68}, {0x69}, {0xc0}, {0xc1}, {0x45}},
		tI64: {{0x79}, {0x7a}, {0x7b}, {0xc2}, {0xc3}, {0xc4}},
		tF32: {{0x8b}, {0x8c}, {0x8d}, {0x8e}, {0x8f}, {0x90}, {0x91}},
		tF64: {{0x99}, {0x9a}, {0x9b}, {0x9c}, {0x9d}, {0x9e}, {0x9f}},
		tV128: {
			{0xfd, 77},
			{0xfd, 0x60},
			{0xfd, 0x80, 1},
			{0xfd, 0xa0, 1},
			{0xfd, 0xc1, 1},
			{0xfd, 0xe0, 1},
			{0xfd, 0xf8, 1},
			{0xfd, 0xff, 1},
		},
	}
	binary = map[byte][][]byte{
		tI32: {{0x6a}, {0x6b}, {0x6c}, {0x6d}, {0x6e}, {0x6f}, {0x71}, {0x72}, {0x73}, {0x74}, {0x76}, {0x77}, {0x48}, {0x4d}},
		tI64: {{0x7c}, {0x7d}, {0x7e}, {0x7f}, {0x80}, {0x82}, {0x83}, {0x85}, {0x86}, {0x88}, {0x89}},
		tF32: {{0x92}, {0x93}, {0x94}, {0x96}, {0x98}},
		tF64: {{0xa0}, {0xa1}, {0xa2}, {0xa4}, {0xa6}},
		tV128: {
			{0xfd, 14},
			{0xfd, 35},
			{0xfd, 78},
			{0xfd, 81},
			{0xfd, 0x6e},
			{0xfd, 0x8e, 1},
			{0xfd, 0xae, 1},
			{0xfd, 0xce, 1},
			{0xfd, 0xd5, 1},
			{0xfd, 0xdc, 1},
			{0xfd, 13, 0, 1, 2, 3, 4, 5, 6, 7, 31, 30, 29, 28, 27, 26, 25, 24},
		},
	}
	// converted is by the type it gives: what it takes, and the opcode.
	converted = map[byte][]struct {
		from byte
		op   []byte
	}{
		tI32: {
			{tI64, []byte{0xa7}},
			{tF32, []byte{0xa8}},
			{tF64, []byte{0xaa}},
			{tF32, []byte{0xfc, 0}},
			{tF64, []byte{0xfc, 3}},
			{tV128, []byte{0xfd, 27, 1}},
			{tV128, []byte{0xfd, 0x53}},
			{tV128, []byte{0xfd, 0xa4, 1}},
			{tI64, []byte{0x50}},
		},
		tI64:  {{tI32, []byte{0xac}}, {tI32, []byte{0xad}}, {tF64, []byte{0xb0}}, {tF64, []byte{0xfc, 6}}, {tV128, []byte{0xfd, 29, 1}}},
		tF32:  {{tI32, []byte{0xb2}}, {tF64, []byte{0xb6}}, {tI32, []byte{0xbe}}},
		tF64:  {{tI32, []byte{0xb7}}, {tI64, []byte{0xba}}, {tF32, []byte{0xbb}}},
		tV128: {{tI32, []byte{0xfd, 15}}, {tI64, []byte{0xfd, 18}}, {tF64, []byte{0xfd, 20}}},
	}
	loads = map[byte][][]byte{
		tI32: {{0x28}, {0x2c}, {0x2f}}, tI64: {{0x29}, {0x30}, {0x35}}, tF32: {{0x2a}}, tF64: {{0x2b}},
		tV128: {{0xfd, 0}, {0xfd, 1}, {0xfd, 7}, {0xfd, 0x5c}},
	}
)

// expr leaves a value of type t.
func (g *gen) expr(t byte) {
	g.depth++
	defer func() { g.depth-- }()
	choice := g.n(12)
	if g.depth > 8 {
		choice %= 3
	}
	switch choice {
	case 0:
		g.emit(opLocalGet, uleb(g.local(t)))
	case 1:
		g.constant(t)
	case 2:
		for i, u := range genGlobals {
			if u == t {
				g.emit(opGlobalGet, i)
				return
			}
		}
		g.constant(t)
	case 3:
		g.expr(t)
		g.emit(unary[t][g.n(len(unary[t]))])
	case 4, 5:
		g.expr(t)
		g.expr(t)
		g.emit(binary[t][g.n(len(binary[t]))])
	case 6:
		c := converted[t][g.n(len(converted[t]))]
		g.expr(c.from)
		g.emit(c.op)
	case 7:
		g.address()
		g.emit(loads[t][g.n(len(loads[t]))], 0, uleb(g.n(256)))
	case 8:
		g.expr(t)
		g.expr(t)
		g.expr(tI32)
		if g.n(2) == 0 {
			g.emit(opSelect)
		} else {
			g.emit(0x1c, 1, t)
		}
	case 9:
		g.expr(tI32)
		g.emit(opIf, t)
		g.within([]byte{t}, func() {
			g.stmts()
			g.expr(t)
			g.emit(5)
			g.stmts()
			g.expr(t)
		})
	case 10:
		g.emit(0x02, t)
		g.within([]byte{t}, func() { g.stmts(); g.expr(t) })
	case 11:
		g.expr(t)
		g.emit(opLocalTee, uleb(g.local(t)))
	}
}

func (g *gen) constant(t byte) {
	c := zeroOf(t)
	switch t {
	case tI32, tI64:
		v := int64(g.n(256)) - 128
		if g.n(4) == 3 {
			v <<= g.n(25)
		}
		c = bin(c[0], sleb(v))
	default:
		for i := len(c) - 2; i < len(c); i++ {
			c[i] = byte(g.n(256))
		}
	}
	g.emit(c)
}
