//go:build !unix

package main

import "os"

// drainSignals: there is none here.
var drainSignals []os.Signal
