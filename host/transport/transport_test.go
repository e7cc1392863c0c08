package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; it is not spent.
const patience = 10 * time.Second

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// want waits for the next value of ch.
func want[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))
	a := &authority{key: key, cert: must[*x509.Certificate](t)(x509.ParseCertificate(der)), pool: x509.NewCertPool()}
	a.pool.AddCert(a.cert)
	return a
}

// issue returns certificate and key for names, in PEM.
func (a *authority) issue(t *testing.T, notAfter time.Time, names ...string) (cert, key []byte) {
	t.Helper()
	k := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: must[*big.Int](t)(rand.Int(rand.Reader, big.NewInt(1<<62))), NotAfter: notAfter,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(k))})
}

// files writes a new pair for names into dir.
func (a *authority) files(t *testing.T, dir string, names ...string) CertPair {
	t.Helper()
	cert, key := a.issue(t, time.Now().Add(time.Hour), names...)
	p := CertPair{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, p.Certificate, cert)
	write(t, p.Key, key)
	return p
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// server returns the TLS configuration of a server with these names.
func (a *authority) server(t *testing.T, names ...string) *tls.Config {
	t.Helper()
	return ServerTLS(must[*Certificates](t)(LoadCertificates(nil, a.files(t, t.TempDir(), names...))))
}

// loopback opens a listener on 127.0.0.1.
func loopback(t *testing.T, cfg *tls.Config) (net.Listener, netip.AddrPort) {
	t.Helper()
	return listenOn(t, "127.0.0.1:0", cfg)
}

func listenOn(t *testing.T, bind string, cfg *tls.Config) (net.Listener, netip.AddrPort) {
	t.Helper()
	ln := must[net.Listener](t)(Listen(t.Context(), ListenConfig{Bind: bind, TLS: cfg}))
	t.Cleanup(func() { _ = ln.Close() })
	return ln, netip.MustParseAddrPort(ln.Addr().String())
}

// serve runs Serve until the test ends.
func serve(t *testing.T, ln net.Listener, handle func(net.Conn)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, nil, handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// pair returns the two ends of a connection between Dial and Listen.
func pair(t *testing.T) (dialed, accepted net.Conn) {
	t.Helper()
	ln, addr := loopback(t, nil)
	d := &Dialer{Guard: Guard{Allow: openAll}}
	dialed = must[net.Conn](t)(d.Dial(t.Context(), Target{Host: "127.0.0.1", Port: addr.Port()}))
	accepted = must[net.Conn](t)(ln.Accept())
	t.Cleanup(func() { _ = dialed.Close(); _ = accepted.Close() })
	return dialed, accepted
}

var openAll = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// A logTap hands every record on, as a map.
type logTap chan map[string]any

func (l logTap) Enabled(context.Context, slog.Level) bool { return true }
func (l logTap) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logTap) WithGroup(string) slog.Handler            { return l }
func (l logTap) Handle(_ context.Context, r slog.Record) error {
	m := map[string]any{"level": r.Level, "msg": r.Message}
	r.Attrs(func(a slog.Attr) bool { m[a.Key] = a.Value.Any(); return true })
	l <- m
	return nil
}

func tlsPair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	ca := newAuthority(t)
	ln, addr := loopback(t, ca.server(t, "127.0.0.1"))
	dialed := make(chan net.Conn, 1)
	go func() {
		d := &Dialer{Guard: Guard{Allow: openAll}}
		dialed <- must[net.Conn](t)(d.Dial(t.Context(), Target{Host: "127.0.0.1", Port: addr.Port(), Secure: true, TLS: &tls.Config{RootCAs: ca.pool}}))
	}()
	server = must[net.Conn](t)(ln.Accept())
	if err := Handshake(t.Context(), server, 0); err != nil {
		t.Fatal(err)
	}
	client = <-dialed
	t.Cleanup(func() { _ = server.Close(); _ = client.Close() })
	return server, client
}
