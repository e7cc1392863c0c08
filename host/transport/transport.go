// Package transport turns addresses into connections: it listens and accepts,
// resolves and dials, speaks TLS with certificates that renew themselves, and
// guards a server against being sent to places it must not reach.
//
//	certs, err := transport.LoadCertificates(log, transport.CertPair{Certificate: "relay.crt", Key: "relay.key"})
//	go certs.Watch(ctx)
//	ln, err := transport.Listen(ctx, transport.ListenConfig{Bind: ":2855", TLS: transport.ServerTLS(certs)})
//	err = transport.Serve(ctx, ln, log, func(nc net.Conn) {
//		if transport.Handshake(ctx, nc, 0) == nil {
//			serve(nc)
//		}
//	})
//
//	d := &transport.Dialer{Guard: transport.Guard{Allow: peers}}
//	nc, err := d.Dial(ctx, transport.Target{Host: "relay.example.com", Port: 2855, Secure: true})
//
//	ws, err := transport.AcceptWebSocket(ctx, nc, transport.WebSocketConfig{Protocol: "msrp"}) // after Handshake
//	for ws.NextMessage() == nil { message, err := io.ReadAll(ws) … }
//
// It knows nothing of MSRP: neither URIs nor frames, nor which client
// certificate makes a peer a relay.
//
// A connection of plain TCP that comes from Listen or Dialer.Dial has further methods
// beside those of net.Conn, to be found with a type assertion:
//
//	WriteBuffers(*net.Buffers) (int64, error)  // one writev
//
// and on Linux
//
//	TryWrite([][]byte) (int, error)            // one writev, and no waiting
//	ReadNow([]byte) (int, error)               // 0 and no error if there is nothing to read
//	WaitReadable() error                       // needs no buffer
//
// of which one of TLS has the last two.
package transport

import (
	"net"
	"time"
)

// keepAlive finds a dead peer in about two minutes. MSRP has no keep-alive of
// its own, and RFC 4976 sessions may rightly be silent for their whole life.
var keepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     60 * time.Second,
	Interval: 15 * time.Second,
	Count:    4,
}

// orDefault resolves a setting for which zero is the default.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
