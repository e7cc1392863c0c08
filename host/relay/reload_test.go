package relay

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// settle runs Settle beside f, then ends the relay, and returns how long Settle took.
func (w *world) settle(timeout time.Duration, f func()) (took time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	done := make(chan struct{})
	begin := time.Now()
	go func() {
		defer close(done)
		w.r.Settle(ctx)
		took = time.Since(begin)
		w.cancel()
	}()
	synctest.Wait()
	f()
	<-done
	return took
}

// TestSettle: what was answered with 200 before the end is taken by the receiver, or
// reported while its sender can still hear it (RELAY-82, RELAY-84..87).
func TestSettle(t *testing.T) {
	for _, tt := range []struct {
		wish    string // Failure-Report
		outcome int    // the receiver's response; 0 = none
		report  string // Status of the REPORT; "" = none
		early   bool   // Settle need not wait for its time-out
	}{
		{"yes", 200, "", true},
		{"yes", 413, "000 413", true},
		{"yes", 0, "000 481 Connection lost", false},
		{"partial", 0, "000 481 Connection lost", false},
		{"no", 0, "", true}, // nothing is to be said, so nothing is waited for
	} {
		t.Run(fmt.Sprint(tt.wish, " ", tt.outcome), func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				a, b, path := w.pair()
				a.Send(send("aaaa", path, a.uri, "m123", "hello", "Failure-Report: "+tt.wish))
				f := b.WantRequest("SEND")
				if tt.wish == "yes" {
					a.WantResponse("aaaa", 200)
				}
				took := w.settle(5*time.Second, func() {
					if tt.outcome != 0 {
						time.Sleep(time.Second)
						b.Respond(f, tt.outcome)
					}
				})
				if (took < 2*time.Second) != tt.early {
					t.Errorf("it took %v", took)
				}
				if tt.report != "" {
					r := a.WantRequest("REPORT")
					if r.Get("Status") != tt.report || r.Get("Message-ID") != "m123" || r.Get("Byte-Range") != "1-5/5" || r.To != a.uri || r.From != a.use {
						t.Errorf("%s", r.Raw)
					}
				}
				a.WantClosed()
				if n := w.r.Stats().Counts["report_made"]; n > 1 || (n == 1) != (tt.report != "") {
					t.Errorf("%d reports", n)
				}
			})
		})
	}
}

// TestSettleRefuses: each request that comes when the end has begun is answered, in
// the way that its sender asked for; REPORTs go on (CORE-81..83, CORE-88).
func TestSettleRefuses(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		a.Send(send("aaaa", path, a.uri, "m123", "hello", "Success-Report: yes"))
		f := b.WantRequest("SEND")
		a.WantResponse("aaaa", 200)
		w.settle(5*time.Second, func() {
			for wish, code := range map[string]int{"yes": 481, "partial": 481, "no": 0} {
				a.Send(send("bbbb"+wish, path, a.uri, "m124", "too late", "Failure-Report: "+wish))
				if code != 0 {
					a.WantResponse("bbbb"+wish, code)
				}
			}
			a.Send(frame("cccc", "AUTH", relayURI, a.uri) + "-------cccc$")
			a.WantResponse("cccc", 403)
			a.Send(frame("dddd", "NICKNAME", path, a.uri) + "-------dddd$")
			a.WantResponse("dddd", 481)
			a.Write(longHead("eeee", path, a.uri))
			a.Write(bytes.Repeat([]byte("x"), 40<<10))
			a.WantResponse("eeee", 481)
			a.Write([]byte("\r\n-------eeee$\r\n"))
			b.Respond(f, 200)
			b.Send(frame("ffff", "REPORT", f.Get("From-Path"), b.uri, "Message-ID: m123", "Byte-Range: 1-5/5", "Status: 000 200 OK") + "-------ffff$")
			if r := a.WantRequest("REPORT"); r.Get("Message-ID") != "m123" {
				t.Errorf("%s", r.Raw)
			}
		})
	})
}

// TestSettleMidChunk: a chunk that is arriving is answered, and what was sent on of it
// ends such that the sender could go on elsewhere (RELAY-97).
func TestSettleMidChunk(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		a.Write(longHead("aaaa", path, a.uri))
		a.Write(bytes.Repeat([]byte("x"), 40<<10))
		synctest.Wait()
		w.settle(time.Second, func() {
			a.Write(bytes.Repeat([]byte("x"), 40<<10))
			a.WantResponse("aaaa", 481)
			f := b.WantRequest("SEND")
			if f.Flag != '+' {
				t.Errorf("%s%c", f.Raw, f.Flag)
			}
			b.Respond(f, 200)
		})
	})
}

// TestDrain: nothing new is taken, and sessions go on.
func TestDrain(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		w.r.Drain()
		w.connect("edge").WantClosed()
		a.Send(frame("aaaa", "AUTH", relayURI, a.uri) + "-------aaaa$")
		a.WantResponse("aaaa", 403)
		a.Send(send("bbbb", path, a.uri, "m123", "hello"))
		a.WantResponse("bbbb", 200)
		b.Respond(b.WantRequest("SEND"), 200)
		a.WantNothing(time.Minute)
	})
}

// TestReloadRefused: what cannot change is named, and changes nothing.
func TestReloadRefused(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		cfg := w.r.cfg().Config
		cfg.Listeners = append([]Listener(nil), cfg.Listeners...)
		cfg.Listeners[0].URI = uri("msrp://other.example:2855;tcp")
		if err := w.r.Reload(cfg); err == nil || !strings.Contains(err.Error(), `listener "edge": its URI cannot change`) {
			t.Error(err)
		}
		w.client("edge", "alice")
	})
}
