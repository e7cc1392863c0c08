package transport

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A poller makes the system calls of a tcpConn that net has no name for: reads and
// writes that do not wait, and a wait that does not read.
type poller struct {
	// Set by init, then read-only.
	conn                *net.TCPConn
	raw                 syscall.RawConn
	read, wait, written func(fd uintptr) bool // the methods, so that a call allocates nothing

	// Owned by the goroutine that reads.
	in struct {
		b       []byte
		n       int
		err     error
		waited  bool
		drained bool // the last read got less than it had room for
	}
	// Owned by the goroutine that writes.
	out struct {
		b   [][]byte
		n   int
		err error
	}
}

func (p *poller) init(tc *net.TCPConn) {
	p.conn = tc
	p.raw, _ = tc.SyscallConn() // fails only for a nil connection
	p.read, p.wait, p.written = p.readFD, p.waitFD, p.writeFD
}

func (p *poller) readFD(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), p.in.b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
		case err != nil:
			p.in.err = p.fail("read", err)
		case n == 0:
			p.in.err = io.EOF
		default:
			p.in.n = n
		}
		return true // do not wait
	}
}

// waitFD reports whether a read of fd would not wait. It takes little stack, as who
// waits is to have little.
func (p *poller) waitFD(fd uintptr) bool {
	if p.in.waited {
		return true // or it was woken for nothing, and a read will show it
	}
	poll := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll[:], 0)
	p.in.waited = n == 0 && err == nil
	return !p.in.waited // else sleep in the runtime's poller
}

func (p *poller) writeFD(fd uintptr) bool {
	for {
		n, err := unix.Writev(int(fd), p.out.b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
		case err != nil:
			p.out.err = p.fail("write", err)
		default:
			p.out.n = n
		}
		return true // do not wait
	}
}

func (p *poller) fail(op string, err error) error {
	return &net.OpError{
		Op: op, Net: "tcp", Source: p.conn.LocalAddr(), Addr: p.conn.RemoteAddr(),
		Err: os.NewSyscallError(op, err),
	}
}

// ReadNow is Read that does not wait: it returns 0 and no error when there is nothing to
// read. Only one goroutine may read or wait.
func (c *tcpConn) ReadNow(b []byte) (int, error) {
	p := &c.poller
	if p.in.drained {
		p.in.drained = false
		return 0, nil // WaitReadable will know better, and is called next
	}
	p.in.b, p.in.n, p.in.err = b, 0, nil
	err := p.raw.Read(p.read)
	p.in.b = nil
	if err == nil {
		err = p.in.err
	}
	p.in.drained = p.in.n > 0 && p.in.n < len(b)
	return p.in.n, err
}

// WaitReadable waits until a read has something to say: octets, the end of the stream, or
// an error. It fails once the read deadline has passed.
func (c *tcpConn) WaitReadable() error {
	p := &c.poller
	p.in.waited, p.in.drained = false, false
	return p.raw.Read(p.wait)
}

// TryWrite writes as much of b as the system takes at once, and says how many octets
// that was. It fails if a write deadline has passed. Only one goroutine may write.
func (c *tcpConn) TryWrite(b [][]byte) (int, error) {
	p := &c.poller
	p.out.b, p.out.n, p.out.err = b, 0, nil
	err := p.raw.Write(p.written)
	p.out.b = nil
	if err == nil {
		err = p.out.err
	}
	return p.out.n, err
}

// Read is that of the socket, but for a tlsConn that is not to wait.
func (c *tcpConn) Read(b []byte) (int, error) {
	if !c.now {
		return c.TCPConn.Read(b)
	}
	n, err := c.ReadNow(b)
	if n == 0 && err == nil {
		err = errNothing
	}
	return n, err
}

// errNothing is temporary, so that crypto/tls goes on where it stopped.
var errNothing error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// ReadNow is that of tcpConn, for octets of TLS; the handshake must be over.
func (c *tlsConn) ReadNow(b []byte) (int, error) {
	c.raw.now = true
	n, err := c.Conn.Read(b)
	c.raw.now = false
	if err == errNothing {
		err = nil
	}
	return n, err
}

// WaitReadable is to be called when ReadNow had nothing to read.
func (c *tlsConn) WaitReadable() error { return c.raw.WaitReadable() }
