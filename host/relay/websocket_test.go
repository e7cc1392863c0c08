package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
	"github.com/parley-msrp/parley/host/transport"
)

const webURI = "msrp://relay.example:8080;ws"

// web adds a listener for WebSockets, whose clients get URIs of "edge".
func web(change func(*Listener)) func(*Config) {
	return func(cfg *Config) {
		l := Listener{Name: "web", URI: uri(webURI), PlainAuth: true, Advertise: "edge", Hooks: cfg.Listeners[0].Hooks}
		l.WebSocket.Origins = []string{"https://app.example"}
		if change != nil {
			change(&l)
		}
		cfg.Listeners = append(cfg.Listeners, l)
	}
}

// A webClient is a client on a WebSocket; its Peer checks that each message is one frame.
type webClient struct {
	*client
	ws *transport.WebSocket
}

// webConn connects a WebSocket; header lines are "Name: value".
func (w *world) webConn(user string, lines ...string) *webClient {
	w.t.Helper()
	header := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		header.Add(name, value)
	}
	ws := msrptest.WebSocket(w.t, w.lns["web"].Dial(), "/msrp", header)
	return &webClient{&client{
		Peer: msrptest.NewPeer(w.t, ws), uri: "msrp://" + user + "4711.invalid:2855/" + user + "session;ws",
	}, ws}
}

// webClient connects a WebSocket and authenticates by Digest.
func (w *world) webClient(user string) *webClient {
	w.t.Helper()
	c := w.webConn(user)
	c.use = c.auth(w.t, webURI, user)
	return c
}

// Send writes lines as one message, which ends where the last one does.
func (c *webClient) Send(lines string) { c.Peer.Send(strings.TrimSuffix(lines, "\n")) }

// say sends text to a peer of this path, and checks that it gets there in one
// chunk and is answered.
func say(t *testing.T, send_ func(string), a, b *client, to, text string) msrptest.Frame {
	t.Helper()
	tid := a.id()
	send_(send(tid, to, a.uri, "m"+tid, text))
	a.WantResponse(tid, 200)
	f := b.WantRequest("SEND")
	if string(f.Body) != text {
		t.Errorf("got %q for %q", f.Body, text)
	}
	b.Respond(f, 200)
	return f
}

// TestWebSocketChat: a client on a WebSocket and one on TCP, both ways
// (WS-11, WS-20, WS-24, WS-32).
func TestWebSocketChat(t *testing.T) {
	inWorld(t, web(nil), func(w *world) {
		a, b := w.webClient("alice"), w.client("edge", "bob")
		if !strings.HasPrefix(a.use, "msrp://relay.example:2855/") || !strings.HasSuffix(a.use, ";tcp") {
			t.Fatalf("Use-Path: %s", a.use) // WS-24
		}
		f := say(t, a.Send, a.client, b, a.use+" "+b.use+" "+b.uri, "hello")
		say(t, b.Send, b, a.client, f.From, "hello yourself")
		// A peer without a relay of its own is dialled, and answers on that connection.
		ln := w.host("peer.example")
		a.Send(send("aaaa1111", a.use+" msrp://peer.example:2855/peer;tcp", a.uri, "m1111", "hello"))
		a.WantResponse("aaaa1111", 200)
		p := w.accept(ln)
		f = p.WantRequest("SEND")
		if f.From != a.use+" "+a.uri {
			t.Errorf("From-Path: %s", f.From)
		}
		p.Respond(f, 200)
		p.Send(send("pppp1111", f.From, f.To, "m2222", "hello yourself"))
		p.WantResponse("pppp1111", 200)
		a.WantRequest("SEND")
	})
}

// TestWebSocketBoth: two clients on WebSockets of one relay (RFC 7977 §8.3.2, WS-33).
func TestWebSocketBoth(t *testing.T) {
	inWorld(t, web(nil), func(w *world) {
		a, b := w.webClient("alice"), w.webClient("bob")
		f := say(t, a.Send, a.client, b.client, a.use+" "+b.use+" "+b.uri, "hello")
		say(t, b.Send, b.client, a.client, f.From, "hello yourself")
		// WS-44: a SEND without a body keeps a connection alive, and is passed on as any other.
		b.SendFrame(msrptest.FrameSpec{TID: "bbbb1111", To: f.From, From: b.uri, ID: "m3333"})
		b.WantResponse("bbbb1111", 200)
		if f := a.WantRequest("SEND"); f.HasBody {
			t.Error("a body came from nowhere")
		}
	})
}

// TestWebSocketGone: URIs end with their WebSocket (WS-34), whose own URI is
// never resolved or dialled (WS-26, WS-27).
func TestWebSocketGone(t *testing.T) {
	inWorld(t, web(nil), func(w *world) {
		a, b := w.webClient("alice"), w.webClient("bob")
		other := w.webClient("carol")
		other.Send(send("cccc1111", a.use+" "+a.uri, other.uri, "m1111", "hello")) // to a session, as anybody may
		other.WantResponse("cccc1111", 200)
		other.Send(send("cccc2222", a.use+" "+b.use+" "+b.uri, other.uri, "m1111", "hello")) // from one that is not its own
		other.WantResponse("cccc2222", 403)
		other.Send(send("cccc3333", other.use+" msrp://dave.invalid:2855/x;ws", other.uri, "m1111", "hello"))
		other.WantResponse("cccc3333", 481)
		a.Close()
		synctest.Wait()
		b.Send(send("bbbb1111", b.use+" "+a.use+" "+a.uri, b.uri, "m1111", "hello"))
		b.WantResponse("bbbb1111", 481)
		if len(w.hosts.seen) != 0 {
			t.Errorf("dialled %v", w.hosts.seen)
		}
	})
}

// TestWebSocketSplits: what comes in long chunks from TCP leaves in short ones,
// each a message, also when something else goes between (WS-14, WS-16).
func TestWebSocketSplits(t *testing.T) {
	for _, chunk := range []int{0, 1000, 16 << 10, 40_000} {
		t.Run(fmt.Sprint(chunk), func(t *testing.T) {
			inWorld(t, web(func(l *Listener) { l.WebSocket.Chunk = chunk }), func(w *world) {
				a, b := w.webClient("alice"), w.client("edge", "bob")
				const size = 100_000
				body := strings.Repeat("0123456789", size/10)
				b.Write([]byte(strings.ReplaceAll(frame("bbbb1111", "SEND", b.use+" "+a.use+" "+a.uri, b.uri,
					"Message-ID: m1111", fmt.Sprintf("Byte-Range: 1-*/%d", size), "Content-Type: text/plain", ""), "\n", "\r\n") + body + "\r\n-------bbbb1111$\r\n"))
				got, longest := "", 0
				for len(got) < size {
					f := a.WantRequest("SEND")
					r, err := msrp.ParseByteRange([]byte(f.Get("Byte-Range")))
					if err != nil || r.Start != int64(len(got)+1) || r.Total != size {
						t.Fatalf("after %d octets: Byte-Range: %s", len(got), f.Get("Byte-Range"))
					}
					got += string(f.Body)
					longest = max(longest, len(f.Body))
					if flag := map[bool]byte{true: '$', false: '+'}[len(got) == size]; f.Flag != flag {
						t.Errorf("flag %q after %d octets", f.Flag, len(got))
					}
					a.Respond(f, 200)
				}
				b.WantResponse("bbbb1111", 200)
				if want := or(chunk, 16<<10); got != body || longest > want {
					t.Errorf("longest chunk has %d octets of %d", longest, want)
				}
			})
		})
	}
}

// TestWebSocketLong: what comes in one long message from a WebSocket leaves
// towards TCP while it arrives, and is not changed.
func TestWebSocketLong(t *testing.T) {
	inWorld(t, web(nil), func(w *world) {
		a, b := w.webClient("alice"), w.client("edge", "bob")
		body := strings.Repeat("0123456789", 90_000)
		a.SendFrame(msrptest.FrameSpec{
			TID: "aaaa1111", To: a.use + " " + b.use + " " + b.uri, From: a.uri, ID: "m1111",
			Range: "1-*/900000", Body: body,
		})
		got := ""
		for len(got) < len(body) {
			f := b.WantRequest("SEND")
			got += string(f.Body)
			b.Respond(f, 200)
		}
		if got != body {
			t.Error("other octets")
		}
		a.WantResponse("aaaa1111", 200)
	})
}

// rawWebSocket connects with nothing of ours on the client's side.
func (w *world) rawWebSocket() *websocket.Conn {
	w.t.Helper()
	tr := &http.Transport{DialContext: dialTo(w.lns["web"])}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	ws, rp, err := websocket.Dial(ctx, "ws://relay.example:8080/msrp", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{"chat", "msrp"},
		HTTPHeader: http.Header{"Origin": {"https://app.example"}}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Sec-Websocket-Protocol": "msrp", "Access-Control-Allow-Origin": "https://app.example", "Sec-Websocket-Extensions": "",
	} {
		if got := rp.Header.Get(name); got != want { // WS-1, WS-4, WS-9, WS-19
			w.t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	w.t.Cleanup(func() { ws.CloseNow() })
	return ws
}

const webAuth = "MSRP aaaa1111 AUTH\r\nTo-Path: " + webURI + "\r\nFrom-Path: msrp://x.invalid:1/x;ws\r\n-------aaaa1111$\r\n"

// TestWebSocketMessages: one frame in a message, no more and no less (WS-2,
// WS-11, WS-15); text is octets (WS-13); the parts of a message are put together (WS-12).
func TestWebSocketMessages(t *testing.T) {
	split := func(parts ...string) func(context.Context, *websocket.Conn) error {
		return func(ctx context.Context, ws *websocket.Conn) error {
			m, err := ws.Writer(ctx, websocket.MessageBinary)
			for _, p := range parts {
				if _, err2 := io.WriteString(m, p); err == nil {
					err = err2
				}
			}
			return errors.Join(err, m.Close())
		}
	}
	whole := func(typ websocket.MessageType, messages ...string) func(context.Context, *websocket.Conn) error {
		return func(ctx context.Context, ws *websocket.Conn) (err error) {
			for _, m := range messages {
				err = errors.Join(err, ws.Write(ctx, typ, []byte(m)))
			}
			return err
		}
	}
	const binary, text = websocket.MessageBinary, websocket.MessageText
	for _, tt := range []struct {
		name    string
		write   func(context.Context, *websocket.Conn) error
		answers int
		closed  websocket.StatusCode // 0 = not
	}{
		{"binary", whole(binary, webAuth), 1, 0},
		{"text", whole(text, webAuth), 1, 0},
		{"two", whole(binary, webAuth, webAuth), 2, 0},
		{"fragments", split(webAuth[:1], webAuth[1:7], "", webAuth[7:]), 1, 0},
		{"text that is not UTF-8", whole(text, strings.Replace(webAuth, "-------", "X-Y: \xff\r\n-------", 1)), 1, 0},
		{"empty and line breaks", whole(binary, "", "\r\n", "\r\n\r\n", webAuth), 1, 0},
		{"two in one message", whole(binary, webAuth+webAuth), 1, websocket.StatusProtocolError},
		{"something behind", whole(binary, webAuth+"\r\n"), 1, websocket.StatusProtocolError},
		{"something behind, in a fragment of its own", split(webAuth, "x"), 1, websocket.StatusProtocolError},
		{"cut in the head", whole(binary, webAuth[:20], webAuth[20:]), 0, websocket.StatusProtocolError},
		{"cut in a line break", whole(binary, "\r", "\n"), 0, websocket.StatusProtocolError},
		{"cut in the end-line", whole(binary, webAuth[:len(webAuth)-1]), 0, websocket.StatusProtocolError},
		{"cut in the body", whole(binary, strings.Replace(webAuth, "-------", "\r\nabc", 1)), 0, websocket.StatusProtocolError},
		{"no MSRP", whole(text, "hello"), 0, websocket.StatusProtocolError},
		{"head too long", whole(binary, "MSRP aaaa1111 AUTH\r\nTo-Path: "+strings.Repeat("x", 17<<10)), 0, websocket.StatusMessageTooBig},
		{"foreign", whole(binary, strings.Replace(webAuth, "relay.example", "other.example", 1)), 0, websocket.StatusPolicyViolation},
		{"wss is no transport", whole(binary, strings.Replace(webAuth, "8080;ws", "8080;wss", 1)), 0, websocket.StatusPolicyViolation}, // WS-21
		// WS-22: URIs with different transports are different.
		{"tcp is another transport", whole(binary, strings.Replace(webAuth, "8080;ws", "8080;tcp", 1)), 0, websocket.StatusPolicyViolation},
		{"message too long", whole(binary, "MSRP aaaa1111 SEND\r\nTo-Path: msrp://relay.example:2855/x;tcp msrp://a.example:1/x;tcp\r\n"+
			"From-Path: msrp://x.invalid:1/x;ws\r\nMessage-ID: m1234\r\nByte-Range: 1-*/*\r\nContent-Type: a/b\r\n\r\n"+strings.Repeat("x", 70<<10)), 1, websocket.StatusMessageTooBig},
		{"fragments without end", func(ctx context.Context, ws *websocket.Conn) error {
			m, err := ws.Writer(ctx, binary)
			for err == nil {
				_, err = io.WriteString(m, "\r\n")
			}
			return nil // ended by the relay
		}, 0, websocket.StatusMessageTooBig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, web(func(l *Listener) { l.WebSocket.Message = 64 << 10 }), func(w *world) {
				ws := w.rawWebSocket()
				ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
				defer cancel()
				wrote := make(chan error, 1)
				go func() { wrote <- tt.write(ctx, ws) }()
				for range tt.answers {
					typ, b, err := ws.Read(ctx)
					if code := websocket.CloseStatus(err); tt.closed != 0 && code != -1 {
						if code != tt.closed {
							t.Errorf("closed with %v, want %v", err, tt.closed)
						}
						return // the fault overtook the answer
					}
					if err != nil || typ != binary || !strings.HasPrefix(string(b), "MSRP aaaa1111 4") || !strings.HasSuffix(string(b), "-------aaaa1111$\r\n") {
						t.Fatalf("answer: %v, %q, %v", typ, b, err)
					}
				}
				_, b, err := ws.Read(ctx)
				if code := websocket.CloseStatus(err); tt.closed != 0 && code != tt.closed {
					t.Errorf("closed with %v, want %v", err, tt.closed)
				} else if tt.closed == 0 && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("not alive: %q, %v", b, err)
				}
				if err := <-wrote; err != nil && tt.closed == 0 {
					t.Error(err)
				}
			})
		})
	}
}

// TestWebSocketEnds: the peer is told why its WebSocket is closed (WS-46), and
// the probation begins with the 101 (WS-47).
func TestWebSocketEnds(t *testing.T) {
	read := func(ws *websocket.Conn) (websocket.StatusCode, error) {
		for {
			if _, _, err := ws.Read(context.Background()); err != nil {
				return websocket.CloseStatus(err), err
			}
		}
	}
	inWorld(t, web(nil), func(w *world) {
		ws := w.rawWebSocket()
		start := time.Now()
		code, err := read(ws)
		if took := time.Since(start); code != websocket.StatusPolicyViolation || took != 30*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		ws = w.rawWebSocket()
		synctest.Wait() // until the relay knows that it answered, too
		w.cancel()
		if code, err := read(ws); code != websocket.StatusGoingAway {
			t.Errorf("at the end of the relay: %v", err)
		}
	})
}

// TestWebSocketPing: a peer that gives no sign of life is closed after two pings
// (WS-43, WS-45); one that answers is kept, as is one that pings itself.
func TestWebSocketPing(t *testing.T) {
	inWorld(t, web(func(l *Listener) { l.WebSocket.Ping = 20 * time.Second }), func(w *world) {
		c := w.webClient("alice")
		c.WantNothing(4 * time.Minute) // its library answers
		if st := w.r.Stats(); st.Sessions != 1 {
			t.Fatalf("%+v", st)
		}
		time.Sleep(35 * time.Second) // nobody reads, so nobody answers
		synctest.Wait()
		if st := w.r.Stats(); st.Sessions != 1 {
			t.Fatalf("too early: %+v", st)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := w.r.Stats(); st.Connections != 0 {
			t.Errorf("%+v", st)
		}
	})
	inWorld(t, web(nil), func(w *world) {
		ws := w.rawWebSocket()
		done := make(chan error, 1)
		go func() { _, _, err := ws.Read(context.Background()); done <- err }()
		if err := ws.Ping(w.t.Context()); err != nil { // RFC 6455 §5.5.3: the Pong has the Ping's octets
			t.Error(err)
		}
		ws.Close(websocket.StatusNormalClosure, "")
		<-done
	})
}

// tokens answers a handshake whose bearer is "good" or whose cookie is "session=good".
func tokens(seen *[]hook.AuthRequest) *hook.Chain[hook.AuthRequest, hook.AuthReply] {
	return hook.NewChain(nil,
		hook.Binding[hook.AuthRequest, hook.AuthReply]{Name: "static", Provider: hook.Func[hook.AuthRequest, hook.AuthReply](
			func(_ context.Context, q *hook.AuthRequest) (a hook.AuthReply, err error) {
				if q.Method == "AUTH" && q.Username != "" {
					a.Verdict, a.Password = hook.Done, "secret of "+q.Username
				}
				return a, nil
			})},
		hook.Binding[hook.AuthRequest, hook.AuthReply]{Name: "tokens", Provider: hook.Func[hook.AuthRequest, hook.AuthReply](
			func(_ context.Context, q *hook.AuthRequest) (a hook.AuthReply, err error) {
				*seen = append(*seen, *q)
				switch {
				case q.Method != "GET":
				case q.Bearer == "good" || q.Cookie == "a=b; session=good":
					a.Verdict, a.Authenticated, a.Username, a.MaxExpires = hook.Done, true, "alice", 5*time.Minute
					a.Attributes = map[string]string{"by": "token"}
				case q.Bearer == "bad":
					a.Verdict, a.Reason = hook.Deny, "expired"
				}
				return a, nil
			})})
}

// TestWebSocketIdentity: a handshake with a cookie or a token is enough
// (RFC 7977 §5.3.1, WS-36), AUTH then gets its 200 at once (WS-37), and nobody
// else's (WS-41).
func TestWebSocketIdentity(t *testing.T) {
	var seen []hook.AuthRequest
	change := web(func(l *Listener) { l.Hooks.Authenticate = tokens(&seen) })
	for name, lines := range map[string][]string{
		"bearer": {"Authorization: Bearer good", "Origin: https://app.example"}, "cookie": {"Cookie: a=b; session=good"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, change, func(w *world) {
				seen = nil
				c := w.webConn("alice", lines...)
				if len(seen) != 1 || seen[0].Transport != "ws" || seen[0].URI != "/msrp" || seen[0].RemoteAddr.Addr().String() != "192.0.2.1" {
					t.Fatalf("asked %+v", seen)
				}
				for i, tt := range []struct {
					to   string
					code int
				}{
					{webURI, 200},
					{strings.Replace(webURI, "//", "//alice@", 1), 200},
					{strings.Replace(webURI, "//", "//bob@", 1), 403},
				} {
					tid := fmt.Sprintf("auth%04d", i)
					c.Send(frame(tid, "AUTH", tt.to, c.uri) + "-------" + tid + "$")
					f := c.WantResponse(tid, tt.code)
					if tt.code == 200 && (f.Get("Expires") != "300" || f.Get("Authentication-Info") != "" || f.Get("Use-Path") == "") {
						t.Error(f.Raw)
					}
				}
				c.Send(frame("auth9999", "AUTH", webURI, c.uri,
					`Authorization: Digest username="bob", realm="example", nonce="x", uri="`+webURI+`", response="00000000000000000000000000000000"`) + "-------auth9999$")
				c.WantResponse("auth9999", 403)
				for s := range w.sessions() {
					if s.user != "alice" || s.attributes["by"] != "token" {
						t.Errorf("session of %s, %v", s.user, s.attributes)
					}
				}
			})
		})
	}
	inWorld(t, change, func(w *world) {
		seen = nil
		c := w.webConn("alice", "Cookie: other=1") // not known: Digest has to do
		if len(seen) != 1 {
			t.Errorf("asked %d times", len(seen))
		}
		c.auth(t, webURI, "alice")
		rp := w.get("/msrp?access_token=good", webHeaders)
		if rp.StatusCode != 101 || seen[len(seen)-1].Bearer != "good" {
			t.Errorf("%s", rp.Status)
		}
		if rp := w.get("/msrp", webHeaders+"Authorization: Bearer bad\r\n"); rp.StatusCode != 403 || body(rp) != "expired\n" {
			t.Errorf("%s %s", rp.Status, body(rp))
		}
	})
}

// TestWebSocketStatic: what knows passwords has no opinion on handshakes.
func TestWebSocketStatic(t *testing.T) {
	inWorld(t, web(nil), func(w *world) {
		c := w.webConn("alice", "Cookie: a=b")
		c.auth(t, webURI, "alice")
	})
}

// TestWebSocketProxy: behind a proxy that does TLS, the client's address is what
// the proxy says, and nobody else is let in (WS-5).
func TestWebSocketProxy(t *testing.T) {
	var seen []hook.AuthRequest
	for proxy, status := range map[string]int{"192.0.2.0/24": 101, "198.51.100.0/24": 403} {
		inWorld(t, func(cfg *Config) {
			web(func(l *Listener) {
				l.URI.Secure, l.PlainAuth = true, false
				l.WebSocket.Proxies = []netip.Prefix{netip.MustParsePrefix(proxy)}
				l.Hooks.Authenticate = tokens(&seen)
			})(cfg)
		}, func(w *world) {
			seen = nil
			rp := w.get("/", webHeaders+"X-Forwarded-For: 203.0.113.1, 203.0.113.9\r\nCookie: x=y\r\n")
			if rp.StatusCode != status {
				t.Errorf("%s: %s", proxy, rp.Status)
			}
			if status == 101 && (len(seen) != 1 || seen[0].Transport != "wss" || seen[0].RemoteAddr.Addr() != netip.MustParseAddr("203.0.113.9")) {
				t.Errorf("%+v", seen)
			}
		})
	}
}

// TestWebSocketConfig: what a listener for WebSockets needs (WS-24).
func TestWebSocketConfig(t *testing.T) {
	base := newWorld(t, nil)
	defer base.stop()
	for name, tt := range map[string]struct {
		change func(*Listener)
		want   string
	}{
		"no advertise":     {func(l *Listener) { l.Advertise = "" }, "needs to advertise"},
		"its own":          {func(l *Listener) { l.Advertise = "web" }, "needs to advertise"},
		"advertises msrps": {func(l *Listener) { l.Advertise = "secure" }, "could not use"},
	} {
		cfg := base.r.cfg().Config
		cfg.Listeners = append(cfg.Listeners[:2:2], Listener{Name: "secure", URI: uri("msrps://relay.example:1;tcp")})
		web(tt.change)(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWebSocketSlowReader: a receiver that does not read is refused more, as one
// on TCP is, and gets all that was accepted in whole messages once it reads;
// its own pings do not end it.
func TestWebSocketSlowReader(t *testing.T) {
	inWorld(t, func(cfg *Config) {
		web(nil)(cfg)
		cfg.Limits.Conn.Outbox, cfg.Limits.Conn.Write = 64<<10, 5*time.Minute
	}, func(w *world) {
		nc := w.lns["web"].Dial()
		ws := msrptest.WebSocket(w.t, nc, "/", nil)
		a := &webClient{&client{Peer: msrptest.NewPeer(w.t, ws), uri: "msrp://alice4711.invalid:2855/alicesession;ws"}, ws}
		a.use = a.auth(w.t, webURI, "alice")
		b := w.client("edge", "bob")
		msrptest.Limit(nc, 1000)
		accepted := 0
		for {
			tid := b.SendFrame(msrptest.FrameSpec{To: b.use + " " + a.use + " " + a.uri, From: b.uri, ID: "m1111", Range: "1-*/*", Body: strings.Repeat("x", 10_000)})
			if f := b.Next(); f.TID != tid || f.Code != 200 {
				if f.Code != 413 {
					t.Fatal(f.Raw)
				}
				break
			}
			accepted++
		}
		time.Sleep(time.Minute) // pings of the relay wait for the message in hand
		msrptest.Limit(nc, 0)
		for range accepted {
			if f := a.WantRequest("SEND"); len(f.Body) != 10_000 {
				t.Errorf("%d octets", len(f.Body))
			}
		}
		if accepted < 6 {
			t.Errorf("%d were accepted", accepted)
		}
	})
}

// TestWebSocketGuess: a token that is none counts as a wrong password of its
// address, which by way of a proxy is the client's.
func TestWebSocketGuess(t *testing.T) {
	var seen []hook.AuthRequest
	inWorld(t, func(cfg *Config) {
		web(func(l *Listener) {
			l.URI.Secure, l.PlainAuth = true, false
			l.WebSocket.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			l.Hooks.Authenticate = tokens(&seen)
		})(cfg)
		cfg.Limits.AddressConnections = 2
		banAfter(t, cfg, 4)
	}, func(w *world) {
		get := func(client, token string) int {
			return w.get("/", webHeaders+"X-Forwarded-For: "+client+"\r\nAuthorization: Bearer "+token+"\r\n").StatusCode
		}
		for _, delay := range []time.Duration{0, 0, time.Second, 0} {
			start := time.Now()
			if code := get("203.0.113.1", "bad"); code != 403 || time.Since(start) < delay {
				t.Errorf("%d after %v", code, time.Since(start))
			}
			time.Sleep(10 * time.Second) // until the relay has given up on that connection, which counts
		}
		if code := get("203.0.113.1", "good"); code != 403 {
			t.Errorf("a banned address: %d", code)
		}
		for range 2 {
			if code := get("203.0.113.9", "good"); code != 101 {
				t.Errorf("another client of the proxy: %d", code)
			}
		}
		if code := get("203.0.113.9", "good"); code != 403 {
			t.Errorf("a third connection of an address: %d", code)
		}
		time.Sleep(10 * time.Second)
		st := w.r.Stats().Counts
		if st["ban_made"] != 1 || st["ban_connection"] != 1 || st["address_connections"] != 1 || st["handshake"] != 6 {
			t.Errorf("%v", st)
		}
	})
}
