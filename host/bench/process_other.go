//go:build !linux

package bench

import "errors"

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
