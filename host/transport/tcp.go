package transport

import "net"

// A tcpConn is a *net.TCPConn that may do more than one: see poller.
type tcpConn struct {
	*net.TCPConn
	poller poller

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
	c.poller.init(tc)
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

// WriteBuffers is b.WriteTo(c) in one system call. net.Buffers makes it only
// for the net package's own types, which this one hides.
func (c *tcpConn) WriteBuffers(b *net.Buffers) (int64, error) { return b.WriteTo(c.TCPConn) }
