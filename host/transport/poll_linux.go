package transport

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A poller makes the system calls of a tcpConn that net has no name for: a read that
// waits without a buffer, and a write that does not wait.
type poller struct {
	// Set by init, then read-only.
	conn      *net.TCPConn
	raw       syscall.RawConn
	readable  func(fd uintptr) bool // the methods, so that a call allocates nothing
	writeable func(fd uintptr) bool

	reading lent    // owned by the goroutine that reads
	writing batched // owned by the one that writes
}

type lender = interface {
	Lend() []byte
	TakeBack()
}

type lent struct {
	by  lender
	n   int
	err error
}

type batched struct {
	b   [][]byte
	n   int
	err error
}

func (p *poller) init(tc *net.TCPConn) {
	p.conn = tc
	p.raw, _ = tc.SyscallConn() // fails only for a nil connection
	p.readable, p.writeable = p.readFD, p.writeFD
}

// readFD reports whether fd had something to say.
func (p *poller) readFD(fd uintptr) bool {
	b := p.reading.by.Lend()
	for {
		n, err := syscall.Read(int(fd), b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			p.reading.by.TakeBack()
			return false // sleep in the runtime's poller
		case err != nil:
			p.reading.err = p.fail("read", err)
		case n == 0:
			p.reading.err = io.EOF
		default:
			p.reading.n = n
		}
		return true
	}
}

func (p *poller) read(by lender) (int, error) {
	p.reading = lent{by: by}
	err := p.raw.Read(p.readable)
	n := p.reading.n
	if err == nil {
		err = p.reading.err
	}
	p.reading = lent{}
	return n, err
}

func (p *poller) writeFD(fd uintptr) bool {
	for {
		n, err := unix.Writev(int(fd), p.writing.b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
		case err != nil:
			p.writing.err = p.fail("write", err)
		default:
			p.writing.n = n
		}
		return true // do not wait
	}
}

func (p *poller) write(b [][]byte) (int, error) {
	p.writing = batched{b: b}
	err := p.raw.Write(p.writeable)
	n := p.writing.n
	if err == nil {
		err = p.writing.err
	}
	p.writing = batched{}
	return n, err
}

func (p *poller) fail(op string, err error) error {
	return &net.OpError{
		Op: op, Net: "tcp", Source: p.conn.LocalAddr(), Addr: p.conn.RemoteAddr(),
		Err: os.NewSyscallError(op, err),
	}
}

// ReadLent reads into what b lends once there is something to read, and gives it back
// before it waits: so an idle connection costs no memory but its own. It fails once
// the read deadline has passed. Only one goroutine may read.
func (c *tcpConn) ReadLent(b lender) (int, error) { return c.poller.read(b) }

// TryWrite writes as much of b as the system takes at once, and says how many octets
// that was. It fails if a write deadline has passed. Only one goroutine may write.
func (c *tcpConn) TryWrite(b [][]byte) (int, error) { return c.poller.write(b) }
