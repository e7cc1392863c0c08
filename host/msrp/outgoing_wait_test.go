package msrp_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

// What Wait waits for: CORE-81..83, CORE-95, CORE-96, CORE-110, CORE-112.
func TestWait(t *testing.T) {
	for _, tc := range []struct {
		name    string
		failure msrp.ReportWish
		success bool
		do      func(p *script, f epFrame) // the message is MyMessage1, of 10 octets
		after   time.Duration
		code    int // of the error; 0 = none, -1 = ErrTimeout, -2 = not yet done
	}{
		{"CORE-45 absent: 200", msrp.Absent, false, func(p *script, f epFrame) { p.answer(f, "200 OK") }, 0, 0},
		{"CORE-93 absent: 299", msrp.Absent, false, func(p *script, f epFrame) { p.answer(f, "299 Fine") }, 0, 0},
		{"CORE-93 yes: 666", msrp.Yes, false, func(p *script, f epFrame) { p.answer(f, "666 What") }, 0, 666},
		{"CORE-95 absent: silence", msrp.Absent, false, nil, 30 * time.Second, -1},
		{"CORE-95 yes: silence", msrp.Yes, false, nil, 30 * time.Second, -1},
		{"CORE-96 partial: silence", msrp.Partial, false, nil, 30 * time.Second, 0},
		{"CORE-96 partial: 403", msrp.Partial, false, func(p *script, f epFrame) { p.answer(f, "403 No") }, 0, 403},
		{"CORE-83 no: silence", msrp.No, false, nil, 0, 0},
		{"CORE-94 response to another", msrp.Yes, false, func(p *script, f epFrame) { p.answer(epFrame{tid: "Unknown1"}, "200 OK") }, 30 * time.Second, -1},
		{"success: 200 only", msrp.Yes, true, func(p *script, f epFrame) { p.answer(f, "200 OK") }, 0, -2},
		{"success: report only", msrp.Yes, true, func(p *script, f epFrame) { p.report("MyMessage1", "1-10/10", "000 200 OK") }, 30 * time.Second, -1},
		{"CORE-102 success: both", msrp.Yes, true, func(p *script, f epFrame) {
			p.answer(f, "200 OK")
			p.report("MyMessage1", "1-10/10", "000 200 OK")
		}, 0, 0},
		{"CORE-112 success: in parts", msrp.No, true, func(p *script, f epFrame) {
			p.report("MyMessage1", "6-10/10", "000 200 OK")
			p.report("MyMessage1", "1-5/10", "000 200 OK")
		}, 0, 0},
		{"CORE-112 success: a part lacks", msrp.No, true, func(p *script, f epFrame) {
			p.report("MyMessage1", "7-10/10", "000 200 OK")
			p.report("MyMessage1", "1-5/10", "000 200 OK")
		}, 0, -2},
		{"success: range-end *", msrp.No, true, func(p *script, f epFrame) { p.report("MyMessage1", "1-*/*", "000 200 OK") }, 0, 0},
		{"CORE-110 failure report", msrp.Yes, false, func(p *script, f epFrame) { p.report("MyMessage1", "1-10/10", "000 403 No") }, 0, 403},
		{"CORE-101 another namespace", msrp.Partial, false, func(p *script, f epFrame) { p.report("MyMessage1", "1-10/10", "001 403 No") }, 0, -2},
		{"CORE-109 report on another", msrp.Partial, false, func(p *script, f epFrame) { p.report("MyMessage2", "1-10/10", "000 403 No") }, 0, -2},
		{"relay's time-out", msrp.Yes, false, func(p *script, f epFrame) { p.report("MyMessage1", "1-10/10", "000 408 Late") }, 0, -1},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			_, s, p := active(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
			m := epText("0123456789")
			m.ID, m.Success, m.Failure = "MyMessage1", tc.success, tc.failure
			o, err := s.Send(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			f := p.want("SEND")
			// CORE-44, CORE-45: what is the default may be left out.
			if got := epHeader(f, "Failure-Report"); got != tc.failure.String() {
				t.Errorf("Failure-Report: %q", got)
			}
			if got := epHeader(f, "Success-Report"); got == "yes" != tc.success {
				t.Errorf("Success-Report: %q", got)
			}
			began := time.Now()
			if tc.do != nil {
				tc.do(p, f)
				synctest.Wait()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			if tc.code == -2 {
				select {
				case <-o.Done():
					t.Errorf("done: %v", o.Wait(ctx))
				default:
				}
				return
			}
			err = o.Wait(ctx)
			switch {
			case time.Since(began) != tc.after:
				t.Errorf("%v after %v", err, time.Since(began))
			case tc.code == 0 && err != nil, tc.code == -1 && !errors.Is(err, msrp.ErrTimeout), tc.code > 0 && !wantsStatus(tc.code)(err):
				t.Errorf("Wait: %v", err)
			}
		})
	}
}

// CORE-95: the 30 s run from the last octet, not from Send.
func TestTimeoutFromLastOctet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := msrp.NewEndpoint(msrp.EndpointConfig{})
		c := e.NewConn(nil)
		s, err := e.NewSession(msrp.SessionConfig{Local: epLocal, Peer: []string{epPeer}, Conn: c, Handler: &mailbox{}})
		if err != nil {
			t.Fatal(err)
		}
		v := newValve()
		newScript(t, valved{serveEndpoint(t, e, c), v})
		o, err := s.Send(t.Context(), epText(strings.Repeat("x", 100000)))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		v.open()
		synctest.Wait()
		began := time.Now()
		if err := o.Wait(t.Context()); err != msrp.ErrTimeout || time.Since(began) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// CORE-115, CORE-164: Bind, and keep-alive, is a SEND without a body.
func TestBind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, p := active(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		bound := make(chan error)
		bind := func() epFrame {
			go func() { bound <- s.Bind(t.Context()) }()
			f := p.want("SEND", "Byte-Range: 1-0/0")
			if rest, _ := f.lines(); len(rest) != 0 || f.hasBody || f.flag != msrp.Complete || epHeader(f, "Message-ID") == "" {
				t.Errorf("bind: %v", f)
			}
			return f
		}
		p.answer(bind(), "200 OK")
		if err := <-bound; err != nil {
			t.Error(err)
		}
		p.answer(bind(), "481 Who?")
		if err := <-bound; !wantsStatus(481)(err) {
			t.Error(err)
		}
		bind()
		if err := <-bound; err != msrp.ErrTimeout {
			t.Error(err)
		}
		s.Close()
		if err := s.Bind(t.Context()); err != msrp.ErrSessionClosed {
			t.Error(err)
		}
	})
}

// CORE-109, CORE-99: a REPORT finds its message also after Wait returned, and
// only then; it is never answered.
func TestLateReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, s, p := active(t, msrp.EndpointConfig{Limits: msrp.Limits{Remembered: 2}}, msrp.SessionConfig{})
		var os []*msrp.Outgoing
		for i := range 3 {
			m := epText("hello")
			m.ID, m.Success = fmt.Sprint("Message", i), i == 0
			o, err := s.Send(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			os = append(os, o)
			p.answer(p.want("SEND"), "200 OK")
		}
		if err := os[0].Wait(t.Context()); err != msrp.ErrNoReport {
			t.Errorf("Wait for a REPORT of old: %v", err)
		}
		if err := os[2].Wait(t.Context()); err != nil {
			t.Error(err)
		}
		// What still waits for responses is not given up for younger ones.
		for range 4 {
			o, err := s.Send(t.Context(), epText("hello"))
			if err != nil {
				t.Fatal(err)
			}
			os = append(os, o)
		}
		for _, o := range os[3:] {
			p.answer(p.want("SEND"), "200 OK")
			if err := o.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		m := epText("hello")
		m.ID = "Message2"
		if _, err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		p.answer(p.want("SEND"), "200 OK")
		for _, id := range []string{"Message0", "Message2", "Message9"} {
			p.report(id, "1-5/5", "000 408 Late")
		}
		p.wantNothing()
		if want := []string{"Message2 1-5/5 408"}; !slices.Equal(box.heard(), want) {
			t.Errorf("reports %q, want %q", box.heard(), want)
		}
	})
}

// CORE-119: a Message-ID is taken again by the session's next attempt, not
// while the first is under way.
func TestMessageIDInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, p := active(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		send := func() (*msrp.Outgoing, error) {
			m := epText("hello")
			m.ID = "MyMessage1"
			return s.Send(t.Context(), m)
		}
		o, err := send()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := send(); err == nil {
			t.Error("sent twice at once")
		}
		p.answer(p.want("SEND"), "200 OK")
		o.Wait(t.Context())
		if o, err = send(); err != nil {
			t.Fatal(err)
		}
		p.answer(p.want("SEND"), "200 OK")
		if err := o.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// CORE-67: a REPORT counts only on the session's own connection.
func TestReportOnAnotherConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, box := msrp.NewEndpoint(msrp.EndpointConfig{}), &mailbox{}
		c := e.NewConn(nil)
		s, err := e.NewSession(msrp.SessionConfig{Local: epLocal, Peer: []string{epPeer}, Conn: c, Handler: box})
		if err != nil {
			t.Fatal(err)
		}
		p := newScript(t, serveEndpoint(t, e, c))
		m := epText("hello")
		m.ID = "MyMessage1"
		o, err := s.Send(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		q := newScript(t, serveEndpoint(t, e, e.NewConn(nil)))
		q.report("MyMessage1", "1-5/5", "000 403 No")
		q.wantNothing()
		p.answer(p.want("SEND"), "200 OK")
		if err := o.Wait(t.Context()); err != nil || len(box.heard()) != 0 {
			t.Error(err, box.heard())
		}
	})
}

// An Outgoing that waits for the peer's first request, CORE-116, ends with its
// session or ctx.
func TestSendWhileUnbound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Send(ctx, epText("hello")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		go func() { time.Sleep(time.Second); s.Close() }()
		if _, err := s.Send(t.Context(), epText("hello")); err != msrp.ErrSessionClosed {
			t.Error(err)
		}
		if err := s.Bind(t.Context()); err != msrp.ErrSessionClosed {
			t.Error(err)
		}
		<-s.Done()
		p.wantNothing()
	})
}
