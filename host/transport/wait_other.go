//go:build !unix

package transport

import "net"

// A waiter does nothing where a socket cannot be peeked through the poller.
type waiter struct{}

func (*waiter) init(*net.TCPConn) {}

func (*waiter) wait() error { return nil }
