package parley

import (
	"github.com/parley-msrp/parley/sdk/abi"
	"github.com/parley-msrp/parley/sdk/go/internal/host"
)

// A Level is how much a line of the log matters. It is an [io.Writer], too, of
// which each Write is a line: log.New(parley.LevelInfo, "", 0).
type Level uint32

// The levels.
const (
	LevelError Level = abi.LevelError // somebody must act
	LevelWarn  Level = abi.LevelWarn  // the operator should know
	LevelInfo  Level = abi.LevelInfo  // rare and of interest
	LevelDebug Level = abi.LevelDebug // decisions
)

// Error logs a line: somebody must act.
func Error(line string) { host.Log(abi.LevelError, line) }

// Warn logs a line: the operator should know.
func Warn(line string) { host.Log(abi.LevelWarn, line) }

// Info logs a line: rare and of interest.
func Info(line string) { host.Log(abi.LevelInfo, line) }

// Debug logs a line: decisions.
func Debug(line string) { host.Log(abi.LevelDebug, line) }

// Write logs a line, without the line break at its end.
func (l Level) Write(line []byte) (int, error) {
	text := string(line)
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	host.Log(uint32(l), text)
	return len(line), nil
}
