package host_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/config"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

// TestRestart: a server that has ended with connections open, and starts again on its
// ports, is found there within a second, and knows no old URI: 481.
func TestRestart(t *testing.T) {
	ca := msrptest.NewAuthority(t)
	w := newSiteOf(t, ca, twoListeners, nil)
	var clients []*agent
	for i := range 20 {
		clients = append(clients, w.client([]string{"tls", "tcp"}[i%2], "alice", i%2 == 0, nil))
	}
	ports := w.ports
	w.end()
	w.wait()

	begin := time.Now()
	again := newSiteOf(t, ca, w.text, nil) // the same ports; it fails if they cannot be bound
	if again.ports["tls"] != ports["tls"] || again.ports["tcp"] != ports["tcp"] {
		t.Fatalf("ports %v, want %v", again.ports, ports)
	}
	for _, listener := range []string{"tls", "tcp"} {
		b := again.client(listener, "bob", listener == "tls", nil)
		for _, old := range clients {
			if strings.HasPrefix(old.use, "msrps:") != (listener == "tls") {
				continue // 403 without TLS
			}
			r, err := b.c.RoundTrip(t.Context(), &msrp.Request{
				Method: []byte("SEND"), Paths: msrp.AppendPaths(nil, []byte(old.use+" "+old.uri), []byte(b.uri), nil),
				Before: []byte("Message-ID: m123\r\n"), Range: msrp.ByteRange{Start: 1, Total: 0}, Flag: msrp.Complete,
			})
			if err != nil || r.Code != 481 {
				t.Fatalf("SEND to an old URI: %+v %v", r, err)
			}
		}
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestInheritedComesBack: a listener with a socket that was passed to the server can be
// taken from the configuration and put back; its clients wait, and are served.
func TestInheritedComesBack(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := socket.Addr().String()
	text := strings.ReplaceAll(`
listeners:
  edge: {uri: "msrp://localhost:PORT;tcp", bind: "127.0.0.1:1", plain_auth: true, hooks: {authenticate: [users]}}
  more: {uri: "msrp://localhost:9;tcp", bind: "127.0.0.1:0"}
providers: {users: {type: static, users: {alice: {password: secret}}}}
relay: {realm: example}
`, "PORT", fmt.Sprint(socket.Addr().(*net.TCPAddr).Port))
	parse := func(text string) host.Config {
		t.Helper()
		cfg, err := config.Parse([]byte(text), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Drain.Timeout = 0
		return cfg
	}
	s, err := host.New(parse(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Inherit(map[string]net.Listener{"edge": socket})
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	reload := func(text string) {
		t.Helper()
		for { // until Serve has begun
			_, err := s.Reload(t.Context(), parse(text))
			if err == nil {
				return
			}
			if !strings.Contains(err.Error(), "does not run") {
				t.Fatal(err)
			}
		}
	}
	w := &site{t: t, s: s, ports: map[string]int{"edge": socket.Addr().(*net.TCPAddr).Port}}
	before := w.client("edge", "alice", false, nil)
	var without []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "  edge:") {
			without = append(without, line)
		}
	}
	for range 2 {
		reload(strings.Join(without, ""))
		waits := w.dial("edge", "alice", false, nil)
		reload(text)
		waits.enter(w, "edge", "alice")
	}
	if before.c.Err() != nil {
		t.Errorf("the connection that was there: %v", before.c.Err())
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if nc, err := net.Dial("tcp", address); err == nil {
		nc.Close()
		t.Error("the socket is open after the end")
	}
}
