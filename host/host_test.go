package host_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/config"
	"github.com/parley-msrp/parley/host/dnstest"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
	"github.com/parley-msrp/parley/host/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A site is a relay on real sockets, with certificates for its names.
type site struct {
	t     *testing.T
	s     *host.Server
	cfg   host.Config
	end   context.CancelFunc // what SIGTERM does
	wait  func()             // until Serve has returned
	dir   string
	roots *x509.CertPool
	ports map[string]int // by listener
	text  string         // the configuration
}

// newSite starts a relay. In the text, PORT1, PORT2 … stand for free ports and
// DIR for a directory with ca.pem, good.pem and other.pem (for localhost and
// for other.example) and their keys.
func newSite(t *testing.T, text string) *site {
	return newSiteOf(t, msrptest.NewAuthority(t), text, nil)
}

// newSiteOf is newSite with an authority of its own.
func newSiteOf(t *testing.T, ca *msrptest.Authority, text string, log *slog.Logger) *site {
	t.Helper()
	w := &site{t: t, dir: t.TempDir(), ports: map[string]int{}}
	w.certificates(ca)
	text = strings.ReplaceAll(text, "DIR", w.dir)
	for i := range 4 {
		ln, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		text = strings.ReplaceAll(text, fmt.Sprintf("PORT%d", i+1), fmt.Sprint(ln.Addr().(*net.TCPAddr).Port))
		ln.Close()
	}
	w.text = text
	cfg, err := config.Parse([]byte(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "drain:") {
		cfg.Drain.Timeout = 0
	}
	w.cfg = cfg
	if w.s, err = host.New(cfg, log); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := w.s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	for name := range cfg.Listeners {
		w.ports[name] = w.s.Addr(name).(*net.TCPAddr).Port
	}
	w.end = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = w.s.Serve(ctx)
	}()
	w.wait = func() { <-done }
	t.Cleanup(func() {
		if err := w.s.Relay().Check(); err != nil {
			t.Error(err)
		}
		cancel()
		if <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *site) certificates(ca *msrptest.Authority) {
	w.t.Helper()
	w.roots = ca.Pool
	if err := os.WriteFile(filepath.Join(w.dir, "ca.pem"), ca.PEM, 0o600); err != nil {
		w.t.Fatal(err)
	}
	ca.Files(w.dir, "good", "localhost")
	ca.Files(w.dir, "other", "other.example")
}

// An agent is an endpoint with a connection and a session.
type agent struct {
	t    *testing.T
	e    *msrp.Endpoint
	c    *msrp.Conn
	uri  string
	use  string
	got  chan string // bodies, in order
	ends chan error
}

func (a *agent) Receive(_ *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) {
	return &msrp.Buffer{Max: 32 << 20, Then: func(b []byte, err error) error {
		if err == nil {
			a.got <- string(b)
		}
		return err
	}}, msrp.Status{}
}

func (a *agent) Closed(*msrp.Session, error) {}

// dial connects an agent to a listener; tap, if not nil, may wrap its connection.
func (w *site) dial(listener, name string, secure bool, tap func(net.Conn) net.Conn) *agent {
	w.t.Helper()
	a := &agent{
		t: w.t, e: msrp.NewEndpoint(msrp.EndpointConfig{Linger: -1}), got: make(chan string, 1000), ends: make(chan error, 1),
		uri: uriOf(name, secure),
	}
	nc := w.connect(listener, secure)
	if tap != nil {
		nc = tap(nc)
	}
	a.c = a.e.NewConn(nil)
	go func() { a.ends <- a.e.Serve(a.c, nc) }()
	w.t.Cleanup(func() {
		a.c.Close(nil)
		<-a.ends
	})
	return a
}

// uriOf makes a URI for an endpoint.
func uriOf(name string, secure bool) string {
	scheme := "msrp"
	if secure {
		scheme = "msrps"
	}
	return scheme + "://" + name + ".invalid:9/" + name + msrp.NewID(16) + ";tcp"
}

func (w *site) connect(listener string, secure bool) net.Conn {
	w.t.Helper()
	d := transport.Dialer{Guard: transport.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}
	nc, err := d.Dial(w.t.Context(), transport.Target{
		Host: "localhost", Port: uint16(w.ports[listener]), Secure: secure, TLS: &tls.Config{RootCAs: w.roots},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return nc
}

// client is dial and AUTH.
func (w *site) client(listener, name string, secure bool, tap func(net.Conn) net.Conn) *agent {
	w.t.Helper()
	a := w.dial(listener, name, secure, tap)
	a.enter(w, listener, name)
	return a
}

// enter gets a session URI from a listener.
func (a *agent) enter(w *site, listener, name string) {
	w.t.Helper()
	scheme := strings.SplitN(a.uri, ":", 2)[0]
	r := a.auth(fmt.Sprintf("%s://localhost:%d;tcp", scheme, w.ports[listener]), name)
	if !r.OK() {
		w.t.Fatalf("AUTH: %d %s", r.Code, r.Comment)
	}
	a.use, _ = r.Header("Use-Path")
}

// auth does the two rounds of an AUTH and returns the last response.
func (a *agent) auth(to, user string) *msrp.Reply {
	a.t.Helper()
	digest := auth.Client{Username: user, Password: "secret"}
	rq := &msrp.Request{Method: []byte("AUTH"), Paths: msrp.AppendPaths(nil, []byte(to), []byte(a.uri), nil)}
	for {
		r, err := a.c.RoundTrip(a.t.Context(), rq)
		if err != nil {
			a.t.Fatal(err)
		}
		if r.Code != 401 || rq.After != nil {
			return r
		}
		hops := strings.Fields(to)
		answer, err := digest.Answer(r.Headers("WWW-Authenticate"), "AUTH", hops[len(hops)-1])
		if err != nil {
			a.t.Fatal(err)
		}
		rq.After = []byte("Authorization: " + answer + "\r\n")
	}
}

// session opens a session to a peer; without hops it waits for one.
func (a *agent) session(hops ...string) *msrp.Session {
	a.t.Helper()
	cfg := msrp.SessionConfig{Local: a.uri, Handler: a}
	if len(hops) > 0 {
		cfg.Peer, cfg.Conn = hops, a.c
	}
	s, err := a.e.NewSession(cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

func (a *agent) send(s *msrp.Session, body []byte, chunk int) error {
	a.t.Helper()
	o, err := s.Send(a.t.Context(), &msrp.Message{
		ContentType: "text/plain", Body: bytes.NewReader(body), Success: true, Chunk: chunk,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 50*time.Second)
	defer cancel()
	return o.Wait(ctx)
}

const twoListeners = `
listeners:
  tls:
    uri: "msrps://localhost:PORT1;tcp"
    tls: {certificate: DIR/good.pem, key: DIR/good.key}
    hooks: {authenticate: [users]}
  tcp:
    uri: "msrp://localhost:PORT2;tcp"
    plain_auth: true
    hooks: {authenticate: [users]}
providers:
  users: {type: static, users: {alice: {password: secret}, bob: {password: secret}}}
relay:
  realm: example
  dial: {allow: [127.0.0.0/8, "::1/128"], ca: DIR/ca.pem}
`

// TestSockets sends both ways between clients on TLS and TCP, in chunks of
// three sizes, over real sockets.
func TestSockets(t *testing.T) {
	w := newSite(t, twoListeners)
	body := make([]byte, 10<<20)
	rand.Read(body)
	for _, tt := range []struct {
		from, to string
	}{{"tls", "tls"}, {"tls", "tcp"}, {"tcp", "tls"}, {"tcp", "tcp"}} {
		a := w.client(tt.from, "alice", tt.from == "tls", nil)
		b := w.client(tt.to, "bob", tt.to == "tls", nil)
		answer := b.session()
		s := a.session(a.use, b.use, b.uri)
		for _, chunk := range []int{0, 64 << 10, 2048} {
			if err := a.send(s, body, chunk); err != nil {
				t.Fatalf("%s to %s in %d: %v", tt.from, tt.to, chunk, err)
			}
			if got := <-b.got; got != string(body) {
				t.Fatalf("%s to %s in %d: other octets", tt.from, tt.to, chunk)
			}
		}
		if err := b.send(answer, []byte("thank you"), 0); err != nil {
			t.Fatal(err)
		}
		if got := <-a.got; got != "thank you" {
			t.Errorf("got %q", got)
		}
	}
}

// TestDialTLS: a next hop is dialled with TLS if its URI says so, and only if
// its certificate is for its name (RFC 4976 §6.1, RELAY-28).
func TestDialTLS(t *testing.T) {
	w := newSite(t, twoListeners)
	a := w.client("tcp", "alice", false, nil)
	for file, want := range map[string]error{"good": nil, "other": msrp.ErrTimeout} {
		cert, err := tls.LoadX509KeyPair(filepath.Join(w.dir, file+".pem"), filepath.Join(w.dir, file+".key"))
		if err != nil {
			t.Fatal(err)
		}
		ln, err := tls.Listen("tcp", "localhost:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		peer, stop := listen(t, ln, "msrps")
		s := a.session(a.use, peer.uri)
		if err := a.send(s, []byte("hello"), 0); !errors.Is(err, want) {
			t.Errorf("%s certificate: %v", file, err)
		}
		s.Close()
		if want == nil && <-peer.got != "hello" {
			t.Error("other octets")
		}
		stop()
	}
}

// listen makes an agent that waits for a connection at ln.
func listen(t *testing.T, ln net.Listener, scheme string) (peer *agent, stop func()) {
	peer = &agent{t: t, e: msrp.NewEndpoint(msrp.EndpointConfig{}), got: make(chan string, 10)}
	peer.uri = fmt.Sprintf("%s://localhost:%d/peer0123456789;tcp", scheme, ln.Addr().(*net.TCPAddr).Port)
	peer.session()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- transport.Serve(ctx, ln, slog.New(slog.DiscardHandler), func(nc net.Conn) {
			c := peer.e.NewConn(nil)
			defer context.AfterFunc(ctx, func() { c.Close(nil) })()
			_ = peer.e.Serve(c, nc) // it ends when the relay does, or the test
		})
	}()
	return peer, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestGuarded: by default the relay is not sent to addresses on the inside
// (RELAY-123).
func TestGuarded(t *testing.T) {
	w := newSite(t, strings.Replace(twoListeners, `allow: [127.0.0.0/8, "::1/128"], `, "", 1))
	a := w.client("tls", "alice", true, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := a.session(a.use, fmt.Sprintf("msrp://127.0.0.1:%d/x0123456789;tcp", ln.Addr().(*net.TCPAddr).Port))
	if err := a.send(s, []byte("hello"), 0); !errors.Is(err, msrp.ErrTimeout) { // 408, next hop not reached
		t.Errorf("%v", err)
	}
}

// TestGarbageTLS: what is no TLS ends, and holds up nobody.
func TestGarbageTLS(t *testing.T) {
	w := newSite(t, twoListeners)
	for range 50 {
		nc, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", w.ports["tls"]))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(nc, "MSRP abcd SEND\r\n\r\n")
		_, _ = io.Copy(io.Discard, nc) // an alert, then the end
		nc.Close()
	}
	a := w.client("tls", "alice", true, nil)
	if a.use == "" {
		t.Error("no Use-Path")
	}
}

// TestReload: new users and a new certificate count without a restart.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "users")
	ha1 := func(user string) string {
		return user + ":example:" + auth.HA1(auth.MD5, user, "example", "secret") + "\n"
	}
	if err := os.WriteFile(file, []byte(ha1("alice")), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newSite(t, strings.Replace(twoListeners, "providers:\n  users: {type: static, users: {alice: {password: secret}, bob: {password: secret}}}",
		"providers:\n  users: {type: htdigest, file: "+file+"}", 1))
	w.client("tls", "alice", true, nil)
	if err := os.WriteFile(file+".new", []byte(ha1("alice")+ha1("bob")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	// The change is seen after it settled; until then bob is refused.
	deadline := time.Now().Add(20 * time.Second)
	for !w.knows("bob") {
		if time.Now().After(deadline) {
			t.Fatal("the new user is not known")
		}
	}
}

// knows reports whether a user can authenticate.
func (w *site) knows(user string) bool {
	w.t.Helper()
	a := w.dial("tcp", user, false, nil)
	defer a.c.Close(nil)
	return a.auth(fmt.Sprintf("msrp://localhost:%d;tcp", w.ports["tcp"]), user).OK()
}

// TestTwoRelays: alice has a session at an outer relay by way of an inner one,
// and chats through both with bob, who is at the outer one (RELAY-7, RELAY-62).
func TestTwoRelays(t *testing.T) {
	ca := msrptest.NewAuthority(t)
	text := strings.Replace(twoListeners, "relay:\n", "relay:\n  relays: {ca: DIR/ca.pem}\n", 1)
	out, in := newSiteOf(t, ca, text, nil), newSiteOf(t, ca, text, nil)
	a := in.client("tls", "alice", true, nil)
	r := a.auth(fmt.Sprintf("%s msrps://localhost:%d;tcp", a.use, out.ports["tls"]), "alice")
	if !r.OK() {
		t.Fatalf("AUTH: %d %s", r.Code, r.Comment)
	}
	use, _ := r.Header("Use-Path")
	own, ok := strings.CutPrefix(use, a.use+" ")
	if !ok {
		t.Fatalf("Use-Path: %s", use)
	}
	b := out.client("tls", "bob", true, nil)
	reply := b.session()
	s := a.session(a.use, own, b.use, b.uri)
	body := strings.Repeat("a long message ", 10_000)
	if err := a.send(s, []byte(body), 0); err != nil {
		t.Fatal(err)
	}
	if <-b.got != body {
		t.Error("other octets")
	}
	if err := b.send(reply, []byte("thank you"), 0); err != nil {
		t.Fatal(err)
	}
	if got := <-a.got; got != "thank you" {
		t.Errorf("%q", got)
	}
	// A stranger reaches alice by the path that she would give him.
	p := out.dial("tcp", "peer", false, nil)
	if err := p.send(p.session(own, a.use, a.uri), []byte("hello"), 0); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("without TLS to an msrps URI: %v", err) // CORE-4
	}
	q := out.dial("tls", "peer", true, nil)
	if err := q.send(q.session(own, a.use, a.uri), []byte("hello"), 0); err != nil {
		t.Error(err)
	}
	if got := <-a.got; got != "hello" {
		t.Errorf("%q", got)
	}
}

// TestRelayBySRV: the AUTH of a client finds an outer relay, without port, by
// SRV records; the first of them leads nowhere. What follows uses the URI that
// the outer relay gave, with its port (RELAY-20, RELAY-23).
func TestRelayBySRV(t *testing.T) {
	ca := msrptest.NewAuthority(t)
	dns := dnstest.New(t, "")
	outer := strings.NewReplacer(
		"relay:\n", "relay:\n  relays: {ca: DIR/ca.pem}\n",
		"key: DIR/good.key}", "key: DIR/good.key, more: [{certificate: DIR/other.pem, key: DIR/other.key}]}\n    aliases: [other.example]",
	).Replace(twoListeners)
	inner := strings.Replace(twoListeners, "dial: {", `dial: {resolver: "`+dns.Addr+`", `, 1)
	out, in := newSiteOf(t, ca, outer, nil), newSiteOf(t, ca, inner, nil)
	dns.Add(t, fmt.Sprintf(`
		_msrps._tcp.other.example. SRV 1 0 2855 nowhere.other.example.
		_msrps._tcp.other.example. SRV 2 0 %d r1.other.example.
		r1.other.example. A 127.0.0.1`, out.ports["tls"]))
	a := in.client("tls", "alice", true, nil)
	r := a.auth(a.use+" msrps://other.example;tcp", "alice")
	if !r.OK() {
		t.Fatalf("AUTH: %d %s", r.Code, r.Comment)
	}
	use, _ := r.Header("Use-Path")
	own, ok := strings.CutPrefix(use, a.use+" ")
	if !ok || !strings.Contains(own, fmt.Sprintf(":%d/", out.ports["tls"])) {
		t.Fatalf("Use-Path: %s", use)
	}
	b := out.client("tls", "bob", true, nil)
	reply := b.session()
	if err := a.send(a.session(a.use, own, b.use, b.uri), []byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if got := <-b.got; got != "hello" {
		t.Errorf("%q", got)
	}
	if err := b.send(reply, []byte("thank you"), 0); err != nil {
		t.Fatal(err)
	}
	if got := <-a.got; got != "thank you" {
		t.Errorf("%q", got)
	}
}
