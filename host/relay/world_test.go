package relay

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
	"github.com/parley-msrp/parley/host/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	relayURI = "msrp://relay.example:2855;tcp"
	coreURI  = "msrp://core.example:2856;tcp"
)

// A world is a relay with an in-memory network around it, in virtual time.
type world struct {
	t     testing.TB
	r     *Relay
	lns   map[string]*msrptest.Listener
	hosts fakeDialer

	cancel  context.CancelFunc
	serving sync.WaitGroup
}

// fakeDialer knows hosts by name.
type fakeDialer struct {
	mu    sync.Mutex
	hosts map[string]*msrptest.Listener
	seen  []transport.Target
	delay time.Duration
}

func (d *fakeDialer) Dial(ctx context.Context, t transport.Target) (net.Conn, error) {
	d.mu.Lock()
	d.seen = append(d.seen, t)
	ln := d.hosts[t.Host]
	d.mu.Unlock()
	select {
	case <-time.After(d.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if ln == nil {
		return nil, fmt.Errorf("no host %s", t.Host)
	}
	return ln.Dial(), nil
}

func users(names ...string) *hook.Chain[hook.AuthRequest, hook.AuthReply] {
	table := map[string]hook.User{}
	for _, n := range names {
		table[n] = hook.User{Password: "secret of " + n}
	}
	s, err := hook.NewStatic(table)
	if err != nil {
		panic(err)
	}
	return hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{Name: "static", Provider: s})
}

func uri(s string) msrp.URI {
	u, err := msrp.ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

// inWorld runs f in a bubble with a relay that listens at relayURI and coreURI.
func inWorld(t *testing.T, change func(*Config), f func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		defer w.stop()
		f(w)
	})
}

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	server, err := auth.NewServer(auth.ServerConfig{Realm: "example"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, lns: map[string]*msrptest.Listener{}}
	w.hosts.hosts = map[string]*msrptest.Listener{}
	w.hosts.delay = 10 * time.Millisecond // a network is never at once
	hooks := Hooks{Authenticate: users("alice", "bob", "carol")}
	cfg := Config{
		Auth: server, Dialer: &w.hosts,
		Listeners: []Listener{
			{Name: "edge", URI: uri(relayURI), PlainAuth: true, Hooks: hooks},
			{Name: "core", URI: uri(coreURI), PlainAuth: true, Hooks: hooks},
		},
	}
	if change != nil {
		change(&cfg)
	}
	if w.r, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for _, l := range cfg.Listeners {
		ln := msrptest.NewListener()
		w.lns[l.Name] = ln
		w.serving.Go(func() {
			if err := w.r.Serve(ctx, l.Name, ln); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

// stop stops the relay and checks that nothing is left.
func (w *world) stop() {
	w.t.Helper()
	if err := w.r.Check(); err != nil {
		w.t.Errorf("tables: %v", err)
	}
	w.cancel()
	w.serving.Wait()
	w.r.Close()
	if st := w.r.Stats(); st.Connections != 0 || st.Sessions != 0 || len(w.r.sessions) != 0 {
		w.t.Errorf("left over: %+v", st)
	}
}

// connect opens a connection to a listener.
func (w *world) connect(listener string) *msrptest.Peer {
	w.t.Helper()
	return msrptest.NewPeer(w.t, w.lns[listener].Dial())
}

// host makes a next hop that the relay can dial, and accepts what it dials.
func (w *world) host(name string) *msrptest.Listener {
	ln := msrptest.NewListener()
	w.hosts.mu.Lock()
	defer w.hosts.mu.Unlock()
	w.hosts.hosts[name] = ln
	return ln
}

// accept returns the next connection that the relay dialled.
func (w *world) accept(ln *msrptest.Listener) *msrptest.Peer {
	w.t.Helper()
	nc, err := ln.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	return msrptest.NewPeer(w.t, nc)
}

// A client is a peer that has authenticated.
type client struct {
	*msrptest.Peer
	uri string // its own
	use string // Use-Path
	tid int
}

// id returns a fresh transaction id.
func (c *client) id() string {
	c.tid++
	return fmt.Sprintf("client%04d", c.tid)
}

// client connects to a listener and authenticates.
func (w *world) client(listener, user string) *client {
	w.t.Helper()
	c := &client{Peer: w.connect(listener), uri: "msrp://" + user + ".invalid:9/" + user + "session;tcp"}
	c.use = c.auth(w.t, w.base(listener), user)
	return c
}

func (w *world) base(listener string) string { return w.r.cfg().listeners[listener].URI.String() }

// auth does the two rounds of AUTH and returns Use-Path.
func (c *client) auth(t testing.TB, to, user string, headers ...string) string {
	t.Helper()
	f := c.tryAuth(t, to, user, "secret of "+user, headers...)
	if f.Code != 200 {
		t.Fatalf("AUTH answered %d %s", f.Code, f.Comment)
	}
	return f.Get("Use-Path")
}

// tryAuth returns the second response.
func (c *client) tryAuth(t testing.TB, to, user, password string, headers ...string) msrptest.Frame {
	t.Helper()
	ac := auth.Client{Username: user, Password: password}
	tid := c.id()
	c.Send(frame(tid, "AUTH", to, c.uri) + "-------" + tid + "$")
	f := c.WantResponse(tid, 401)
	path := strings.Fields(to)
	answer, err := ac.Answer([]string{f.Get("WWW-Authenticate")}, "AUTH", path[len(path)-1])
	if err != nil {
		t.Fatal(err)
	}
	tid = c.id()
	c.Send(frame(tid, "AUTH", to, c.uri, append(headers, "Authorization: "+answer)...) + "-------" + tid + "$")
	f = c.Next()
	if !f.Response || f.TID != tid {
		t.Fatalf("no response to AUTH but %s", f.Raw)
	}
	if f.Code == 200 {
		if f.Get("Authentication-Info") == "" {
			t.Error("200 without Authentication-Info") // RELAY-73
		}
		if err := ac.Success(f.Get("Authentication-Info")); err != nil {
			t.Error(err)
		}
	}
	return f
}

// frame is a start line and headers.
func frame(tid, method, to, from string, headers ...string) string {
	s := fmt.Sprintf("MSRP %s %s\nTo-Path: %s\nFrom-Path: %s\n", tid, method, to, from)
	for _, h := range headers {
		s += h + "\n"
	}
	return s
}

// send is a whole SEND with a text body.
func send(tid, to, from, id, body string, headers ...string) string {
	headers = append([]string{"Message-ID: " + id, fmt.Sprintf("Byte-Range: 1-%d/%d", len(body), len(body))}, headers...)
	return frame(tid, "SEND", to, from, append(headers, "Content-Type: text/plain", "", body, "-------"+tid+"$")...)
}

// answer returns the Authorization for a challenge.
func answer(t testing.TB, challenge, user, to string) string {
	t.Helper()
	ac := auth.Client{Username: user, Password: "secret of " + user}
	s, err := ac.Answer([]string{challenge}, "AUTH", to)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
