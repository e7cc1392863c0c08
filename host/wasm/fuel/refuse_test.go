package fuel

import (
	"strings"
	"testing"
)

func TestRefused(t *testing.T) {
	types := sec(1, vec(sigOne, sigNone))
	funcs := sec(3, vec(bin(0)))
	global := bin(tI32, 1, i32(0), opEnd)
	empty := sec(10, vec(fn(nil, arg)))
	body := func(code ...any) []byte { return program(fn(nil, code...)) }
	imports := func(desc ...any) []byte { return mod(types, sec(2, vec(bin(1, "m", 1, "n", bin(desc...)))), oneMem) }
	tests := []struct {
		name   string
		module []byte
		want   string
	}{
		{"nothing", nil, "offset 0x0: not a core WebAssembly module of version 1"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "not a core WebAssembly module"},
		{"no memory", mod(types, funcs, empty), "offset 0x1f: the module has no memory"},
		{"empty memory section", mod(sec(5, vec())), "the module has no memory"},

		// Sections.
		{"section beyond the end", mod(bin(1, 100, 0)), "type section: offset 0xa: 100 bytes do not fit into what is left"},
		{"section longer than its content", mod(sec(1, vec(), 0)), "type section: offset 0xb: 1 bytes too many"},
		{"section shorter than its content", mod(sec(1, bin(1, 0x60, 1))), "type section: offset 0xa: 1 types do not fit"},
		{"unknown section", mod(sec(14)), "offset 0x8: section 14 is not allowed"},
		{"tags", mod(sec(13, vec())), "section 13 is not allowed"},
		{"repeated section", mod(types, types), "type section: offset 0x13: repeated or out of order"},
		{"section out of order", mod(oneMem, types), "type section: offset 0xd: repeated or out of order"},
		{"data count behind the code", mod(types, funcs, oneMem, empty, sec(12, 0)), "data count section: offset 0x24: repeated or out of order"},
		{"custom section name beyond the end", mod(sec(0, 5, "abc")), "custom section: offset 0xb: 5 bytes do not fit"},
		{"custom section name not UTF-8", mod(sec(0, 1, 0xff)), "custom section: offset 0xa: name is not UTF-8"},
		{"size of six octets", mod(bin(1, "\x80\x80\x80\x80\x80\x00")), "type section: offset 0x9: number does not fit into 32 bits"},

		// Counts that would make wazero allocate.
		{"2^32-1 types", mod(sec(1, uleb(1<<32-1))), "4294967295 types do not fit into what is left"},
		{"2^32-1 imports", mod(sec(2, uleb(1<<32-1))), "4294967295 imports do not fit"},
		{"2^32-1 functions", mod(types, sec(3, uleb(1<<32-1))), "4294967295 functions do not fit"},
		{"2^32-1 elements", mod(types, oneTable, oneMem, sec(9, 1, 1, 0, uleb(1<<32-1))), "4294967295 elements do not fit"},
		{"2^32-1 octets of data", mod(oneMem, sec(11, 1, 1, uleb(1<<32-1))), "4294967295 bytes do not fit"},
		{"2^32-1 locals", program(fn(bin(1, uleb(1<<32-1), tI32))), "code section: function 0: offset 0x49: 4294967296 locals, at most 10000 are allowed"},
		{"2^32-1 groups of locals", program(fn(uleb(1<<32 - 1))), "groups of locals do not fit"},
		{"2^32-1 labels", body(push, 0x0e, uleb(1<<32-1)), "4294967295 labels do not fit"},
		{"2^32-1 function names", mod(sec(0, 4, "name", 1, 5, uleb(1<<32-1))), "custom section: offset 0x11: 4294967295 function names do not fit"},
		{"2^32-1 local names", mod(sec(0, 4, "name", 2, 7, 1, 0, uleb(1<<32-1))), "4294967295 local names do not fit"},
		{"size of names", mod(sec(0, 4, "name", 0, 9, 1, "m")), "2 bytes of names, not 9"},
		{"parameters", mod(sec(1, vec(bin(0x60, uleb(1001), repeat(1001, tI32), 0)))), "1001 parameters, at most 1000 are allowed"},

		// Types of other proposals.
		{"recursive types", mod(sec(1, vec(bin(0x4e, 1, sigNone)))), "type section: type 0: offset 0xb: type form 0x4e is not allowed"},
		{"typed reference", mod(sec(1, vec(bin(0x60, 1, 0x63, 0x70, 0)))), "value type 0x63 is not allowed"},
		{"exnref", mod(sec(1, vec(bin(0x60, 1, 0x69, 0)))), "value type 0x69 is not allowed"},
		{"local of a typed reference", program(fn(bin(1, 1, 0x64, 0x70))), "value type 0x64 is not allowed"},
		{"table of typed references", mod(sec(4, vec(bin(0x63, 0x70, 0, 1)))), "table section: table 0: offset 0xb: reference type 0x63 is not allowed"},
		{"table with an initializer", mod(sec(4, vec(bin(0x40, 0, 0x70, 0, 1, opRefNull, 0x70, opEnd)))), "reference type 0x40 is not allowed"},
		{"shared memory", mod(sec(5, vec(bin(3, 1, 1)))), "limits of kind 0x03 are not allowed"},
		{"memory of 64 bits", mod(sec(5, vec(bin(4, 1)))), "limits of kind 0x04 are not allowed"},
		{"two memories", mod(sec(5, vec(bin(0, 1), bin(0, 1)))), "2 memories, at most 1 are allowed"},
		{"maximum below minimum", mod(sec(5, vec(bin(1, 2, 1)))), "the maximum 1 is below the minimum 2"},
		{"table too large", mod(sec(4, vec(bin(0x70, 0, uleb(1<<17+1))))), "131073 entries, at most 131072 are allowed"},
		{"too many tables", mod(sec(4, 17, repeat(17, 0x70, 0, 0))), "17 tables, at most 16"},
		{"mutability", mod(sec(6, vec(bin(tI32, 2, i32(0), opEnd)))), "mutability 0x02 is not allowed"},

		// Imports.
		{"imported memory", imports(2, 0, 1), "import section: import 0: offset 0x1a: an imported memory is not allowed"},
		{"imported tag", imports(4, 0, 0), "import kind 0x04 is not allowed"},
		{"import of a type that is added", imports(0, 2), "type 2 does not exist"},

		// Indexes of what is added: one global, one function, two types in the module.
		{"global.get slice", body(opGlobalGet, 0), "global 0 does not exist"},
		{"global.set left", body(push, opGlobalSet, 1), "global 1 does not exist"},
		{"call refill", body(arg, opCall, 1), "function 1 does not exist"},
		{"ref.func refill", body(opRefFunc, 1), "function 1 does not exist"},
		{"call_indirect of an added type", body(arg, arg, 0x11, 2, 0), "type 2 does not exist"},
		{"block of an added type", body(0x02, 2, opEnd), "type 2 does not exist"},
		{"function of an added type", mod(types, sec(3, vec(bin(2)))), "function section: function 0: offset 0x16: type 2 does not exist"},
		{"export of slice", mod(types, funcs, oneMem, sec(7, vec(export("x", 3, 0)))), "export section: export 0: offset 0x22: global 0 does not exist"},
		{"export of refill", mod(types, funcs, oneMem, sec(7, vec(export("x", 0, 1)))), "function 1 does not exist"},
		{"export by the name of slice", mod(types, funcs, oneMem, sec(7, vec(export(SliceGlobal, 0, 0)))), `the name "parley:slice" is reserved`},
		{"export by the name of left", mod(types, funcs, oneMem, sec(7, vec(export(LeftGlobal, 2, 0)))), `the name "parley:left" is reserved`},
		{"export of a tag", mod(oneMem, sec(7, vec(export("x", 4, 0)))), "export kind 0x04 is not allowed"},
		{"start at refill", mod(types, funcs, oneMem, sec(8, 1)), "start section: offset 0x1e: function 1 does not exist"},
		{"element refill", mod(types, funcs, oneTable, oneMem, sec(9, vec(bin(1, 0, 1, 1)))), "element section: segment 0: offset 0x28: function 1 does not exist"},
		{"element expression refill", mod(types, funcs, oneTable, oneMem, sec(9, vec(bin(5, 0x70, 1, opRefFunc, 1, opEnd)))), "function 1 does not exist"},
		{"element expression slice", mod(types, funcs, oneTable, oneMem, sec(6, vec(global)), sec(9, vec(bin(5, 0x70, 1, opGlobalGet, 1, opEnd)))), "global 1 does not exist"},
		{"element offset slice", mod(types, funcs, oneTable, oneMem, sec(9, vec(bin(0, opGlobalGet, 0, opEnd, 0)))), "global 0 does not exist"},
		{"data offset slice", mod(oneMem, sec(11, vec(bin(0, opGlobalGet, 0, opEnd, 0)))), "global 0 does not exist"},
		{"global initialized by refill", mod(types, funcs, oneMem, sec(6, vec(bin(0x70, 0, opRefFunc, 1, opEnd)))), "function 1 does not exist"},
		{"global initialized by itself", mod(oneMem, sec(6, vec(bin(tI32, 0, opGlobalGet, 0, opEnd)))), "global 0 does not exist"},
		{"element of no table", mod(types, funcs, oneMem, sec(9, vec(bin(2, 0, i32(0), opEnd, 0, 0)))), "table 0 does not exist"},

		// Initializers and segments.
		{"extended constants", mod(oneMem, sec(6, vec(bin(tI32, 0, i32(1), i32(1), 0x6a, opEnd)))), "an initializer has more than one instruction"},
		{"initializer that calls", mod(types, oneMem, sec(6, vec(bin(tI32, 0, opCall, 0, opEnd)))), "opcode 0x10 is not allowed in an initializer"},
		{"initializer of another vector", mod(oneMem, sec(6, vec(bin(0x7b, 0, opVector, 0x0d, repeat(16, 0), opEnd)))), "only v128.const is allowed"},
		{"kind of element segment", mod(oneTable, oneMem, sec(9, vec(bin(8, 0, 0)))), "segment kind 8 is not allowed"},
		{"element kind", mod(oneTable, oneMem, sec(9, vec(bin(1, 1, 0)))), "element kind is not zero"},
		{"kind of data segment", mod(oneMem, sec(11, vec(bin(3, 0)))), "segment kind 3 is not allowed"},
		{"data of another memory", mod(oneMem, sec(11, vec(bin(2, 1, i32(0), opEnd, 0)))), "memory is not zero"},

		// Code.
		{"fewer bodies", mod(types, sec(3, vec(bin(0), bin(0))), oneMem, empty), "code section: offset 0x1f: 1 bodies for 2 functions"},
		{"no bodies", mod(types, funcs, oneMem), "code section: offset 0x0: 0 bodies for 1 functions"},
		{"body beyond the section", mod(types, funcs, oneMem, sec(10, 1, 9, 0)), "code section: function 0: offset 0x20: 9 bytes do not fit"},
		{"body without an end", program(sized(bin(0, arg))), "code section: function 0: offset 0x45: unexpected end"},
		{"code behind the end", program(sized(bin(0, arg, opEnd, opEnd))), "code behind the end of the function"},
		{"else without an if", body(block0, 5, opEnd, arg), "else without an if"},
		{"two elses", body(arg, if0, 5, 5, opEnd, arg), "else without an if"},
		{"label", body(0x0c, 1), "label 1 does not exist"},
		{"label in a table", body(arg, 0x0e, 1, 1, 0), "label 1 does not exist"},
		{"default label", body(arg, 0x0e, 1, 0, 1), "label 1 does not exist"},
		{"negative block type", body(0x02, "\x80\x7f", opEnd), "type -128 does not exist"},
		{"unknown opcode", body(0xfe, 0), "code section: function 0: offset 0x43: opcode 0xfe is not allowed"},
		{"throw", body(0x08, 0), "opcode 0x08 is not allowed"},
		{"try_table", body(0x1f, tNone, 0, opEnd), "opcode 0x1f is not allowed"},
		{"return_call", body(arg, 0x12, 0), "opcode 0x12 is not allowed"},
		{"return_call_indirect", body(arg, arg, 0x13, 0, 0), "opcode 0x13 is not allowed"},
		{"call_ref", body(arg, 0x14, 0), "opcode 0x14 is not allowed"},
		{"ref.null of a type", body(opRefNull, 0), "reference type 0x00 is not allowed"},
		{"ref.as_non_null", body(0xd4), "opcode 0xd4 is not allowed"},
		{"garbage collection", body(0xfb, 0), "opcode 0xfb is not allowed"},
		{"load of another memory", body(arg, 0x28, 0x42, 1, 0), "alignment 66 is not allowed"},
		{"memory.size of another memory", body(0x3f, 1), "memory is not zero"},
		{"memory.grow of another memory", body(arg, opMemoryGrow, 1), "memory is not zero"},
		{"memory.grow of a padded zero", body(arg, opMemoryGrow, "\x80\x00"), "memory is not zero"},
		{"memory.fill of another memory", body(arg, arg, arg, 0xfc, 11, 1), "memory is not zero"},
		{"unknown 0xfc", body(0xfc, 18), "opcode 0xfc 0x12 is not allowed"},
		{"padded 0xfc", body(arg, arg, arg, 0xfc, "\x8b\x00", 0), "opcode 0xfc 0x8b is not allowed"},
		{"relaxed vectors", body(opVector, "\x80\x02"), "opcode 0xfd 0x80 is not allowed"},
		{"gap in vectors", body(opVector, "\x9a\x01"), "opcode 0xfd 0x9a is not allowed"},
		{"select of two types", body(arg, arg, arg, 0x1c, 2, tI32, tI32), "select with other than one type"},

		// What wazero would take for something else: see scan.vector. To it, this
		// is abs and then unreachable, and not a padded v128.load.
		{"padded vector opcode", body(opVector, "\x80\x00", 0, 0), "opcode 0xfd 0x80 is not allowed"},
		{"number with bits too many", body(opI32Const, "\xff\xff\xff\xff\x3f"), "number does not fit into 32 bits"},
		{"block type of five continued octets", body(0x02, "\x80\x80\x80\x80\x80\x00", opEnd), "number does not fit into 33 bits"},
		{"number of ten octets with bits too many", body(opI64Const, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7e"), "number does not fit into 64 bits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Inject(tt.module, Limits{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	nested := program(fn(nil, repeat(5, block0), repeat(5, opEnd), arg))
	locals := program(fn(bin(1, 9, tI32), arg), fn(bin(1, 9, tI32), arg))
	globals := mod(oneMem, sec(6, vec(repeat(3, tI32, 0, i32(0), opEnd))))
	globals[len(globals)-3*5-1] = 3 // three of them in one item
	tests := []struct {
		name   string
		module []byte
		lim    Limits
		want   string
	}{
		{"functions", locals, Limits{Functions: 1}, "2 functions, at most 1"},
		{"functions", locals, Limits{Functions: 2}, ""},
		{"locals", locals, Limits{Locals: 9}, "10 locals, at most 9"},
		{"locals", locals, Limits{Locals: 10}, ""},
		{"all locals", locals, Limits{AllLocals: 19}, "20 locals in all functions, at most 19"},
		{"all locals", locals, Limits{AllLocals: 20}, ""},
		{"nesting", nested, Limits{Nesting: 4}, "more than 4 blocks within each other"},
		{"nesting", nested, Limits{Nesting: 5}, ""},
		{"globals", globals, Limits{Globals: 2}, "3 globals, at most 2"},
		{"globals", globals, Limits{Globals: 3}, ""},
		{"table entries", locals, Limits{TableEntries: 7}, "8 entries, at most 7"},
		{"table entries", locals, Limits{TableEntries: 1<<32 - 1}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := Inject(tt.module, tt.lim)
			switch {
			case err == nil && tt.want == "":
				wantGuest(t, engines["interpreter"], out)
			case err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCustomSections(t *testing.T) {
	module := program(fn(nil, arg))
	module = append(module, sec(0, sized([]byte(".debug_info")), "gone")...)
	module = append(module, sec(0, sized([]byte("producers")), "kept")...)
	out := string(wantInject(t, module, Limits{}))
	if strings.Contains(out, "gone") || !strings.Contains(out, "\x09producerskept") {
		t.Errorf("%q", out)
	}
}

// TestNumbers: numbers may be padded as linkers do.
func TestNumbers(t *testing.T) {
	module := program(fn(nil, opI32Const, "\xff\xff\xff\xff\x7f", opDrop, opI32Const, "\x80\x80\x80\x80\x78", opDrop,
		opI64Const, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f", opDrop, opI32Const, "\x87\x80\x80\x80\x00",
		0x02, "\x80\x80\x80\x80\x00", opEnd, opCall, "\x80\x80\x80\x80\x00", opDrop, arg))
	if _, err := Inject(module, Limits{}); err != nil {
		t.Error(err)
	}
}
