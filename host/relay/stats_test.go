package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
)

// of returns the counts of one group.
func (s Snapshot) of(t *testing.T, name string) ListenerStats {
	t.Helper()
	for _, l := range s.Listeners {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no counts of %q", name)
	return ListenerStats{}
}

// some drops what is zero.
func some(counts map[string]uint64) map[string]uint64 {
	m := map[string]uint64{}
	for name, n := range counts {
		if n > 0 {
			m[name] = n
		}
	}
	return m
}

func frames(l ListenerStats) map[string]uint64 {
	m := map[string]uint64{}
	for _, f := range l.Frames {
		way := "in "
		if f.Out {
			way = "out "
		}
		m[way+f.Method+f.Status] = f.Frames
	}
	return some(m)
}

// TestSnapshot: a chat, what is refused in it and how it ends are counted where
// they happened.
func TestSnapshot(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const peer = "msrp://bob.inside.example:9/b;tcp"
		ln := w.host("bob.inside.example")
		a, carol := w.client("edge", "alice"), w.client("core", "carol")
		a.Send(send("aaaa", a.use+" "+peer, a.uri, "m123", "hi"))
		a.WantResponse("aaaa", 200)
		p := w.accept(ln)
		f := p.WantRequest("SEND")
		time.Sleep(40 * time.Millisecond)
		p.Respond(f, 415)
		a.WantRequest("REPORT")
		carol.Send(send("cccc", a.use+" "+a.uri, carol.uri, "m124", "hi"))
		a.Respond(a.WantRequest("SEND"), 200)
		carol.WantResponse("cccc", 200)
		carol.Send(send("cccd", strings.Replace(a.use, ";tcp", "x;tcp ", 1)+a.uri, carol.uri, "m125", "hi"))
		carol.WantResponse("cccd", 481)
		w.connect("core").Close()
		a.Send(send("aaab", a.use+" msrp://nobody.example:9/b;tcp", a.uri, "m126", "hi"))
		a.WantResponse("aaab", 200)
		a.WantRequest("REPORT")
		carol.Close()
		synctest.Wait()

		s := w.r.Snapshot()
		edge, core, dialled := s.of(t, "edge"), s.of(t, "core"), s.of(t, Dialled)
		for _, tt := range []struct {
			name      string
			got, want any
		}{
			{"edge frames", frames(edge), map[string]uint64{
				"in AUTH": 2, "in SEND": 2, "in 200": 1, "out 401": 1, "out 200": 3, "out SEND": 1, "out REPORT": 2,
			}},
			{"core frames", frames(core), map[string]uint64{"in AUTH": 2, "in SEND": 2, "out 401": 1, "out 200": 2, "out 481": 1}},
			{"dialled frames", frames(dialled), map[string]uint64{"in 415": 1, "out SEND": 1}},
			{"edge reasons", some(edge.Reasons), map[string]uint64{"challenge": 1, "report_made": 2}},
			{"core reasons", some(core.Reasons), map[string]uint64{"challenge": 1, "unknown_session": 1}},
			{"core closed", some(core.Closed), map[string]uint64{"peer": 2}},
			{"dialled closed", some(dialled.Closed), map[string]uint64{"unreachable": 1}},
			{"core ended", some(core.Ended), map[string]uint64{"connection_closed": 1}},
			{"edge auth", some(edge.Auth), map[string]uint64{"challenged": 1, "ok": 1}},
			{"now", []int{edge.Connections, edge.Sessions, core.Connections, core.Sessions, dialled.Connections, dialled.Sessions}, []int{1, 1, 0, 0, 1, 0}},
			{"opened", []uint64{edge.Opened, core.Opened, dialled.Opened, edge.Begun, core.Begun}, []uint64{1, 2, 2, 1, 1}},
			{"dials", []uint64{s.Dials.Count, s.DialsFailed.Count}, []uint64{1, 1}},
			{"dial time", s.Dials.Sum, 10 * time.Millisecond},
			{"targets", s.UnreachedTargets, 1},
			// The SEND waited for the dial.
			{"forwarding", []any{dialled.Forwarding.Count, dialled.Forwarding.Sum.Round(time.Microsecond)}, []any{uint64(1), 10 * time.Millisecond}},
			{"answering", []any{dialled.Answering.Count, dialled.Answering.Sum}, []any{uint64(1), 40 * time.Millisecond}},
		} {
			if diff := cmp.Diff(tt.want, tt.got); diff != "" {
				t.Errorf("%s: %s", tt.name, diff)
			}
		}
	})
}

// TestSnapshotOutbox: a peer that does not read shows, by the octets that wait
// for it and as slow.
func TestSnapshotOutbox(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b := w.client("edge", "alice"), w.client("core", "bob")
		b.Limit(1)
		for i := range 300 {
			tid := fmt.Sprintf("aaaa%04d", i)
			a.Send(send(tid, a.use+" "+b.use+" "+b.uri, a.uri, "m123", strings.Repeat("x", 2000)))
		}
		time.Sleep(15 * time.Second) // more than Limits.Stall
		core := w.r.Snapshot().of(t, "core")
		if core.Waiting != 1 || core.Slow != 1 || core.Outbox != core.OutboxMax || core.Outbox < 200<<10 || core.Pending < 100 {
			t.Errorf("%+v", core)
		}
	})
}

// TestAuthResults: each way in which an AUTH can end has its count.
func TestAuthResults(t *testing.T) {
	fails := hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{Name: "x", Provider: hook.Func[hook.AuthRequest, hook.AuthReply](func(_ context.Context, q *hook.AuthRequest) (hook.AuthReply, error) {
		switch q.Username {
		case "broken":
			return hook.AuthReply{}, errors.New("broken")
		case "banned":
			return hook.AuthReply{Reply: hook.Reply{Verdict: hook.Deny, Status: 403}}, nil
		}
		return hook.AuthReply{Reply: hook.Reply{Verdict: hook.Done}, Password: "secret of " + q.Username}, nil
	})})
	change := func(c *Config) {
		c.Listeners[0].Hooks.Authenticate = fails
		c.Listeners[1].PlainAuth = false
		c.Limits.Sessions = 1
	}
	inWorld(t, change, func(w *world) {
		for _, tt := range []struct{ user, password, want string }{
			{"alice", "secret of alice", authOK}, {"alice", "no", authWrong}, {"broken", "", authError}, {"banned", "", authDenied},
		} {
			c := &client{Peer: w.connect("edge"), uri: "msrp://alice.invalid:9/a;tcp"}
			before := w.r.Snapshot().of(t, "edge").Auth[tt.want]
			c.tryAuth(t, relayURI, tt.user, tt.password)
			if n := w.r.Snapshot().of(t, "edge").Auth[tt.want]; n != before+1 {
				t.Errorf("%s: %d, then %d", tt.want, before, n)
			}
		}
		c := w.client("edge", "alice")
		c.tryAuth(t, relayURI, "alice", "secret of alice")
		d := &client{Peer: w.connect("edge"), uri: "msrp://alice.invalid:9/a;tcp"}
		d.tryAuth(t, relayURI, "alice", "secret of alice", "Expires: 1")
		tid := d.id()
		d.Send(frame(tid, "AUTH", relayURI, d.uri, "Authorization: Digest nonsense") + "-------" + tid + "$")
		d.WantResponse(tid, 400)
		e := &client{Peer: w.connect("core"), uri: "msrp://alice.invalid:9/a;tcp"}
		tid = e.id()
		e.Send(frame(tid, "AUTH", coreURI, e.uri) + "-------" + tid + "$")
		e.WantResponse(tid, 403)

		f := w.client("edge", "alice")
		tid = f.id()
		f.Send(frame(tid, "AUTH", relayURI, f.uri) + "-------" + tid + "$")
		challenge := f.WantResponse(tid, 401).Get("WWW-Authenticate")
		ac := auth.Client{Username: "alice", Password: "secret of alice"}
		line, err := ac.Answer([]string{challenge}, "AUTH", relayURI)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		tid = f.id()
		f.Send(frame(tid, "AUTH", relayURI, f.uri, "Authorization: "+line) + "-------" + tid + "$")
		f.WantResponse(tid, 401)

		s := w.r.Snapshot()
		want := map[string]uint64{
			authChallenged: 9, authOK: 3, authWrong: 1, authError: 1, authDenied: 1, authLimit: 1, authInterval: 1, authMalformed: 1, authStale: 1,
		}
		if diff := cmp.Diff(want, some(s.of(t, "edge").Auth)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]uint64{authInsecure: 1}, some(s.of(t, "core").Auth)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCloseReasons(t *testing.T) {
	known := newGroup("x").closed.snapshot()
	for want, err := range map[string]error{
		"peer": io.EOF, "syntax": msrp.ErrHeadTooLarge, "path": errors.Join(errPath, &msrp.SyntaxError{}), "stopped": errStopped,
		"write_timeout": fmt.Errorf("write: %w", os.ErrDeadlineExceeded), "network": &net.OpError{Op: "read", Err: errors.New("reset")},
		"unreachable": unreachable{errors.New("no route")}, "answers_not_read": fmt.Errorf("x: %w", msrp.ErrFull), "other": errors.New("panic"),
	} {
		if got := closeReason(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
		if _, ok := known[want]; !ok {
			t.Errorf("%s is not there from the start", want)
		}
	}
	for i, name := range reasonNames {
		if name == "" || strings.Contains(name, " ") {
			t.Errorf("reason %d has no name fit for a label", i)
		}
	}
}

// TestCheckAtAnyTime: the tables agree also while connections with sessions end.
func TestCheckAtAnyTime(t *testing.T) {
	w := newWorld(t, nil)
	defer w.stop()
	for range 20 {
		c := w.client("edge", "alice")
		for range 20 {
			c.auth(t, relayURI, "alice")
		}
		c.Close()
		for w.r.Stats().Sessions > 0 || w.r.Stats().Connections > 0 {
			if err := w.r.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.r.Check(); err != nil {
			t.Fatal(err)
		}
	}
}
