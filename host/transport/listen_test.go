package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestListenFamilies(t *testing.T) {
	tests := []struct {
		bind   string
		v4, v6 bool // reachable over
	}{
		{"127.0.0.1:0", true, false},
		{"0.0.0.0:0", true, false},
		{"[::1]:0", false, true},
		{"[::]:0", false, true},
		{":0", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.bind, func(t *testing.T) {
			if tt.v6 {
				needIPv6(t)
			}
			ln, addr := listenOn(t, tt.bind, nil)
			serve(t, ln, func(nc net.Conn) { _, _ = io.WriteString(nc, "hello") })
			for host, ok := range map[string]bool{"127.0.0.1": tt.v4, "::1": tt.v6} {
				d := &Dialer{Guard: Guard{Allow: openAll}}
				nc, err := d.Dial(t.Context(), Target{Host: host, Port: addr.Port()})
				if (err == nil) != ok {
					t.Errorf("dial %s: %v, want success = %v", host, err, ok)
				}
				if err == nil {
					if got, err := io.ReadAll(nc); string(got) != "hello" {
						t.Errorf("read from %s: %q, %v", host, got, err)
					}
					_ = nc.Close()
				}
			}
		})
	}
}

func needIPv6(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 loopback: %v", err)
	}
	_ = ln.Close()
}

func TestListenRefuses(t *testing.T) {
	_, taken := loopback(t, nil)
	for _, bind := range []string{"", "127.0.0.1", "::1:0", "127.0.0.1:70000", taken.String()} {
		if ln, err := Listen(t.Context(), ListenConfig{Bind: bind}); err == nil {
			_ = ln.Close()
			t.Errorf("Bind %q was accepted", bind)
		}
	}
}

// A peer that does not speak must not keep others from being accepted.
func TestAcceptDoesNotShakeHands(t *testing.T) {
	ca := newAuthority(t)
	ln, addr := loopback(t, ca.server(t, "127.0.0.1"))
	silent := must[net.Conn](t)(net.Dial("tcp", addr.String()))
	defer silent.Close()
	nc := must[net.Conn](t)(ln.Accept())
	defer nc.Close()
	tc, ok := nc.(Secure)
	if !ok || tc.ConnectionState().HandshakeComplete {
		t.Fatalf("Accept returned a %T", nc)
	}
	if err := Handshake(t.Context(), nc, time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("handshake with a silent peer: %v", err)
	}
}

func TestHandshake(t *testing.T) {
	ca := newAuthority(t)
	stranger := newAuthority(t)
	cert, key := stranger.issue(t, time.Now().Add(time.Hour), "stranger.example.com")
	untrusted := must[tls.Certificate](t)(tls.X509KeyPair(cert, key))
	server := ca.server(t, "relay.example.com")
	tests := []struct {
		name   string
		client *tls.Config
		ok     bool
		certs  int // that the server sees
	}{
		{name: "no client certificate", client: &tls.Config{}, ok: true},
		{name: "untrusted client certificate", client: &tls.Config{Certificates: []tls.Certificate{untrusted}}, ok: true, certs: 1},
		{name: "TLS 1.2", client: &tls.Config{MaxVersion: tls.VersionTLS12}, ok: true},
		{name: "TLS 1.1", client: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.client.RootCAs, tt.client.ServerName = ca.pool, "relay.example.com"
			ln, addr := loopback(t, server)
			type result struct {
				certs int
				err   error
			}
			got := make(chan result, 1)
			serve(t, ln, func(nc net.Conn) {
				err := Handshake(context.Background(), nc, 0)
				got <- result{len(nc.(Secure).ConnectionState().PeerCertificates), err}
			})
			nc, err := tls.Dial("tcp", addr.String(), tt.client)
			if err == nil {
				defer nc.Close()
			}
			if (err == nil) != tt.ok {
				t.Errorf("client: %v", err)
			}
			if r := want(t, got); (r.err == nil) != tt.ok || r.certs != tt.certs {
				t.Errorf("server: %+v", r)
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		_, nc := pair(t)
		if err := Handshake(t.Context(), nc, 0); err != nil {
			t.Error(err)
		}
	})
}

// A fakeListener hands out what its script says, then blocks until closed.
type fakeListener struct {
	script []any // error or net.Conn
	calls  []time.Duration
	start  time.Time
	closed chan struct{}
	late   net.Conn // what Accept returns once closed, if not nil
}

func newFakeListener(script ...any) *fakeListener {
	return &fakeListener{script: script, start: time.Now(), closed: make(chan struct{})}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	l.calls = append(l.calls, time.Since(l.start))
	if len(l.script) > 0 {
		next := l.script[0]
		l.script = l.script[1:]
		if err, ok := next.(error); ok {
			return nil, err
		}
		return next.(net.Conn), nil
	}
	<-l.closed
	if l.late != nil {
		return l.late, nil
	}
	return nil, net.ErrClosed
}

func (l *fakeListener) Close() error   { close(l.closed); return nil }
func (l *fakeListener) Addr() net.Addr { return nil }

func TestServeBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("too many open files")
		var script []any
		for range 10 {
			script = append(script, full)
		}
		ours, theirs := net.Pipe()
		defer theirs.Close()
		ln := newFakeListener(append(script, ours, full)...)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, ln, nil, func(net.Conn) {}) }()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		var at []time.Duration
		var sum time.Duration
		for _, ms := range []time.Duration{0, 5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 0, 5} {
			sum += ms * time.Millisecond
			at = append(at, sum)
		}
		if diff := cmp.Diff(at, ln.calls); diff != "" {
			t.Errorf("times of Accept (-want +got):\n%s", diff)
		}
	})
}

// A lateContext is cancelled, but what waits for that with context.AfterFunc
// has not been told yet.
type lateContext struct{ context.Context }

func (lateContext) Value(any) any                { return nil } // hides the inner context from package context
func (lateContext) AfterFunc(func()) func() bool { return func() bool { return true } }

func TestServeStopsWhileItBacksOff(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ln := newFakeListener(errors.New("too many open files"))
			ctx, cancel := context.WithCancel(t.Context())
			if late {
				ctx = lateContext{ctx}
			}
			done := make(chan error, 1)
			go func() { done <- Serve(ctx, ln, nil, nil) }()
			synctest.Wait()
			cancel()
			if err := <-done; err != nil || time.Since(ln.start) != 0 {
				t.Errorf("Serve returned %v after %v", err, time.Since(ln.start))
			}
			select {
			case <-ln.closed:
			default:
				t.Error("the listener was left open")
			}
		})
	}
}

func TestServeWaitsForHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		late, lateEnd := net.Pipe()
		ln := newFakeListener(ours)
		ln.late = late
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, ln, nil, func(nc net.Conn) {
				if nc == late {
					t.Error("a connection accepted while closing was served")
				}
				<-release
			})
		}()
		synctest.Wait() // ours is being served
		cancel()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("Serve returned before its handler")
		default:
		}
		close(release)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		for _, end := range []net.Conn{theirs, lateEnd} {
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("connection not closed: %v", err)
			}
			_ = end.Close()
		}
	})
}

func TestServeListenerClosed(t *testing.T) {
	ln, _ := loopback(t, nil)
	_ = ln.Close()
	if err := Serve(t.Context(), ln, nil, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeSurvivesPanic(t *testing.T) {
	log := make(logTap, 10)
	ln, addr := loopback(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, ln, slog.New(log), func(nc net.Conn) {
			b := make([]byte, 1)
			if _, _ = nc.Read(b); b[0] == '!' {
				panic("boom")
			}
			_, _ = nc.Write(b)
		})
	}()
	for _, tt := range []struct{ send, want string }{{"!", ""}, {"a", "a"}} {
		nc := must[net.Conn](t)(net.Dial("tcp", addr.String()))
		_, _ = io.WriteString(nc, tt.send)
		if got, err := io.ReadAll(nc); string(got) != tt.want || err != nil {
			t.Errorf("sent %q, got %q, %v; want %q", tt.send, got, err, tt.want)
		}
		_ = nc.Close()
	}
	cancel()
	if err := want(t, done); err != nil {
		t.Errorf("Serve: %v", err)
	}
	r := want(t, log)
	stack, _ := r["stack"].(string)
	if r["level"] != slog.LevelError || r["panic"] != "boom" || !strings.Contains(stack, "TestServeSurvivesPanic") {
		t.Errorf("logged %v", r)
	}
	if _, err := netip.ParseAddrPort(r["remote"].(string)); err != nil {
		t.Errorf("logged remote: %v", err)
	}
}
