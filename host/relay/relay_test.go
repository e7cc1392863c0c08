package relay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

const peerURI = "msrp://peer.example:9/peersession;tcp"

// TestAuth is the flow of RFC 4976 §5.1 and §6.3 (RELAY-55, RELAY-60..63).
func TestAuth(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a := w.client("edge", "alice")
		u, err := msrp.ParseURI(a.use)
		if err != nil || u.Host != "relay.example" || u.Port != 2855 || len(u.Session) < 14 {
			t.Errorf("Use-Path: %s (%v)", a.use, err) // RELAY-58, RELAY-59
		}
		// Any number of AUTHs on a connection, each with its own URI (RELAY-10, RELAY-66).
		if again := a.auth(t, relayURI, "alice"); again == a.use {
			t.Errorf("the same URI twice: %s", again)
		}
		f := a.tryAuth(t, relayURI, "alice", "secret of alice", "Expires: 600")
		if f.Code != 200 || f.Get("Expires") != "600" || f.To != a.uri || f.From != relayURI {
			t.Errorf("%s", f.Raw)
		}
		if n := w.r.Stats().Sessions; n != 3 {
			t.Errorf("%d sessions", n)
		}
	})
}

// TestAuthBounds: RFC 4976 §4.6 (RELAY-57).
func TestAuthBounds(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a := w.client("edge", "alice")
		for _, tt := range []struct{ ask, header, want string }{
			{"1", "Min-Expires", "60"},
			{"59", "Min-Expires", "60"},
			{"3601", "Max-Expires", "3600"},
			{"99999999999999999999999", "Max-Expires", "3600"},
		} {
			f := a.tryAuth(t, relayURI, "alice", "secret of alice", "Expires: "+tt.ask)
			if f.Code != 423 || f.Get(tt.header) != tt.want {
				t.Errorf("Expires %s: %s", tt.ask, f.Raw)
			}
		}
		for _, bad := range []string{"", "-1", "1 2", "0x10"} {
			if f := a.tryAuth(t, relayURI, "alice", "secret of alice", "Expires: "+bad); f.Code != 400 {
				t.Errorf("Expires %q: %d", bad, f.Code)
			}
		}
	})
}

// TestAuthWrong: bad passwords and unknown users look alike, and too many end
// the connection (RELAY-39, RELAY-56, RELAY-79).
func TestAuthWrong(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		for _, user := range []string{"alice", "nobody"} {
			c := &client{Peer: w.connect("edge"), uri: "msrp://x.invalid:9/x;tcp"}
			for range 5 {
				f := c.tryAuth(t, relayURI, user, "wrong")
				if f.Code != 401 || !strings.HasPrefix(f.Get("WWW-Authenticate"), "Digest ") || strings.Contains(f.Raw, "stale") {
					t.Fatalf("%s: %s", user, f.Raw)
				}
			}
			c.WantClosed()
		}
	})
}

// TestReplay: an Authorization is good once, on its connection (RELAY-78).
func TestReplay(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := &client{Peer: w.connect("edge"), uri: "msrp://x.invalid:9/x;tcp"}
		c.auth(t, relayURI, "alice")
		var authorization string
		{
			c.Send(frame("aaaa", "AUTH", relayURI, c.uri) + "-------aaaa$")
			f := c.WantResponse("aaaa", 401)
			authorization = "Authorization: " + answer(t, f.Get("WWW-Authenticate"), "alice", relayURI)
		}
		replay := frame("bbbb", "AUTH", relayURI, c.uri, authorization) + "-------bbbb$"
		c.Send(replay)
		c.WantResponse("bbbb", 200)
		c.Send(replay)
		if f := c.WantResponse("bbbb", 401); !strings.Contains(f.Raw, "stale=true") {
			t.Errorf("replay on the same connection: %s", f.Raw)
		}
		d := w.connect("edge")
		d.Send(replay)
		if f := d.WantResponse("bbbb", 401); strings.Contains(f.Raw, "stale") {
			t.Errorf("replay on another connection: %s", f.Raw)
		}
	})
}

// TestBothOnOneRelay: RFC 7977 §8.3.2 (RELAY-53), with the success report back.
func TestBothOnOneRelay(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b := w.client("edge", "alice"), w.client("edge", "bob")
		a.Send(send("aaaa", a.use+" "+b.use+" "+b.uri, a.uri, "m123", "hello", "Success-Report: yes", "X-Test: 1"))
		f := b.WantRequest("SEND")
		if f.To != b.uri || f.From != b.use+" "+a.use+" "+a.uri || string(f.Body) != "hello" || f.Get("X-Test") != "1" || f.TID == "aaaa" {
			t.Errorf("%s", f.Raw)
		}
		// RELAY-63, CORE-85: the 200 goes to the previous hop alone.
		if f := a.WantResponse("aaaa", 200); f.To != a.uri || f.From != a.use {
			t.Errorf("%s", f.Raw)
		}
		b.Respond(f, 200)
		b.Send(frame("rrrr", "REPORT", f.From, b.uri, "Message-ID: m123", "Byte-Range: 1-5/5", "Status: 000 200 OK", "-------rrrr$"))
		r := a.WantRequest("REPORT")
		if r.To != a.uri || r.From != a.use+" "+b.use+" "+b.uri || r.Get("Status") != "000 200 OK" {
			t.Errorf("%s", r.Raw)
		}
		a.WantNothing(time.Minute)
		b.WantNothing(time.Minute)
	})
}

// TestPeerWithoutRelay: a peer connects to a session URI, and what comes back
// goes over its connection, never by a new one (RELAY-31, RELAY-43 a and b, RELAY-51).
func TestPeerWithoutRelay(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a := w.client("edge", "alice")
		p := w.connect("edge")
		p.Send(send("pppp", a.use+" "+a.uri, peerURI, "m1234", "hi"))
		f := a.WantRequest("SEND")
		if f.To != a.uri || f.From != a.use+" "+peerURI {
			t.Errorf("%s", f.Raw)
		}
		p.WantResponse("pppp", 200)
		a.Respond(f, 200)
		a.Send(send("aaaa", f.From, a.uri, "m1235", "yes?"))
		g := p.WantRequest("SEND")
		if g.To != peerURI || g.From != a.use+" "+a.uri {
			t.Errorf("%s", g.Raw)
		}
		a.WantResponse("aaaa", 200)
		p.Respond(g, 200)
		if len(w.hosts.seen) != 0 {
			t.Errorf("dialled %v", w.hosts.seen)
		}
	})
}

// TestDial: a next hop without a connection is dialled once, and what is sent
// meanwhile waits (RELAY-51).
func TestDial(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		ln := w.host("peer.example")
		w.hosts.delay = 3 * time.Second
		a := w.client("edge", "alice")
		for i := range 3 {
			a.Send(send(fmt.Sprintf("aaa%d", i), a.use+" "+peerURI, a.uri, fmt.Sprintf("m123%d", i), "hi"))
			a.WantResponse(fmt.Sprintf("aaa%d", i), 200)
		}
		p := w.accept(ln)
		for i := range 3 {
			f := p.WantRequest("SEND")
			if f.Get("Message-ID") != fmt.Sprintf("m123%d", i) || f.To != peerURI || f.From != a.use+" "+a.uri {
				t.Errorf("%s", f.Raw)
			}
			p.Respond(f, 200)
		}
		if len(w.hosts.seen) != 1 || w.hosts.seen[0].Port != 9 || w.hosts.seen[0].Secure {
			t.Errorf("dialled %v", w.hosts.seen)
		}
		a.WantNothing(time.Minute)
	})
}

// TestUnreachable: a next hop that cannot be reached is reported (RELAY-84).
func TestUnreachable(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a := w.client("edge", "alice")
		a.Send(send("aaaa", a.use+" "+peerURI, a.uri, "m1234", "hi"))
		a.WantResponse("aaaa", 200)
		r := a.WantRequest("REPORT")
		if !strings.HasPrefix(r.Get("Status"), "000 408") || r.Get("Message-ID") != "m1234" || r.Get("Byte-Range") != "1-2/2" ||
			r.To != a.uri || r.From != a.use {
			t.Errorf("%s", r.Raw)
		}
		// A transport that cannot be dialled, and a hop without a port.
		a.Send(send("bbbb", a.use+" msrp://peer.example:9/x;ws", a.uri, "m1234", "hi"))
		a.WantResponse("bbbb", 481)
		a.Send(send("cccc", a.use+" msrp://peer.example/x;tcp", a.uri, "m1234", "hi"))
		a.WantResponse("cccc", 400)
	})
}

// TestGuard is the open-relay guard (RFC 4976 §6.4, RELAY-43..47, RELAY-117..120).
func TestGuard(t *testing.T) {
	for _, tt := range []struct {
		name string
		path func(a, b *client) string // To-Path of a stranger's SEND
		code int
	}{
		{"a stranger may send to the client", func(a, _ *client) string { return a.use + " " + a.uri }, 200},
		{"RELAY-118: not through it to others", func(a, _ *client) string { return a.use + " " + peerURI }, 403},
		{"RELAY-118: not through it to another client", func(a, b *client) string { return a.use + " " + b.use + " " + b.uri }, 403},
		{"RELAY-47: another session-id of the client", func(a, _ *client) string { return a.use + " " + strings.Replace(a.uri, "alicesession", "other", 1) }, 403},
		{"RELAY-120: never issued", func(a, _ *client) string { return relayURI[:25] + "/abcdefghijklmnopqrstuv;tcp " + a.uri }, 481},
		{"session-id in other case", func(a, _ *client) string {
			return strings.Replace(a.use, a.use[28:40], flip(a.use[28:40]), 1) + " " + a.uri
		}, 481},
		{"session-id at another listener", func(a, _ *client) string {
			return strings.Replace(a.use, "relay.example:2855", "core.example:2856", 1) + " " + a.uri
		}, 481},
		{"host in other case", func(a, _ *client) string { return strings.Replace(a.use, "relay", "RELAY", 1) + " " + a.uri }, 200},
		{"own URI alone", func(a, _ *client) string { return a.use }, 481},
		{"the relay alone", func(*client, *client) string { return relayURI }, 481},
		{"the relay, then the client", func(a, _ *client) string { return relayURI + " " + a.uri }, 481},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				a, b := w.client("edge", "alice"), w.client("edge", "bob")
				s := w.connect("edge")
				s.Send(send("ssss", tt.path(a, b), "msrp://stranger.invalid:9/s;tcp", "m1234", "hi"))
				s.WantResponse("ssss", tt.code)
				if tt.code == 200 {
					a.Respond(a.WantRequest("SEND"), 200)
				}
				synctest.Wait()
				if len(w.hosts.seen) != 0 {
					t.Errorf("dialled %v", w.hosts.seen)
				}
				b.WantNothing(time.Second)
			})
		})
	}
}

func flip(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 32
		case 'A' <= r && r <= 'Z':
			return r + 32
		}
		return r
	}, s)
}

// TestHijack: another client cannot send by a session URI that is not its own
// (RELAY-119), and a URI dies with its connection (RELAY-45) and its time (RELAY-61).
func TestHijack(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.host("peer.example")
		a, b := w.client("edge", "alice"), w.client("edge", "bob")
		b.Send(send("bbbb", a.use+" "+peerURI, b.uri, "m1234", "hi"))
		b.WantResponse("bbbb", 403)
		a.Close()
		synctest.Wait()
		b.Send(send("bbbc", a.use+" "+a.uri, b.uri, "m1234", "hi"))
		b.WantResponse("bbbc", 481)
		a2 := w.client("edge", "alice")
		a2.Send(send("aaaa", a.use+" "+peerURI, a.uri, "m1234", "hi"))
		a2.WantResponse("aaaa", 481)

		short := a2.tryAuth(t, relayURI, "alice", "secret of alice", "Expires: 60").Get("Use-Path")
		time.Sleep(59 * time.Second)
		b.Send(send("bbbd", short+" "+a2.uri, b.uri, "m1234", "hi"))
		b.WantResponse("bbbd", 200)
		a2.Respond(a2.WantRequest("SEND"), 200)
		time.Sleep(time.Second)
		synctest.Wait()
		b.Send(send("bbbe", short+" "+a2.uri, b.uri, "m1234", "hi"))
		b.WantResponse("bbbe", 481)
		if len(w.hosts.seen) != 0 {
			t.Errorf("dialled %v", w.hosts.seen)
		}
	})
}

// TestForeign: a request for another host ends the connection (RELAY-42).
func TestForeign(t *testing.T) {
	for _, path := range []string{"msrp://other.example:2855/x;tcp", "msrps://relay.example:2855/x;tcp", "msrp://relay.example:1/x;tcp", "msrp://relay.example:2855/x;ws"} {
		for _, method := range []string{"SEND", "AUTH", "REPORT", "NICKNAME"} {
			inWorld(t, nil, func(w *world) {
				s := w.connect("edge")
				s.Send(frame("ssss", method, path, peerURI, "Message-ID: m123", "Status: 000 200", "-------ssss$"))
				s.WantClosed()
			})
		}
	}
}

// TestEndsHere: a To-Path of one URI, with every method (RELAY-103).
func TestEndsHere(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a := w.client("edge", "alice")
		for i, tt := range []struct {
			method, to string
			code       int // 0 = no answer
		}{
			{"SEND", relayURI, 481},
			{"SEND", a.use, 481},
			{"REPORT", relayURI, 0},
			{"REPORT", a.use, 0},
			{"NICKNAME", relayURI, 501},
			{"NICKNAME", a.use, 501},
			{"WHATEVER", relayURI, 501},
			{"AUTH", relayURI, 401},
			{"AUTH", "msrp://relay.example;tcp", 401}, // RELAY-20
			{"AUTH", a.use, 481},
		} {
			tid := fmt.Sprintf("tid%d", i)
			a.Send(frame(tid, tt.method, tt.to, a.uri, "Message-ID: m123", "Status: 000 200", "-------"+tid+"$"))
			if tt.code == 0 {
				a.WantNothing(time.Second)
			} else if f := a.WantResponse(tid, tt.code); f.To != a.uri || f.From != tt.to {
				t.Errorf("%s", f.Raw)
			}
		}
	})
}

// TestJustClosed: a request for a connection that ended while it was on its way
// there takes a new one, and is refused only if there is none.
func TestJustClosed(t *testing.T) {
	for name, body := range map[string]string{"whole": "hello", "long": strings.Repeat("x", 300_000)} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				ln := w.host("peer.example")
				a := w.client("edge", "alice")
				path := a.use + " msrp://peer.example:7000/p;tcp"
				a.Send(send("t000", path, a.uri, "m000", "first"))
				a.WantResponse("t000", 200)
				peer := w.accept(ln)
				peer.Respond(peer.WantRequest("SEND"), 200)
				synctest.Wait()
				// What the relay sees between the end of a connection and its clearing away.
				closed := w.r.newConn(nil)
				closed.m.Close(nil)
				w.r.mu.Lock()
				for c := range w.r.conns {
					for _, rt := range c.routes {
						if c.l != nil {
							rt.out = closed
						}
					}
				}
				w.r.mu.Unlock()
				a.Send(send("t001", path, a.uri, "m001", body))
				a.WantResponse("t001", 200)
				f := peer.WantRequest("SEND")
				if string(f.Body) != body {
					t.Errorf("%d octets", len(f.Body))
				}
				peer.Respond(f, 200)
				synctest.Wait()
				w.r.mu.Lock()
				for c := range w.r.conns {
					for _, rt := range c.routes {
						if c.l != nil {
							rt.out.m.Close(nil) // and now for good
						}
					}
				}
				w.r.mu.Unlock()
				a.Send(send("t002", path, a.uri, "m002", body))
				a.WantResponse("t002", 200)
				if f := w.accept(ln).WantRequest("SEND"); string(f.Body) != body {
					t.Errorf("%d octets by a new connection", len(f.Body))
				}
			})
		})
	}
}
