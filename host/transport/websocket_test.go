package transport_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrptest"
	"github.com/parley-msrp/parley/host/transport"
)

// webSockets returns both ends of a WebSocket; change may be nil.
func webSockets(t *testing.T, change func(*transport.WebSocketConfig)) (client, server *transport.WebSocket, raw net.Conn) {
	t.Helper()
	cfg := transport.WebSocketConfig{Protocol: "msrp", Ping: -1, Message: 1 << 30}
	if change != nil {
		change(&cfg)
	}
	a, b := msrptest.Pipe()
	accepted := make(chan error, 1)
	go func() {
		var err error
		server, err = transport.AcceptWebSocket(t.Context(), b, cfg)
		accepted <- err
	}()
	client, err := transport.ConnectWebSocket(t.Context(), a, "relay.example", "/", nil, cfg)
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server, a
}

// TestWebSocketRoundTrip: messages of all lengths of headers arrive as they
// left, masked or not (WS-18), one Write or several of them.
func TestWebSocketRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _ := webSockets(t, nil)
		for _, tt := range []struct{ from, to *transport.WebSocket }{{client, server}, {server, client}} {
			sizes := []int{0, 1, 125, 126, 1 << 14, 1<<16 - 1, 1 << 16, 300_000, 5}
			var all []byte
			for _, n := range sizes[1:] {
				all = append(all, make([]byte, n)...)
			}
			_, _ = rand.Read(all)
			for _, step := range []int{1000, 16 << 10, len(all)} {
				tt.from.Messages(sizes[1:])
				wrote := make(chan error, 1)
				go func() {
					var err error
					for b := all; len(b) > 0 && err == nil; {
						var n int
						n, err = tt.from.Write(b[:min(step, len(b))])
						b = b[n:]
					}
					wrote <- err
				}()
				rest := all
				for _, n := range sizes[1:] {
					if err := tt.to.NextMessage(); err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(tt.to)
					if err != nil || !bytes.Equal(got, rest[:n]) {
						t.Fatalf("%d octets of %d: %v", len(got), n, err)
					}
					rest = rest[n:]
				}
				if err := <-wrote; err != nil {
					t.Fatal(err)
				}
			}
			if _, err := tt.from.Write([]byte("alone")); err != nil {
				t.Fatal(err)
			}
			if err := tt.to.NextMessage(); err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(tt.to); string(got) != "alone" {
				t.Errorf("%q", got)
			}
		}
	})
}

// TestWebSocketControl: pings go between the messages of a writer, and nothing
// goes after a close frame.
func TestWebSocketControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, raw := webSockets(t, func(c *transport.WebSocketConfig) {
			c.Ping = time.Second
			c.CloseCode = func(error) (int, string) { return 1001, "bye" }
		})
		msrptest.Limit(raw, 1000) // the server's writes take their time
		done := make(chan error, 1)
		go func() { done <- server.NextMessage() }() // answers pings
		message := make([]byte, 10_000)
		wrote := make(chan error, 1)
		go func() {
			var err error
			for range 20 {
				_, err2 := server.Write(message)
				err = errors.Join(err, err2)
			}
			wrote <- err
		}()
		for range 20 {
			if err := client.NextMessage(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(700 * time.Millisecond)
			if got, err := io.ReadAll(client); len(got) != len(message) || err != nil {
				t.Fatal(len(got), err)
			}
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write(message); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the close frame: %v", err)
		}
		if err := client.NextMessage(); err != io.EOF {
			t.Errorf("client: %v", err)
		}
		if err := <-done; err != io.EOF {
			t.Errorf("server: %v", err)
		}
	})
}

// TestWebSocketCloseBehind: the close frame follows a message that is being written, if
// the peer takes that in time.
func TestWebSocketCloseBehind(t *testing.T) {
	for _, takes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			_, server, raw := webSockets(t, nil)
			msrptest.Limit(raw, 10)
			wrote, closed := make(chan error, 1), make(chan time.Duration, 1)
			go func() {
				_, err := server.Write(make([]byte, 100))
				wrote <- err
			}()
			synctest.Wait()
			begun := time.Now()
			go func() {
				_ = server.Close()
				closed <- time.Since(begun)
			}()
			time.Sleep(500 * time.Millisecond)
			if takes {
				msrptest.Limit(raw, 0)
				want := append(append([]byte{0x82, 100}, make([]byte, 100)...), 0x88, 2, 3, 0xe8)
				if got, err := io.ReadAll(raw); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%x, %v", got, err)
				}
				raw.Close()
			}
			if err := <-wrote; (err == nil) != takes {
				t.Error(err)
			}
			if took := <-closed; took > 2*time.Second {
				t.Errorf("closed after %v", took)
			}
		})
	}
}

// TestWebSocketCancelled: a handshake ends with its context.
func TestWebSocketCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := msrptest.Pipe()
		defer a.Close()
		defer b.Close()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		start := time.Now()
		if _, err := transport.AcceptWebSocket(ctx, b, transport.WebSocketConfig{Protocol: "msrp"}); err == nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := transport.ConnectWebSocket(ctx, a, "relay.example", "/", nil, transport.WebSocketConfig{Protocol: "msrp"}); err == nil {
			t.Error("connected to nobody")
		}
	})
}

// FuzzWebSocket: whatever a peer sends, nothing breaks, and what is read was
// within the limits.
func FuzzWebSocket(f *testing.F) {
	head := "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: bXNycC1yZWxheS1kZW1vIQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: msrp\r\n\r\n"
	f.Add(head + "\x82\x85abcdhello\x89\x80abcd\x02\x81abcdx\x80\x81abcdy\x88\x80abcd")
	f.Add(head + "\x82\x85abcdhel")
	f.Add("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		a, b := msrptest.Pipe()
		go func() {
			_, _ = io.WriteString(a, in) // the other side may have closed
			_ = a.(interface{ CloseWrite() error }).CloseWrite()
			_, _ = io.Copy(io.Discard, a)
			a.Close()
		}()
		ws, err := transport.AcceptWebSocket(t.Context(), b, transport.WebSocketConfig{Protocol: "msrp", Header: 1024, Message: 100, Ping: -1})
		if err != nil {
			b.Close()
			return
		}
		defer ws.Close()
		for ws.NextMessage() == nil {
			if got, err := io.ReadAll(ws); len(got) > 101 {
				t.Fatalf("%d octets in a message", len(got))
			} else if err != nil {
				return
			}
		}
	})
}
