package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrptest"
	"github.com/parley-msrp/parley/host/transport"
)

// lines are log records, one a line.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestProxy: hooks and log get the address of the client, over TLS and TCP; a
// proxy that sends no header is told of in the log.
func TestProxy(t *testing.T) {
	for _, secure := range []bool{false, true} {
		ca := msrptest.NewAuthority(t)
		seen := make(chan *hook.AuthRequest, 10)
		server, err := auth.NewServer(auth.ServerConfig{Realm: "example"})
		if err != nil {
			t.Fatal(err)
		}
		var log lines
		u := uri(relayURI)
		u.Secure = secure
		r, err := New(Config{Auth: server, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Listeners: []Listener{{
			Name: "edge", URI: u, PlainAuth: true, Hooks: Hooks{Authenticate: hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{
				Name: "tap", Provider: hook.Func[hook.AuthRequest, hook.AuthReply](func(_ context.Context, q *hook.AuthRequest) (a hook.AuthReply, err error) {
					seen <- q
					a.Verdict, a.Password = hook.Done, "secret of "+q.Username
					return a, nil
				}),
			})},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		cfg := transport.ListenConfig{Bind: "127.0.0.1:0", ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
		if secure {
			cfg.TLS = &tls.Config{Certificates: []tls.Certificate{*ca.Certificate("relay.example")}}
		}
		ln, err := transport.Listen(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := r.Serve(ctx, "edge", ln); err != nil {
				t.Error(err)
			}
		})
		dial := func(header string) net.Conn {
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(nc, header); err != nil {
				t.Fatal(err)
			}
			return nc
		}
		nc := dial("PROXY TCP4 192.0.2.1 198.51.100.2 12345 2855\r\n")
		if secure {
			nc = tls.Client(nc, &tls.Config{RootCAs: ca.Pool, ServerName: "relay.example"})
		}
		c := &client{Peer: msrptest.NewPeer(t, nc), uri: "msrps://alice.invalid:9/alicesession;tcp"}
		c.auth(t, u.String(), "alice")
		if q := <-seen; q.RemoteAddr.String() != "192.0.2.1:12345" || q.LocalAddr.String() != "198.51.100.2:2855" {
			t.Errorf("the hook was told %s at %s", q.RemoteAddr, q.LocalAddr)
		}
		c.Close()

		bad := dial("MSRP a786 AUTH\r\n")
		_ = bad.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := bad.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("without a header: %v", err)
		}
		addr := bad.LocalAddr().String()
		bad.Close()
		cancel()
		serving.Wait()
		r.Close()
		for _, part := range []string{
			"listener=edge remote=192.0.2.1:12345",
			`level=INFO msg="connection not served" conn=2 listener=edge remote=` + addr + ` err="PROXY header: there is none, but \"MSRP a786 AU\""`,
		} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("secure=%v: the log has no %s:\n%s", secure, part, log.String())
			}
		}
		if strings.Count(log.String(), addr) != 1 || strings.Contains(log.String(), nc.LocalAddr().String()) {
			t.Errorf("the proxy's address is in the log:\n%s", log.String())
		}
	}
}
