package transport

import (
	"context"
	"crypto/tls"
	"net"
)

// A tcpConn is a *net.TCPConn that may do more than one: see poller.
type tcpConn struct {
	*net.TCPConn
	poller poller
	now    bool // Read is not to wait; owned by the goroutine that reads

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

// A tlsConn is TLS on a tcpConn.
type tlsConn struct {
	*tls.Conn
	raw *tcpConn
}

// newTLS makes TLS of nc by crypto/tls's Client or Server.
func newTLS(nc net.Conn, side func(net.Conn, *tls.Config) *tls.Conn, cfg *tls.Config) net.Conn {
	tc := side(nc, cfg)
	if raw, ok := nc.(*tcpConn); ok {
		return &tlsConn{tc, raw}
	}
	return tc
}

// A Secure connection is one of TLS.
type Secure interface {
	net.Conn
	NetConn() net.Conn
	HandshakeContext(context.Context) error
	ConnectionState() tls.ConnectionState
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
