package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// names is a Resolver that knows a few names.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, _, host string) (addrs []netip.Addr, err error) {
	found, ok := n[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for _, a := range found {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

func (n names) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func TestDial(t *testing.T) {
	ln, addr := loopback(t, nil)
	serve(t, ln, func(nc net.Conn) { _, _ = io.WriteString(nc, "hello") })
	resolver := names{
		"one.example.com":     {"127.0.0.1"},
		"mapped.example.com":  {"::ffff:127.0.0.1"},
		"second.example.com":  {"127.0.0.2", "127.0.0.1"}, // nothing listens at the first
		"guarded.example.com": {"10.0.0.1", "127.0.0.1"},  // the first is refused
		"six.example.com":     {"::1"},
		"both.example.com":    {"::1", "127.0.0.1"},
		"many.example.com":    {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.8", "127.0.0.1"},
		"none.example.com":    {},
	}
	v4 := netip.MustParseAddr("127.0.0.1")
	tests := []struct {
		name string
		Target
		err string // part of it; "" = none
	}{
		{name: "numeric", Target: Target{Host: "127.0.0.1"}},
		{name: "mapped", Target: Target{Host: "::ffff:127.0.0.1"}},
		{name: "name", Target: Target{Host: "one.example.com"}},
		{name: "name with mapped address", Target: Target{Host: "mapped.example.com"}},
		{name: "second address", Target: Target{Host: "second.example.com"}},
		{name: "second address after a refused one", Target: Target{Host: "guarded.example.com"}},
		{name: "source and mapped address", Target: Target{Host: "mapped.example.com", Source: v4}},
		{name: "source", Target: Target{Host: "both.example.com", Source: v4}},
		{
			name: "source of the wrong family", Target: Target{Host: "six.example.com", Source: v4},
			err: "connect to six.example.com:PORT: no IPv4 address to reach from source 127.0.0.1",
		},
		{
			name: "source of the wrong family, numeric", Target: Target{Host: "127.0.0.1", Source: netip.IPv6Loopback()},
			err: "no IPv6 address to reach from source ::1",
		},
		{name: "too many addresses", Target: Target{Host: "many.example.com"}, err: "10.0.0.8"},
		{name: "no address", Target: Target{Host: "none.example.com"}, err: "the name has no address"},
		{name: "unknown name", Target: Target{Host: "unknown.example.com"}, err: "no such host"},
		{name: "no host", err: "host or port is missing"},
		{name: "bad source", Target: Target{Host: "127.0.0.1", Source: netip.MustParseAddr("192.0.2.1")}, err: "bind"},
	}
	d := &Dialer{Resolver: resolver, Guard: Guard{Allow: prefixes("127.0.0.0/8", "::1/128")}, Timeout: patience}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.Port = addr.Port()
			nc, err := d.Dial(t.Context(), tt.Target)
			if tt.err != "" {
				part := strings.ReplaceAll(tt.err, "PORT", addr.String()[len("127.0.0.1:"):])
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want an error with %q", err, part)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if got, err := io.ReadAll(nc); string(got) != "hello" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	t.Run("no port", func(t *testing.T) {
		if _, err := d.Dial(t.Context(), Target{Host: "127.0.0.1"}); err == nil {
			t.Error("dialed port 0")
		}
	})
	t.Run("leaves from source", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("only Linux has all of 127.0.0.0/8")
		}
		src := netip.MustParseAddr("127.0.0.3")
		nc := must[net.Conn](t)(d.Dial(t.Context(), Target{Host: "127.0.0.1", Port: addr.Port(), Source: src}))
		defer nc.Close()
		if got := netip.MustParseAddrPort(nc.LocalAddr().String()).Addr(); got != src {
			t.Errorf("left from %s", got)
		}
	})
	t.Run("IPv6 loopback", func(t *testing.T) {
		needIPv6(t)
		ln, addr := listenOn(t, "[::1]:0", nil)
		serve(t, ln, func(net.Conn) {})
		target := Target{Host: "six.example.com", Port: addr.Port(), Source: netip.IPv6Loopback()}
		nc := must[net.Conn](t)(d.Dial(t.Context(), target))
		_ = nc.Close()
	})
}

func TestDialGuard(t *testing.T) {
	ln, addr := loopback(t, nil)
	d := &Dialer{Resolver: names{"public.example.com": {"127.0.0.1"}}}
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1", "public.example.com"} {
		_, err := d.Dial(t.Context(), Target{Host: host, Port: addr.Port()})
		var refused *GuardError
		if !errors.As(err, &refused) {
			t.Errorf("dial %s: %v", host, err)
		} else if refused.Host != host || refused.Addr != addr.Addr() {
			t.Errorf("dial %s: refused %+v", host, refused)
		}
	}
	// The same dialer, for a target that may.
	nc := must[net.Conn](t)(d.Dial(t.Context(), Target{
		Host: "public.example.com", Port: addr.Port(), Allow: prefixes("127.0.0.1/32"),
	}))
	_ = nc.Close()
	_ = must[net.Conn](t)(ln.Accept()).Close()

	_ = ln.Close()
	d.Guard.Allow = openAll
	_, err := d.Dial(t.Context(), Target{Host: "127.0.0.1", Port: addr.Port()})
	if refused := (*GuardError)(nil); errors.As(err, &refused) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused by the host, not by the guard: %v", err)
	}
}

func TestDialTLS(t *testing.T) {
	ca := newAuthority(t)
	resolver := names{
		"relay.example.com": {"127.0.0.1"}, "relay.example.com.": {"127.0.0.1"}, "other.example.com": {"127.0.0.1"},
	}
	tests := []struct {
		name  string
		certs []string // names in the server's certificate
		Target
		max uint16 // highest version of the server
		sni string
		err string // part of it; "" = none
	}{
		{name: "name", certs: []string{"relay.example.com"}, Target: Target{Host: "relay.example.com"}, sni: "relay.example.com"},
		{name: "trailing dot", certs: []string{"relay.example.com"}, Target: Target{Host: "relay.example.com."}, sni: "relay.example.com"},
		{name: "address", certs: []string{"127.0.0.1"}, Target: Target{Host: "127.0.0.1"}},
		{
			name: "given name", certs: []string{"example.com"}, sni: "example.com",
			Target: Target{Host: "relay.example.com", TLS: &tls.Config{RootCAs: ca.pool, ServerName: "example.com"}},
		},
		{
			name: "other name", certs: []string{"relay.example.com", "127.0.0.1"}, Target: Target{Host: "other.example.com"},
			err: "valid for relay.example.com, not other.example.com",
		},
		{
			name: "address not in the certificate", certs: []string{"relay.example.com"}, Target: Target{Host: "127.0.0.1"},
			err: "cannot validate certificate for 127.0.0.1",
		},
		{
			name: "unknown authority", certs: []string{"relay.example.com"},
			Target: Target{Host: "relay.example.com", TLS: &tls.Config{RootCAs: newAuthority(t).pool}}, err: "unknown authority",
		},
		{
			name: "TLS 1.1", certs: []string{"relay.example.com"}, max: tls.VersionTLS11,
			Target: Target{Host: "relay.example.com", TLS: &tls.Config{RootCAs: ca.pool, MinVersion: tls.VersionTLS10}}, err: "version",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := ca.server(t, tt.certs...)
			if tt.max != 0 {
				cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tt.max
			}
			ln, addr := loopback(t, cfg)
			sni := make(chan string, 1)
			serve(t, ln, func(nc net.Conn) {
				_ = Handshake(context.Background(), nc, 0)
				sni <- nc.(Secure).ConnectionState().ServerName
			})
			d := &Dialer{Resolver: resolver, Guard: Guard{Allow: openAll}}
			tt.Port, tt.Secure = addr.Port(), true
			if tt.TLS == nil {
				tt.TLS = &tls.Config{RootCAs: ca.pool}
			}
			before := tt.TLS.ServerName
			nc, err := d.Dial(t.Context(), tt.Target)
			if tt.TLS.ServerName != before {
				t.Error("the caller's TLS configuration was changed")
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if !nc.(Secure).ConnectionState().HandshakeComplete {
				t.Error("the handshake is not done")
			}
			if got := want(t, sni); got != tt.sni {
				t.Errorf("SNI %q, want %q", got, tt.sni)
			}
		})
	}
	t.Run("silent server", func(t *testing.T) {
		_, addr := loopback(t, nil) // the kernel accepts, nobody answers
		d := &Dialer{Guard: Guard{Allow: openAll}, Timeout: 10 * time.Millisecond}
		target := Target{Host: "127.0.0.1", Port: addr.Port(), Secure: true}
		if _, err := d.Dial(t.Context(), target); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a time-out: %v", err)
		}
		d.Timeout = -1
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := d.Dial(ctx, target); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline: %v", err)
		}
	})
}

// A stuckResolver waits for ctx.
type stuckResolver struct{ calls atomic.Int32 }

func (r *stuckResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	r.calls.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (r *stuckResolver) LookupSRV(ctx context.Context, _, _, _ string) (string, []*net.SRV, error) {
	<-ctx.Done()
	return "", nil, ctx.Err()
}

func TestMaxDials(t *testing.T) {
	for _, tt := range []struct{ max, dials, under int }{
		{max: 2, dials: 5, under: 2},
		{max: 0, dials: 300, under: 256},
		{max: -1, dials: 300, under: 300},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := new(stuckResolver)
			d := &Dialer{Resolver: r, MaxDials: tt.max}
			ctx, cancel := context.WithCancel(t.Context())
			errs := make(chan error, tt.dials)
			for range tt.dials {
				go func() {
					_, err := d.Dial(ctx, Target{Host: "relay.example.com", Port: 2855})
					errs <- err
				}()
			}
			synctest.Wait()
			if got := int(r.calls.Load()); got != tt.under {
				t.Errorf("MaxDials %d: %d dials under way, want %d", tt.max, got, tt.under)
			}
			cancel()
			for range tt.dials {
				if err := <-errs; !errors.Is(err, context.Canceled) {
					t.Errorf("Dial: %v", err)
				}
			}
		})
	}
}
