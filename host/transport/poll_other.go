//go:build !linux

package transport

import "net"

// A poller does nothing here: who reads and writes does it by net's means.
type poller struct{}

func (*poller) init(*net.TCPConn) {}
