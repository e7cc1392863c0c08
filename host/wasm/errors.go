package wasm

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/tetratelabs/wazero/sys"
)

// A Kind says how a call of a plugin failed; it is fit to be a metric label.
type Kind string

// The kinds of failures. After all but the last five the instance is dropped; the
// last four are no fault of the plugin.
const (
	KindTrap     Kind = "trap"     // it trapped, panicked, aborted or exited
	KindBudget   Kind = "budget"   // it used up its instructions
	KindMemory   Kind = "memory"   // it trapped with its memory used up
	KindPointer  Kind = "pointer"  // it gave an import a pointer outside of its memory
	KindReply    Kind = "reply"    // its reply is malformed, or not one of this hook
	KindTimeout  Kind = "timeout"  // ByDeadline: its time was up, or the caller has left
	KindStart    Kind = "start"    // a new instance could not be made
	KindDeclared Kind = "declared" // it said that it has failed, or returned no verdict
	KindRequest  Kind = "request"  // it cannot be asked that: too large, or no such function
	KindBusy     Kind = "busy"     // no instance became free in time
	KindOpen     Kind = "open"     // it was not asked, since it fails again and again
	KindClosed   Kind = "closed"   // the host is closed
)

// An Error is a call of a plugin that failed.
type Error struct {
	Plugin       string
	Generation   uint64
	Hook         string // the function called
	Kind         Kind
	Message      string // one line
	Stack        string // of WebAssembly functions, innermost first
	Stderr       string // the end of what the call wrote to standard error
	Instructions int64  // that the call took
	cause        error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Hook, e.Kind, e.Message)
}

// Unwrap returns what the runtime said.
func (e *Error) Unwrap() error { return e.cause }

// LogValue is the error record.
func (e *Error) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("plugin", e.Plugin), slog.Uint64("generation", e.Generation), slog.String("hook", e.Hook),
		slog.String("kind", string(e.Kind)), slog.String("message", e.Message),
	}
	if e.Stack != "" {
		attrs = append(attrs, slog.String("stack", e.Stack))
	}
	if e.Stderr != "" {
		attrs = append(attrs, slog.String("stderr", e.Stderr))
	}
	if e.Instructions > 0 {
		attrs = append(attrs, slog.Int64("instructions", e.Instructions))
	}
	return slog.GroupValue(attrs...)
}

// Faults that imports panic with, for wazero to end the call.
var (
	errBudget  = errors.New("the instruction budget is used up")
	errPointer = errors.New("a pointer outside of its memory")
)

// pointerFault is errPointer with what was wrong.
type pointerFault struct {
	what        string
	ptr, length uint32
	memory      uint32
}

func (e pointerFault) Error() string {
	return fmt.Sprintf("%s: %d octets at %d, in a memory of %d", e.what, e.length, e.ptr, e.memory)
}
func (pointerFault) Is(err error) bool { return err == errPointer }

// exitFault is WASI's proc_exit.
type exitFault uint32

func (e exitFault) Error() string { return fmt.Sprintf("it exited with code %d", uint32(e)) }

// refusal is why a plugin that has run well is not used.
type refusal string

func (e refusal) Error() string { return string(e) }

// abortFault is AssemblyScript's abort.
type abortFault string

func (e abortFault) Error() string { return "abort: " + string(e) }

// What a record may hold of each, in bytes: a plugin chooses its words, and the
// names of its functions. The runtime cuts a stack at 30 frames.
const (
	maxMessage = 512
	maxFrame   = 200
)

// explain fills in what the runtime's error says: wazero's errors are a line
// and a stack trace.
func (e *Error) explain(err error) {
	e.cause = err
	e.Message, e.Stack, _ = strings.Cut(err.Error(), "\nwasm stack trace:\n")
	e.Message = strings.TrimSuffix(e.Message, " (recovered by wazero)")
	e.Message, _, _ = strings.Cut(e.Message, "\n")
	e.Message = printable(e.Message, maxMessage)
	var frames []string
	for frame := range strings.Lines(e.Stack) { // names in it are the plugin's
		if frame = strings.TrimSpace(frame); frame != "" {
			frames = append(frames, printable(frame, maxFrame))
		}
	}
	e.Stack = strings.Join(frames, "\n")
	var exit *sys.ExitError
	switch {
	case errors.Is(err, errBudget):
		e.Kind = KindBudget
	case errors.Is(err, errPointer):
		e.Kind = KindPointer
	case errors.As(err, &exit) && exit.ExitCode() == sys.ExitCodeDeadlineExceeded:
		e.Kind, e.Message = KindTimeout, "its time is up"
	case errors.As(err, &exit):
		e.Kind, e.Message = KindTimeout, "the caller does not wait any more"
	default:
		e.Kind = KindTrap
	}
}
