package fuel

import (
	"bytes"
	"strings"
)

// A rewriter reads a module once, from front to back, and writes it anew.
// Whatever it adds comes behind what the module has of the same kind, so that
// no index changes and most sections are copied as they are.
type rewriter struct {
	r     reader
	lim   Limits
	price uint32 // at which a region ends: regionPrice, less in tests
	out   []byte

	// What the module declares, known when its section has been read.
	types    []uint32 // what a call or block of the type has to move: see moves
	params   []uint32 // of the type
	funcs    []uint32 // type of each function, the imported ones first
	imported int      // functions that are imported
	globals  int
	tables   int
	memories int
	locals   int // declared so far, in all functions

	// Reused from function to function.
	frames []frame
	body   []byte
}

const (
	secCustom    = 0
	secCode      = 10
	secDataCount = 12
)

// sections is by id.
var sections = [...]struct {
	name string
	rank int // The order is not that of ids: the code needs the data count.
	add  bool
	read func(*rewriter)
}{
	0:  {name: "custom section"},
	1:  {"type section", 1, true, (*rewriter).typeSection},
	2:  {"import section", 2, false, (*rewriter).importSection},
	3:  {"function section", 3, true, (*rewriter).functionSection},
	4:  {"table section", 4, false, (*rewriter).tableSection},
	5:  {"memory section", 5, false, (*rewriter).memorySection},
	6:  {"global section", 6, true, (*rewriter).globalSection},
	7:  {"export section", 7, true, (*rewriter).exportSection},
	8:  {"start section", 8, false, (*rewriter).startSection},
	9:  {"element section", 9, false, (*rewriter).elementSection},
	10: {"code section", 11, true, (*rewriter).codeSection},
	11: {"data section", 12, false, (*rewriter).dataSection},
	12: {"data count section", 10, false, (*rewriter).dataCountSection},
}

const header = "\x00asm\x01\x00\x00\x00"

func (w *rewriter) module() {
	r := &w.r
	if !bytes.HasPrefix(r.b, []byte(header)) {
		r.fail(0, "not a core WebAssembly module of version 1")
		return
	}
	w.out = append(w.out, r.skip(uint32(len(header)))...)
	rank := 0
	for r.err == nil && r.more() {
		start := r.at
		id := r.byte()
		if int(id) >= len(sections) {
			r.fail(start, "section %d is not allowed", id)
			return
		}
		s := &sections[id]
		r.section, r.item = s.name, ""
		size := r.u32()
		from := r.at
		r.skip(size)
		if r.err != nil {
			return
		}
		all := r.b
		r.b, r.at = r.b[:r.at], from // no reading past the section
		if id == secCustom {
			w.customSection(start)
		} else {
			if s.rank <= rank {
				r.fail(start, "repeated or out of order")
				return
			}
			w.addMissing(rank, s.rank)
			rank = s.rank
			w.section(id)
		}
		if r.more() {
			r.fail(r.at, "%d bytes too many", len(r.b)-r.at)
		}
		r.b = all
	}
	w.addMissing(rank, len(sections))
	r.section, r.item = "", ""
	if w.memories == 0 {
		r.fail(r.at, "the module has no memory")
	}
}

// section rewrites the section under the cursor.
func (w *rewriter) section(id byte) {
	w.out = append(w.out, id, 0x80, 0x80, 0x80, 0x80, 0) // the size is set below
	from := len(w.out)
	sections[id].read(w)
	for i, size := from-5, len(w.out)-from; size > 0; i, size = i+1, size>>7 {
		w.out[i] |= byte(size & 0x7f)
	}
}

// addMissing adds the sections between two ranks that the module lacks and the
// rewriter needs.
func (w *rewriter) addMissing(after, before int) {
	for id, s := range sections {
		if s.add && after < s.rank && s.rank < before && w.r.err == nil {
			here := w.r
			w.r = reader{b: []byte{0}, section: s.name}
			w.section(byte(id))
			here.err = w.r.err
			w.r = here
		}
	}
}

// customSection keeps all but DWARF: offsets into code that has moved mislead.
func (w *rewriter) customSection(start int) {
	r := &w.r
	name := r.name()
	if string(name) == "name" {
		w.names()
	}
	r.skip(uint32(len(r.b) - r.at))
	if r.err == nil && !strings.HasPrefix(string(name), ".debug_") {
		w.out = append(w.out, r.b[start:]...)
	}
}

// names reads the names of functions and locals, for their counts: wazero
// allocates for those before it looks further, 10 GB in a case fuzzing found.
func (w *rewriter) names() {
	r := &w.r
	entry := func() { r.u32(); r.name() }
	entries := func(what string, size int, read func()) {
		for n := r.count(what, size); n > 0 && r.err == nil; n-- {
			read()
		}
	}
	for r.more() {
		id, size := r.byte(), r.u32()
		from := r.at
		switch id {
		case 0:
			r.name() // of the module
		case 1:
			entries("function names", 2, entry)
		case 2:
			entries("functions with local names", 2, func() {
				r.u32()
				entries("local names", 2, entry)
			})
		default:
			r.skip(size)
		}
		if r.err == nil && uint64(r.at-from) != uint64(size) {
			r.fail(from, "%d bytes of names, not %d", r.at-from, size)
		}
	}
}

// each reads a vector, and writes the beginning of one that has extra more items.
func (w *rewriter) each(item string, size, extra int, read func()) {
	r := &w.r
	n := r.count(item+"s", size)
	w.out = appendUnsigned(w.out, uint64(n+extra))
	r.item = item
	for r.n = 0; r.n < n && r.err == nil; r.n++ {
		read()
	}
	r.item = ""
}

// copied is each for items that are written as they are.
func (w *rewriter) copied(item string, size, extra int, read func()) {
	r := &w.r
	from := -1
	w.each(item, size, extra, func() {
		if from < 0 {
			from = r.at
		}
		read()
	})
	if from >= 0 && r.err == nil {
		w.out = append(w.out, r.b[from:r.at]...)
	}
}

// moves is what a transfer of n values adds to the price of an instruction. A
// branch can cost the native code a move for each local: with 3,000 of them one
// instruction took a microsecond, a thousand times what others take.
// What people write stays below 64.
func moves(n int) uint32 {
	return uint32(max(n-64, 0) / 16)
}

func (w *rewriter) typeSection() {
	r := &w.r
	w.copied("type", 3, len(helperTypes), func() {
		at := r.at
		if form := r.byte(); form != 0x60 {
			r.fail(at, "type form 0x%02x is not allowed", form)
		}
		values := func(what string) int {
			n := r.count(what, 1)
			r.atMost(what, uint64(n), 1000) // what browsers allow
			for i := 0; i < n && r.err == nil; i++ {
				r.valueType()
			}
			return n
		}
		params := values("parameters")
		w.params = append(w.params, uint32(params))
		w.types = append(w.types, moves(params+values("results")))
	})
	for _, t := range helperTypes {
		w.out = append(w.out, t...)
	}
}

func (w *rewriter) importSection() {
	r := &w.r
	w.copied("import", 4, 0, func() {
		r.name()
		r.name()
		at := r.at
		switch kind := r.byte(); kind {
		case 0:
			w.funcs = append(w.funcs, r.index("type", len(w.types)))
			w.imported++
		case 1:
			w.tables++
			r.refType()
			w.limits()
		case 2:
			r.fail(at, "an imported memory is not allowed")
		case 3:
			w.globals++
			w.globalType()
		default:
			r.fail(at, "import kind 0x%02x is not allowed", kind)
		}
	})
}

func (w *rewriter) functionSection() {
	w.copied("function", 1, len(helpers), func() {
		w.funcs = append(w.funcs, w.r.index("type", len(w.types)))
	})
	w.r.atMost("functions", uint64(len(w.funcs)-w.imported), w.lim.Functions)
	for _, h := range helpers {
		w.out = appendUnsigned(w.out, uint64(len(w.types)+h.sig))
	}
}

// limits reads those of a table or memory.
func (w *rewriter) limits() (low, high uint32, bounded bool) {
	r := &w.r
	at := r.at
	flags := r.byte()
	if flags > 1 {
		r.fail(at, "limits of kind 0x%02x are not allowed", flags) // shared, 64 bits
	}
	at = r.at
	low = r.u32()
	if flags == 1 {
		if high = r.u32(); high < low {
			r.fail(at, "the maximum %d is below the minimum %d", high, low)
		}
	}
	return low, high, flags == 1
}

// tableSection gives every table a maximum: wazero lets table.grow take
// gigabytes, which no limit on memory counts.
func (w *rewriter) tableSection() {
	r := &w.r
	w.each("table", 3, 0, func() {
		at := r.at
		r.refType()
		low, high, bounded := w.limits()
		if low > w.lim.TableEntries {
			r.fail(at, "%d entries, at most %d are allowed", low, w.lim.TableEntries)
		}
		if !bounded || high > w.lim.TableEntries {
			high = w.lim.TableEntries
		}
		if r.err == nil {
			w.out = append(w.out, r.b[at], 1)
			w.out = appendUnsigned(w.out, uint64(low))
			w.out = appendUnsigned(w.out, uint64(high))
		}
		w.tables++
	})
	r.atMost("tables", uint64(w.tables), w.lim.Tables)
}

func (w *rewriter) memorySection() {
	w.copied("memory", 2, 0, func() {
		w.limits()
		w.memories++
	})
	w.r.atMost("memories", uint64(w.memories), 1)
}

func (w *rewriter) globalType() {
	r := &w.r
	r.valueType()
	at := r.at
	if mutable := r.byte(); mutable > 1 {
		r.fail(at, "mutability 0x%02x is not allowed", mutable)
	}
}

func (w *rewriter) globalSection() {
	w.copied("global", 4, 2, func() {
		w.globalType()
		w.constant(w.globals) // of those before: wazero narrows that further
		w.globals++
	})
	w.r.atMost("globals", uint64(w.globals), w.lim.Globals)
	w.out = append(w.out, tI64, 1, opI64Const, 0, opEnd)
	w.out = append(w.out, tI64, 1, opI64Const)
	w.out = append(appendSigned(w.out, StartBudget), opEnd)
}

// constant reads the expression that initializes a global, an element or an
// offset: one instruction.
func (w *rewriter) constant(globals int) {
	r := &w.r
	at := r.at
	switch op := r.byte(); op {
	case opI32Const:
		r.signed(32)
	case opI64Const:
		r.signed(64)
	case opF32Const:
		r.skip(4)
	case opF64Const:
		r.skip(8)
	case opGlobalGet:
		r.index("global", globals)
	case opRefNull:
		r.refType()
	case opRefFunc:
		r.index("function", len(w.funcs))
	case opVector:
		if r.byte() != vecConst {
			r.fail(at, "only v128.const is allowed in an initializer")
		}
		r.skip(16)
	default:
		r.fail(at, "opcode 0x%02x is not allowed in an initializer", op)
	}
	at = r.at
	if r.byte() != opEnd {
		r.fail(at, "an initializer has more than one instruction")
	}
}

func (w *rewriter) exportSection() {
	r := &w.r
	w.copied("export", 3, 2, func() {
		at := r.at
		if name := string(r.name()); name == SliceGlobal || name == LeftGlobal {
			r.fail(at, "the name %q is reserved", name)
		}
		at = r.at
		switch kind := r.byte(); kind {
		case 0:
			r.index("function", len(w.funcs))
		case 1:
			r.index("table", w.tables)
		case 2:
			r.index("memory", w.memories)
		case 3:
			r.index("global", w.globals)
		default:
			r.fail(at, "export kind 0x%02x is not allowed", kind)
		}
	})
	for i, name := range []string{SliceGlobal, LeftGlobal} {
		w.out = append(appendUnsigned(w.out, uint64(len(name))), name...)
		w.out = appendUnsigned(append(w.out, 3), uint64(w.globals+i))
	}
}

func (w *rewriter) startSection() {
	from := w.r.at
	w.r.index("function", len(w.funcs))
	w.out = append(w.out, w.r.b[from:w.r.at]...)
}

func (w *rewriter) elementSection() {
	r := &w.r
	w.copied("segment", 3, 0, func() {
		const passive, explicit, expressions = 1, 2, 4 // bits of kind
		at := r.at
		kind := r.u32()
		if kind > 7 {
			r.fail(at, "segment kind %d is not allowed", kind)
		}
		if kind&passive == 0 {
			if kind&explicit != 0 {
				r.index("table", w.tables)
			}
			w.constant(w.globals)
		}
		if kind&(passive|explicit) != 0 {
			if kind&expressions != 0 {
				r.refType()
			} else {
				r.zero("element kind")
			}
		}
		for n := r.count("elements", 1); n > 0 && r.err == nil; n-- {
			if kind&expressions != 0 {
				w.constant(w.globals)
			} else {
				r.index("function", len(w.funcs))
			}
		}
	})
}

func (w *rewriter) dataCountSection() {
	from := w.r.at
	w.r.u32()
	w.out = append(w.out, w.r.b[from:w.r.at]...)
}

func (w *rewriter) dataSection() {
	r := &w.r
	w.copied("segment", 2, 0, func() {
		at := r.at
		kind := r.u32()
		switch kind {
		case 0:
			w.constant(w.globals)
		case 1:
		case 2:
			r.zero("memory")
			w.constant(w.globals)
		default:
			r.fail(at, "segment kind %d is not allowed", kind)
		}
		r.skip(r.u32())
	})
}
