package relay

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

// pair is alice, bob, and the path from one to the other.
func (w *world) pair() (a, b *client, path string) {
	w.t.Helper()
	a, b = w.client("edge", "alice"), w.client("edge", "bob")
	return a, b, a.use + " " + b.use + " " + b.uri
}

// TestFailureReport has every Failure-Report with every outcome (RELAY-82..88,
// RELAY-106, CORE-81..83).
func TestFailureReport(t *testing.T) {
	for _, tt := range []struct {
		wish    string // Failure-Report; "" = absent
		outcome int    // the receiver's response; 0 = none, -1 = it closes
		answer  int    // to the sender; 0 = none
		report  string // Status of the REPORT; "" = none
	}{
		{"", 200, 200, ""},
		{"", 413, 200, "000 413"},
		{"", 415, 200, "000 415"},
		{"", 481, 200, "000 481"},
		{"", 999, 200, "000 999"},
		{"", 0, 200, "000 408 Downstream timeout"},
		{"", -1, 200, "000 481 Connection lost"},
		{"yes", 200, 200, ""},
		{"yes", 413, 200, "000 413"},
		{"yes", 0, 200, "000 408 Downstream timeout"},
		{"partial", 200, 0, ""},
		{"partial", 413, 0, "000 413"},
		{"partial", 0, 0, ""},
		{"partial", -1, 0, "000 481 Connection lost"},
		{"no", 200, 0, ""},
		{"no", 413, 0, ""},
		{"no", 0, 0, ""},
		{"no", -1, 0, ""},
	} {
		t.Run(fmt.Sprintf("%s %d", tt.wish, tt.outcome), func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				a, b, path := w.pair()
				var headers []string
				if tt.wish != "" {
					headers = append(headers, "Failure-Report: "+tt.wish)
				}
				a.Send(send("aaaa", path, a.uri, "m123", "hello", headers...))
				f := b.WantRequest("SEND")
				if got := f.Get("Failure-Report"); got != tt.wish {
					t.Errorf("Failure-Report: %q", got)
				}
				if tt.answer != 0 {
					a.WantResponse("aaaa", tt.answer)
				}
				start := time.Now()
				switch tt.outcome {
				case 0:
				case -1:
					b.Close()
				default:
					b.Respond(f, tt.outcome)
				}
				if tt.report != "" {
					r := a.WantRequest("REPORT")
					// RELAY-89, CORE-98..100, CORE-105.
					if r.Get("Status") != tt.report || r.Get("Message-ID") != "m123" || r.Get("Byte-Range") != "1-5/5" ||
						r.To != a.uri || r.From != a.use || r.Get("Failure-Report")+r.Get("Success-Report") != "" || r.Flag != '$' {
						t.Errorf("%s", r.Raw)
					}
					if d := time.Since(start); tt.outcome == 0 && d != 30*time.Second {
						t.Errorf("REPORT after %v", d) // RELAY-84
					}
				}
				a.WantNothing(2 * time.Minute)
			})
		})
	}
}

// TestRefusedFailureReport: what is refused at once is answered, unless
// Failure-Report is "no" (RELAY-85, RELAY-88, CORE-83).
func TestRefusedFailureReport(t *testing.T) {
	for wish, want := range map[string]int{"": 481, "yes": 481, "partial": 481, "no": 0} {
		inWorld(t, nil, func(w *world) {
			a := w.client("edge", "alice")
			gone := strings.Replace(a.use, "msrp://relay.example:2855/", "msrp://relay.example:2855/x", 1)
			var headers []string
			if wish != "" {
				headers = append(headers, "Failure-Report: "+wish)
			}
			a.Send(send("aaaa", gone+" "+a.uri, a.uri, "m123", "hello", headers...))
			if want != 0 {
				a.WantResponse("aaaa", want)
			}
			a.WantNothing(time.Minute)
		})
	}
}

// TestByteRange: what goes out names the octets really sent (RELAY-91, CORE-52,
// CORE-162).
func TestByteRange(t *testing.T) {
	long := strings.Repeat("0123456789", 300)
	for _, tt := range []struct{ in, body, want string }{
		{"1-5/5", "hello", "1-5/5"},
		{"1-*/5", "hello", "1-5/5"},
		{"1-*/*", "hello", "1-5/*"},
		{"1-99/99", "hello", "1-5/99"},
		{"7-*/11", "hello", "7-11/11"},
		{"", "hello", ""},
		{"1-3000/3000", long, "1-*/3000"},
		{"", long, "1-*/*"},
		{"1-5/3", "hello", "refused"},
		{"1-2/3", "hello", "refused"},
		{"0-5/5", "hello", "refused"},
		{"1-5/5/5", "hello", "refused"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				a, b, path := w.pair()
				headers := []string{"Message-ID: m123"}
				if tt.in != "" {
					headers = append(headers, "Byte-Range: "+tt.in)
				}
				a.Send(frame("aaaa", "SEND", path, a.uri, append(headers, "X-A: b", "Content-Type: text/plain", "", tt.body, "-------aaaa$")...))
				if tt.want == "refused" {
					a.WantResponse("aaaa", 400)
					return
				}
				f := b.WantRequest("SEND")
				if f.Get("Byte-Range") != tt.want || string(f.Body) != tt.body || f.Get("X-A") != "b" {
					t.Errorf("%s", f.Raw)
				}
				a.WantResponse("aaaa", 200)
				b.Respond(f, 200)
			})
		})
	}
}

// TestHeadersKept: headers that are not known pass octet for octet, in order
// (RELAY-50, CORE-39).
func TestHeadersKept(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		lines := []string{
			"X-First:no-space", "Message-ID: m123", "x-odd:   three spaces ", "Byte-Range: 1-2/2", "Failure-Report: yes",
			"X-Utf8: grüße", "X-First: again", "Content-Disposition: attachment; filename=\"a b\"", "Content-ID: <1>", "Content-Type: text/plain;charset=utf-8",
		}
		a.Send(frame("aaaa", "SEND", path, a.uri, append(lines, "", "hi", "-------aaaa+")...))
		f := b.WantRequest("SEND")
		_, got, _ := strings.Cut(f.Raw, "From-Path: ")
		_, got, _ = strings.Cut(got, "\r\n")
		if want := strings.Join(lines, "\r\n") + "\r\n"; got != want || f.Flag != '+' {
			t.Errorf("got %q\nwant %q", got, want)
		}
		b.Respond(f, 200)
	})
}

// TestEmpty: a bodiless SEND and one with an empty body are not the same
// (CORE-31), and flags pass (RELAY-94).
func TestEmpty(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		for _, flag := range []string{"$", "+", "#"} {
			a.Send(frame("aaaa", "SEND", path, a.uri, "Message-ID: m123", "Byte-Range: 1-0/0", "-------aaaa"+flag))
			f := b.WantRequest("SEND")
			if f.HasBody || f.Get("Byte-Range") != "1-0/0" || string(f.Flag) != flag {
				t.Errorf("%s%c", f.Raw, f.Flag)
			}
			a.WantResponse("aaaa", 200)
			b.Respond(f, 200)
			a.Send(frame("bbbb", "SEND", path, a.uri, "Message-ID: m123", "Byte-Range: 1-0/0", "Content-Type: text/plain", "", "", "-------bbbb"+flag))
			f = b.WantRequest("SEND")
			if !f.HasBody || len(f.Body) != 0 || f.Get("Content-Type") != "text/plain" || string(f.Flag) != flag {
				t.Errorf("%s%c", f.Raw, f.Flag)
			}
			a.WantResponse("bbbb", 200)
			b.Respond(f, 200)
		}
	})
}

// received joins the chunks of one message as they reach b, and answers them.
func received(t testing.TB, b *client, total int) (body []byte, chunks []msrptest.Frame) {
	t.Helper()
	for len(body) < total {
		f := b.WantRequest("SEND")
		r, err := msrp.ParseByteRange(f.Get("Byte-Range"))
		if err != nil || int(r.Start) != len(body)+1 {
			t.Fatalf("after %d octets: %s", len(body), f.Raw)
		}
		body = append(body, f.Body...)
		chunks = append(chunks, f)
		b.Respond(f, 200)
	}
	return body, chunks
}

// TestSizes sends 10 MB in chunks of three sizes; nothing is lost or changed.
func TestSizes(t *testing.T) {
	const total = 10 << 20
	body := make([]byte, total)
	for i := range body {
		body[i] = byte(i*i>>3 ^ i)
	}
	for _, size := range []int{total, 64 << 10, 2 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				a, b, path := w.pair()
				done := make(chan struct{})
				go func() {
					defer close(done)
					for pos := 0; pos < total; pos += size {
						tid, flag := fmt.Sprintf("t%08d", pos), "+"
						if pos+size == total {
							flag = "$"
						}
						a.Write([]byte(strings.ReplaceAll(frame(tid, "SEND", path, a.uri, "Message-ID: m123",
							fmt.Sprintf("Byte-Range: %d-*/%d", pos+1, total), "Content-Type: a/b", ""), "\n", "\r\n")))
						a.Write(body[pos : pos+size])
						a.Write([]byte("\r\n-------" + tid + flag + "\r\n"))
					}
				}()
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					for pos := 0; pos < total; pos += size {
						a.WantResponse(fmt.Sprintf("t%08d", pos), 200)
					}
				}()
				got, chunks := received(t, b, total)
				<-done
				<-answered
				if !bytes.Equal(got, body) {
					t.Error("the octets differ")
				}
				if last := chunks[len(chunks)-1]; last.Flag != '$' || last.To != b.uri {
					t.Errorf("the last chunk ends in %c", last.Flag)
				}
				if size == total && len(chunks) > 3 {
					t.Errorf("one chunk became %d, though nothing else waited", len(chunks))
				}
				a.WantNothing(time.Minute)
			})
		})
	}
}

// TestBurst: 10,000 messages in one burst arrive all and in order (RELAY-92),
// and each is answered, without waiting for answers (CORE-61).
func TestBurst(t *testing.T) {
	const n = 10_000
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range n {
				f := b.WantRequest("SEND")
				if string(f.Body) != fmt.Sprint("message ", i) {
					t.Errorf("message %d is %s", i, f.Body)
					return
				}
				b.Respond(f, 200)
			}
		}()
		var burst strings.Builder
		for i := range n {
			burst.WriteString(send(fmt.Sprintf("t%08d", i), path, a.uri, fmt.Sprintf("m%08d", i), fmt.Sprint("message ", i)) + "\n")
		}
		a.Write([]byte(strings.ReplaceAll(burst.String(), "\n", "\r\n")))
		for i := range n {
			a.WantResponse(fmt.Sprintf("t%08d", i), 200)
		}
		<-done
		a.WantNothing(time.Minute)
	})
}

// TestSplit splits a SEND at every octet.
func TestSplit(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		text := strings.ReplaceAll(send("aaaa", path, a.uri, "m123", "a\n-------aaaa\n-------bbbb$\nb")+"\n", "\n", "\r\n")
		text = strings.Replace(text, "1-28/28", "1-*/*", 1)
		for i := 1; i < len(text); i++ {
			a.Write([]byte(text[:i]))
			synctest.Wait()
			a.Write([]byte(text[i:]))
			f := b.WantRequest("SEND")
			if string(f.Body) != "a\r\n-------aaaa\r\n-------bbbb$\r\nb" {
				t.Fatalf("split at %d: %q", i, f.Body)
			}
			a.WantResponse("aaaa", 200)
			b.Respond(f, 200)
		}
		// Keep-alives between frames are no frames.
		a.Write([]byte("\r\n\r\n" + text + "\r\n"))
		b.Respond(b.WantRequest("SEND"), 200)
		a.WantResponse("aaaa", 200)
	})
}

// longHead begins a long SEND whose end is left open.
func longHead(tid, path, from string, headers ...string) []byte {
	headers = append([]string{"Message-ID: m123", "Byte-Range: 1-*/1000000"}, headers...)
	return []byte(strings.ReplaceAll(frame(tid, "SEND", path, from, append(headers, "Content-Type: a/b", "")...), "\n", "\r\n"))
}

// TestCutThrough: a long chunk leaves while it arrives, and is interrupted for a
// response and for another session (RELAY-93, RELAY-96, CORE-55, CORE-56).
func TestCutThrough(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		c := w.client("edge", "carol")
		body := bytes.Repeat([]byte("x"), 20<<10)
		a.Write(longHead("aaaa", path, a.uri))
		a.Write(body)
		synctest.Wait()
		// b has the chunk's beginning already; now carol writes to b.
		c.Send(send("cccc", c.use+" "+b.use+" "+b.uri, c.uri, "m999", "hi"))
		f := b.WantRequest("SEND")
		if f.Flag != '+' || f.Get("Byte-Range") != "1-*/1000000" || len(f.Body) != 16<<10 {
			t.Errorf("%s%d octets, %c", f.Raw, len(f.Body), f.Flag)
		}
		b.Respond(f, 200)
		if f = b.WantRequest("SEND"); string(f.Body) != "hi" {
			t.Errorf("%s", f.Raw)
		}
		b.Respond(f, 200)
		c.WantResponse("cccc", 200)
		a.Write([]byte("\r\n-------aaaa$\r\n"))
		f = b.WantRequest("SEND")
		if f.Get("Byte-Range") != "16385-*/1000000" || len(f.Body) != 4<<10 || f.Flag != '$' || f.Get("Message-ID") != "m123" {
			t.Errorf("%s%d octets, %c", f.Raw, len(f.Body), f.Flag)
		}
		b.Respond(f, 200)
		a.WantResponse("aaaa", 200)
		a.WantNothing(time.Minute)
	})
}

// TestAbortPasses: "#" ends the outgoing chunk, too (RELAY-94).
func TestAbortPasses(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		a.Write(longHead("aaaa", path, a.uri))
		a.Write(bytes.Repeat([]byte("x"), 20<<10))
		a.Write([]byte("\r\n-------aaaa#\r\n"))
		f := b.WantRequest("SEND")
		if f.Flag != '#' {
			t.Errorf("%s%c", f.Raw, f.Flag)
		}
		b.Respond(f, 200)
		a.WantResponse("aaaa", 200)
	})
}

// TestSenderGone: the sender is lost in mid-chunk. Only it could give the
// message up, so the chunk ends with "+" (RELAY-97).
func TestSenderGone(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		a.Write(longHead("aaaa", path, a.uri))
		a.Write(bytes.Repeat([]byte("x"), 40<<10))
		synctest.Wait()
		a.Close()
		f := b.WantRequest("SEND")
		if f.Flag != '+' || len(f.Body) != 32<<10 {
			t.Errorf("%s%d octets, %c", f.Raw, len(f.Body), f.Flag)
		}
		b.Respond(f, 200)
		b.WantNothing(time.Minute)
	})
}

// TestReceiverGone: the receiver is lost in mid-chunk. There is one signal, the
// answer to the chunk (RELAY-88, RELAY-98), and none with Failure-Report "no".
func TestReceiverGone(t *testing.T) {
	for _, wish := range []string{"yes", "partial", "no"} {
		inWorld(t, nil, func(w *world) {
			a, b, path := w.pair()
			a.Write(longHead("aaaa", path, a.uri, "Failure-Report: "+wish))
			a.Write(bytes.Repeat([]byte("x"), 40<<10))
			synctest.Wait()
			b.Close()
			synctest.Wait()
			a.Write(bytes.Repeat([]byte("x"), 40<<10))
			a.Write([]byte("\r\n-------aaaa$\r\n"))
			if wish != "no" {
				a.WantResponse("aaaa", 481)
			}
			a.WantNothing(time.Minute)
			// The connection still serves.
			a.Send(send("bbbb", a.use+" "+a.uri, a.uri, "m124", "to myself"))
			a.WantResponse("bbbb", 200)
			a.Respond(a.WantRequest("SEND"), 200)
		})
	}
}

// TestRefusedMidChunk: the receiver has enough (413); the outgoing chunk ends
// with "#", the sender hears of it at once (CORE-91), and once.
func TestRefusedMidChunk(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		a.Write(longHead("aaaa", path, a.uri))
		a.Write(bytes.Repeat([]byte("x"), 20<<10))
		head := b.Peek()
		b.Respond(head, 413)
		a.WantResponse("aaaa", 413)
		a.Write(bytes.Repeat([]byte("x"), 100<<10))
		f := b.Next()
		if f.Flag != '#' || f.TID != head.TID {
			t.Errorf("%s%c", f.Raw, f.Flag)
		}
		a.Write([]byte("\r\n-------aaaa$\r\n"))
		a.WantNothing(time.Minute)
		b.WantNothing(time.Minute)
	})
}

// TestSlowReceiver: bob reads nothing. Who sends to him waits, then is refused;
// who does not is not held up (RELAY-113).
func TestSlowReceiver(t *testing.T) {
	for _, closeSlow := range []bool{false, true} {
		t.Run(fmt.Sprintf("close %v", closeSlow), func(t *testing.T) {
			change := func(cfg *Config) {
				cfg.Limits.CloseSlow = closeSlow
				cfg.Limits.Conn.Outbox = 64 << 10
			}
			inWorld(t, change, func(w *world) {
				a, b, path := w.pair()
				c := w.client("edge", "carol")
				b.Limit(1000) // what the network takes for bob
				body := strings.Repeat("x", 2000)
				sent := 0
				for ; ; sent++ {
					tid := fmt.Sprintf("t%08d", sent)
					start := time.Now()
					a.Send(send(tid, path, a.uri, "m"+tid, body))
					f := a.Next()
					if f.Response && f.Code == 200 {
						// Carol's chat with alice's session goes on meanwhile.
						continue
					}
					if d := time.Since(start); d != 10*time.Second {
						t.Errorf("refused after %v", d)
					}
					switch {
					case closeSlow:
						// What was accepted comes back in REPORTs, the last SEND is answered.
					case !f.Response || f.Code != 413:
						t.Errorf("%s", f.Raw)
					}
					break
				}
				if sent < 20 || sent > 40 {
					t.Errorf("%d messages of 2 kB fit in 64 KiB", sent)
				}
				if closeSlow {
					return
				}
				// While bob does not read he is not waited for again.
				start := time.Now()
				a.Send(send("again", path, a.uri, "m1234", body))
				a.WantResponse("again", 413)
				c.Send(send("cccc", c.use+" "+a.use+" "+a.uri, c.uri, "m999", "hi"))
				a.Respond(a.WantRequest("SEND"), 200)
				c.WantResponse("cccc", 200)
				if d := time.Since(start); d != 0 {
					t.Errorf("waited %v", d)
				}
				b.Limit(0)
				for range sent {
					b.Respond(b.WantRequest("SEND"), 200)
				}
				a.Send(send("after", path, a.uri, "m1235", body))
				a.WantResponse("after", 200)
				b.Respond(b.WantRequest("SEND"), 200)
			})
		})
	}
}

// TestSharedStall: alice's connection also carries a session to carol, which a
// bob who does not read may hold up for SharedStall only.
func TestSharedStall(t *testing.T) {
	change := func(cfg *Config) { cfg.Limits.Conn.Outbox = 64 << 10 }
	inWorld(t, change, func(w *world) {
		a, b, path := w.pair()
		c := w.client("edge", "carol")
		toCarol := a.use + " " + c.use + " " + c.uri
		b.Limit(1000)
		a.Send(send("first", toCarol, a.uri, "m1", "hi"))
		a.WantResponse("first", 400) // Message-ID too short, as a check that the test's frames are read
		a.Send(send("first", toCarol, a.uri, "m1234", "hi"))
		a.WantResponse("first", 200)
		c.Respond(c.WantRequest("SEND"), 200)
		start := time.Now()
		for i := 0; ; i++ {
			tid := fmt.Sprintf("t%08d", i)
			a.Send(send(tid, path, a.uri, "m"+tid, strings.Repeat("x", 2000)))
			if f := a.Next(); f.Code == 413 {
				break
			}
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("held up for %v", d)
		}
		a.Send(send("last", toCarol, a.uri, "m1235", "hi"))
		a.WantResponse("last", 200)
		c.Respond(c.WantRequest("SEND"), 200)
	})
}

// TestOtherMethods: NICKNAME and methods nobody knows pass with their response,
// under the transaction id they came with (RELAY-102, RELAY-107).
func TestOtherMethods(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		for _, method := range []string{"NICKNAME", "WHATEVER"} {
			a.Send(frame("aaaa", method, path, a.uri, `Use-Nickname: "Al"`, "-------aaaa$"))
			f := b.WantRequest(method)
			if f.TID == "aaaa" || f.From != b.use+" "+a.use+" "+a.uri || f.Get("Use-Nickname") != `"Al"` {
				t.Errorf("%s", f.Raw)
			}
			b.Respond(f, 425, "X-Why: taken")
			r := a.WantResponse("aaaa", 425)
			if r.To != a.uri || r.From != a.use+" "+b.use+" "+b.uri || r.Get("X-Why") != "taken" {
				t.Errorf("%s", r.Raw)
			}
			// Without a response nothing comes back: no REPORT but for SEND (RELAY-109).
			a.Send(frame("bbbb", method, path, a.uri, "-------bbbb$"))
			b.WantRequest(method)
			a.WantNothing(time.Minute)
		}
		// A body over 10240 octets ends the connection (CORE-38).
		a.Send(frame("cccc", "NICKNAME", path, a.uri, "Content-Type: a/b", "", strings.Repeat("x", 10241), "-------cccc$"))
		a.WantClosed()
	})
}

// TestAuthInTransit: AUTH through this relay to another one (RELAY-7, RELAY-107;
// spec flow 13.2), and too many wrong passwords there (RELAY-39).
func TestAuthInTransit(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const outerURI = "msrps://out.example:2855;tcp"
		outer := w.host("out.example")
		a := w.client("edge", "alice")
		a.Send(frame("aaaa", "AUTH", a.use+" "+outerURI, a.uri, "-------aaaa$"))
		o := w.accept(outer)
		f := o.WantRequest("AUTH")
		if f.To != outerURI || f.From != a.use+" "+a.uri || !w.hosts.seen[0].Secure {
			t.Errorf("%s", f.Raw)
		}
		challenge := `WWW-Authenticate: Digest realm="out", nonce="n", qop="auth"`
		o.Respond(f, 401, challenge)
		r := a.WantResponse("aaaa", 401)
		if r.To != a.uri || r.From != a.use+" "+outerURI || r.Get("WWW-Authenticate") != challenge[18:] {
			t.Errorf("%s", r.Raw)
		}
		use := a.use + " msrps://out.example:2855/P5rT;tcp"
		a.Send(frame("bbbb", "AUTH", a.use+" "+outerURI, a.uri, "Authorization: Digest x=y", "-------bbbb$"))
		o.Respond(o.WantRequest("AUTH"), 200, "Use-Path: "+use, "Expires: 1800")
		if r := a.WantResponse("bbbb", 200); r.Get("Use-Path") != use || r.Get("Expires") != "1800" {
			t.Errorf("%s", r.Raw)
		}
		// Through both relays to a peer.
		a.Send(send("cccc", use+" "+peerURI, a.uri, "m123", "hi"))
		f = o.WantRequest("SEND")
		if f.To != "msrps://out.example:2855/P5rT;tcp "+peerURI || f.From != a.use+" "+a.uri {
			t.Errorf("%s", f.Raw)
		}
		o.Respond(f, 200)
		a.WantResponse("cccc", 200)
		for i := range 5 {
			tid := fmt.Sprintf("d%04d", i)
			a.Send(frame(tid, "AUTH", a.use+" "+outerURI, a.uri, "Authorization: Digest x=y", "-------"+tid+"$"))
			o.Respond(o.WantRequest("AUTH"), 401, challenge)
			a.WantResponse(tid, 401)
		}
		a.WantClosed()
	})
}

// TestOuterRelay: this relay is the outer one; Use-Path has the inner first
// (RELAY-62), and what comes for the client goes back by the inner relay.
func TestOuterRelay(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const inner, dora = "msrps://in.example:2855/A7mQ;tcp", "msrps://dora.invalid:9/d;tcp"
		c := &client{Peer: w.connect("edge"), uri: inner + " " + dora}
		f := c.tryAuth(t, relayURI, "alice", "secret of alice")
		own, ok := strings.CutPrefix(f.Get("Use-Path"), inner+" ")
		if f.Code != 200 || !ok || f.To != c.uri {
			t.Fatalf("%s", f.Raw)
		}
		p := w.connect("edge")
		p.Send(send("pppp", own+" "+inner+" "+dora, peerURI, "m123", "hi"))
		g := c.WantRequest("SEND")
		if g.To != c.uri || g.From != own+" "+peerURI {
			t.Errorf("%s", g.Raw)
		}
		c.Respond(g, 200)
		p.WantResponse("pppp", 200)
		p.Send(send("pppq", own+" "+dora, peerURI, "m123", "hi")) // past the inner relay
		p.WantResponse("pppq", 403)
	})
}

// TestProbation: a connection must have a successful request in 30 s (RELAY-36,
// RELAY-37), and not too many others before (RELAY-38).
func TestProbation(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		silent, asking := w.connect("edge"), &client{Peer: w.connect("edge"), uri: "msrp://x.invalid:9/x;tcp"}
		start := time.Now()
		time.Sleep(20 * time.Second)
		asking.Send(frame("aaaa", "AUTH", relayURI, asking.uri, "-------aaaa$"))
		asking.WantResponse("aaaa", 401) // no success
		silent.WantClosed()
		asking.WantClosed()
		if d := time.Since(start); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("closed after %v", d)
		}
		good := w.client("edge", "alice")
		good.WantNothing(10 * time.Minute)
		bad := w.connect("edge")
		for i := range 10 {
			tid := fmt.Sprintf("t%04d", i)
			bad.Send(send(tid, good.use+" "+peerURI, "msrp://x.invalid:9/x;tcp", "m123", "hi"))
			bad.WantResponse(tid, 403)
		}
		bad.WantClosed()
	})
}

// TestIdle: a connection without sessions is closed after an hour (RFC 4976
// §6.5), one with sessions is kept (RELAY-112).
func TestIdle(t *testing.T) {
	change := func(cfg *Config) { cfg.Expires = Expires{Max: 12 * time.Hour} }
	inWorld(t, change, func(w *world) {
		a := w.client("edge", "alice")
		long := a.tryAuth(t, relayURI, "alice", "secret of alice", "Expires: 14400").Get("Use-Path")
		p := w.connect("edge")
		p.Send(send("pppp", long+" "+a.uri, peerURI, "m123", "hi"))
		a.Respond(a.WantRequest("SEND"), 200)
		p.WantResponse("pppp", 200)
		start := time.Now()
		p.WantNothing(59 * time.Minute)
		p.WantClosed()
		if d := time.Since(start); d > 61*time.Minute {
			t.Errorf("closed after %v", d)
		}
		a.WantNothing(179 * time.Minute)
		time.Sleep(65 * time.Minute)
		a.WantClosed()
		if d := time.Since(start); d < 4*time.Hour || d > 6*time.Hour {
			t.Errorf("closed after %v", d)
		}
	})
}

// TestLimits: sessions of a connection, peers of a session, connections.
func TestLimits(t *testing.T) {
	change := func(cfg *Config) {
		cfg.Limits.Sessions, cfg.Limits.Peers, cfg.Limits.Connections = 2, 2, 3
	}
	inWorld(t, change, func(w *world) {
		a := w.client("edge", "alice")
		a.auth(t, relayURI, "alice")
		if f := a.tryAuth(t, relayURI, "alice", "secret of alice"); f.Code != 403 {
			t.Errorf("%s", f.Raw)
		}
		for i, code := range []int{200, 200, 403} {
			tid := fmt.Sprintf("t%04d", i)
			a.Send(send(tid, fmt.Sprintf("%s msrp://peer%d.example:9/x;tcp", a.use, i), a.uri, "m123", "hi", "Failure-Report: partial"))
			if code != 200 {
				a.WantResponse(tid, code)
			} else {
				a.WantRequest("REPORT")
			}
		}
		b := w.connect("edge")
		synctest.Wait()
		w.connect("edge")
		synctest.Wait()
		w.connect("edge").WantClosed()
		b.Close()
		synctest.Wait()
		w.client("edge", "bob")
	})
}

// bridged makes the edge listener choose interfaces by rules; core, the only
// one, has the core listener's URI.
func bridged(t testing.TB, rules ...hook.Rule) func(*Config) {
	t.Helper()
	table, err := hook.NewTable(rules, func(name string) bool { return name == "core" })
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config) {
		cfg.Listeners[0].Hooks.SelectInterface = hook.NewChain(nil,
			hook.Binding[hook.InterfaceRequest, hook.InterfaceReply]{Name: "table", Provider: table})
		cfg.Interfaces = []Interface{{
			Name: "core", Address: netip.MustParseAddr("10.0.0.1"), Listener: "core", Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		}}
	}
}

// TestBridge: a session leaves by another interface, under a URI of the listener
// there and with another scheme, and what comes back finds its way.
func TestBridge(t *testing.T) {
	change := bridged(t, hook.Rule{To: "*.inside.example", Interface: "core"}, hook.Rule{To: "forbidden.example", Deny: true, Reason: "not there"})
	inWorld(t, change, func(w *world) {
		const peer = "msrps://bob.inside.example:9/b;tcp"
		ln := w.host("bob.inside.example")
		a := w.client("edge", "alice")
		a.Send(send("aaaa", a.use+" "+peer, a.uri, "m123", "hi"))
		a.WantResponse("aaaa", 200)
		p := w.accept(ln)
		f := p.WantRequest("SEND")
		front, _, _ := strings.Cut(f.From, " ")
		if u, err := msrp.ParseURI(front); err != nil || u.Host != "core.example" || f.From != front+" "+a.uri || strings.Contains(f.Raw, "relay.example") {
			t.Errorf("%s", f.Raw)
		}
		if d := w.hosts.seen[0]; !d.Secure || d.Source.String() != "10.0.0.1" || len(d.Allow) != 1 {
			t.Errorf("dialled %+v", d)
		}
		p.Respond(f, 200)
		// Back over the same connection, and over a new one to the core listener.
		back := w.connect("core")
		for i, q := range []*msrptest.Peer{p, back} {
			tid := fmt.Sprintf("bbb%d", i)
			q.Send(send(tid, f.From, peer, "m124", "yes?"))
			g := a.WantRequest("SEND")
			if g.To != a.uri || g.From != a.use+" "+peer {
				t.Errorf("%s", g.Raw)
			}
			a.Respond(g, 200)
			q.WantResponse(tid, 200)
		}
		a.Send(send("cccc", a.use+" msrp://forbidden.example:9/x;tcp", a.uri, "m125", "hi"))
		if f := a.WantResponse("cccc", 403); f.Comment != "not there" {
			t.Errorf("%s", f.Raw)
		}
	})
}

// TestAttributes: what a hook says of a session reaches the hooks after it, in
// that session alone.
func TestAttributes(t *testing.T) {
	var asked []map[string]string
	change := func(cfg *Config) {
		auth := hook.Func[hook.AuthRequest, hook.AuthReply](func(_ context.Context, q *hook.AuthRequest) (a hook.AuthReply, err error) {
			a.Verdict, a.Password, a.Attributes = hook.Done, "secret of "+q.Username, map[string]string{"user": q.Username}
			return a, nil
		})
		choose := hook.Func[hook.InterfaceRequest, hook.InterfaceReply](func(_ context.Context, q *hook.InterfaceRequest) (a hook.InterfaceReply, err error) {
			if !strings.Contains(q.SessionID, "/") || strings.Contains(q.FromPath+q.ToPath, q.SessionID) {
				t.Errorf("session %q must be named, without its secret", q.SessionID)
			}
			asked = append(asked, q.Attributes)
			a.Verdict, a.Interface, a.Attributes = hook.Done, "core", map[string]string{"seen": q.Host}
			for i := range 100 {
				a.Attributes[fmt.Sprint("z", i)] = "x"
			}
			return a, nil
		})
		cfg.Listeners[0].Hooks.Authenticate = hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{Provider: auth})
		cfg.Listeners[0].Hooks.SelectInterface = hook.NewChain(nil, hook.Binding[hook.InterfaceRequest, hook.InterfaceReply]{Provider: choose})
		cfg.Interfaces = []Interface{{Name: "core"}}
	}
	inWorld(t, change, func(w *world) {
		for _, user := range []string{"alice", "bob"} {
			a := w.client("edge", user)
			for i, host := range []string{user + ".one.example", user + ".two.example"} {
				ln := w.host(host)
				tid := fmt.Sprintf("%s%d", user, i)
				a.Send(send(tid, a.use+" msrp://"+host+":9/x;tcp", a.uri, "m123", "hi"))
				a.WantResponse(tid, 200)
				w.accept(ln).WantRequest("SEND")
			}
		}
		for i, want := range []map[string]string{{"user": "alice"}, {"user": "alice", "seen": "alice.one.example"}, {"user": "bob"}, {"user": "bob", "seen": "bob.one.example"}} {
			for name, text := range want {
				if asked[i][name] != text {
					t.Errorf("request %d: %s is %q, want %q", i, name, asked[i][name], text)
				}
			}
			if len(want) == 1 && len(asked[i]) != 1 || len(asked[i]) > maxAttributes {
				t.Errorf("request %d: %d attributes", i, len(asked[i]))
			}
		}
	})
}

// TestIPv6 keeps the brackets of literals.
func TestIPv6(t *testing.T) {
	change := func(cfg *Config) { cfg.Listeners[0].URI = uri("msrp://[2001:db8::1]:2855;tcp") }
	inWorld(t, change, func(w *world) {
		a := w.client("edge", "alice")
		if !strings.HasPrefix(a.use, "msrp://[2001:db8::1]:2855/") {
			t.Errorf("Use-Path: %s", a.use)
		}
		ln := w.host("2001:db8::2")
		const peer = "msrp://[2001:DB8::2]:9/x;tcp"
		w.hosts.hosts["2001:DB8::2"] = ln
		p := w.connect("edge")
		p.Send(send("pppp", strings.Replace(a.use, "2001:db8::1", "2001:DB8:0:0:0:0:0:1", 1)+" "+a.uri, peer, "m123", "hi"))
		f := a.WantRequest("SEND")
		if f.From != a.use+" "+peer {
			t.Errorf("%s", f.Raw)
		}
		a.Respond(f, 200)
		p.WantResponse("pppp", 200)
		a.Send(send("aaaa", a.use+" msrp://[2001:DB8::2]:10/y;tcp", a.uri, "m123", "hi"))
		a.WantResponse("aaaa", 200)
		q := w.accept(ln)
		if f := q.WantRequest("SEND"); f.To != "msrp://[2001:DB8::2]:10/y;tcp" {
			t.Errorf("%s", f.Raw)
		} else {
			q.Respond(f, 200)
		}
	})
}

// TestSyntaxFaults: what can be answered is answered with 400, and the
// connection goes on; what cannot be ends it (CORE-41, CORE-42, CORE-157).
func TestSyntaxFaults(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		for i, bad := range []string{
			"Byte-Range: 1-2/3",                                          // no Message-ID
			"Message-ID: x",                                              // too short
			"Message-ID: m123\nMessage-ID: m123",                         // doubled
			"Message-ID: m123\nByte-Range: a-b/c",                        // nonsense
			"Message-ID: m123\nFailure-Report: perhaps",                  // nonsense, which is not "no"
			"Message-ID: m123\nX Y: z",                                   // no header
			"Message-ID: m123\nContent-Type: text/plain",                 // of nothing
			"Message-ID: m123\nTo-Path: msrp://a.example:1;tcp",          // doubled
			"Message-ID: m123\n" + strings.Repeat("X: y\n", 70) + "Z: z", // too many
		} {
			tid := fmt.Sprintf("t%04d", i)
			a.Send(frame(tid, "SEND", path, a.uri, bad, "-------"+tid+"$"))
			if bad == "Message-ID: m123\nFailure-Report: perhaps" {
				a.WantNothing(time.Second)
				continue
			}
			a.WantResponse(tid, 400)
		}
		a.Send(frame("rrrr", "REPORT", path, a.uri, "Message-ID: m123", "-------rrrr$")) // no Status, no answer
		a.Send(frame("ssss", "REPORT", path, a.uri, "Status: 000 200", "-------ssss$"))
		a.WantNothing(time.Second)
		b.WantNothing(time.Second)
		a.Send(send("last", path, a.uri, "m123", "still here"))
		a.WantResponse("last", 200)
		b.Respond(b.WantRequest("SEND"), 200)
		for _, bad := range []string{
			"GET / HTTP/1.1\n",
			"MSRP aaaa SEND\nTo-Path: " + path + "\n-------aaaa$",
			"MSRP aaaa SEND\nFrom-Path: " + a.uri + "\n-------aaaa$",
			"MSRP aaaa SEND\nTo-Path: nonsense\nFrom-Path: " + a.uri + "\nMessage-ID: m123\n-------aaaa$",
			"MSRP aaaa SEND\nTo-Path: " + path + "\nFrom-Path: msrp://a\nMessage-ID: m123\n-------aaaa$",
			"MSRP aaaa SEND\nTo-Path: " + path + " \nFrom-Path: " + a.uri + "\nMessage-ID: m123\n-------aaaa$",
			"MSRP aaaa SEND\nX: " + strings.Repeat("x", 17<<10),
		} {
			c := w.connect("edge")
			c.Send(bad)
			c.WantClosed()
		}
	})
}

// TestResponses that nobody waits for are dropped (CORE-94, RELAY-108).
func TestResponses(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, path := w.pair()
		for _, tid := range []string{"abcd", "ABCDEFGHIJKAAAA", strings.Repeat("A", 32)} {
			b.Send("MSRP " + tid + " 200 OK\nTo-Path: " + b.use + " " + a.uri + "\nFrom-Path: " + b.uri + "\n-------" + tid + "$")
		}
		a.Send(send("aaaa", path, a.uri, "m123", "hi"))
		f := b.WantRequest("SEND")
		a.WantResponse("aaaa", 200)
		b.Respond(f, 200)
		b.Respond(f, 413) // again, when it is over
		a.WantNothing(time.Minute)
		b.WantNothing(time.Minute)
	})
}

// TestShortResponse: the next relay's answer to an AUTH goes on to the client also
// if To-Path has the next hop only, as Kamailio's does.
func TestShortResponse(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		ln := w.host("next.example")
		a := w.client("edge", "alice")
		var next *msrptest.Peer
		for _, full := range []bool{true, false} {
			a.Send("MSRP aaaa AUTH\nTo-Path: " + a.use + " msrp://next.example:2855;tcp\nFrom-Path: " + a.uri + "\n-------aaaa$")
			if next == nil {
				next = w.accept(ln)
			}
			f := next.WantRequest("AUTH")
			to := f.From
			if !full {
				to, _, _ = strings.Cut(to, " ")
			}
			for _, foreign := range []string{"msrp://else.example:2855/x;tcp", "msrp://else.example:2855/x;tcp msrp://b.invalid:9/y;tcp", a.uri} {
				next.Send("MSRP " + f.TID + " 401 Unauthorized\nTo-Path: " + foreign + "\nFrom-Path: msrp://next.example:2855;tcp\n-------" + f.TID + "$")
				a.WantNothing(time.Second)
				a.Send("MSRP aaaa AUTH\nTo-Path: " + a.use + " msrp://next.example:2855;tcp\nFrom-Path: " + a.uri + "\n-------aaaa$")
				f = next.WantRequest("AUTH")
			}
			next.Send("MSRP " + f.TID + " 401 Unauthorized\nTo-Path: " + to + "\nFrom-Path: msrp://next.example:2855;tcp\nWWW-Authenticate: x\n-------" + f.TID + "$")
			if r := a.WantResponse("aaaa", 401); r.To != a.uri || r.From != a.use+" msrp://next.example:2855;tcp" || r.Get("WWW-Authenticate") != "x" {
				t.Errorf("%s", r.Raw)
			}
		}
	})
}

// TestHookFailure: a provider that fails keeps the door closed.
func TestHookFailure(t *testing.T) {
	for name, f := range map[string]hook.Func[hook.AuthRequest, hook.AuthReply]{
		"panic": func(ctx context.Context, q *hook.AuthRequest) (hook.AuthReply, error) { panic("a bug") },
		"timeout": func(ctx context.Context, q *hook.AuthRequest) (hook.AuthReply, error) {
			<-ctx.Done()
			return hook.AuthReply{}, ctx.Err()
		},
		"error": func(ctx context.Context, q *hook.AuthRequest) (hook.AuthReply, error) {
			return hook.AuthReply{Password: "secret of alice"}, fmt.Errorf("no database")
		},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(cfg *Config) {
				cfg.Listeners[0].Hooks.Authenticate = hook.NewChain(nil,
					hook.Binding[hook.AuthRequest, hook.AuthReply]{Name: "f", Provider: f})
			}
			inWorld(t, change, func(w *world) {
				c := &client{Peer: w.connect("edge"), uri: "msrp://x.invalid:9/x;tcp"}
				if f := c.tryAuth(t, relayURI, "alice", "secret of alice"); f.Code != 403 {
					t.Errorf("%s", f.Raw)
				}
			})
		})
	}
}

// TestPlainAuth: AUTH needs TLS unless a listener is told otherwise (RELAY-26).
func TestPlainAuth(t *testing.T) {
	change := func(cfg *Config) { cfg.Listeners[0].PlainAuth = false }
	inWorld(t, change, func(w *world) {
		c := w.connect("edge")
		c.Send(frame("aaaa", "AUTH", relayURI, "msrp://x.invalid:9/x;tcp", "-------aaaa$"))
		c.WantResponse("aaaa", 403)
	})
}

// TestStaleNonce: an old nonce with the right digest is asked for again (RELAY-77).
func TestStaleNonce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.client("edge", "alice")
		c.Send(frame("aaaa", "AUTH", relayURI, c.uri, "-------aaaa$"))
		f := c.WantResponse("aaaa", 401)
		ac := auth.Client{Username: "alice", Password: "secret of alice"}
		for i, stale := range []bool{true, false} {
			if i == 0 {
				time.Sleep(3 * time.Minute)
			}
			answer, err := ac.Answer([]string{f.Get("WWW-Authenticate")}, "AUTH", relayURI)
			if err != nil {
				t.Fatal(err)
			}
			c.Send(frame("bbbb", "AUTH", relayURI, c.uri, "Authorization: "+answer, "-------bbbb$"))
			if f = c.Next(); stale != (f.Code == 401 && strings.Contains(f.Raw, "stale=true")) {
				t.Errorf("%s", f.Raw)
			}
		}
		if f.Code != 200 {
			t.Errorf("%s", f.Raw)
		}
	})
}
