//go:build unix

package transport

import (
	"net"
	"os"
	"syscall"
)

// A waiter keeps what a wait needs, so that waiting allocates nothing.
type waiter struct {
	// Set by init, then read-only.
	conn *net.TCPConn
	raw  syscall.RawConn
	peek func(fd uintptr) bool

	// Owned by the goroutine that reads.
	err error // what peek found, other than octets
}

func (w *waiter) init(tc *net.TCPConn) {
	w.conn = tc
	w.raw, _ = tc.SyscallConn() // fails only for a nil connection
	w.peek = w.peekFD
}

// peekFD reports whether a read of fd would not block.
func (w *waiter) peekFD(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		switch err {
		case nil: // octets, or the end of the stream
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false // sleep in the runtime's poller
		default:
			// The kernel reports a socket's error once, and this was it.
			w.err = &net.OpError{
				Op: "read", Net: "tcp", Source: w.conn.LocalAddr(), Addr: w.conn.RemoteAddr(),
				Err: os.NewSyscallError("recvfrom", err),
			}
			return true
		}
	}
}

func (w *waiter) wait() error {
	w.err = nil
	if err := w.raw.Read(w.peek); err != nil {
		return err
	}
	return w.err
}
