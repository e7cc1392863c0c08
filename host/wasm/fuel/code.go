package fuel

// Opcodes and types that the rewriter writes or reads by name.
const (
	opUnreachable  = 0x00
	opIf           = 0x04
	opEnd          = 0x0b
	opCall         = 0x10
	opDrop         = 0x1a
	opSelect       = 0x1b
	opLocalGet     = 0x20
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32LtU       = 0x49
	opI64LtS       = 0x53
	opI32ShrU      = 0x76
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Mul       = 0x7e
	opI64ExtendI32 = 0xad
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opVector       = 0xfd
	vecConst       = 0x0c
	tI32           = 0x7f
	tI64           = 0x7e
	tNone          = 0x40
)

const (
	regionPrice = 64   // price at which a region ends
	exit        = 64   // what leaving native code costs, in instructions
	pageCost    = 4096 // of memory.grow, for a page: as memory.fill
	maxPages    = 512  // more pages are charged as these
)

// A helper is a function that is added to the module.
type helper int

const (
	refill       helper = iota // takes the next slice, or traps
	payBytes                   // charges for bytes, and returns their number
	payEntries                 // for table entries
	payPages                   // for new pages
	payTableGrow               // for new table entries
)

// helperTypes are the types of helpers: (func), (func (param i32) (result i32)).
var helperTypes = [...]string{"\x60\x00\x00", "\x60\x01\x7f\x01\x7f"}

var helpers = [...]struct {
	sig  int // of helperTypes
	body func(*rewriter) []byte
}{
	refill:       {0, (*rewriter).refill},
	payBytes:     {1, func(w *rewriter) []byte { return w.pay([]byte{opLocalGet, 0, opI32Const, 4, opI32ShrU}, 1) }},
	payEntries:   {1, func(w *rewriter) []byte { return w.pay([]byte{opLocalGet, 0}, 1) }},
	payPages:     {1, func(w *rewriter) []byte { return w.pay(least(maxPages), pageCost) }},
	payTableGrow: {1, func(w *rewriter) []byte { return w.pay(least(int64(int32(w.lim.TableEntries))), 1) }},
}

// codeSection rewrites the bodies and adds those of the helpers.
func (w *rewriter) codeSection() {
	r := &w.r
	at := r.at
	if bodies, n := r.u32(), len(w.funcs)-w.imported; int(bodies) != n {
		r.fail(at, "%d bodies for %d functions", bodies, n)
		return
	}
	r.at = at
	w.each("function", 2, len(helpers), func() {
		size := r.u32()
		from := r.at
		r.skip(size)
		if r.err != nil {
			return
		}
		section, n := r.b, r.n
		r.b, r.at, r.n = r.b[:r.at], from, n+w.imported
		w.function(w.funcs[r.n])
		r.b, r.n = section, n
		w.emitBody()
	})
	for _, h := range helpers {
		w.body = h.body(w)
		w.emitBody()
	}
}

func (w *rewriter) emitBody() {
	w.out = append(appendUnsigned(w.out, uint64(len(w.body))), w.body...)
}

// get, set and call write instructions on what the rewriter has added.
func (w *rewriter) get(b []byte, g int) []byte {
	return appendUnsigned(append(b, opGlobalGet), uint64(w.globals+g))
}

func (w *rewriter) set(b []byte, g int) []byte {
	return appendUnsigned(append(b, opGlobalSet), uint64(w.globals+g))
}

func (w *rewriter) call(b []byte, h helper) []byte {
	return appendUnsigned(append(b, opCall), uint64(len(w.funcs)+int(h)))
}

const gSlice, gLeft = 0, 1

// settle takes a new slice if the current one is overdrawn.
func (w *rewriter) settle(b []byte) []byte {
	b = append(w.get(b, gSlice), opI64Const, 0, opI64LtS, opIf, tNone)
	return append(w.call(b, refill), opEnd)
}

// charge takes n from the slice. It leaves the operand stack as it is.
func (w *rewriter) charge(b []byte, n uint32) []byte {
	b = append(w.get(b, gSlice), opI64Const)
	b = append(appendSigned(b, int64(n)), opI64Sub)
	return w.settle(w.set(b, gSlice))
}

// refill is: rest = left + slice; if rest < 0 {left = rest; slice = 0; trap};
// slice = min(rest, Slice); left = rest - slice; memory.grow(0).
func (w *rewriter) refill() []byte {
	const rest, take = 0, 1
	b := []byte{1, 2, tI64}
	b = append(w.get(w.get(b, gLeft), gSlice), opI64Add, opLocalTee, rest, opI64Const, 0, opI64LtS, opIf, tNone)
	b = append(w.set(append(b, opLocalGet, rest), gLeft), opI64Const, 0)
	b = append(w.set(b, gSlice), opUnreachable, opEnd)

	b = appendSigned(append(b, opLocalGet, rest, opI64Const), Slice)
	b = appendSigned(append(b, opLocalGet, rest, opI64Const), Slice)
	b = w.set(append(b, opI64LtS, opSelect, opLocalTee, take), gSlice)
	b = w.set(append(b, opLocalGet, rest, opLocalGet, take, opI64Sub), gLeft)
	return append(b, opI32Const, 0, opMemoryGrow, 0, opDrop, opEnd)
}

// pay charges each times the i32 that amount leaves, which is at most 2^32
// times a small number, so that 64 bits do not overflow.
func (w *rewriter) pay(amount []byte, each int64) []byte {
	b := append(w.get([]byte{0}, gSlice), amount...)
	b = append(appendSigned(append(b, opI64ExtendI32, opI64Const), each), opI64Mul, opI64Sub)
	return append(w.settle(w.set(b, gSlice)), opLocalGet, 0, opEnd)
}

// least is the smaller of the first parameter and n.
func least(n int64) []byte {
	b := appendSigned([]byte{opLocalGet, 0, opI32Const}, n)
	b = appendSigned(append(b, opLocalGet, 0, opI32Const), n)
	return append(b, opI32LtU, opSelect)
}
