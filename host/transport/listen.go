package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// A ListenConfig says where to listen.
type ListenConfig struct {
	// Bind is "host:port", "[v6]:port" or ":port". A literal address means its
	// family only: "0.0.0.0:2855" is all of IPv4, "[::]:2855" all of IPv6,
	// ":2855" both. Port 0 lets the system choose. It has no default.
	Bind string
	// Socket, if set, is open already, as by systemd: Bind is not used. It stays the
	// caller's, who must not Accept from it: what Listen returns is a duplicate, so that
	// closing that one is no farewell. It must be a *net.TCPListener.
	Socket net.Listener
	// TLS makes the listener's connections Secure; see ServerTLS. Default: plain TCP.
	TLS *tls.Config
	// ProxyFrom are the proxies in front of the listener. What connects from
	// these addresses begins with a header of the PROXY protocol, version 1 or 2,
	// which Handshake reads; anybody else has no say about addresses. Default: none.
	ProxyFrom []netip.Prefix
	// Log gets one line when the listener is open. Default: none.
	Log *slog.Logger
}

// Listen opens a listener. Its Accept never waits for a peer: a TLS connection
// has still to shake hands, in a goroutine of its own, with Handshake. ctx
// bounds the look-up of Bind's host, not the life of the listener.
func Listen(ctx context.Context, cfg ListenConfig) (net.Listener, error) {
	var ln net.Listener
	var err error
	if cfg.Socket != nil {
		ln, err = duplicate(cfg.Socket)
	} else {
		ln, err = bind(ctx, cfg.Bind)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Log != nil {
		cfg.Log.Info("listening", "address", ln.Addr().String(), "tls", cfg.TLS != nil, "inherited", cfg.Socket != nil)
	}
	return &listener{Listener: ln, tls: cfg.TLS, proxies: cfg.ProxyFrom}, nil
}

// bind opens a TCP listener.
func bind(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// With network "tcp", Go would open 0.0.0.0 for IPv6 as well, to the
	// surprise of who wrote it, and of a second listener on [::].
	network := "tcp"
	if addr, err := netip.ParseAddr(host); err == nil {
		network = "tcp6"
		if addr.Unmap().Is4() {
			network = "tcp4"
		}
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	lc.SetMultipathTCP(false)               // each call on such a socket costs more, whatever the peer speaks
	return lc.Listen(ctx, network, address) // an error says "listen tcp <address>" itself
}

// duplicate returns a listener of its own on the socket of ln.
func duplicate(ln net.Listener) (net.Listener, error) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listen: the socket for %s is not of TCP, but of %s", ln.Addr(), ln.Addr().Network())
	}
	f, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("listen on the socket for %s: %w", ln.Addr(), err)
	}
	defer f.Close()
	if ln, err = net.FileListener(f); err != nil {
		return nil, fmt.Errorf("listen on the socket for %s: %w", tcp.Addr(), err)
	}
	return inherited{ln}, nil
}

// inherited gives the connections of a socket that others made our keep-alive, which
// bind's have from the start.
type inherited struct{ net.Listener }

func (l inherited) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetKeepAliveConfig(keepAlive) // it fails when the connection has ended
	}
	return nc, err
}

type listener struct {
	net.Listener
	tls     *tls.Config
	proxies []netip.Prefix
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	nc = newConn(nc, trusts(l.proxies, nc.RemoteAddr()))
	if l.tls != nil {
		nc = newTLS(nc, tls.Server, l.tls)
	}
	return nc, nil
}

// defaultHandshake leaves time for a mobile client's few round trips, and
// bounds what a silent peer can hold.
const defaultHandshake = 10 * time.Second

// ProxyHeader does the first part of Handshake, for who wants to know the addresses
// before the TLS handshake. ctx bounds it.
func ProxyHeader(ctx context.Context, nc net.Conn) error {
	if tc, ok := nc.(Secure); ok {
		nc = tc.NetConn()
	}
	if c, ok := nc.(*tcpConn); ok {
		return c.acceptProxied(ctx)
	}
	return nil
}

// Handshake completes what comes before the first octet of a connection from
// Listen, within timeout: zero = 10 s, negative = no bound but ctx. That is the
// PROXY header of one from a trusted proxy, which RemoteAddr and LocalAddr then
// follow (a *ProxyError tells what is wrong with it), and the TLS handshake. A
// connection it failed for is of no more use.
func Handshake(ctx context.Context, nc net.Conn, timeout time.Duration) error {
	tc, secure := nc.(Secure)
	if timeout = orDefault(timeout, defaultHandshake); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	if err := ProxyHeader(ctx, nc); err != nil {
		return err
	}
	if !secure {
		return nil
	}
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("tls handshake: %w", err)
	}
	return nil
}

// Accept errors are retried after minBackoff, twice that, … up to maxBackoff:
// out of descriptors is the usual one, and only time cures it.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Serve accepts connections from ln and calls handle with each, in a goroutine
// of its own.
//
//  1. When ctx is cancelled, Serve returns nil. It always leaves ln closed.
//  2. It returns only when every handle has. Telling them to end is up to the
//     caller, as ctx does.
//  3. A connection is closed when its handle returns, or panics; a panic is
//     logged and costs nothing but that connection.
//  4. An error of Accept is retried, unless ln was closed by somebody else:
//     then Serve returns it.
func Serve(ctx context.Context, ln net.Listener, log *slog.Logger, handle func(net.Conn)) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	closeLn := sync.OnceFunc(func() { _ = ln.Close() }) // nothing can be done about its error
	stop := context.AfterFunc(ctx, closeLn)
	defer func() {
		stop()
		closeLn() // the loop may have seen ctx first
	}()

	var handlers sync.WaitGroup
	defer handlers.Wait()
	backoff := minBackoff
	for {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = nc.Close() // came while we were closing
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		case err != nil:
			log.Warn("accept", "err", err, "retry_in", backoff)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, maxBackoff)
		default:
			backoff = minBackoff
			handlers.Go(func() { serveConn(nc, log, handle) })
		}
	}
}

func serveConn(nc net.Conn, log *slog.Logger, handle func(net.Conn)) {
	defer nc.Close()
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic while serving a connection",
				"remote", nc.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	handle(nc)
}
