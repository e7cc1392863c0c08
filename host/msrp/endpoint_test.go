package msrp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

const (
	epLocal = "msrp://bob.example:7777/b0bSession0000000000000;tcp"
	epPeer  = "msrp://alice.example:8888/a11ceSession00000000000;tcp"
)

// A mailbox is a SessionHandler that keeps what it is told.
type mailbox struct {
	judge func(s *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) // nil = accept all

	mu      sync.Mutex
	got     []mail
	asked   []string // Message-IDs that Receive was asked about
	closed  []error
	reports []string
}

type mail struct {
	id, body string
	m        *msrp.Incoming
	err      error
}

func (b *mailbox) Receive(s *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) {
	b.mu.Lock()
	b.asked = append(b.asked, m.MessageID)
	b.mu.Unlock()
	if b.judge != nil {
		if sink, st := b.judge(s, m); sink != nil || st.Code != 0 {
			return sink, st
		}
	}
	return &msrp.Buffer{Max: 64 << 20, Then: func(body []byte, err error) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.got = append(b.got, mail{m.MessageID, string(body), m, err})
		return nil
	}}, msrp.Status{}
}

func (b *mailbox) Closed(_ *msrp.Session, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = append(b.closed, err)
}

func (b *mailbox) Report(_ *msrp.Session, id string, r msrp.ByteRange, st msrp.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, fmt.Sprint(id, " ", r, " ", st.Code))
}

func (b *mailbox) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.reports)
}

func (b *mailbox) mail() []mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// wantMail checks what came; "!" before an error's text stands for a message given up.
func (b *mailbox) wantMail(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	var have []string
	for _, m := range b.mail() {
		if m.err != nil {
			have = append(have, "!"+m.err.Error())
		} else {
			have = append(have, m.body)
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("delivered %q, want %q", have, want)
	}
}

// serveEndpoint runs a connection of e, and returns the far end.
func serveEndpoint(t *testing.T, e *msrp.Endpoint, c *msrp.Conn) net.Conn {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); e.Serve(c, near) }()
	t.Cleanup(func() { c.Close(nil); <-done })
	return far
}

// scripted returns a passive session of epLocal and a scripted peer.
func scripted(t *testing.T, ec msrp.EndpointConfig, sc msrp.SessionConfig) (*mailbox, *msrp.Session, *script) {
	t.Helper()
	e := msrp.NewEndpoint(ec)
	box, _ := sc.Handler.(*mailbox)
	if box == nil {
		box = &mailbox{}
	}
	sc.Local, sc.Handler = epLocal, box
	s, err := e.NewSession(sc)
	if err != nil {
		t.Fatal(err)
	}
	return box, s, newScript(t, serveEndpoint(t, e, e.NewConn(nil)))
}

// active returns an active session of epLocal, its Conn and a scripted peer.
func active(t *testing.T, ec msrp.EndpointConfig, sc msrp.SessionConfig) (*mailbox, *msrp.Session, *script) {
	t.Helper()
	e := msrp.NewEndpoint(ec)
	box := &mailbox{}
	c := e.NewConn(nil)
	sc.Local, sc.Peer, sc.Conn, sc.Handler = epLocal, []string{epPeer}, c, box
	s, err := e.NewSession(sc)
	if err != nil {
		t.Fatal(err)
	}
	return box, s, newScript(t, serveEndpoint(t, e, c))
}

// pair returns an active session of A and a passive one of B, connected.
func pair(t *testing.T, ea, eb msrp.EndpointConfig) (a, b *msrp.Session, boxA, boxB *mailbox) {
	t.Helper()
	A, B := msrp.NewEndpoint(ea), msrp.NewEndpoint(eb)
	boxA, boxB = &mailbox{}, &mailbox{}
	ca := A.NewConn(nil)
	a, err := A.NewSession(msrp.SessionConfig{Local: epLocal, Peer: []string{epPeer}, Conn: ca, Handler: boxA})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = B.NewSession(msrp.SessionConfig{Local: epPeer, Handler: boxB}); err != nil {
		t.Fatal(err)
	}
	join(t, A, ca, B)
	return a, b, boxA, boxB
}

func join(t *testing.T, A *msrp.Endpoint, ca *msrp.Conn, B *msrp.Endpoint) {
	far := serveEndpoint(t, A, ca)
	cb := B.NewConn(nil)
	done := make(chan struct{})
	go func() { defer close(done); B.Serve(cb, far) }()
	t.Cleanup(func() { cb.Close(nil); <-done })
}

func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// What a head alone earns, in the order of the checks.
func TestEndpointJudgesHeads(t *testing.T) {
	const other = "msrp://bob.example:7777/0therSession0000000000000;tcp"
	to := func(uri string) string {
		return "MSRP tid1 SEND\nTo-Path: " + uri + "\nFrom-Path: " + epPeer + "\nMessage-ID: mid1\nByte-Range: 1-2/2\n"
	}
	const text = "Content-Type: text/plain\n\nhi\n-------tid1$\n"
	for _, tc := range []struct {
		name, in string
		code     int // 0 = no answer
	}{
		{"CORE-81 accepted", to(epLocal) + text, 200},
		{"CORE-12 URI in another case", to(strings.Replace(epLocal, "msrp://bob.example", "MSRP://BOB.Example", 1)) + text, 200},
		{"CORE-15 session-id in another case", to(strings.Replace(epLocal, "b0bS", "b0bs", 1)) + text, 481},
		{"CORE-67 unknown session", to(other) + text, 481},
		{"CORE-67 another host", to(strings.Replace(epLocal, "bob", "bill", 1)) + text, 481},
		{"CORE-67 two URIs in To-Path", to(epLocal+" "+epLocal) + text, 481},
		{"CORE-83 unknown session, no answer wanted", to(other) + "Failure-Report: no\n" + text, 0},
		{"CORE-82 unknown session, partial", to(other) + "Failure-Report: partial\n" + text, 481},
		{"CORE-82 accepted, partial", to(epLocal) + "Failure-Report: partial\n" + text, 0},
		{"CORE-83 accepted, no", to(epLocal) + "Failure-Report: no\n" + text, 0},
		{"CORE-40 unknown method", epHead("tid1", "NICKNAME") + "-------tid1$\n", 501},
		{"CORE-26 method in lower case letters is no MSRP", "MSRP tid1 send\n", -1},
		{"CORE-160 no Message-ID", epHead("tid1", "SEND") + text, 400},
		{"CORE-162 range of 0", epHead("tid1", "SEND") + "Message-ID: mid1\nByte-Range: 0-2/2\n" + text, 400},
		{"CORE-162 end before start", epHead("tid1", "SEND") + "Message-ID: mid1\nByte-Range: 5-2/9\n" + text, 400},
		{"CORE-161 body without type", epHead("tid1", "SEND") + "Message-ID: mid1\n\nhi\n-------tid1$\n", 400},
		{"CORE-83 bad, and no answer wanted", epHead("tid1", "SEND") + "Failure-Report: no\n" + text, 0},
		{"CORE-88 REPORT to nobody", strings.Replace(epHead("tid1", "REPORT"), "b0b", "c0c", 1) + "Message-ID: mid1\nStatus: 000 200\n-------tid1$\n", 0},
		{"CORE-88 bad REPORT", epHead("tid1", "REPORT") + "-------tid1$\n", 0},
		{"CORE-39 unknown header", to(epLocal) + "X-Whatever: a: b\n" + text, 200},
		{"CORE-157 From-Path unreadable", "MSRP tid1 SEND\nTo-Path: " + epLocal + "\nFrom-Path: nowhere\nMessage-ID: mid1\n" + text, -1},
		{"CORE-157 no From-Path", "MSRP tid1 SEND\nTo-Path: " + epLocal + "\nMessage-ID: mid1\n" + text, -1},
		{"CORE-31 bodiless", to(epLocal) + "-------tid1$\n", 200},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
			go p.nc.Write([]byte(strings.ReplaceAll(tc.in, "\n", "\r\n"))) // the other side may close in the middle
			switch tc.code {
			case 0:
				p.wantNothing()
			case -1:
				synctest.Wait()
				select {
				case <-p.end:
				default:
					t.Error("connection still open")
				}
			default:
				f := p.wantCode("tid1", tc.code)
				// CORE-84..87: same tid, first URI of From-Path, own URI.
				if !strings.Contains(f.head, "\r\nTo-Path: "+epPeer+"\r\nFrom-Path: ") || f.flag != msrp.Complete {
					t.Errorf("response %v", f)
				}
				p.wantNothing()
			}
			if accepted := strings.Contains(tc.in, "hi") && (tc.code == 200 || strings.Contains(tc.name, "accepted")); accepted {
				box.wantMail(t, "hi")
			} else {
				box.wantMail(t)
			}
		})
	}
}

// CORE-85: To-Path of the response to a SEND is the first URI, to another
// method all of them.
func TestResponsePathsCORE85(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		const way = "msrp://relay.example:1/r;tcp " + epPeer
		p.write(strings.Replace(epHead("tid1", "SEND"), epPeer, way, 1) + "Message-ID: mid1\n-------tid1$\n")
		p.want("200 OK", "To-Path: msrp://relay.example:1/r;tcp", "From-Path: "+epLocal)
		p.write(strings.Replace(epHead("tid2", "AUTH"), epPeer, way, 1) + "-------tid2$\n")
		p.want("501", "To-Path: "+way, "From-Path: "+epLocal)
	})
}

// CORE-117: the first request binds; another connection gets 506.
// CORE-116: the passive side sends nothing before, and then along the way back.
func TestSessionBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, box := msrp.NewEndpoint(msrp.EndpointConfig{}), &mailbox{}
		s, err := e.NewSession(msrp.SessionConfig{Local: epLocal, Handler: box})
		if err != nil {
			t.Fatal(err)
		}
		p1 := newScript(t, serveEndpoint(t, e, e.NewConn(nil)))
		p2 := newScript(t, serveEndpoint(t, e, e.NewConn(nil)))
		go s.Send(t.Context(), &msrp.Message{ContentType: "text/plain", Body: strings.NewReader("early")})
		p1.wantNothing()
		p2.wantNothing()
		const way = "msrp://r2.example:1/r2;tcp msrp://r1.example:1/r1;tcp " + epPeer
		p1.write(strings.Replace(epHead("tid1", "SEND"), epPeer, way, 1) + "Message-ID: mid1\n-------tid1$\n")
		for range 2 {
			if f := p1.next(); strings.Contains(f.head, " SEND\r\n") {
				if !strings.Contains(f.head, "\r\nTo-Path: "+way+"\r\nFrom-Path: "+epLocal+"\r\n") || f.body != "early" {
					t.Errorf("sent %v", f)
				}
			}
		}
		p2.chunk("tid2", "Message-ID: mid2\n", "hi", msrp.Complete)
		p2.wantCode("tid2", 506)
		p2.chunk("tid3", "Message-ID: mid2\nFailure-Report: no\n", "hi", msrp.Complete)
		p2.wantNothing()
		box.wantMail(t)
		s.Close()
		p1.chunk("tid4", "Message-ID: mid3\n", "hi", msrp.Complete)
		p1.wantCode("tid4", 481)
		if _, err := e.NewSession(msrp.SessionConfig{Local: epLocal, Handler: box}); err != nil {
			t.Errorf("the session-id of a closed session: %v", err)
		}
	})
}

// CORE-118: the connection's end is that of every session on it.
func TestConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := msrp.NewEndpoint(msrp.EndpointConfig{})
		c := e.NewConn(nil)
		var boxes []*mailbox
		var ss []*msrp.Session
		for i := range 3 {
			box := &mailbox{}
			s, err := e.NewSession(msrp.SessionConfig{
				Local: fmt.Sprintf("msrp://a.example:1/session%d;tcp", i), Peer: []string{epPeer}, Conn: c, Handler: box,
			})
			if err != nil {
				t.Fatal(err)
			}
			boxes, ss = append(boxes, box), append(ss, s)
		}
		p := newScript(t, serveEndpoint(t, e, c))
		o, err := ss[0].Send(t.Context(), &msrp.Message{ContentType: "text/plain", Body: strings.NewReader("x")})
		if err != nil {
			t.Fatal(err)
		}
		p.next()
		p.nc.Close()
		if err := o.Wait(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("Wait: %v", err)
		}
		synctest.Wait()
		for i, s := range ss {
			if err := s.Err(); !errors.Is(err, io.EOF) || len(boxes[i].closed) != 1 || boxes[i].closed[0] != err {
				t.Errorf("session %d: %v, closed %v", i, err, boxes[i].closed)
			}
			if _, err := s.Send(t.Context(), &msrp.Message{ContentType: "text/plain"}); err == nil {
				t.Error("Send on a dead session")
			}
		}
		if _, err := e.NewSession(msrp.SessionConfig{Local: epLocal, Peer: []string{epPeer}, Conn: c, Handler: boxes[0]}); err == nil {
			t.Error("session on a dead connection")
		}
	})
}

// A connection that was never made fails its sessions too.
func TestEndpointFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, box := msrp.NewEndpoint(msrp.EndpointConfig{}), &mailbox{}
		c := e.NewConn(nil)
		s, err := e.NewSession(msrp.SessionConfig{Local: epLocal, Peer: []string{epPeer}, Conn: c, Handler: box})
		if err != nil {
			t.Fatal(err)
		}
		bound := make(chan error)
		go func() { bound <- s.Bind(t.Context()) }()
		synctest.Wait()
		refused := errors.New("connection refused")
		e.Fail(c, refused)
		if err := <-bound; !errors.Is(err, refused) {
			t.Errorf("Bind: %v", err)
		}
		if !errors.Is(s.Err(), refused) || len(box.closed) != 1 {
			t.Errorf("session: %v, closed %v", s.Err(), box.closed)
		}
	})
}

// CORE-120, CORE-122: a connection outlives its last session by Linger.
func TestLinger(t *testing.T) {
	for _, tc := range []struct {
		name   string
		linger time.Duration
		after  time.Duration // when the connection is closed, 0 = never
	}{{"default", 0, 5 * time.Second}, {"long", time.Minute, time.Minute}, {"off", -1, 0}} {
		inBubble(t, tc.name, func(t *testing.T) {
			_, s, p := active(t, msrp.EndpointConfig{Linger: tc.linger}, msrp.SessionConfig{})
			time.Sleep(time.Hour) // an idle session keeps it
			s.Close()
			began := time.Now()
			select {
			case <-p.end:
				if d := time.Since(began); tc.after == 0 || d != tc.after {
					t.Errorf("closed after %v", d)
				}
			case <-time.After(24 * time.Hour):
				if tc.after != 0 {
					t.Error("never closed")
				}
			}
		})
	}
}

func TestNewSessionRefuses(t *testing.T) {
	e, f := msrp.NewEndpoint(msrp.EndpointConfig{}), msrp.NewEndpoint(msrp.EndpointConfig{})
	ok := msrp.SessionConfig{Local: epLocal, Handler: &mailbox{}}
	if _, err := e.NewSession(ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*msrp.SessionConfig){
		"CORE-11 session-id in use":     func(*msrp.SessionConfig) {},
		"no handler":                    func(c *msrp.SessionConfig) { c.Handler = nil },
		"own URI":                       func(c *msrp.SessionConfig) { c.Local = "sip:bob" },
		"CORE-8 no session-id":          func(c *msrp.SessionConfig) { c.Local = "msrp://b.example:1;tcp" },
		"peer URI":                      func(c *msrp.SessionConfig) { c.Local += "x"; c.Peer = []string{"sip:alice"} },
		"active without a path":         func(c *msrp.SessionConfig) { c.Local += "x"; c.Conn = e.NewConn(nil) },
		"connection of another's":       func(c *msrp.SessionConfig) { c.Local += "x"; c.Conn = f.NewConn(nil) },
		"CORE-8 peer joined in one URI": func(c *msrp.SessionConfig) { c.Local += "x"; c.Peer = []string{epPeer + " " + epPeer} },
	} {
		cfg := ok
		change(&cfg)
		if _, err := e.NewSession(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Closed is the last call, also when the session is closed from within Receive.
func TestCloseFromHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &mailbox{judge: func(s *msrp.Session, _ *msrp.Incoming) (msrp.Sink, msrp.Status) {
			s.Close()
			return nil, msrp.Status{}
		}}
		_, s, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{Handler: box})
		p.chunk("tid1", "Message-ID: mid1\nByte-Range: 1-*/*\n", "half", msrp.Continue)
		p.wantCode("tid1", 200)
		box.wantMail(t, "!"+msrp.ErrSessionClosed.Error())
		if len(box.closed) != 1 || box.closed[0] != msrp.ErrSessionClosed || s.Err() != msrp.ErrSessionClosed {
			t.Errorf("closed %v, Err %v", box.closed, s.Err())
		}
	})
}

func TestRoundTrip(t *testing.T) {
	rq := func() *msrp.Request {
		return &msrp.Request{
			Method: []byte("AUTH"),
			Paths:  msrp.AppendPaths(nil, []byte(epPeer), []byte(epLocal), nil),
		}
	}
	inBubble(t, "reply", func(t *testing.T) {
		e := msrp.NewEndpoint(msrp.EndpointConfig{})
		c := e.NewConn(nil)
		p := newScript(t, serveEndpoint(t, e, c))
		go func() {
			f := p.want("AUTH")
			p.write("MSRP " + f.tid + " 401 Not yet\nTo-Path: " + epLocal + "\nFrom-Path: " + epPeer +
				"\nWWW-Authenticate: Digest a\nExpires: 5\nwww-authenticate:  Digest b\n-------" + f.tid + "$\n")
			p.write(epHead("tid2", "SEND") + "Message-ID: mid2\n-------tid2$\n") // takes the buffer over
		}()
		rp, err := c.RoundTrip(t.Context(), rq())
		if err != nil {
			t.Fatal(err)
		}
		p.wantCode("tid2", 481)
		exp, ok := rp.Header("EXPIRES")
		_, no := rp.Header("Use-Path")
		if rp.OK() || rp.Code != 401 || rp.Comment != "Not yet" || exp != "5" || !ok || no ||
			!slices.Equal(rp.Headers("WWW-Authenticate"), []string{"Digest a", "Digest b"}) {
			t.Errorf("reply %+v", rp)
		}
	})
	inBubble(t, "no response", func(t *testing.T) {
		e := msrp.NewEndpoint(msrp.EndpointConfig{})
		c := e.NewConn(nil)
		newScript(t, serveEndpoint(t, e, c))
		began := time.Now()
		_, err := c.RoundTrip(t.Context(), rq())
		if err != msrp.ErrTimeout || time.Since(began) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.RoundTrip(ctx, rq()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		go func() { time.Sleep(time.Second); c.Close(io.ErrNoProgress) }()
		if _, err := c.RoundTrip(t.Context(), rq()); !errors.Is(err, io.ErrNoProgress) {
			t.Error(err)
		}
		if _, err := c.RoundTrip(t.Context(), rq()); !errors.Is(err, io.ErrNoProgress) {
			t.Error(err)
		}
		if _, err := c.RoundTrip(t.Context(), &msrp.Request{Method: []byte("REPORT")}); err == nil {
			t.Error("REPORT accepted (CORE-99)")
		}
	})
	inBubble(t, "no room", func(t *testing.T) {
		e := msrp.NewEndpoint(msrp.EndpointConfig{Limits: msrp.Limits{Pending: 1}})
		c := e.NewConn(nil)
		p := newScript(t, serveEndpoint(t, e, c))
		go c.RoundTrip(t.Context(), rq())
		f := p.want("AUTH")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := c.RoundTrip(ctx, rq()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Error(err, time.Since(began))
		}
		p.wantNothing()
		go func() {
			p.answer(f, "200 OK")
			p.answer(p.want("AUTH"), "200 OK")
		}()
		if rp, err := c.RoundTrip(t.Context(), rq()); err != nil || !rp.OK() {
			t.Error(rp, err)
		}
	})
}
