package host_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

// withWeb adds listeners for WebSockets, with TLS and, on loopback, without.
var withWeb = strings.Replace(twoListeners, "providers:", `
  wss:
    uri: "msrps://localhost:PORT3;ws"
    tls: {certificate: DIR/good.pem, key: DIR/good.key}
    advertise: tls
    hooks: {authenticate: [users]}
  ws:
    uri: "msrp://localhost:PORT4;ws"
    plain_auth: true
    advertise: tcp
    hooks: {authenticate: [users]}
providers:`, 1)

// webClient connects an endpoint by a WebSocket, and authenticates.
func (w *site) webClient(listener, name string) *agent {
	w.t.Helper()
	secure := listener == "wss"
	scheme := map[bool]string{true: "msrps", false: "msrp"}[secure]
	a := &agent{
		t: w.t, e: msrp.NewEndpoint(msrp.EndpointConfig{Linger: -1, Chunk: 16 << 10}), got: make(chan string, 1000), ends: make(chan error, 1),
		uri: scheme + "://" + name + ".invalid:2855/" + name + msrp.NewID(16) + ";ws",
	}
	address := fmt.Sprintf("localhost:%d", w.ports[listener])
	nc, err := net.Dial("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	if secure {
		tc := tls.Client(nc, &tls.Config{RootCAs: w.roots, ServerName: "localhost"})
		if tc.HandshakeContext(w.t.Context()) != nil {
			w.t.Fatal("no TLS")
		}
		nc = tc
	}
	ws, err := transport.ConnectWebSocket(context.Background(), nc, address, "/msrp", nil, transport.WebSocketConfig{Protocol: "msrp"})
	if err != nil {
		w.t.Fatal(err)
	}
	a.c = a.e.NewConn(nil)
	go func() { a.ends <- a.e.Serve(a.c, ws) }()
	w.t.Cleanup(func() {
		a.c.Close(nil)
		<-a.ends
	})
	r := a.auth(fmt.Sprintf("%s://%s;ws", scheme, address), name)
	if !r.OK() {
		w.t.Fatalf("AUTH: %d %s", r.Code, r.Comment)
	}
	a.use, _ = r.Header("Use-Path")
	return a
}

// TestWebSocketSockets sends both ways between clients on WebSockets and on
// TCP, over real sockets (WS-5, WS-14, WS-50).
func TestWebSocketSockets(t *testing.T) {
	w := newSite(t, withWeb)
	body := make([]byte, 10<<20)
	rand.Read(body)
	connect := func(listener, name string) *agent {
		if strings.HasPrefix(listener, "ws") {
			return w.webClient(listener, name)
		}
		return w.client(listener, name, listener == "tls", nil)
	}
	for _, tt := range []struct{ a, b string }{{"wss", "tls"}, {"wss", "wss"}, {"ws", "tcp"}} {
		a, b := connect(tt.a, "alice"), connect(tt.b, "bob")
		answer := b.session()
		s := a.session(a.use, b.use, b.uri)
		for _, chunk := range []int{0, 64 << 10, 2048} {
			body := body
			if chunk != 0 {
				body = body[:1<<20] // the pieces are the point, not the octets
			}
			if err := a.send(s, body, chunk); err != nil {
				t.Fatalf("%s to %s in %d: %v", tt.a, tt.b, chunk, err)
			}
			if got := <-b.got; got != string(body) {
				t.Fatalf("%s to %s in %d: other octets", tt.a, tt.b, chunk)
			}
			if err := b.send(answer, body, chunk); err != nil {
				t.Fatalf("%s to %s in %d: %v", tt.b, tt.a, chunk, err)
			}
			if got := <-a.got; got != string(body) {
				t.Fatalf("%s to %s in %d: other octets", tt.b, tt.a, chunk)
			}
		}
	}
}
