package transport

import "net"

// A tcpConn is a *net.TCPConn that can be waited for without a buffer, so that
// an idle connection costs no memory but its own.
type tcpConn struct {
	*net.TCPConn
	waiter waiter

	// Owned by who accepted it, until Handshake has returned; then read-only.
	proxied       bool         // a PROXY header is still due
	remote, local *net.TCPAddr // that the header named; nil = those of the socket
}

// newConn wraps nc if it is a TCP connection.
func newConn(nc net.Conn, proxied bool) net.Conn {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	c := &tcpConn{TCPConn: tc, proxied: proxied}
	c.waiter.init(tc)
	return c
}

// RemoteAddr returns the address of the client, also behind a trusted proxy.
func (c *tcpConn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.TCPConn.RemoteAddr()
}

// LocalAddr returns the address that the client connected to.
func (c *tcpConn) LocalAddr() net.Addr {
	if c.local != nil {
		return c.local
	}
	return c.TCPConn.LocalAddr()
}

// WaitRead blocks until Read has something to say: octets, the end of the
// stream, or an error. It consumes no octet, but it does consume the socket's
// pending error: one that it returns may not come again from Read. It fails
// once the read deadline has passed. Only one goroutine may read or wait.
//
// Where the system cannot tell, it returns nil at once, and Read is what blocks.
func (c *tcpConn) WaitRead() error { return c.waiter.wait() }

// WriteBuffers is b.WriteTo(c) in one system call. net.Buffers makes it only
// for the net package's own types, which this one hides.
func (c *tcpConn) WriteBuffers(b *net.Buffers) (int64, error) { return b.WriteTo(c.TCPConn) }
