package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
	"github.com/parley-msrp/parley/host/transport"
)

// A network is relays with TLS, which find each other by name.
type network struct {
	t  *testing.T
	ca *msrptest.Authority

	mu     sync.Mutex
	relays map[string]*chainRelay
}

// A chainRelay is one of them.
type chainRelay struct {
	*Relay
	ln   net.Listener
	raw  *msrptest.Listener
	stop func()
}

func inNetwork(t *testing.T, f func(*network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &network{t: t, ca: msrptest.NewAuthority(t), relays: map[string]*chainRelay{}}
		defer func() {
			for name, r := range n.relays {
				synctest.Wait()
				if err := r.Check(); err != nil {
					t.Errorf("tables of %s: %v", name, err)
				}
				r.stop()
			}
		}()
		f(n)
	})
}

// relay starts a relay with these host names; the first is that of its URI.
func (n *network) relay(change func(*Config), names ...string) *chainRelay {
	n.t.Helper()
	server, err := auth.NewServer(auth.ServerConfig{Realm: "example", Key: bytes.Repeat([]byte(names[0][:1]), 32)})
	if err != nil {
		n.t.Fatal(err)
	}
	cert := n.ca.Certificate(names...)
	cfg := Config{
		Auth: server, Dialer: n, DialTLS: &tls.Config{RootCAs: n.ca.Pool}, Relays: Relays{Roots: n.ca.Pool},
		Listeners: []Listener{{
			Name: "edge", URI: uri("msrps://" + names[0] + ":2855;tcp"), Hooks: Hooks{Authenticate: users("alice", "bob")},
			Certificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		}},
	}
	if change != nil {
		change(&cfg)
	}
	r := &chainRelay{raw: msrptest.NewListener()}
	if r.Relay, err = New(cfg); err != nil {
		n.t.Fatal(err)
	}
	r.ln = tls.NewListener(r.raw, &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequestClientCert})
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := r.Serve(ctx, "edge", r.ln); err != nil {
			n.t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		serving.Wait()
		r.Close()
		if st := r.Stats(); st.Connections+st.Sessions+len(r.sessions)+len(r.inner) != 0 {
			n.t.Errorf("left over: %+v", st)
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.relays[names[0]] = r
	return r
}

// Dial implements Dialer.
func (n *network) Dial(ctx context.Context, t transport.Target) (net.Conn, error) {
	n.mu.Lock()
	r := n.relays[t.Host]
	n.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	if r == nil || !t.Secure {
		return nil, fmt.Errorf("no relay %s", t.Host)
	}
	return n.shake(ctx, r, t.Host, t.TLS.Clone())
}

func (n *network) shake(ctx context.Context, r *chainRelay, name string, cfg *tls.Config) (net.Conn, error) {
	cfg.ServerName = name
	nc := tls.Client(r.raw.Dial(), cfg)
	if err := nc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// peer connects to a relay; with a certificate as another relay.
func (n *network) peer(r *chainRelay, cert *tls.Certificate) *msrptest.Peer {
	n.t.Helper()
	cfg := &tls.Config{RootCAs: n.ca.Pool}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	nc, err := n.shake(n.t.Context(), r, r.cfg().Listeners[0].URI.Host, cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	return msrptest.NewPeer(n.t, nc)
}

// client authenticates with the first of these relays directly, and with each
// further one through those before (RELAY-7).
func (n *network) client(user string, relays ...*chainRelay) *client {
	n.t.Helper()
	c := &client{Peer: n.peer(relays[0], nil), uri: "msrps://" + user + ".invalid:9/" + user + "session;tcp"}
	for _, r := range relays {
		to := strings.TrimSpace(c.use + " " + r.cfg().Listeners[0].URI.String())
		c.use = c.auth(n.t, to, user)
	}
	return c
}

// reverse is the path by which others reach a client (RELAY-12).
func (c *client) path() string {
	hops := strings.Fields(c.use)
	s := c.uri
	for _, h := range hops {
		s = h + " " + s
	}
	return s
}

func mirrored(path string) string {
	hops := strings.Fields(path)
	for i, j := 0, len(hops)-1; i < j; i, j = i+1, j-1 {
		hops[i], hops[j] = hops[j], hops[i]
	}
	return strings.Join(hops, " ")
}

// TestChain: AUTH through one, two and three relays, messages and REPORTs both
// ways, and the middle relay killed and started again (RELAY-7, RELAY-29, RELAY-44,
// RELAY-46, RELAY-62; the flow of RFC 4976 §3).
func TestChain(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		t.Run(fmt.Sprintf("sealed=%v", sealed), func(t *testing.T) {
			inNetwork(t, func(n *network) {
				key := func(c *Config) {
					if sealed {
						c.URIKey = bytes.Repeat([]byte{7}, 32)
					}
				}
				r1, r2, r3 := n.relay(key, "r1.example"), n.relay(key, "r2.example"), n.relay(key, "r3.example")
				for i := range 3 {
					c := n.client("alice", []*chainRelay{r1, r2, r3}[:i+1]...)
					hops := strings.Fields(c.use)
					if len(hops) != i+1 {
						t.Fatalf("Use-Path %s", c.use)
					}
					for k, h := range hops {
						if u := uri(h); u.Host != fmt.Sprintf("r%d.example", k+1) || u.Port != 2855 || !u.Secure {
							t.Errorf("Use-Path %s", c.use) // RELAY-62: inner first
						}
					}
				}
				a := n.client("alice", r1, r2, r3)
				b := n.client("bob", r3)
				chat := func(id string) {
					t.Helper()
					a.Send(send(id, a.use+" "+b.path(), a.uri, "m"+id, "hello", "Success-Report: yes"))
					a.WantResponse(id, 200)
					f := b.WantRequest("SEND")
					if want := b.use + " " + mirrored(a.use) + " " + a.uri; f.Get("From-Path") != want || string(f.Body) != "hello" {
						t.Errorf("From-Path %s\nwant      %s", f.Get("From-Path"), want)
					}
					b.Respond(f, 200)
					b.Send(frame("r"+id, "REPORT", f.Get("From-Path"), b.uri, "Message-ID: m"+id, "Byte-Range: 1-5/5", "Status: 000 200 OK") + "-------r" + id + "$")
					p := a.WantRequest("REPORT")
					if want := a.use + " " + b.path(); p.Get("From-Path") != want {
						t.Errorf("From-Path %s\nwant      %s", p.Get("From-Path"), want)
					}
					b.Send(send("x"+id, b.use+" "+a.path(), b.uri, "x"+id, "thanks"))
					b.WantResponse("x"+id, 200)
					f = a.WantRequest("SEND")
					a.Respond(f, 200)
				}
				chat("one1")

				r2.stop()
				synctest.Wait() // r1 has seen it
				a.Send(send("lost", a.use+" "+b.path(), a.uri, "mlost", "hello"))
				a.WantResponse("lost", 200)
				if f := a.WantRequest("REPORT"); !strings.HasPrefix(f.Get("Status"), "000 4") {
					t.Errorf("%s", f.Raw)
				}
				n.relay(key, "r2.example")
				time.Sleep(10 * time.Second) // a next hop that was not reached is left alone for 5 s
				if sealed {
					// RELAY-46: given through an authenticated relay, the URIs are good still.
					chat("two2")
					return
				}
				a.Send(send("gone", a.use+" "+b.path(), a.uri, "mgone", "hello"))
				a.WantResponse("gone", 200)
				if f := a.WantRequest("REPORT"); f.Get("Status") != "000 481 No such session" {
					t.Errorf("%s", f.Raw)
				}
			})
		})
	}
}

// TestWayBackDialled: who is behind a relay is reached over a new connection to
// it when there is none (RELAY-46, RELAY-51).
func TestWayBackDialled(t *testing.T) {
	inNetwork(t, func(n *network) {
		r1, r2 := n.relay(nil, "r1.example"), n.relay(nil, "r2.example")
		a, b := n.client("alice", r1, r2), n.client("bob", r2)
		r1.mu.Lock()
		for _, out := range r1.targets {
			out.finish(errIdle)
		}
		r1.mu.Unlock()
		synctest.Wait()
		b.Send(send("t001", b.use+" "+a.path(), b.uri, "mid1", "hi"))
		b.WantResponse("t001", 200)
		a.Respond(a.WantRequest("SEND"), 200)
		// The other way it takes a connection of r1's own, and is known as r1's.
		a.Send(send("t002", a.use+" "+b.path(), a.uri, "mid2", "hi"))
		a.WantResponse("t002", 200)
		b.Respond(b.WantRequest("SEND"), 200)
		if st := r2.Stats(); st.Dialled != 1 {
			t.Errorf("%d connections dialled", st.Dialled)
		}
	})
}

// TestRelayProof: what makes a peer a relay, so that its clients may AUTH
// (RELAY-29, RELAY-32, RELAY-33, RELAY-34, RELAY-54, RELAY-67).
func TestRelayProof(t *testing.T) {
	const from = "msrps://in.example:2855/A7mQ0000;tcp msrps://dora.invalid:9/d;tcp"
	for _, tc := range []struct {
		name   string
		names  []string // of the certificate; nil = none
		other  bool     // from an authority that nobody trusts
		change func(*Config)
		from   string
		code   int // 0 = closed
	}{
		{name: "proved", names: []string{"in.example"}, from: from, code: 401},
		{name: "one name of several", names: []string{"x.example", "in.example"}, from: from, code: 401},
		{name: "wildcard", names: []string{"*.example"}, from: from, code: 401},
		{name: "no certificate", from: from, code: 403},
		{name: "no relays configured", names: []string{"in.example"}, change: func(c *Config) { c.Relays.Roots = nil }, from: from, code: 403},
		{name: "unknown authority", names: []string{"in.example"}, other: true, from: from, code: 403},
		{name: "another relay's name", names: []string{"out.example"}, from: from, code: 403},
		{name: "no host name", names: []string{"127.0.0.1"}, from: strings.Replace(from, "in.example", "127.0.0.1", 1), code: 403},
		{name: "msrp in From-Path", names: []string{"in.example"}, from: strings.Replace(from, "msrps:", "msrp:", 1), code: 403},
		{name: "allowed", names: []string{"in.example"}, change: func(c *Config) { c.Relays.Allow = []string{"IN.example."} }, from: from, code: 401},
		{name: "allowed below", names: []string{"in.example"}, change: func(c *Config) { c.Relays.Allow = []string{"*.example"} }, from: from, code: 401},
		{name: "not allowed", names: []string{"in.example"}, change: func(c *Config) { c.Relays.Allow = []string{"*.other.example"} }, from: from, code: 403},
		{name: "denied", names: []string{"x.example", "in.example"}, change: func(c *Config) { c.Relays.Deny = []string{"in.example"} }, from: from, code: 0},
		{name: "an endpoint with a certificate", names: []string{"dora.invalid"}, from: "msrps://dora.invalid:9/d;tcp", code: 401},
		{name: "an endpoint with a bad one", names: []string{"dora.invalid"}, other: true, from: "msrps://dora.invalid:9/d;tcp", code: 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inNetwork(t, func(n *network) {
				r := n.relay(tc.change, "r1.example")
				var cert *tls.Certificate
				if tc.names != nil {
					ca := n.ca
					if tc.other {
						ca = msrptest.NewAuthority(t)
					}
					cert = ca.Certificate(tc.names...)
				}
				p := n.peer(r, cert)
				if tc.code == 0 {
					p.WantClosed()
					if got := r.Stats().Counts["relay"]; got != 1 {
						t.Errorf("counted %d times", got)
					}
					return
				}
				p.Send(frame("aaaa", "AUTH", "msrps://r1.example:2855;tcp", tc.from) + "-------aaaa$")
				p.WantResponse("aaaa", tc.code)
			})
		})
	}
}

// TestBoundToRelay: a URI given through a relay is good on any of its
// connections, and on no other (RELAY-44, RELAY-46, RELAY-119, RELAY-121).
func TestBoundToRelay(t *testing.T) {
	inNetwork(t, func(n *network) {
		r := n.relay(nil, "r1.example")
		b := n.client("bob", r)
		in, other := n.ca.Certificate("in.example"), n.ca.Certificate("other.example")
		const from = "msrps://in.example:2855/A7mQ0000;tcp msrps://dora.invalid:9/d;tcp"
		a := &client{Peer: n.peer(r, in), uri: from}
		a.use = a.auth(t, "msrps://r1.example:2855;tcp", "alice")
		own := strings.Fields(a.use)[1]

		try := func(name string, p *msrptest.Peer, from string, code int) {
			t.Helper()
			tid := msrp.NewID(10)
			p.Send(send(tid, own+" "+b.path(), from, "m"+tid, "hi"))
			if f := p.WantResponse(tid, code); code == 200 {
				b.Respond(b.WantRequest("SEND"), 200)
			} else if f.Comment != "Not your session" {
				t.Errorf("%s: %s", name, f.Raw)
			}
		}
		try("its connection", a.Peer, from, 200)
		try("another connection of that relay", n.peer(r, in), from, 200)
		try("another relay", n.peer(r, other), from, 403)
		try("another relay of that host", n.peer(r, in), strings.Replace(from, ":2855", ":2856", 1), 403)
		try("another relay, its own name", n.peer(r, other), strings.Replace(from, "in.example", "other.example", 1), 403)
		try("no relay", n.peer(r, nil), from, 403)
		try("the client without its relay", n.peer(r, nil), "msrps://dora.invalid:9/d;tcp", 403)
		try("that relay in another's name", n.peer(r, in), strings.Replace(from, "in.example", "out.example", 1), 403)

		// Its connections may all end: the URI does not.
		a.Close()
		synctest.Wait()
		c := &client{Peer: n.peer(r, in), uri: from}
		try("after a reconnect", c.Peer, from, 200)
		// To the client it goes over the newest connection of its relay.
		b.Send(send("back", b.use+" "+own+" "+from, b.uri, "back", "hi"))
		b.WantResponse("back", 200)
		c.Respond(c.WantRequest("SEND"), 200)
		// RELAY-61: it ends with its time.
		time.Sleep(31 * time.Minute)
		c.Send(send("late", own+" "+b.path(), from, "late", "hi"))
		c.WantResponse("late", 481)
		if err := r.Check(); err != nil || r.Stats().Sessions != 0 {
			t.Error(err, r.Stats().Sessions)
		}
	})
}

// TestRelayKept: wrong passwords of clients behind an authenticated relay do not
// close its connection, here or on the way (RELAY-40), and a nonce is good on
// any connection of that relay.
func TestRelayKept(t *testing.T) {
	inNetwork(t, func(n *network) {
		bans := func(c *Config) { banAfter(t, c, 3) }
		r1, r2 := n.relay(bans, "r1.example"), n.relay(bans, "r2.example")
		in := n.ca.Certificate("in.example")
		p := n.peer(r1, in)
		c := &client{Peer: p, uri: "msrps://in.example:2855/A7mQ0000;tcp msrps://dora.invalid:9/d;tcp"}
		c.use = c.auth(t, "msrps://r1.example:2855;tcp", "alice")
		own := strings.Fields(c.use)[1]
		for i := range 60 {
			d := &client{Peer: p, uri: fmt.Sprintf("msrps://in.example:2855/A7mQ%04d;tcp msrps://dora%d.invalid:9/d;tcp", i, i)}
			if f := d.tryAuth(t, "msrps://r1.example:2855;tcp", "alice", "wrong"); f.Code != 401 {
				t.Fatalf("%s", f.Raw)
			}
		}
		for range 10 { // each of one client, to the next relay
			if f := c.tryAuth(t, own+" "+r2.cfg().Listeners[0].URI.String(), "alice", "wrong"); f.Code != 401 && f.Code != 403 {
				t.Fatalf("%s", f.Raw)
			}
		}
		// The nonce goes with the relay.
		tid := c.id()
		c.Send(frame(tid, "AUTH", "msrps://r1.example:2855;tcp", c.uri) + "-------" + tid + "$")
		challenge := c.WantResponse(tid, 401).Get("WWW-Authenticate")
		q := n.peer(r1, in)
		q.Send(frame("qqqq", "AUTH", "msrps://r1.example:2855;tcp", c.uri,
			"Authorization: "+answer(t, challenge, "alice", "msrps://r1.example:2855;tcp")) + "-------qqqq$")
		q.WantResponse("qqqq", 200)
		if n1, n2 := r1.Stats().Banned, r2.Stats().Banned; n1+n2 > 0 {
			t.Errorf("%d and %d addresses of relays are banned", n1, n2)
		}
	})
}

// TestSealedURI: what a sealed session URI is, and is not, good for (RELAY-116).
func TestSealedURI(t *testing.T) {
	inNetwork(t, func(n *network) {
		key := func(c *Config) { c.URIKey = bytes.Repeat([]byte{7}, 32) }
		r := n.relay(key, "r1.example")
		in := n.ca.Certificate("in.example")
		a := &client{Peer: n.peer(r, in), uri: "msrps://in.example:2855/A7mQ0000;tcp msrps://dora.invalid:9/d;tcp"}
		use := strings.Fields(a.auth(t, "msrps://r1.example:2855;tcp", "alice", "Expires: 600"))[1]
		if len(use) > 130 {
			t.Errorf("%d octets: %s", len(use), use)
		}
		direct := n.client("bob", r)
		if len(direct.use) > 60 {
			t.Errorf("a direct client's URI is sealed: %s", direct.use) // RELAY-45: it dies with its connection
		}
		r.stop()
		synctest.Wait()

		u := uri(use)
		altered := u
		altered.Session = u.Session[:40] + string(u.Session[40]^1) + u.Session[41:]
		longer := u
		longer.Session += "AAAA"
		foreign := u
		foreign.Port++
		huge := u
		huge.Session = strings.Repeat("A", 1500)
		upper := u
		upper.Host = "R1.EXAMPLE"
		for _, tc := range []struct {
			name   string
			u      msrp.URI
			wait   time.Duration
			change func(*Config)
			ok     bool
		}{
			{"as given", u, 0, key, true},
			{"host in another case", upper, 0, key, true},
			{"altered", altered, 0, key, false},
			{"longer", longer, 0, key, false},
			{"of another listener", foreign, 0, key, false},
			{"too long", huge, 0, key, false},
			{"with another key", u, 0, func(c *Config) { c.URIKey = bytes.Repeat([]byte{8}, 32) }, false},
			{"without a key", u, 0, nil, false},
			{"relay not allowed any more", u, 0, func(c *Config) { key(c); c.Relays.Allow = []string{"x.example"} }, false},
			{"no room", u, 0, func(c *Config) { key(c); c.Limits.RelaySessions = -1 }, false},
			{"expired", u, 11 * time.Minute, key, false},
		} {
			time.Sleep(tc.wait)
			r := n.relay(tc.change, "r1.example")
			e := r.entry([]byte(tc.u.String()), &tc.u)
			if (e != nil) != tc.ok {
				t.Errorf("%s: found %v", tc.name, e != nil)
			}
			if e != nil {
				s := e.session
				back, other := uri("msrps://IN.example:2855/A7mQ0000;tcp"), uri("msrps://in.example:2855/A7mQ0001;tcp")
				if s.user != "alice" || s.via.name != "in.example:2855" || s.leadsBack(&other) || !s.leadsBack(&back) || s.leadsBack(&other) || time.Until(s.expires) > 10*time.Minute {
					t.Errorf("%s: %+v", tc.name, s)
				}
				if again := r.entry([]byte(use), &u); again != e {
					t.Errorf("%s: not the same session the second time", tc.name)
				}
			}
			r.stop()
		}
	})
}

// FuzzSealedURI: session-ids are what peers make them.
func FuzzSealedURI(f *testing.F) {
	r := &Relay{seal: newSeal(bytes.Repeat([]byte{7}, 32))}
	l := &Listener{Name: "edge", URI: uri("msrps://r1.example:2855;tcp")}
	s := &session{via: &inner{name: "in.example:2855"}, user: "alice", backSum: [16]byte{1, 2, 3}, expires: time.Unix(2e9, 0)}
	f.Add(r.sealID(s, l), true)
	fixed := "\x01" + strings.Repeat("x", sealFixed-1)
	for _, plain := range []string{"", "\x01", fixed, fixed + "\x05alic", fixed + "\x05alice", fixed + "\x05alice\x02in", fixed + "\x00\x02inn", fixed + "\xff\xff", fixed + "\xff" + strings.Repeat("a", 255) + "\x02in"} {
		f.Add(plain, false)
	}
	f.Fuzz(func(t *testing.T, in string, whole bool) {
		id := in
		if !whole { // what only somebody with the key could make
			id = base64.RawURLEncoding.EncodeToString(r.seal.Seal(nil, nil, []byte(in), []byte(l.URI.String())))
		}
		got, name, ok := r.openID(id, l)
		if !ok {
			return
		}
		got.via = &inner{name: name}
		sealed := r.sealID(got, l)
		if again, name2, ok := r.openID(sealed, l); sealed != "" && (!ok || again.user != got.user || name2 != name || again.backSum != got.backSum || !again.expires.Equal(got.expires)) {
			t.Errorf("%+v of %q", got, name)
		}
	})
}
