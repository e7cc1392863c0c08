package relay

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrptest"
)

// What one peer does must not cost others: each test is an attack.

// deepest returns the longest outbox, in octets, and the most pending requests.
func (w *world) deepest() (octets, pending int) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	for c := range w.r.conns {
		octets, pending = max(octets, c.m.Depth()), max(pending, c.m.Pending())
	}
	return octets, pending
}

// long is a SEND of 17 kB with a head of 14 kB.
func long(tid, path, from, rng string) string {
	return frame(tid, "SEND", path, from, "Message-ID: m123", rng, "X: "+strings.Repeat("y", 14<<10),
		"Content-Type: a/b", "", strings.Repeat("x", 17<<10), "-------"+tid+"$")
}

// TestRefusedLeavesNothing: transfers that are refused on their first piece do
// not fill the outbox with aborted chunks of messages nobody has heard of.
func TestRefusedLeavesNothing(t *testing.T) {
	for _, rng := range []string{"Byte-Range: 1-5/5", "Byte-Range: 1-*/*"} {
		inWorld(t, nil, func(w *world) {
			a, b, path := w.pair()
			b.Limit(100)
			for i := range 200 {
				tid := fmt.Sprintf("t%08d", i)
				a.Send(long(tid, path, a.uri, rng))
				a.Next()
			}
			if octets, _ := w.deepest(); octets > 300<<10 {
				t.Errorf("%d octets wait", octets)
			}
			b.Close()
		})
	}
}

// TestAnswersInTransit: responses of others to one who does not read are
// dropped, not kept.
func TestAnswersInTransit(t *testing.T) {
	change := func(cfg *Config) { cfg.Limits.Conn.Answers = 100 << 10 }
	inWorld(t, change, func(w *world) {
		a, b, path := w.pair()
		for i := range 100 {
			tid := fmt.Sprintf("t%08d", i)
			a.Send(frame(tid, "FOO", path, a.uri) + "-------" + tid + "$")
		}
		synctest.Wait()
		a.Limit(100)
		for range 100 {
			b.Respond(b.WantRequest("FOO"), 200, "X: "+strings.Repeat("y", 14<<10))
		}
		synctest.Wait()
		if octets, _ := w.deepest(); octets > 250<<10 {
			t.Errorf("%d octets wait", octets)
		}
		a.Close()
	})
}

// TestReportFlood: REPORTs to one who reads slowly do not keep it from being served.
func TestReportFlood(t *testing.T) {
	change := func(cfg *Config) { cfg.Limits.Conn.Answers = 100 << 10 }
	inWorld(t, change, func(w *world) {
		a, b, _ := w.pair()
		p := w.connect("edge")
		b.Limit(100)
		for i := range 100 {
			tid := fmt.Sprintf("t%08d", i)
			p.Send(frame(tid, "REPORT", b.use+" "+b.uri, peerURI, "Message-ID: m123", "Status: 000 200", "X: "+strings.Repeat("y", 10<<10)) + "-------" + tid + "$")
		}
		synctest.Wait()
		if octets, _ := w.deepest(); octets > 50<<10 {
			t.Errorf("%d octets wait", octets)
		}
		b.Send(send("bbbb", b.use+" "+a.use+" "+a.uri, b.uri, "m999", "hi"))
		a.Respond(a.WantRequest("SEND"), 200) // it is still read
		b.Close()
	})
}

// TestHeadGrows: a head that fits here but would not at the next hop, where it
// is longer, is refused: there it would end the connection of many.
func TestHeadGrows(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		head := func(pad int) string {
			return frame("aaaa", "SEND", path, a.uri, "Message-ID: m123", "X: "+strings.Repeat("y", pad))
		}
		size := len(strings.ReplaceAll(head(0), "\n", "\r\n"))
		a.Send(head(16<<10-size-14) + "-------aaaa$")
		a.WantResponse("aaaa", 400)
		a.Send(head(15000-size) + "-------aaaa$")
		a.WantResponse("aaaa", 200)
		f := b.WantRequest("SEND")
		// Nor does a comment make a REPORT too long.
		to, _, _ := strings.Cut(f.From, " ")
		b.Send("MSRP " + f.TID + " 481 " + strings.Repeat("y", 15000) + "\nTo-Path: " + to + "\nFrom-Path: " + b.uri + "\n-------" + f.TID + "$")
		if r := a.WantRequest("REPORT"); len(r.Raw) > 1000 {
			t.Errorf("a REPORT of %d octets", len(r.Raw))
		}
		// A path is not repeated without end.
		c := w.connect("edge")
		c.Send(frame("cccc", "SEND", a.use+" "+a.uri, "msrp://p.example:9/"+strings.Repeat("y", 3000)+";tcp", "Message-ID: m123", "-------cccc$"))
		c.WantClosed()
	})
}

// TestOneSignal: a SEND that was answered with an error is not reported, too
// (RELAY-87, RELAY-88), however many chunks it went out in.
func TestOneSignal(t *testing.T) {
	for name, end := range map[string]func(b *client, first, second msrptest.Frame){
		"both refused": func(b *client, first, second msrptest.Frame) {
			b.Respond(first, 413)
			b.Respond(second, 413)
		},
		"connection lost": func(b *client, _, _ msrptest.Frame) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				a, b, path := w.pair()
				c := w.client("edge", "carol")
				a.Write(longHead("aaaa", path, a.uri))
				a.Write(bytes.Repeat([]byte("x"), 20<<10))
				synctest.Wait()
				c.Send(send("cccc", c.use+" "+b.use+" "+b.uri, c.uri, "m999", "hi", "Failure-Report: no"))
				synctest.Wait()
				a.Write(bytes.Repeat([]byte("x"), 20<<10))
				first := b.WantRequest("SEND")
				b.WantRequest("SEND") // carol's
				end(b, first, b.Peek())
				if f := a.Next(); !f.Response || f.TID != "aaaa" || f.Code/100 != 4 {
					t.Errorf("%s", f.Raw)
				}
				a.WantNothing(2 * time.Minute)
			})
		})
	}
}

// TestPartialSlots: requests whose success is never answered do not take the
// room of others.
func TestPartialSlots(t *testing.T) {
	inWorld(t, func(c *Config) { c.Limits.Conn.Pending = 100 }, func(w *world) {
		a, b, path := w.pair()
		c := w.client("edge", "carol")
		for i := range 200 {
			tid := fmt.Sprintf("t%08d", i)
			a.Send(send(tid, path, a.uri, "m"+tid, "x", "Failure-Report: partial"))
			b.WantRequest("SEND")
		}
		c.Send(send("cccc", c.use+" "+b.use+" "+b.uri, c.uri, "m999", "hi"))
		c.WantResponse("cccc", 200)
		b.Respond(b.WantRequest("SEND"), 200)
	})
}

// TestInnerRelayKept: wrong passwords of one client behind another relay close
// nobody's connection (RELAY-40); that client is refused.
func TestInnerRelayKept(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const inner = "msrps://in.example:2855/A7mQ;tcp"
		c := &client{Peer: w.connect("edge"), uri: inner + " msrps://dora.invalid:9/d;tcp"}
		c.auth(t, relayURI, "alice")
		c.uri = inner + " msrps://eve.invalid:9/d;tcp"
		for range 5 {
			if f := c.tryAuth(t, relayURI, "nobody", "wrong"); f.Code != 401 {
				t.Errorf("%s", f.Raw)
			}
		}
		if f := c.tryAuth(t, relayURI, "alice", "secret of alice"); f.Code != 403 {
			t.Errorf("%s", f.Raw)
		}
		c.uri = inner + " msrps://fay.invalid:9/d;tcp"
		c.auth(t, relayURI, "bob")
		if n := w.r.Stats().Sessions; n != 2 {
			t.Errorf("%d sessions", n)
		}
		// But who only fails, under whatever name, is closed.
		d := &client{Peer: w.connect("edge")}
		for i := range 50 {
			d.uri = fmt.Sprintf("%s msrps://eve%d.invalid:9/d;tcp", inner, i)
			d.tryAuth(t, relayURI, "nobody", "wrong")
		}
		d.WantClosed()
	})
}

// TestFailedTransitForgotten: wrong passwords at another relay count in a row.
func TestFailedTransitForgotten(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a := w.client("edge", "alice")
		ln := w.host("outer.example")
		to := a.use + " msrp://outer.example:1;tcp"
		var p *msrptest.Peer
		for i := range 20 {
			tid, code := fmt.Sprintf("t%08d", i), []int{401, 200}[i%2]
			a.Send(frame(tid, "AUTH", to, a.uri, "Authorization: Digest x=y") + "-------" + tid + "$")
			if p == nil {
				p = w.accept(ln)
			}
			p.Respond(p.WantRequest("AUTH"), code)
			a.WantResponse(tid, code)
		}
	})
}

// TestProbationOver: a long file as the first message outlives the probation.
func TestProbationOver(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a := w.client("edge", "alice")
		p := w.connect("edge")
		p.Write(longHead("pppp", a.use+" "+a.uri, peerURI))
		for range 40 {
			time.Sleep(time.Second)
			p.Write(bytes.Repeat([]byte("x"), 16<<10))
		}
		p.Write([]byte("\r\n-------pppp$\r\n"))
		if f := a.WantRequest("SEND"); len(f.Body) != 40*16<<10 || f.Flag != '$' {
			t.Errorf("%d octets, %c", len(f.Body), f.Flag)
		} else {
			a.Respond(f, 200)
		}
		p.WantResponse("pppp", 200)
	})
}

// TestStallHoldsNobody: what was read before a stall leaves before it.
func TestStallHoldsNobody(t *testing.T) {
	inWorld(t, func(cfg *Config) { cfg.Limits.Conn.Outbox = 64 << 10 }, func(w *world) {
		a, b, path := w.pair()
		c := w.client("edge", "carol")
		b.Limit(100)
		text := send("cccc", a.use+" "+c.use+" "+c.uri, a.uri, "m1234", "hi")
		for i := range 40 {
			tid := fmt.Sprintf("u%08d", i)
			text += "\n" + send(tid, path, a.uri, "m"+tid, strings.Repeat("x", 2000))
		}
		start := time.Now()
		a.Send(text)
		c.WantRequest("SEND")
		if d := time.Since(start); d != 0 {
			t.Errorf("carol got hers after %v", d)
		}
		b.Close()
	})
}

// TestDialLimits: a next hop that was not reached is not tried for every
// message, one client cannot open all connections, and idle ones make room.
func TestDialLimits(t *testing.T) {
	change := func(cfg *Config) { cfg.Limits.Dialled, cfg.Limits.DialledBy = 8, 5 }
	inWorld(t, change, func(w *world) {
		a, b := w.client("edge", "alice"), w.client("edge", "bob")
		for i := range 100 {
			tid := fmt.Sprintf("t%08d", i)
			a.Send(send(tid, a.use+" msrp://nowhere.example:1/x;tcp", a.uri, "m"+tid, "x", "Failure-Report: no"))
		}
		synctest.Wait()
		if n := len(w.hosts.seen); n != 1 {
			t.Errorf("dialled %d times", n)
		}
		ln := w.host("evil.example")
		to := func(c *client, tid string, port, code int) {
			t.Helper()
			c.Send(send(tid, fmt.Sprintf("%s msrp://evil.example:%d/x;tcp", c.use, port), c.uri, "m"+tid, "x"))
			c.WantResponse(tid, code)
			if code == 200 {
				p := w.accept(ln)
				p.Respond(p.WantRequest("SEND"), 200)
			}
		}
		for i := range 5 {
			to(a, fmt.Sprintf("a%04d", i), 1000+i, 200)
		}
		to(a, "a0005", 1005, 403)
		for i := range 3 {
			to(b, fmt.Sprintf("b%04d", i), 2000+i, 200)
		}
		to(b, "b0003", 2003, 403) // all 8 are in use
		time.Sleep(2 * time.Minute)
		to(b, "b0004", 2004, 200) // one that was idle made room
	})
}

// TestIdleWindow: a next hop that is being closed is dialled anew.
func TestIdleWindow(t *testing.T) {
	inWorld(t, func(c *Config) { c.Limits.Idle = 10 * time.Second }, func(w *world) {
		a := w.client("edge", "alice")
		ln := w.host("peer.example")
		for i := range 2 {
			tid := fmt.Sprintf("t%04d", i)
			a.Send(send(tid, a.use+" "+peerURI, a.uri, "m123", "x"))
			a.WantResponse(tid, 200)
			p := w.accept(ln)
			p.Respond(p.WantRequest("SEND"), 200)
			time.Sleep(10*time.Second + 100*time.Millisecond)
		}
	})
}

// TestNoDowngrade: the name of a peer with TLS cannot be taken without
// (RELAY-28, RELAY-117).
func TestNoDowngrade(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const bank = "msrps://bank.example:9/secret;tcp"
		ln := w.host("bank.example")
		a := w.client("edge", "alice")
		p := w.connect("edge")
		p.Send(send("pppp", a.use+" "+a.uri, bank, "m123", "hi"))
		p.WantResponse("pppp", 200)
		a.Respond(a.WantRequest("SEND"), 200)
		a.Send(send("aaaa", a.use+" "+bank, a.uri, "m124", "for the bank only"))
		a.WantResponse("aaaa", 200)
		q := w.accept(ln)
		q.Respond(q.WantRequest("SEND"), 200)
		p.WantNothing(time.Minute)
		if !w.hosts.seen[0].Secure {
			t.Error("dialled without TLS")
		}
	})
}

// TestFrontKept: also on a second look, a bridged session shows the URI of the
// interface it left by.
func TestFrontKept(t *testing.T) {
	change := bridged(t, hook.Rule{To: "*.inside.example", Interface: "core"})
	inWorld(t, change, func(w *world) {
		const peer = "msrp://bob.inside.example:9/b;tcp"
		ln := w.host("bob.inside.example")
		a := w.client("edge", "alice")
		a.Send(send("aaaa", a.use+" "+peer, a.uri, "m123", "hi"))
		a.WantResponse("aaaa", 200)
		p := w.accept(ln)
		f := p.WantRequest("SEND")
		p.Respond(f, 200)
		p.Send(send("bbbb", f.From, peer, "m124", "yes?"))
		a.Respond(a.WantRequest("SEND"), 200)
		p.WantResponse("bbbb", 200)
		a.Send(send("aaab", a.use+" "+peer, a.uri+";x=1", "m123", "hi"))
		g := p.WantRequest("SEND")
		if g.From != f.From+";x=1" {
			t.Errorf("From-Path was %s, then %s", f.From, g.From)
		}
		p.Respond(g, 200)
	})
}
