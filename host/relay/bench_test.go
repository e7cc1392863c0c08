package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

// A fakeConn is a connection whose other side is two functions.
type fakeConn struct {
	net.Conn
	read  func(b []byte) (int, error)
	write func(b []byte)
	close func()
}

func (c *fakeConn) Read(b []byte) (int, error) { return c.read(b) }

func (c *fakeConn) Write(b []byte) (int, error) {
	c.write(b)
	return len(b), nil
}
func (c *fakeConn) Close() error                     { c.close(); return nil }
func (c *fakeConn) SetDeadline(time.Time) error      { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// A line is a relay with one sender, whose frames come as fast as they are
// read, and one receiver, who answers each with 200.
type line struct {
	r        *Relay
	a, b     *conn
	size     int // of a frame on the way out
	mu       sync.Mutex
	cond     *sync.Cond
	toSend   int    // octets the sender may still send
	frames   []byte // repeated
	at       int
	answers  []byte // not yet read by the relay
	partial  []byte // of a frame not wholly written
	received int
	closed   bool
	wg       sync.WaitGroup

	web   bool // both are on WebSockets
	head  int  // octets before each frame that the relay writes
	ready bool // what is written is frames
}

func newLine(t testing.TB, body int) *line {
	t.Helper()
	return newLineAt(t, body, Listener{Name: "edge", URI: uri(relayURI)})
}

// newWebLine is newLine with WebSockets, whose octets are masked with zeros.
func newWebLine(t testing.TB, body int) *line {
	t.Helper()
	w := newLineAt(t, body, Listener{Name: "web", URI: uri(webURI), Advertise: "edge"}, Listener{Name: "edge", URI: uri(relayURI)})
	w.web = true
	frame := bytes.TrimSuffix(w.frames, []byte("\r\n")) // a line break of its own would be a fault
	w.frames = append(maskedHeader(nil, len(frame)), frame...)
	return w
}

func maskedHeader(b []byte, n int) []byte {
	if n < 126 {
		return append(b, 0x82, 0x80|byte(n), 0, 0, 0, 0)
	}
	return append(b, 0x82, 0x80|126, byte(n>>8), byte(n), 0, 0, 0, 0)
}

func newLineAt(t testing.TB, body int, ls ...Listener) *line {
	t.Helper()
	server, err := auth.NewServer(auth.ServerConfig{Realm: "example"})
	if err != nil {
		t.Fatal(err)
	}
	w := &line{}
	w.cond = sync.NewCond(&w.mu)
	w.r, err = New(Config{Auth: server, Listeners: ls})
	if err != nil {
		t.Fatal(err)
	}
	l := w.r.cfg().listeners[ls[0].Name]
	w.a, w.b = w.r.newConn(l), w.r.newConn(l)
	var path [2]string
	for i, c := range []*conn{w.a, w.b} {
		c.proven.Store(true)
		w.r.mu.Lock()
		w.r.conns[c] = struct{}{}
		w.r.mu.Unlock()
		back := uri(fmt.Sprintf("msrp://c%d.invalid:9/c;tcp", i))
		s := &session{listener: l}
		s.back.Store(&back)
		if d := w.r.newSession(c, s, "", l, time.Hour, &hook.Limits{}); d != nil {
			t.Fatal(d)
		}
		path[i] = string(s.main.raw)
	}
	text := send("abcdefghijkl", path[0]+" "+path[1]+" msrp://c1.invalid:9/c;tcp", "msrp://c0.invalid:9/c;tcp", "m0123456789", strings.Repeat("x", body))
	w.frames = []byte(strings.ReplaceAll(text+"\n", "\n", "\r\n"))
	return w
}

// connect returns a network connection, or a WebSocket on it.
func (w *line) connect(nc *fakeConn) net.Conn {
	if !w.web {
		w.ready = true
		return nc
	}
	read := nc.read
	nc.read = strings.NewReader("GET / HTTP/1.1\r\n" + webHeaders + "\r\n").Read
	ws, err := transport.AcceptWebSocket(context.Background(), nc, transport.WebSocketConfig{Protocol: "msrp", Ping: -1})
	if err != nil {
		panic(err)
	}
	nc.read = read
	return ws
}

// run serves both connections.
func (w *line) run() {
	closed := func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		w.cond.Broadcast()
	}
	a := w.connect(&fakeConn{close: closed, write: func([]byte) {}, read: w.readFrames})
	b := w.connect(&fakeConn{close: closed, write: w.receive, read: w.readAnswers})
	w.ready = true
	w.wg.Go(func() { w.a.begin(w.r.ctx)(w.a.m.Serve(a)) })
	w.wg.Go(func() { w.b.begin(w.r.ctx)(w.b.m.Serve(b)) })
}

func (w *line) stop() {
	w.a.m.Close(nil)
	w.b.m.Close(nil)
	w.wg.Wait()
	w.r.Close()
}

func (w *line) readFrames(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.toSend == 0 && !w.closed {
		w.cond.Wait()
	}
	if w.closed {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), w.toSend)], w.frames[w.at:])
	w.at = (w.at + n) % len(w.frames)
	w.toSend -= n
	return n, nil
}

// receive takes what the relay writes to the receiver, and answers each frame.
func (w *line) receive(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ready {
		return // the answer to a handshake
	}
	if w.size == 0 {
		// The first frame is alone; all others have its length.
		w.partial = append(w.partial, b...)
		if !bytes.HasSuffix(w.partial, []byte("$\r\n")) {
			return
		}
		w.size, w.head = len(w.partial), bytes.Index(w.partial, []byte("MSRP "))
		b, w.partial = w.partial, make([]byte, 0, w.size)
	}
	for len(b) > 0 {
		n := min(len(b), w.size-len(w.partial))
		w.partial, b = append(w.partial, b[:n]...), b[n:]
		if len(w.partial) == w.size {
			tid := w.partial[w.head+5 : w.head+20]
			const answer = " 200 OK\r\nTo-Path: msrp://a:1;tcp\r\nFrom-Path: msrp://b:1;tcp\r\n-------"
			if w.web {
				w.answers = maskedHeader(w.answers, len("MSRP ")+len(tid)+len(answer)+len(tid)+len("$\r\n"))
			}
			w.answers = append(append(append(w.answers, "MSRP "...), tid...), answer...)
			w.answers = append(append(w.answers, tid...), "$\r\n"...)
			w.partial = w.partial[:0]
			w.received++
		}
	}
	w.cond.Broadcast()
}

func (w *line) readAnswers(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.answers) == 0 && !w.closed {
		w.cond.Wait()
	}
	if w.closed {
		return 0, io.EOF
	}
	n := copy(b, w.answers)
	w.answers = w.answers[:copy(w.answers, w.answers[n:])]
	return n, nil
}

// forward lets n more frames through and waits until they are received.
func (w *line) forward(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := w.received + n
	w.toSend += n * len(w.frames)
	w.cond.Broadcast()
	for w.received < want {
		w.cond.Wait()
	}
}

// TestForwardAllocates: a frame that fits the buffer is parsed, forwarded,
// answered and its transaction ended without an allocation. What is left is
// per burst: the writer's goroutine.
func TestForwardAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := newLine(t, 2048)
	w.run()
	defer w.stop()
	w.forward(1)
	w.forward(20_000)
	const n = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w.forward(n)
	runtime.ReadMemStats(&after)
	if perFrame := float64(after.Mallocs-before.Mallocs) / n; perFrame > 0.2 {
		t.Errorf("%.3f allocations per frame", perFrame)
	}
	// And without the bursts: exactly none.
	rd := bytes.NewReader(nil)
	reader := msrp.NewReader(rd, msrp.Limits{})
	if allocs := testing.AllocsPerRun(100, func() {
		rd.Reset(w.frames)
		p, err := reader.Next()
		if err != nil || !p.Last {
			t.Fatal(err)
		}
		rt := w.a.routes[string(p.Head.Paths)]
		if rt == nil || !rt.live() {
			t.Fatal("no route")
		}
	}); allocs != 0 {
		t.Errorf("%v allocations to parse a frame and find its route", allocs)
	}
}

// TestForwardWebSocketAllocates: as TestForwardAllocates, for WebSockets. Bursts
// are shorter, so that there is more for each frame.
func TestForwardWebSocketAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := newWebLine(t, 2048)
	w.run()
	defer w.stop()
	w.forward(1)
	w.forward(20_000)
	const n = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w.forward(n)
	runtime.ReadMemStats(&after)
	perFrame := float64(after.Mallocs-before.Mallocs) / n
	if perFrame > 0.6 {
		t.Errorf("%.3f allocations per frame", perFrame)
	}
	t.Logf("%.3f allocations per frame", perFrame)
}

func BenchmarkForwardWebSocket(b *testing.B) {
	for _, size := range []int{200, 2048, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := newWebLine(b, size)
			w.run()
			defer w.stop()
			w.forward(1)
			b.SetBytes(int64(len(w.frames)))
			b.ReportAllocs()
			b.ResetTimer()
			w.forward(b.N)
		})
	}
}

func BenchmarkForward(b *testing.B) {
	for _, size := range []int{200, 2048, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := newLine(b, size)
			w.run()
			defer w.stop()
			w.forward(1)
			b.SetBytes(int64(len(w.frames)))
			b.ReportAllocs()
			b.ResetTimer()
			w.forward(b.N)
		})
	}
}

// TestGarbage: a hundred thousand connections that send no MSRP leave memory,
// goroutines and tables where they were.
func TestGarbage(t *testing.T) {
	n := 100_000
	if raceEnabled {
		n = 20_000 // the rest is for the run without the race detector
	}
	w := newWorld(t, nil)
	defer w.stop()
	garbage := []string{
		"", "\r\n", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "MSRP ", "MSRP abcd SEND\r\nTo-Path: ",
		"MSRP abcd SEND\r\nTo-Path: msrp://relay.example:2855/x;tcp\r\nFrom-Path: msrp://a:1;tcp\r\nMessage-ID: m123\r\n-------abcd$\r\n",
		"MSRP abcd AUTH\r\nTo-Path: msrp://relay.example:2855;tcp\r\nFrom-Path: msrp://a:1;tcp\r\n-------abcd$\r\n",
		strings.Repeat("\x00", 1000), "MSRP abcd SEND\r\nX: " + strings.Repeat("x", 20000),
	}
	round := func(n int) {
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := worker; i < n; i += 8 {
					nc := w.lns["edge"].Dial()
					_, _ = io.WriteString(nc, garbage[i/8%len(garbage)]) // the relay may have closed it
					nc.Close()
				}
			})
		}
		wg.Wait()
		for w.r.Stats().Connections > 0 {
			runtime.Gosched()
		}
	}
	measure := func() (heap uint64, goroutines int) {
		runtime.GC()
		runtime.GC() // what pools keep goes in two
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine()
	}
	round(n / 20)
	heap, goroutines := measure()
	round(n)
	heap2, goroutines2 := measure()
	noise := uint64(4 << 20)
	if raceEnabled {
		noise = 16 << 20 // it makes pools drop at random
	}
	if heap2 > heap+noise || goroutines2 > goroutines+10 {
		t.Errorf("heap %d then %d, goroutines %d then %d", heap, heap2, goroutines, goroutines2)
	}
	t.Logf("%d connections: heap %d KiB then %d KiB, goroutines %d then %d", n, heap>>10, heap2>>10, goroutines, goroutines2)
}
