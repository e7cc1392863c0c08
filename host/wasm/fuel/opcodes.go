package fuel

// A form says what follows an opcode, and what it means for counting.
type form uint8

const (
	unknown form = iota // refused
	plain               // nothing follows
	free                // nothing follows, and nothing is executed
	block               // a block type
	loop                // a block type
	if_                 // a block type
	else_
	end
	branch       // a label
	branchTable  // labels
	leave        // unreachable, return: control goes elsewhere
	call         // a function
	callIndirect // a type, a table
	oneIndex     // of a local, table or segment: nothing is added to those
	global       // a global
	selectTyped  // one value type
	access       // alignment and offset of a load or store
	memorySize   // memory 0
	memoryGrow   // memory 0
	constI32
	constI64
	fourBytes
	eightBytes
	sixteenBytes
	lane       // of a vector
	accessLane // alignment, offset, lane
	refNull    // a reference type
	refFunc    // a function
	misc       // 0xfc: an opcode of miscForms
	vector     // 0xfd: an opcode of vectorForms
)

var forms = table(map[form][]span{
	plain:        {{0x1a, 0x1b}, {0x45, 0xc4}, {0xd1, 0xd1}},
	free:         {{0x01, 0x01}},
	leave:        {{0x00, 0x00}, {0x0f, 0x0f}},
	block:        {{0x02, 0x02}},
	loop:         {{0x03, 0x03}},
	if_:          {{0x04, 0x04}},
	else_:        {{0x05, 0x05}},
	end:          {{0x0b, 0x0b}},
	branch:       {{0x0c, 0x0d}},
	branchTable:  {{0x0e, 0x0e}},
	call:         {{0x10, 0x10}},
	callIndirect: {{0x11, 0x11}},
	selectTyped:  {{0x1c, 0x1c}},
	oneIndex:     {{0x20, 0x22}, {0x25, 0x26}},
	global:       {{0x23, 0x24}},
	access:       {{0x28, 0x3e}},
	memorySize:   {{0x3f, 0x3f}},
	memoryGrow:   {{0x40, 0x40}},
	constI32:     {{0x41, 0x41}},
	constI64:     {{0x42, 0x42}},
	fourBytes:    {{0x43, 0x43}},
	eightBytes:   {{0x44, 0x44}},
	refNull:      {{0xd0, 0xd0}},
	refFunc:      {{0xd2, 0xd2}},
	misc:         {{0xfc, 0xfc}},
	vector:       {{0xfd, 0xfd}},
})

// vectorForms is by the number behind 0xfd.
var vectorForms = table(map[form][]span{
	access:       {{0x00, 0x0b}, {0x5c, 0x5d}},
	sixteenBytes: {{0x0c, 0x0d}},
	lane:         {{0x15, 0x22}},
	accessLane:   {{0x54, 0x5b}},
	plain: {
		{0x0e, 0x14},
		{0x23, 0x53},
		{0x5e, 0x99},
		{0x9b, 0xa1},
		{0xa3, 0xa4},
		{0xa7, 0xae},
		{0xb1, 0xb1},
		{0xb5, 0xba},
		{0xbc, 0xc1},
		{0xc3, 0xc4},
		{0xc7, 0xce},
		{0xd1, 0xd1},
		{0xd5, 0xe1},
		{0xe3, 0xed},
		{0xef, 0xff},
	},
})

// miscForms is by the number behind 0xfc.
var miscForms = [...]struct {
	indexes, zeros int    // what follows: indexes, then bytes that are zero
	meter          helper // what charges for the i32 on top of the stack; 0 = nothing
}{
	0x00: {}, 0x01: {}, 0x02: {}, 0x03: {}, 0x04: {}, 0x05: {}, 0x06: {}, 0x07: {}, // trunc_sat
	0x08: {indexes: 1, zeros: 1, meter: payBytes}, // memory.init
	0x09: {indexes: 1},                            // data.drop
	0x0a: {zeros: 2, meter: payBytes},             // memory.copy
	0x0b: {zeros: 1, meter: payBytes},             // memory.fill
	0x0c: {indexes: 2, meter: payEntries},         // table.init
	0x0d: {indexes: 1},                            // elem.drop
	0x0e: {indexes: 2, meter: payEntries},         // table.copy
	0x0f: {indexes: 1, meter: payTableGrow},       // table.grow
	0x10: {indexes: 1},                            // table.size
	0x11: {indexes: 1, meter: payEntries},         // table.fill
}

type span struct{ first, last int }

func table(m map[form][]span) (t [256]form) {
	for f, spans := range m {
		for _, s := range spans {
			for op := s.first; op <= s.last; op++ {
				t[op] = f
			}
		}
	}
	return t
}
