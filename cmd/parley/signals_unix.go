//go:build unix

package main

import (
	"os"
	"syscall"
)

// drainSignals refuse what is new, and end nothing.
var drainSignals = []os.Signal{syscall.SIGUSR1}
