//go:build !linux

package bench

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// A process cannot be watched here.
type process struct {
	pid  int
	name string
}

func openProcess(int) (*process, error) {
	return nil, errors.New("only on Linux can the processor time and memory of others be read")
}

func (*process) cpu() cpu       { return cpu{} }
func resident([]*process) int64 { return 0 }
func ownCPU() cpu               { return cpu{} }

// CPUTime returns what a process has used so far; only on Linux.
func CPUTime(pid int) (time.Duration, error) {
	_, err := openProcess(pid)
	return 0, err
}

// Children returns the processes that a process has started; only on Linux.
func Children(pid int) ([]int, error) {
	_, err := openProcess(pid)
	return nil, err
}

// Machine says what this is: processors and system, and no names.
func Machine() string {
	return fmt.Sprintf("%d cores, %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
