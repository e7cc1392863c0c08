package fuel

// A frame is an open block of the function being rewritten.
type frame struct {
	form  form
	moves uint32 // what passing its label adds to the price

	// Regions of the first branch to its end, and of the if while it may
	// still go to an else; noRegion if there is none.
	from, cond int
}

const noRegion = -1

// A scan is the state of rewriting one function. The code is copied region by
// region, each behind its charge. A region is entered at its beginning only, or
// by a branch from within: that is what makes rule 1 of the package hold.
type scan struct {
	*rewriter
	weight uint32 // moves of the function's locals
	start  int    // of the region, an offset in the module
	region int    // its number
	cost   uint32 // its price so far
}

// cut ends the region at the cursor.
func (s *scan) cut() {
	if s.cost > 0 {
		s.body = s.charge(s.body, s.cost)
	}
	s.body = append(s.body, s.r.b[s.start:s.r.at]...)
	s.start, s.cost = s.r.at, 0
	s.region++
}

// function rewrites the body under the cursor, which ends where the reader's
// bytes end, into w.body.
func (w *rewriter) function(typ uint32) {
	r := &w.r
	s := scan{rewriter: w, start: r.at}
	locals := int(w.params[typ])
	groups := r.count("groups of locals", 2)
	for i := 0; i < groups && r.err == nil; i++ {
		n := r.u32()
		r.valueType()
		r.atMost("locals", uint64(n)+uint64(locals), w.lim.Locals)
		locals += int(n)
	}
	w.locals += locals
	r.atMost("locals in all functions", uint64(w.locals), w.lim.AllLocals)
	if r.err != nil {
		return
	}
	w.body = append(w.body[:0], r.b[s.start:r.at]...)
	s.start = r.at
	s.weight = moves(locals)
	s.cost = s.weight
	w.frames = append(w.frames[:0], frame{form: block, moves: w.types[typ] + s.weight, from: noRegion, cond: noRegion})
	for r.err == nil && len(w.frames) > 0 {
		if s.cost >= s.price {
			s.cut()
		}
		s.instruction()
	}
	s.cut()
	if r.more() {
		r.fail(r.at, "code behind the end of the function")
	}
}

// instruction reads one, adds its price to that of the region and ends the
// region where control flow needs it.
func (s *scan) instruction() {
	r := &s.r
	at := r.at
	op := r.byte()
	switch f := forms[op]; f {
	case unknown:
		r.fail(at, "opcode 0x%02x is not allowed", op)
	case plain:
		s.cost++
	case free:
	case block, loop, if_:
		s.open(f)
	case else_:
		s.otherwise(at)
	case end:
		s.close()
	case leave:
		s.cost++
	case branch:
		s.cost += 1 + s.branch()
	case branchTable:
		s.branchTable()
	case call:
		s.cost++
		if i := r.index("function", len(s.funcs)); r.err == nil {
			s.cost += s.types[s.funcs[i]]
		}
	case callIndirect:
		s.cost++
		if i := r.index("type", len(s.types)); r.err == nil {
			s.cost += s.types[i]
		}
		r.u32()
	case misc:
		s.misc(at)
	case memoryGrow:
		s.meter(at, payPages)
		r.zero("memory")
		s.cost += 1 + exit
	case refFunc:
		r.index("function", len(s.funcs))
		s.cost += 1 + exit
	default:
		s.cost++
		s.operands(at, f)
	}
}

// operands reads what follows an opcode that means nothing for control.
func (s *scan) operands(at int, f form) {
	r := &s.r
	switch f {
	case oneIndex:
		r.u32()
	case global:
		r.index("global", s.globals)
	case constI32:
		r.signed(32)
	case constI64:
		r.signed(64)
	case fourBytes:
		r.skip(4)
	case eightBytes:
		r.skip(8)
	case sixteenBytes:
		r.skip(16)
	case access, accessLane:
		at = r.at
		if align := r.u32(); align >= 32 {
			r.fail(at, "alignment %d is not allowed", align) // 64: another memory
		}
		r.u32()
		if f == accessLane {
			r.byte()
		}
	case lane:
		r.byte()
	case memorySize:
		r.zero("memory")
	case selectTyped:
		if r.byte() != 1 {
			r.fail(at, "select with other than one type")
		}
		r.valueType()
	case refNull:
		r.refType()
	case vector:
		s.vector(at)
	}
}

// vector reads an instruction behind 0xfd. wazero reads one byte and takes the
// second one of a number from 0x80 on for a nop, so no other encoding may pass
// here: what follows would be read differently.
func (s *scan) vector(at int) {
	r := &s.r
	n := r.byte()
	f := vectorForms[n]
	if n >= 0x80 && r.byte() != 1 {
		f = unknown
	}
	if f == unknown {
		r.fail(at, "opcode 0xfd 0x%02x is not allowed", n)
		return
	}
	s.operands(at, f)
}

// misc reads an instruction behind 0xfc.
func (s *scan) misc(at int) {
	r := &s.r
	n := r.byte()
	if int(n) >= len(miscForms) {
		r.fail(at, "opcode 0xfc 0x%02x is not allowed", n)
		return
	}
	m := &miscForms[n]
	if m.meter != 0 {
		s.meter(at, m.meter)
	}
	for range m.indexes {
		r.u32()
	}
	for range m.zeros {
		r.zero("memory")
	}
	s.cost++
	if m.meter == payTableGrow {
		s.cost += exit
	}
}

// meter begins a region at offset at, the opcode just read, which first pays for
// the length on top of the operand stack.
func (s *scan) meter(at int, h helper) {
	if s.r.err != nil {
		return
	}
	here := s.r.at
	s.r.at = at
	s.cut()
	s.r.at = here
	s.body = s.call(s.body, h)
}

// open reads the type of a block, which begins.
func (s *scan) open(f form) {
	r := &s.r
	fr := frame{form: f, moves: s.weight, from: noRegion, cond: noRegion}
	if r.more() && r.b[r.at] >= 0x40 && r.b[r.at] < 0x80 { // a negative number of one byte
		if r.b[r.at] == tNone {
			r.at++
		} else {
			r.valueType()
		}
	} else if at, i := r.at, r.signed(33); i < 0 || i >= int64(len(s.types)) {
		r.fail(at, "type %d does not exist", i)
	} else {
		fr.moves += s.types[i]
	}
	if len(s.frames) > s.lim.Nesting {
		r.fail(r.at, "more than %d blocks within each other", s.lim.Nesting)
	}
	switch f {
	case loop:
		s.cost += fr.moves
		s.cut()
	case if_:
		s.cost += 1 + fr.moves
		fr.cond = s.region
	}
	s.frames = append(s.frames, fr)
}

// otherwise handles else: the end of one arm, which jumps, and the beginning of
// another, to which the if has jumped.
func (s *scan) otherwise(at int) {
	fr := &s.frames[len(s.frames)-1]
	if fr.form != if_ {
		s.r.fail(at, "else without an if")
		return
	}
	s.cost += 1 + fr.moves
	if fr.from == noRegion {
		fr.from = s.region
	}
	if fr.cond != s.region {
		s.cut()
	}
	fr.form, fr.cond = else_, noRegion
}

// close handles end. Whoever has branched here from another region has not paid
// for this one.
func (s *scan) close() {
	fr := s.frames[len(s.frames)-1]
	s.frames = s.frames[:len(s.frames)-1]
	s.cost += fr.moves
	from := fr.from
	if fr.cond != noRegion {
		from = fr.cond // earlier than any other
	}
	if fr.form == loop || from != noRegion && from != s.region {
		s.cut()
	}
}

// branch reads a label, marks its block and returns the moves it takes.
func (s *scan) branch() uint32 {
	depth := s.r.index("label", len(s.frames))
	if s.r.err != nil {
		return 0
	}
	fr := &s.frames[len(s.frames)-1-int(depth)]
	if fr.from == noRegion && fr.form != loop {
		fr.from = s.region
	}
	return fr.moves
}

// branchTable reads labels. What follows is reached by other ways only, if at
// all, so it begins a region: in Go's code this is the header of each function.
func (s *scan) branchTable() {
	most := uint32(0)
	for n := s.r.count("labels", 1); n >= 0 && s.r.err == nil; n-- { // and the default
		most = max(most, s.branch())
	}
	s.cost += 1 + most
	s.cut()
}
