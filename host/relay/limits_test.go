package relay

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

// from returns an address to connect from.
func from(addr string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 40000))
}

// clientAt is client from an address.
func (w *world) clientAt(addr, user string) *client {
	w.t.Helper()
	c := w.strangerAt(addr)
	c.uri = "msrp://" + user + ".invalid:9/" + user + "session;tcp"
	c.use = c.auth(w.t, relayURI, user)
	return c
}

// strangerAt is somebody from an address who has not authenticated.
func (w *world) strangerAt(addr string) *client {
	w.t.Helper()
	return &client{Peer: msrptest.NewPeer(w.t, w.lns["edge"].DialFrom(from(addr))), uri: "msrp://x.invalid:9/x;tcp"}
}

// hookLimits makes the authenticate hook set limits.
func hookLimits(cfg *Config, lim hook.Limits) {
	cfg.Listeners[0].Hooks.Authenticate = hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{
		Name: "limits", Provider: hook.Func[hook.AuthRequest, hook.AuthReply](func(_ context.Context, q *hook.AuthRequest) (hook.AuthReply, error) {
			return hook.AuthReply{Reply: hook.Reply{Verdict: hook.Done}, Password: "secret of " + q.Username, Limits: lim}, nil
		}),
	})
}

// banAfter makes the relay ban.
func banAfter(t testing.TB, cfg *Config, n int) {
	t.Helper()
	bans, err := limit.NewBans(limit.BansConfig{After: n})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Bans = bans
}

// through has n SENDs with this body come through from a to b.
func (w *world) through(a, b *client, n int, body string) {
	w.t.Helper()
	for range n {
		tid := a.id()
		a.Send(send(tid, w.path(a, b), a.uri, "m"+tid, body))
		b.Respond(b.WantRequest("SEND"), 200)
		a.WantResponse(tid, 200)
	}
}

// path is To-Path from a to b; a without a session is a peer of b's.
func (w *world) path(a, b *client) string {
	return strings.TrimSpace(a.use + " " + b.use + " " + b.uri)
}

// refused has a request answered so. In text, TID, PATH and FROM stand for what
// it needs to be sent from a to b.
func (w *world) refused(a, b *client, text string, code int, comment string) {
	w.t.Helper()
	tid := a.id()
	a.Send(strings.NewReplacer("TID", tid, "PATH", w.path(a, b), "FROM", a.uri).Replace(text))
	if f := a.WantResponse(tid, code); f.Comment != comment {
		w.t.Errorf("%d %q, want %q", code, f.Comment, comment)
	}
}

const (
	hi    = "MSRP TID SEND\nTo-Path: PATH\nFrom-Path: FROM\nMessage-ID: m123\nByte-Range: 1-2/2\nContent-Type: text/plain\n\nhi\n-------TID$"
	empty = "MSRP TID SEND\nTo-Path: PATH\nFrom-Path: FROM\nMessage-ID: m123\nByte-Range: 1-0/0\n-------TID$"
)

// typed is a SEND of this media type.
func typed(mediaType string) string { return strings.Replace(hi, "text/plain", mediaType, 1) }

// ranged is a SEND with this Byte-Range and body.
func ranged(rng, body string) string {
	return strings.NewReplacer("1-2/2", rng, "\nhi\n", "\n"+body+"\n").Replace(hi)
}

// TestEveryLimit: what the peer sees of each limit, and what is counted (RELAY-68).
func TestEveryLimit(t *testing.T) {
	kb := strings.Repeat("x", 1000)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		do     func(w *world)
		want   map[string]uint64
	}{
		{"sessions of a user", func(c *Config) { c.Limits.UserSessions = 2 }, func(w *world) {
			a := w.client("edge", "alice")
			a.auth(w.t, relayURI, "alice")
			b := w.client("edge", "bob")
			if f := b.tryAuth(w.t, relayURI, "alice", "secret of alice"); f.Code != 403 || f.Comment != "Too many sessions of this user" {
				w.t.Errorf("%s", f.Raw)
			}
			b.auth(w.t, relayURI, "bob")
			a.Close()
			synctest.Wait()
			b.auth(w.t, relayURI, "alice")
		}, map[string]uint64{"user_sessions": 1}},
		{"sessions of a user, set by a hook", func(c *Config) {
			c.Limits.UserSessions = 1
			hookLimits(c, hook.Limits{Sessions: 2})
		}, func(w *world) {
			a := w.client("edge", "alice")
			a.auth(w.t, relayURI, "alice")
			if f := a.tryAuth(w.t, relayURI, "alice", "secret of alice"); f.Code != 403 {
				w.t.Errorf("%s", f.Raw)
			}
		}, map[string]uint64{"user_sessions": 1}},
		{"sessions of a user end with their time", func(c *Config) { c.Limits.UserSessions = 1 }, func(w *world) {
			a := w.client("edge", "alice")
			time.Sleep(31 * time.Minute)
			a.auth(w.t, relayURI, "alice")
		}, map[string]uint64{}},
		{"sessions of an address", func(c *Config) { c.Limits.AddressSessions = 2 }, func(w *world) {
			w.clientAt("198.51.100.1", "alice")
			w.clientAt("198.51.100.1", "bob")
			c := w.strangerAt("198.51.100.1")
			if f := c.tryAuth(w.t, relayURI, "carol", "secret of carol"); f.Code != 403 || f.Comment != "Too many sessions from this address" {
				w.t.Errorf("%s", f.Raw)
			}
			w.clientAt("198.51.100.2", "carol")
			for range 3 {
				w.clientAt("127.0.0.1", "carol") // not counted
			}
		}, map[string]uint64{"address_sessions": 1}},
		{"connections of an address", func(c *Config) { c.Limits.AddressConnections = 2 }, func(w *world) {
			a := w.clientAt("2001:db8::1", "alice")
			w.clientAt("2001:db8::2", "alice")
			synctest.Wait()
			w.strangerAt("2001:db8::3").WantClosed()
			w.clientAt("2001:db8:0:1::1", "bob")
			a.Close()
			synctest.Wait()
			w.clientAt("2001:db8::3", "carol")
		}, map[string]uint64{"address_connections": 1}},
		{"messages of a session", func(c *Config) { c.Limits.SessionMessages = 60 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 10, "hi")
			w.refused(a, b, hi, 413, "Too many messages from this session")
			w.refused(a, b, strings.Replace(empty, "SEND", "OTHER", 1), 413, "Too many messages from this session")
			b.WantNothing(time.Second)
			w.through(a, b, 1, "hi") // a second later
			w.through(b, a, 10, "hi")
			a.auth(w.t, relayURI, "alice") // the connection goes on
		}, map[string]uint64{"session_messages": 2}},
		{"messages to a session", func(c *Config) { c.Limits.SessionMessages = 60 }, func(w *world) {
			a := w.client("edge", "alice")
			p := &client{Peer: w.connect("edge"), uri: peerURI}
			w.through(p, a, 10, "hi")
			w.refused(p, a, hi, 413, "Too many messages to this session")
			b := w.client("edge", "bob")
			w.through(a, b, 10, "hi") // has its own
		}, map[string]uint64{"peer_messages": 1}},
		{"REPORTs are no messages", func(c *Config) { c.Limits.SessionMessages = 6 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			for range 10 {
				a.Send(frame("rrrr", "REPORT", w.path(a, b), a.uri, "Message-ID: m123", "Byte-Range: 1-2/9999999", "Status: 000 200", "-------rrrr$"))
				b.WantRequest("REPORT")
			}
		}, map[string]uint64{}},
		{"messages of a user", func(c *Config) { c.Limits.UserMessages = 60 }, func(w *world) {
			a, a2, b := w.client("edge", "alice"), w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 5, "hi")
			w.through(a2, b, 5, "hi")
			w.refused(a, b, hi, 413, "Too many messages from this user")
			w.through(b, a, 10, "hi")
			// Nor does coming again help.
			a.Close()
			a2.Close()
			synctest.Wait()
			a = w.client("edge", "alice")
			w.refused(a, b, hi, 413, "Too many messages from this user")
			time.Sleep(10 * time.Second)
			w.through(a, b, 10, "hi")
		}, map[string]uint64{"user_messages": 2}},
		{"bytes of a session, waited for", func(c *Config) { c.Limits.SessionBytes = 10_000 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			start := time.Now()
			w.through(a, b, 200, kb)
			if d := time.Since(start); d != 10*time.Second {
				w.t.Errorf("200 kB took %v", d)
			}
		}, map[string]uint64{"throttled": 100}},
		{"bytes of a session", func(c *Config) { c.Limits.SessionBytes, c.Limits.Throttle = 10_000, -1 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 100, kb)
			w.refused(a, b, hi, 413, "Too many bytes from this session")
			w.refused(a, b, strings.Replace(typed("a/b"), "SEND", "OTHER", 1), 413, "Too many bytes from this session")
			a.Send(send("noan", w.path(a, b), a.uri, "m123", kb, "Failure-Report: no"))
			a.WantNothing(time.Second)
			b.WantNothing(0)
			w.through(a, b, 10, kb)
		}, map[string]uint64{"session_bytes": 3}},
		{"bytes of a session on a connection of several users", func(c *Config) { c.Limits.SessionBytes = 10_000 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			c := &client{Peer: a.Peer, uri: "msrp://carol.invalid:9/c;tcp", tid: 5000}
			c.use = c.auth(w.t, relayURI, "carol")
			d := w.client("edge", "bob")
			w.through(c, d, 1, kb)
			w.through(a, b, 100, kb)
			w.refused(a, b, hi, 413, "Too many bytes from this session")
			w.through(c, d, 10, kb)
		}, map[string]uint64{"session_bytes": 1}},
		{"bytes to a session", func(c *Config) { c.Limits.SessionBytes, c.Limits.Throttle = 10_000, -1 }, func(w *world) {
			a := w.client("edge", "alice")
			p := &client{Peer: w.connect("edge"), uri: peerURI}
			w.through(p, a, 100, kb)
			w.refused(p, a, hi, 413, "Too many bytes to this session")
		}, map[string]uint64{"peer_bytes": 1}},
		{"bytes of a user", func(c *Config) { c.Limits.UserBytes, c.Limits.Throttle = 10_000, -1 }, func(w *world) {
			a, a2, b := w.client("edge", "alice"), w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 50, kb)
			w.through(a2, b, 50, kb)
			w.refused(a, b, hi, 413, "Too many bytes from this user")
		}, map[string]uint64{"user_bytes": 1}},
		{"bytes within a long chunk", func(c *Config) { c.Limits.SessionBytes, c.Limits.Throttle = 10_000, -1 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			a.Write(longHead("aaaa", w.path(a, b), a.uri))
			for range 20 {
				a.Write([]byte(strings.Repeat("x", 10_000)))
			}
			if f := a.WantResponse("aaaa", 413); f.Comment != "Too many bytes from this session" {
				w.t.Errorf("%s", f.Raw)
			}
			f := b.WantRequest("SEND")
			if f.Flag != '#' || len(f.Body) > 100_000 || len(f.Body) < 80_000 {
				w.t.Errorf("%d octets, %c", len(f.Body), f.Flag)
			}
			a.Write([]byte("\r\n-------aaaa$\r\n"))
			a.WantNothing(time.Second)
			b.WantNothing(0)
			w.through(a, b, 1, "hi")
		}, map[string]uint64{"session_bytes": 1}},
		{"a long chunk waited for", func(c *Config) { c.Limits.SessionBytes = 10_000 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			start := time.Now()
			a.Write(longHead("aaaa", w.path(a, b), a.uri))
			a.Write(append(bytes.Repeat([]byte("x"), 300_000), "\r\n-------aaaa$\r\n"...))
			f := b.WantRequest("SEND")
			b.Respond(f, 200)
			a.WantResponse("aaaa", 200)
			if d := time.Since(start).Round(time.Second); d != 20*time.Second || len(f.Body) != 300_000 || f.Flag != '$' {
				w.t.Errorf("%d octets, %c, in %v", len(f.Body), f.Flag, d)
			}
			w.r.cfg().groups["edge"].reasons[throttled].Store(0) // how often is up to the pieces
		}, map[string]uint64{}},
		{"rates set by a hook", func(c *Config) {
			c.Limits.Burst, c.Limits.SessionMessages, c.Limits.Throttle = time.Second, 1, -1
			hookLimits(c, hook.Limits{MessagesPerMinute: 600, BytesPerSecond: 70_000, UserMessagesPerMinute: 1200, UserBytesPerSecond: 100_000})
		}, func(w *world) {
			a, a2, b := w.client("edge", "alice"), w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 7, strings.Repeat(kb, 10))
			w.refused(a, b, hi, 413, "Too many bytes from this session")
			w.through(a2, w.client("edge", "bob"), 2, kb)
			w.through(a, b, 1, "")
			w.through(a, b, 1, "")
			w.refused(a, b, empty, 413, "Too many messages from this session")
		}, map[string]uint64{"session_bytes": 1, "session_messages": 1}},
		{"rates of a user set by a hook", func(c *Config) {
			c.Limits.Burst, c.Limits.Throttle = time.Second, -1
			hookLimits(c, hook.Limits{UserMessagesPerMinute: 300, UserBytesPerSecond: 70_000})
		}, func(w *world) {
			a, a2, b := w.client("edge", "alice"), w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 2, strings.Repeat(kb, 10))
			w.through(a2, b, 1, strings.Repeat(kb, 10))
			w.refused(a2, b, ranged("1-*/*", strings.Repeat(kb, 60)), 413, "Too many bytes from this user")
			w.through(a, b, 1, "")
			w.refused(a, b, hi, 413, "Too many messages from this user")
		}, map[string]uint64{"user_bytes": 1, "user_messages": 1}},
		{"size of a message", func(c *Config) { c.Limits.Message = 5000 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 1, strings.Repeat(kb, 5))
			w.refused(a, b, ranged("1-1000/5001", kb), 413, "Message too large")
			w.refused(a, b, ranged("4002-*/*", kb), 413, "Message too large")
			w.refused(a, b, ranged("99999999999999999-*/*", kb), 413, "Message too large")
			w.refused(a, b, strings.Replace(ranged("1-2/2", strings.Repeat(kb, 6)), "Byte-Range: 1-2/2\n", "", 1), 413, "Message too large")
			p := &client{Peer: w.connect("edge"), uri: peerURI}
			w.refused(p, a, ranged("1-1000/5001", kb), 413, "Message too large")
			// Unknown until too much has come.
			a.Write(bytes.Replace(longHead("aaaa", w.path(a, b), a.uri), []byte("1-*/1000000"), []byte("4000-*/*"), 1))
			a.Write(bytes.Repeat([]byte("x"), 20_000))
			a.WantResponse("aaaa", 413)
			b.WantNothing(time.Second)
		}, map[string]uint64{"message_size": 6}},
		{"size of a message set by a hook", func(c *Config) {
			c.Limits.Message = 5000
			hookLimits(c, hook.Limits{Message: 50_000})
		}, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 1, strings.Repeat(kb, 6))
			a.Write(bytes.Replace(longHead("aaaa", w.path(a, b), a.uri), []byte("1-*/1000000"), []byte("1-*/*"), 1))
			a.Write(bytes.Repeat([]byte("x"), 70_000))
			a.WantResponse("aaaa", 413)
			if f := b.WantRequest("SEND"); f.Flag != '#' || len(f.Body) > 50_000 {
				w.t.Errorf("%d octets, %c", len(f.Body), f.Flag)
			}
		}, map[string]uint64{"message_size": 1}},
		{"no limits, by a hook", func(c *Config) {
			c.Limits.Message, c.Limits.UserSessions, c.Limits.SessionMessages, c.Limits.UserMessages = 10, 1, 1, 1
			hookLimits(c, hook.Limits{Message: -1, Sessions: 1 << 62, MessagesPerMinute: -1, UserMessagesPerMinute: -1})
		}, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 100, kb)
			a.auth(w.t, relayURI, "alice")
		}, map[string]uint64{}},
		{"size of a chunk", func(c *Config) { c.Limits.Chunk = 5000 }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			w.through(a, b, 1, strings.Repeat(kb, 5))
			w.refused(a, b, ranged("1-5001/9000", kb), 413, "Chunk too large")
			w.refused(a, b, ranged("1-*/9000", strings.Repeat(kb, 6)), 413, "Chunk too large")
			a.Send(send("aaaa", w.path(a, b), a.uri, "m123", strings.Repeat(kb, 40)))
			a.WantResponse("aaaa", 413)
			b.WantNothing(time.Second)
			w.through(a, b, 1, "hi")
		}, map[string]uint64{"chunk_size": 3}},
		{"media types", func(c *Config) { c.Listeners[0].MediaTypes = []string{"text/plain", "message/CPIM", "image/*"} }, func(w *world) {
			a, b := w.client("edge", "alice"), w.client("edge", "bob")
			for _, good := range []string{"text/plain", "TEXT/Plain;charset=utf-8", "message/cpim", "image/png", "image/png"} {
				tid := a.id()
				a.Send(strings.NewReplacer("TID", tid, "PATH", w.path(a, b), "FROM", a.uri).Replace(typed(good)))
				b.Respond(b.WantRequest("SEND"), 200)
				a.WantResponse(tid, 200)
			}
			for _, bad := range []string{"text/html", "text/plainer", "imagine/png", "application/octet-stream"} {
				w.refused(a, b, typed(bad), 415, "Unsupported media type")
			}
			// Without a body there is no type; and peers are bound, too.
			a.Send(strings.NewReplacer("TID", "eeee", "PATH", w.path(a, b), "FROM", a.uri).Replace(empty))
			b.Respond(b.WantRequest("SEND"), 200)
			a.WantResponse("eeee", 200)
			p := &client{Peer: w.connect("core"), uri: peerURI}
			w.refused(p, a, typed("text/html"), 415, "Unsupported media type")
			// A long one is dropped whole.
			a.Write(bytes.Replace(longHead("aaaa", w.path(a, b), a.uri), []byte("text/plain"), []byte("video/mp4"), 1))
			a.Write(append(bytes.Repeat([]byte("x"), 40_000), "\r\n-------aaaa$\r\n"...))
			a.WantResponse("aaaa", 415)
			b.WantNothing(time.Second)
			// Sessions of other listeners are free.
			c, d := w.client("core", "alice"), w.client("core", "bob")
			c.Send(strings.NewReplacer("TID", "cccc", "PATH", w.path(c, d), "FROM", c.uri).Replace(typed("text/html")))
			d.Respond(d.WantRequest("SEND"), 200)
			c.WantResponse("cccc", 200)
		}, map[string]uint64{"media_type": 6}},
		{"wrong passwords", func(c *Config) { banAfter(t, c, 4) }, func(w *world) {
			old := w.clientAt("198.51.100.1", "alice")
			other := w.strangerAt("198.51.100.1")
			a := w.strangerAt("198.51.100.1")
			for i, delay := range []time.Duration{0, 0, 0, 0, 1, 1, 2} { // alice shares the blame
				start := time.Now()
				if i == 4 {
					a.Close()
					a = w.strangerAt("198.51.100.1")
				}
				if f := a.tryAuth(w.t, relayURI, "bob", "wrong"); f.Code != 401 {
					w.t.Errorf("%s", f.Raw)
				}
				if d := time.Since(start); d != delay*time.Second {
					w.t.Errorf("answer %d took %v", i, d)
				}
			}
			a.tryAuth(w.t, relayURI, "bob", "wrong")
			a.WantClosed()
			w.strangerAt("198.51.100.1").WantClosed()
			// Who was there before goes on, but nobody else comes in through it.
			old.auth(w.t, relayURI, "alice")
			if f := old.tryAuth(w.t, relayURI, "bob", "secret of bob"); f.Code != 403 {
				w.t.Errorf("%s", f.Raw)
			}
			if f := other.tryAuth(w.t, relayURI, "alice", "secret of alice"); f.Code != 403 || f.Comment != "Too many wrong passwords" {
				w.t.Errorf("%s", f.Raw)
			}
			other.WantClosed()
			w.clientAt("198.51.100.2", "bob")
			if st := w.r.Stats(); st.Banned != 1 || st.Users != 2 || len(w.r.Bans().List()) != 1 {
				w.t.Errorf("%+v", st)
			}
			time.Sleep(5 * time.Minute)
			w.clientAt("198.51.100.1", "bob")
		}, map[string]uint64{"credentials": 8, "auth_delayed": 3, "ban_made": 1, "ban_connection": 1, "ban_auth": 2}},
		{"wrong passwords at another relay", func(c *Config) { banAfter(t, c, 2) }, func(w *world) {
			a := w.clientAt("198.51.100.1", "alice")
			ln := w.host("outer.example")
			var p *msrptest.Peer
			for range 4 { // each is half of hers
				tid := a.id()
				a.Send(frame(tid, "AUTH", a.use+" msrp://outer.example:1;tcp", a.uri, "Authorization: Digest x=y") + "-------" + tid + "$")
				if p == nil {
					p = w.accept(ln)
				}
				p.Respond(p.WantRequest("AUTH"), 401)
				a.WantResponse(tid, 401)
			}
			w.strangerAt("198.51.100.1").WantClosed()
			a.auth(w.t, relayURI, "alice") // she stays
		}, map[string]uint64{"ban_made": 1, "ban_connection": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, tt.change, func(w *world) {
				tt.do(w)
				got := w.r.Stats().Counts
				delete(got, "challenge")
				maps.DeleteFunc(got, func(_ string, n uint64) bool { return n == 0 })
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestFloodOfOne: an address that opens connections, guesses passwords and sends
// nonsense as fast as it can is banned, and costs another one nothing.
func TestFloodOfOne(t *testing.T) {
	change := func(c *Config) {
		banAfter(t, c, 20)
		c.Limits.AddressConnections = 200
	}
	inWorld(t, change, func(w *world) {
		const wrong = `Authorization: Digest username="x", realm="example", nonce="x", qop=auth, nc=00000001, cnonce="x", response="00000000000000000000000000000000"`
		for i := range 300 {
			nc := w.lns["edge"].DialFrom(from("198.51.100.66"))
			defer nc.Close()
			text := frame("aaaa", "AUTH", relayURI, "msrp://x.invalid:9/x;tcp", wrong) + "-------aaaa$\n"
			if i%3 == 0 {
				text = strings.ReplaceAll(text, "msrp://x", "msrp://r.invalid:9/r;tcp msrp://x") // as if from a relay
			}
			_, _ = nc.Write([]byte(strings.ReplaceAll(strings.Repeat(text, 50), "\n", "\r\n"))) // it may be closed by now
		}
		start := time.Now()
		a, b := w.clientAt("192.0.2.10", "alice"), w.clientAt("192.0.2.11", "bob")
		w.through(a, b, 10, "hi")
		if d := time.Since(start); d != 0 {
			t.Errorf("took %v", d)
		}
		w.strangerAt("198.51.100.66").WantClosed()
		time.Sleep(time.Minute)
		if st := w.r.Stats(); st.Banned != 1 || st.Connections != 2 || st.Counts["ban_made"] != 1 || st.Counts["credentials"] > 400 {
			t.Errorf("%+v", st)
		}
	})
}

// TestDelayEnds: a relay that stops does not wait for those who wait for their
// answer.
func TestDelayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { banAfter(t, c, 20) })
		for i := range 4 {
			c := w.strangerAt("198.51.100.1")
			c.Send(frame("aaaa", "AUTH", relayURI, c.uri) + "-------aaaa$")
			to := answer(t, c.WantResponse("aaaa", 401).Get("WWW-Authenticate"), "bob", "wrong")
			c.Send(frame("bbbb", "AUTH", relayURI, c.uri, "Authorization: "+to) + "-------bbbb$")
			if i < 2 {
				c.WantResponse("bbbb", 401)
			}
			synctest.Wait()
		}
		start := time.Now()
		w.stop()
		if d := time.Since(start); d >= 2*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// TestLimitAllocates: limits that let a message through cost no allocation.
func TestLimitAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := newLine(t, 2048)
	w.a.routes = map[string]*route{}
	rate := limit.NewMeter(limit.Rates{Messages: 1 << 40, Bytes: 1 << 40})
	tl := &toll{message: 1 << 20, chunk: 1 << 20, types: [][]string{{"image/*", "text/plain"}}}
	for range 3 {
		tl.add(rate, refusedSessionMessages, refusedSessionBytes, "")
	}
	rt := &route{in: w.a, toll: tl}
	rd := bytes.NewReader(nil)
	reader := msrp.NewReader(rd, msrp.Limits{})
	if n := testing.AllocsPerRun(100, func() {
		rd.Reset(w.frames)
		p, err := reader.Next()
		if err != nil || !p.Last || !w.a.pay(rt, p) {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	w.r.Close()
}

func BenchmarkPay(b *testing.B) {
	w := newLine(b, 2048)
	defer w.r.Close()
	tl := &toll{message: 1 << 20, types: [][]string{{"image/*", "text/plain"}}}
	tl.add(limit.NewMeter(limit.Rates{Messages: 1 << 40, Bytes: 1 << 40}), 0, 0, "")
	rt := &route{in: w.a, toll: tl}
	p, err := msrp.NewReader(bytes.NewReader(w.frames), msrp.Limits{}).Next()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.a.pay(rt, p)
	}
}
