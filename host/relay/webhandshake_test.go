package relay

import (
	"bufio"
	"context"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrptest"
)

func dialTo(ln *msrptest.Listener) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return ln.Dial(), nil }
}

// sessions are all that are live.
func (w *world) sessions() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		w.r.mu.Lock()
		defer w.r.mu.Unlock()
		for _, e := range w.r.sessions {
			if !yield(e.session) {
				return
			}
		}
	}
}

const webHeaders = "Host: relay.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
	"Sec-WebSocket-Key: bXNycC1yZWxheS1kZW1vIQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: msrp\r\n"

// get sends a handshake and returns the answer.
func (w *world) get(path, headers string) *http.Response {
	w.t.Helper()
	return w.request("GET " + path + " HTTP/1.1\r\n" + headers + "\r\n")
}

func (w *world) request(text string) *http.Response {
	w.t.Helper()
	nc := w.lns["web"].Dial()
	w.t.Cleanup(func() { nc.Close() })
	if _, err := io.WriteString(nc, text); err != nil {
		w.t.Fatal(err)
	}
	rp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return rp
}

func body(rp *http.Response) string {
	b, _ := io.ReadAll(rp.Body)
	return string(b)
}

// TestWebSocketHandshake: what is answered with 101 (WS-1, WS-6, WS-7), and what
// is not (WS-4, WS-9).
func TestWebSocketHandshake(t *testing.T) {
	without := func(name string) string {
		var b strings.Builder
		for line := range strings.Lines(webHeaders) {
			if !strings.HasPrefix(line, name+":") {
				b.WriteString(line)
			}
		}
		return b.String()
	}
	get := func(headers string) string { return "GET /msrp HTTP/1.1\r\n" + headers + "\r\n" }
	for _, tt := range []struct {
		name, text string
		status     int
	}{
		{"right", get(webHeaders), 101},
		{"several protocols", get(without("Sec-WebSocket-Protocol") + "Sec-WebSocket-Protocol: chat, msrp\r\n"), 101},
		{"protocols on two lines", get(webHeaders + "Sec-WebSocket-Protocol: chat\r\n"), 101},
		{"its page", get(webHeaders + "Origin: https://app.example\r\n"), 101},
		{"a page of a subdomain", get(webHeaders + "Origin: https://x.wild.example\r\n"), 101},
		{"another page", get(webHeaders + "Origin: https://evil.example\r\n"), 403},
		{"another scheme", get(webHeaders + "Origin: http://app.example\r\n"), 403},
		{"a page that looks like its", get(webHeaders + "Origin: https://evilwild.example\r\n"), 403},
		{"a page that ends like its", get(webHeaders + "Origin: https://evil/.wild.example\r\n"), 403},
		{"two pages", get(webHeaders + "Origin: https://app.example\r\nOrigin: https://app.example\r\n"), 403},
		{"no protocol", get(without("Sec-WebSocket-Protocol")), 400},
		{"another protocol", get(without("Sec-WebSocket-Protocol") + "Sec-WebSocket-Protocol: MSRP, sip\r\n"), 400},
		{"another path", strings.Replace(get(webHeaders), "/msrp", "/other", 1), 404},
		{"no WebSocket", "GET /msrp HTTP/1.1\r\nHost: relay.example\r\n\r\n", 426},
		{"no upgrade", get(without("Upgrade")), 426},
		{"no connection", get(without("Connection")), 426},
		{"no key", get(without("Sec-WebSocket-Key")), 400},
		{"short key", get(without("Sec-WebSocket-Key") + "Sec-WebSocket-Key: bXNycA==\r\n"), 400},
		{"no host", get(without("Host")), 400},
		{"old version", get(without("Sec-WebSocket-Version") + "Sec-WebSocket-Version: 8\r\n"), 400},
		{"POST", strings.Replace(get(webHeaders), "GET", "POST", 1), 405},
		{"a body", get(webHeaders+"Content-Length: 3\r\n") + "abc", 400},
		{"HTTP/1.0", strings.Replace(get(webHeaders), "1.1", "1.0", 1), 426},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 426},
		{"no HTTP", "MSRP abcd SEND\r\n\r\n", 400},
		{"a header of 64 KiB", get(webHeaders + "X: " + strings.Repeat("x", 64<<10) + "\r\n"), 431},
		{"endless headers", "GET /msrp HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 10_000), 431},
		{"endless path", "GET /" + strings.Repeat("x", 64<<10), 431},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, web(func(l *Listener) {
				l.WebSocket.Path = "/msrp"
				l.WebSocket.Origins = append(l.WebSocket.Origins, "https://*.wild.example")
			}), func(w *world) {
				rp := w.request(tt.text)
				if rp.StatusCode != tt.status {
					t.Fatalf("%s, %s", rp.Status, body(rp))
				}
				want := map[string]string{"Sec-Websocket-Version": "13"}
				if rp.Close != (tt.status != 101) {
					t.Errorf("close: %v", rp.Close)
				}
				if tt.status == 101 {
					want = map[string]string{"Upgrade": "websocket", "Sec-Websocket-Protocol": "msrp", "Sec-Websocket-Accept": "xZyY0Fx/H9zhjWNyvR6Si5FROng="}
				}
				for name, value := range want {
					if got := rp.Header.Get(name); got != value {
						t.Errorf("%s: %q, want %q", name, got, value)
					}
				}
				time.Sleep(2 * time.Second) // the peer has one to read the answer
				if n := w.r.Stats().Counts["handshake"]; n != map[bool]uint64{true: 0, false: 1}[tt.status == 101] {
					t.Errorf("%d handshakes refused", n)
				}
			})
		})
	}
}

// TestWebSocketSlow: who takes its time for the handshake, or says nothing,
// holds up nobody and is gone after the time for it (WS-51).
func TestWebSocketSlow(t *testing.T) {
	inWorld(t, web(nil), func(w *world) {
		var slow []net.Conn
		for range 10 {
			nc := w.lns["web"].Dial()
			defer nc.Close()
			_, _ = io.WriteString(nc, "GET / HT") // read by the relay, or not
			slow = append(slow, nc)
		}
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
					for _, nc := range slow {
						_, _ = io.WriteString(nc, "x")
					}
				}
			}
		}()
		start := time.Now()
		w.webClient("alice")
		if took := time.Since(start); took > time.Second {
			t.Errorf("waited %v for others", took)
		}
		time.Sleep(12 * time.Second)
		close(stop)
		synctest.Wait()
		if st := w.r.Stats(); st.Connections != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestWebSocketUnmasked: a client's frames are masked (RFC 6455 §5.1, WS-18).
func TestWebSocketUnmasked(t *testing.T) {
	for name, frame := range map[string]string{
		"unmasked": "\x82\x02\r\n", "reserved bits": "\xf2\x80abcd", "reserved opcode": "\x83\x80abcd",
		"endless ping": "\x89\xfe\xff\xffabcd", "text in a text": "\x01\x80abcd\x01\x80abcd", "continues nothing": "\x80\x80abcd",
		"length of 2^63": "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd", "compressed": "\xc2\x80abcd",
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, web(nil), func(w *world) {
				nc := w.lns["web"].Dial()
				defer nc.Close()
				_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\n"+webHeaders+"\r\n"+frame) // the frame comes before the 101
				rd := bufio.NewReader(nc)
				if rp, err := http.ReadResponse(rd, nil); err != nil || rp.StatusCode != 101 {
					t.Fatal(rp, err)
				}
				rest, _ := io.ReadAll(rd)
				if len(rest) < 4 || rest[0] != 0x88 || rest[2] != 1002>>8 || rest[3] != 1002&0xff {
					t.Errorf("got %q", rest)
				}
				time.Sleep(2 * time.Second) // the peer has one to read that
				if st := w.r.Stats(); st.Connections != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}
