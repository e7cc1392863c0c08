package wasm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
	"unicode/utf16"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/parley-msrp/parley/sdk/abi"
)

// What an import costs, in instructions: crossing over, and octets moved.
const (
	crossing      = 50
	octetsPerStep = 16
)

// imports puts everything that a plugin may import into the runtime.
func (h *Host) imports(ctx context.Context, rt wazero.Runtime) error {
	i32 := api.ValueTypeI32
	b := rt.NewHostModuleBuilder(abi.Module)
	define(b, "read", []api.ValueType{i32, i32, i32, i32}, []api.ValueType{i32}, (*instance).read)
	define(b, "write", []api.ValueType{i32, i32, i32}, []api.ValueType{i32}, (*instance).write)
	define(b, "log", []api.ValueType{i32, i32, i32}, nil, (*instance).logLine)
	define(b, "call", []api.ValueType{i32, i32, i32}, []api.ValueType{i32}, (*instance).service)
	if _, err := b.Instantiate(ctx); err != nil {
		return err
	}
	b = rt.NewHostModuleBuilder("env")
	define(b, "abort", []api.ValueType{i32, i32, i32, i32}, nil, (*instance).abort)
	if _, err := b.Instantiate(ctx); err != nil {
		return err
	}
	b = rt.NewHostModuleBuilder("wasi_snapshot_preview1")
	for name, f := range h.wasi {
		fn, ok := wasi[name]
		if !ok {
			fn = func(*instance, []uint64) uint32 { return wasiBadFile }
		}
		define(b, name, f.ParamTypes(), f.ResultTypes(), func(i *instance, s []uint64) {
			if v := fn(i, s); len(s) > 0 {
				s[0] = uint64(v)
			}
		})
	}
	_, err := b.Instantiate(ctx)
	return err
}

// define exports one host function. Parameters are in s, and so is the result.
func define(b wazero.HostModuleBuilder, name string, params, results []api.ValueType, fn func(i *instance, s []uint64)) {
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, s []uint64) {
		i := ctx.Value(instanceKey{}).(*instance)
		if i.mem == nil {
			i.attach(m) // the module's start function runs before we are told of it
		}
		i.charge(crossing)
		fn(i, s)
	}), params, results).Export(name)
}

// view returns memory of the plugin, valid until it grows. It costs what copying
// it does.
func (i *instance) view(what string, ptr, n uint64) []byte {
	// The upper halves of 32-bit parameters are undefined.
	b, ok := i.mem.Read(uint32(ptr), uint32(n))
	if !ok {
		panic(pointerFault{what, uint32(ptr), uint32(n), i.mem.Size()})
	}
	i.charge(len(b) / octetsPerStep)
	return b
}

func result(s []uint64, n int) { s[0] = uint64(uint32(n)) }

func errno(s []uint64, e abi.Errno) { s[0] = uint64(uint32(int32(e))) }

// read copies from a source: (source, offset, destination, capacity) -> size.
func (i *instance) read(s []uint64) {
	var src []byte
	switch uint32(s[0]) {
	case abi.SourceInput:
		if i.call != nil {
			src = i.call.Request
		}
	case abi.SourceBody: // of hooks that have one
	case abi.SourceResult:
		src = i.result
	case abi.SourceConfig:
		src = i.gen.config
	default:
		errno(s, abi.ErrInval)
		return
	}
	if off := uint32(s[1]); uint64(off) < uint64(len(src)) && uint32(s[3]) > 0 {
		n := min(uint32(s[3]), uint32(len(src))-off)
		copy(i.view("read: destination", s[2], uint64(n)), src[off:])
	}
	result(s, len(src))
}

// write appends to a sink: (sink, pointer, length) -> size.
func (i *instance) write(s []uint64) {
	p := i.view("write: source", s[1], s[2])
	switch {
	case uint32(s[0]) != abi.SinkReply:
		errno(s, abi.ErrInval)
	case len(i.out)+len(p) > i.gen.set.Message:
		errno(s, abi.ErrTooBig)
	default:
		i.out = append(i.out, p...)
		result(s, len(i.out))
	}
}

// logLine logs: (level, pointer, length).
func (i *instance) logLine(s []uint64) {
	line := i.view("log", s[1], min(uint64(uint32(s[2])), maxLine))
	level, ok := levels[uint32(s[0])]
	if !ok {
		level = levels[abi.LevelDebug]
	}
	i.charge(1000) // a line costs more than its octets
	i.gen.plugin.out.line(level, i.hook, string(line))
}

// abort is what AssemblyScript calls for throw: (message, file, line, column).
func (i *instance) abort(s []uint64) {
	text := i.utf16(uint32(s[0]))
	if file := i.utf16(uint32(s[1])); file != "" {
		text += fmt.Sprintf(" at %s:%d:%d", file, uint32(s[2]), uint32(s[3]))
	}
	panic(abortFault(text))
}

// utf16 reads a string of AssemblyScript, whose length in octets is before it.
// It is for a message only: what cannot be read is empty.
func (i *instance) utf16(ptr uint32) string {
	n, ok := i.mem.ReadUint32Le(ptr - 4)
	if !ok || ptr < 4 || n > maxLine {
		return ""
	}
	b, ok := i.mem.Read(ptr, n)
	if !ok {
		return ""
	}
	units := make([]uint16, len(b)/2)
	for j := range units {
		units[j] = binary.LittleEndian.Uint16(b[2*j:])
	}
	return string(utf16.Decode(units))
}

// What WASI functions return.
const (
	wasiOK      = 0
	wasiBadFile = 8
	wasiInval   = 28
)

// wasi is what there is of WASI: output, clocks, random octets and an end. All
// else says that there is no such file.
var wasi = map[string]func(i *instance, s []uint64) uint32{
	"args_get":          func(*instance, []uint64) uint32 { return wasiOK },
	"environ_get":       func(*instance, []uint64) uint32 { return wasiOK },
	"args_sizes_get":    wasiNoStrings,
	"environ_sizes_get": wasiNoStrings,
	"clock_res_get": func(i *instance, s []uint64) uint32 {
		binary.LittleEndian.PutUint64(i.view("clock_res_get", s[1], 8), 1000)
		return wasiOK
	},
	"clock_time_get": func(i *instance, s []uint64) uint32 {
		binary.LittleEndian.PutUint64(i.view("clock_time_get", s[2], 8), uint64(i.clock(uint32(s[0]))))
		return wasiOK
	},
	"fd_fdstat_get": func(i *instance, s []uint64) uint32 {
		if uint32(s[0]) > 2 {
			return wasiBadFile
		}
		b := i.view("fd_fdstat_get", s[1], 24)
		clear(b)
		b[0] = 2 // a character device
		return wasiOK
	},
	"fd_write":      wasiWrite,
	"poll_oneoff":   wasiPoll,
	"random_get":    wasiRandom,
	"sched_yield":   func(*instance, []uint64) uint32 { return wasiOK },
	"proc_exit":     wasiExit,
	"proc_raise":    wasiExit,
	"sock_shutdown": func(*instance, []uint64) uint32 { return wasiBadFile },
}

func wasiNoStrings(i *instance, s []uint64) uint32 {
	clear(i.view("sizes_get", s[0], 4))
	clear(i.view("sizes_get", s[1], 4))
	return wasiOK
}

// clock is nanoseconds of the wall clock (id 0) or of a monotonic one. Without
// the grant it is made up: it begins at the same time in each instance, and each
// reading is a millisecond later, lest somebody waits for ever.
func (i *instance) clock(id uint32) int64 {
	if i.gen.set.Grants.Clock {
		if id == 0 {
			return time.Now().UnixNano()
		}
		return int64(time.Since(processStart))
	}
	i.ticks++
	now := i.ticks * int64(time.Millisecond)
	if id == 0 {
		now += 1640995200e9 // 2022-01-01
	}
	return now
}

var processStart = time.Now()

// wasiWrite is fd_write(fd, iovecs, count, written).
func wasiWrite(i *instance, s []uint64) uint32 {
	var to *tail
	switch uint32(s[0]) {
	case 1:
		to = &i.stdout
	case 2:
		to = &i.stderr
	default:
		return wasiBadFile
	}
	count := uint32(s[2])
	if count > 1024 {
		return wasiInval
	}
	vecs := slices.Clone(i.view("fd_write", s[1], uint64(count)*8))
	total := uint32(0)
	for ; len(vecs) > 0; vecs = vecs[8:] {
		i.charge(crossing)
		b := i.view("fd_write", uint64(binary.LittleEndian.Uint32(vecs)), uint64(binary.LittleEndian.Uint32(vecs[4:])))
		to.write(b)
		total += uint32(len(b))
	}
	binary.LittleEndian.PutUint32(i.view("fd_write", s[3], 4), total)
	return wasiOK
}

// wasiRandom is random_get(pointer, length). Without the grant the octets are
// always the same.
func wasiRandom(i *instance, s []uint64) uint32 {
	i.charge(int(uint32(s[1])))
	b := i.view("random_get", s[0], s[1])
	if i.gen.set.Grants.Random {
		_, _ = rand.Read(b) // never fails
		return wasiOK
	}
	for j := range b {
		b[j] = byte(j)*167 + 13
	}
	return wasiOK
}

// wasiPoll is poll_oneoff(subscriptions, events, count, happened): everything
// that is waited for happens at once. Nobody may sleep in a call; who sleeps in
// a loop runs out of instructions.
func wasiPoll(i *instance, s []uint64) uint32 {
	const subscription, event = 48, 32
	n := uint32(s[2])
	if n == 0 || n > 1024 {
		return wasiInval
	}
	i.charge(10_000)
	in := i.view("poll_oneoff", s[0], uint64(n)*subscription)
	out := i.view("poll_oneoff", s[1], uint64(n)*event)
	for range n {
		userdata, kind := binary.LittleEndian.Uint64(in), in[8]
		clear(out[:event])
		binary.LittleEndian.PutUint64(out, userdata)
		out[10] = kind
		in, out = in[subscription:], out[event:]
	}
	binary.LittleEndian.PutUint32(i.view("poll_oneoff", s[3], 4), n)
	return wasiOK
}

func wasiExit(_ *instance, s []uint64) uint32 { panic(exitFault(uint32(s[0]))) }
