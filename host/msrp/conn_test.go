package msrp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// outcomes is an Owner that keeps how its transactions ended.
type outcomes struct {
	mu  sync.Mutex
	all []outcome
}

type outcome struct {
	id    string
	code  int
	err   error
	at    time.Time
	rng   ByteRange
	owner *outcomes
}

func (o *outcomes) Done(_ *Conn, tx *Transaction, r Result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, outcome{tx.MessageID.String(), r.Code, r.Err, time.Now(), tx.Range, o})
}

func (o *outcomes) list() []outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.all)
}

// handler is a Handler made of a function.
type handler func(c *Conn, p *Piece)

func (h handler) ServePiece(c *Conn, p *Piece) {
	if h != nil {
		h(c, p)
	}
}

const testPaths = "To-Path: msrp://b.example:1/x;tcp\r\nFrom-Path: msrp://a.example:1/y;tcp\r\n"

func request(id, body string) *Request {
	rq := &Request{
		Method: []byte("SEND"), Paths: []byte(testPaths), Before: []byte("Message-ID: " + id + "\r\n"),
		Range: ByteRange{1, int64(len(body)), int64(len(body))}, Flag: Complete,
	}
	if body != "" {
		rq.After, rq.Body, rq.HasBody = []byte("Content-Type: a/b\r\n"), []byte(body), true
	}
	return rq
}

// inConn runs f in a bubble with a served Conn and the far end of its connection.
func inConn(t *testing.T, lim Limits, h handler, f func(t *testing.T, c *Conn, far net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := NewConn(ConnConfig{Handler: h, Limits: lim})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.Serve(near)
		}()
		f(t, c, far)
		far.Close()
		c.Close(nil)
		<-done
	})
}

// readFrames reads n frames from far.
func readFrames(t *testing.T, far net.Conn, n int) []got {
	t.Helper()
	var fs []got
	rd := NewReader(far, Limits{})
	for len(fs) < n || n > 0 && fs[n-1].flag == 0 {
		p, err := rd.Next()
		if err != nil {
			t.Fatalf("after %d frames: %v", len(fs), err)
		}
		if p.First {
			fs = append(fs, got{raw: string(p.Head.Raw)})
		}
		g := &fs[len(fs)-1]
		g.body += string(p.Body)
		if p.Last {
			g.flag = p.Flag
		}
	}
	return fs
}

// TestConnOrder: requests leave in the order of their Sends, whole.
func TestConnOrder(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		for i := range 100 {
			if err := c.Send(request(fmt.Sprintf("m%03d", i), strings.Repeat("x", i*7)), nil); err != nil {
				t.Fatal(err)
			}
		}
		c.Flush()
		for i, f := range readFrames(t, far, 100) {
			if !strings.Contains(f.raw, fmt.Sprintf("Message-ID: m%03d\r\n", i)) || len(f.body) != i*7 {
				t.Errorf("frame %d: %s", i, f.raw)
			}
		}
	})
}

// TestConnOvertaking: responses and REPORTs overtake requests that are not
// begun, and land between frames.
func TestConnOvertaking(t *testing.T) {
	inConn(t, Limits{Outbox: 1 << 20}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		for i := range 50 {
			if err := c.Send(request(fmt.Sprintf("m%03d", i), strings.Repeat("x", 10000)), nil); err != nil {
				t.Fatal(err)
			}
		}
		c.Flush()
		synctest.Wait() // the first batch is on its way
		resp := &Response{TID: []byte("abcd"), Code: 200, To: Path("msrp://b:1;tcp"), From: Path("msrp://a:1;tcp")}
		if err := c.SendResponse(resp); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		fs := readFrames(t, far, 51)
		at := slices.IndexFunc(fs, func(f got) bool { return strings.HasPrefix(f.raw, "MSRP abcd 200 OK\r\n") })
		if at < 0 || at > 2*batchBlocks*blockSize/10000+1 {
			t.Errorf("the response came after %d requests", at)
		}
	})
}

// TestStream: one chunk with range-end "*" if nothing else waits; cut for a
// response, a REPORT, a request and another Stream (CORE-48, CORE-53, CORE-55..57).
func TestStream(t *testing.T) {
	piece := strings.Repeat("x", 5000)
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var o outcomes
		template := request("m123", "y")
		template.Range = ByteRange{1, Unknown, 25000}
		s := c.NewStream(template, &Transaction{Owner: &o, MessageID: MakeIdent([]byte("m123"))})
		other := c.NewStream(request("m999", "y"), nil)
		write := func(s *Stream, flag Flag) {
			t.Helper()
			if err := s.Write([]byte(piece), flag); err != nil {
				t.Fatal(err)
			}
		}
		write(s, 0)
		write(s, 0)
		_ = c.SendResponse(&Response{TID: []byte("abcd"), Code: 200, To: Path("msrp://b:1;tcp"), From: Path("msrp://a:1;tcp")})
		write(s, 0)
		report := request("m555", "")
		report.Method = []byte("REPORT")
		report.After = []byte("Status: 000 200\r\n")
		_ = c.Send(report, nil)
		write(s, 0)
		_ = c.Send(request("m444", "hi"), nil)
		write(s, 0)
		write(other, 0)
		_ = s.Write(nil, Complete)
		write(other, Abort)
		c.Flush()
		type chunk struct {
			rng  string
			flag Flag
			size int
		}
		var mine, theirs []chunk
		for _, f := range readFrames(t, far, 10) {
			rng := ""
			for line := range strings.SplitSeq(f.raw, "\r\n") {
				if v, ok := strings.CutPrefix(line, "Byte-Range: "); ok {
					rng = v
				}
			}
			switch {
			case strings.Contains(f.raw, "m123"):
				mine = append(mine, chunk{rng, f.flag, len(f.body)})
			case strings.Contains(f.raw, "m999"):
				theirs = append(theirs, chunk{rng, f.flag, len(f.body)})
			}
		}
		if want := []chunk{{"1-*/25000", '+', 10000}, {"10001-*/25000", '+', 5000}, {"15001-*/25000", '+', 5000}, {"20001-*/25000", '+', 5000}, {"25001-*/25000", '$', 0}}; !slices.Equal(mine, want) {
			t.Errorf("%v", mine)
		}
		if want := []chunk{{"1-*/1", '+', 5000}, {"5001-*/1", '#', 5000}}; !slices.Equal(theirs, want) {
			t.Errorf("%v", theirs)
		}
		// Each chunk is a transaction, with its real end.
		time.Sleep(31 * time.Second)
		synctest.Wait()
		var ends []int64
		for _, e := range o.list() {
			if e.err != ErrTimeout || e.code != 408 {
				t.Errorf("%+v", e)
			}
			ends = append(ends, e.rng.End)
		}
		if !slices.Equal(ends, []int64{10000, 15000, 20000, 25000, 25000}) {
			t.Errorf("ends %v", ends)
		}
	})
}

// TestStreamCollision: the end-line of a chunk does not occur in its body, not
// even across two Writes (CORE-34, RELAY-95).
func TestStreamCollision(t *testing.T) {
	for cut := range len("-------") + tidLen + 1 {
		inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
			s := c.NewStream(request("m123", "y"), nil)
			if err := s.Write([]byte("begin "), 0); err != nil {
				t.Fatal(err)
			}
			evil := "-------" + string(s.tid[:])
			body := "begin " + evil[:cut] + evil[cut:] + "$\r\nMSRP abcd SEND"
			_ = s.Write([]byte(evil[:cut]), 0)
			_ = s.Write([]byte(evil[cut:]+"$\r\nMSRP abcd SEND"), Complete)
			c.Flush()
			got := ""
			for _, f := range readFrames(t, far, 2) {
				tid := strings.Fields(f.raw)[1]
				if strings.Contains(f.body, "-------"+tid) {
					t.Errorf("cut at %d: the body of %s holds its end-line", cut, tid)
				}
				got += f.body
			}
			if got != body {
				t.Errorf("cut at %d: %q", cut, got)
			}
		})
	}
}

// TestConnMix throws everything at one slow connection from several goroutines:
// frames stay whole, each stream complete and in order.
func TestConnMix(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const streams, octets = 4, 200_000
	inConn(t, Limits{Outbox: 40_000}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var wg sync.WaitGroup
		for i := range streams {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				template := request(fmt.Sprintf("stream%d", i), "y")
				template.Range = ByteRange{1, Unknown, octets}
				s := c.NewStream(template, nil)
				s.Wait = time.Hour
				for pos := 0; pos < octets; {
					n := min(1+rnd.IntN(6000), octets-pos)
					flag := Flag(0)
					if pos += n; pos == octets {
						flag = Complete
					}
					if err := s.Write(bytes.Repeat([]byte{byte('a' + i)}, n), flag); err != nil {
						t.Error(err)
						return
					}
					c.Flush()
				}
			})
			wg.Go(func() {
				for k := range 200 {
					rq := request(fmt.Sprintf("single%d.%d", i, k), strings.Repeat("s", k))
					rq.Wait = time.Hour
					if err := c.Send(rq, nil); err != nil {
						t.Error(err)
					}
					_ = c.SendResponse(&Response{TID: fmt.Appendf(nil, "resp%d.%d", i, k), Code: 200, To: Path("msrp://b:1;tcp"), From: Path("msrp://a:1;tcp")})
					c.Flush()
				}
			})
		}
		rd := NewReader(far, Limits{})
		next := map[byte]int{}
		singles, responses, ended := map[byte]int{}, 0, 0
		for singles['0']+singles['1']+singles['2']+singles['3'] < 4*200 || responses < 4*200 || ended < streams {
			p, err := rd.Next()
			if err != nil {
				t.Fatal(err)
			}
			h := p.Head
			if p.First && h.Err != nil {
				t.Fatal(h.Err)
			}
			switch {
			case p.First && h.IsResponse():
				responses++
				continue
			case p.First && strings.HasPrefix(string(h.MessageID), "single"):
				i := h.MessageID[6]
				if want := fmt.Sprintf("single%c.%d", i, singles[i]); string(h.MessageID) != want {
					t.Fatalf("%s came instead of %s", h.MessageID, want)
				}
				singles[i]++
				continue
			case p.First:
				i := h.MessageID[6]
				if int(h.Range.Start) != next[i]+1 {
					t.Fatalf("stream %c goes on at %d after %d", i, h.Range.Start, next[i])
				}
			}
			for _, b := range p.Body {
				if b != p.Body[0] {
					t.Fatal("octets of two streams in one chunk")
				}
			}
			if len(p.Body) > 0 {
				next[p.Body[0]-'a'+'0'] += len(p.Body)
			}
			if p.Last && p.Flag == Complete {
				ended++
			}
		}
		for i := range streams {
			if n := next[byte('0'+i)]; n != octets {
				t.Errorf("stream %d has %d octets", i, n)
			}
		}
		wg.Wait()
	})
}

// TestConnFull: what waits is bounded in bytes; waiting ends in time, and when
// there is room.
func TestConnFull(t *testing.T) {
	inConn(t, Limits{Outbox: 10_000}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		body := strings.Repeat("x", 3000)
		n := 0
		for ; c.Send(request("m123", body), nil) == nil; n++ {
		}
		if n != 3 {
			t.Errorf("%d requests of 3 kB fit in 10 kB", n)
		}
		start := time.Now()
		in7s := request("m124", body)
		in7s.Wait = 7 * time.Second
		if err := c.Send(in7s, nil); err != ErrFull || time.Since(start) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		late := request("m124", body)
		late.Wait = time.Minute
		sent := make(chan error, 1)
		go func() { sent <- c.Send(late, nil) }()
		synctest.Wait()
		readFrames(t, far, 3)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		c.Flush()
		readFrames(t, far, 1)
		synctest.Wait()
		// Larger than all: taken when nothing else is there.
		if err := c.Send(request("m125", strings.Repeat("x", 50_000)), nil); err != nil {
			t.Error(err)
		}
		if err := c.Send(request("m126", "x"), nil); err != ErrFull {
			t.Error(err)
		}
	})
}

// TestConnWriteTimeout: a peer that takes no octet is cut off, and what waited
// comes back in order.
func TestConnWriteTimeout(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var o outcomes
		for i := range 5 {
			id := fmt.Sprintf("m12%d", i)
			if err := c.Send(request(id, "x"), &Transaction{Owner: &o, MessageID: MakeIdent([]byte(id)), Range: ByteRange{1, 1, 1}}); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		c.Flush()
		<-c.Done()
		if d := time.Since(start); d != 30*time.Second || !errors.Is(c.Err(), os.ErrDeadlineExceeded) {
			t.Errorf("%v after %v", c.Err(), d)
		}
		synctest.Wait()
		all := o.list()
		for i, e := range all {
			if e.id != fmt.Sprintf("m12%d", i) || !errors.Is(e.err, os.ErrDeadlineExceeded) {
				t.Errorf("%d: %+v", i, e)
			}
		}
		if len(all) != 5 {
			t.Errorf("%d outcomes", len(all))
		}
		if err := c.Send(request("m130", "x"), nil); err == nil {
			t.Error("a Send on a closed connection")
		}
	})
}

// TestConnTimer: 30 s from the last octet written, not from the Send (RFC 4975
// §7.1.1, CORE-95); responses end it, unknown ones do nothing (CORE-94).
func TestConnTimer(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var o outcomes
		for i := range 3 {
			id := fmt.Sprintf("m12%d", i)
			_ = c.Send(request(id, "x"), &Transaction{Owner: &o, MessageID: MakeIdent([]byte(id)), Range: ByteRange{Start: 1, Total: 1}})
		}
		c.Flush()
		time.Sleep(20 * time.Second) // nobody reads
		fs := readFrames(t, far, 3)
		written := time.Now()
		tid := strings.Fields(fs[1].raw)[1]
		for _, answer := range []string{"abcd", tid[:14] + "B", strings.Repeat("A", 15), strings.Repeat("9", 32), tid, tid} {
			fmt.Fprintf(far, "MSRP %s 413\r\nTo-Path: msrp://a.example:1/y;tcp\r\nFrom-Path: msrp://b.example:1/x;tcp\r\n-------%s$\r\n", answer, answer)
		}
		synctest.Wait()
		if all := o.list(); len(all) != 1 || all[0].id != "m121" || all[0].code != 413 || all[0].rng != (ByteRange{1, 1, 1}) {
			t.Fatalf("%+v", all)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		all := o.list()[1:]
		for i, e := range all {
			if e.err != ErrTimeout || e.at.Sub(written) != 30*time.Second || e.id != []string{"m120", "m122"}[i] {
				t.Errorf("%+v after %v", e, e.at.Sub(written))
			}
		}
		if len(all) != 2 || c.Pending() != 0 {
			t.Errorf("%d timeouts, %d pending", len(all), c.Pending())
		}
	})
}

// TestConnLost: every transaction comes back once, an open Stream's, too.
func TestConnLost(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var o outcomes
		_ = c.Send(request("m120", "x"), &Transaction{Owner: &o, MessageID: MakeIdent([]byte("m120"))})
		s := c.NewStream(request("m121", "x"), &Transaction{Owner: &o, MessageID: MakeIdent([]byte("m121"))})
		_ = s.Write([]byte("abc"), 0)
		far.Close()
		<-c.Done()
		synctest.Wait()
		all := o.list()
		if len(all) != 2 || all[0].id != "m120" || all[1].id != "m121" || all[0].err != io.EOF {
			t.Errorf("%+v", all)
		}
		if err := s.Write([]byte("abc"), 0); err == nil {
			t.Error("a Write on a closed connection")
		}
	})
}

// TestConnBeforeServe: what is sent before there is a connection waits for it,
// or comes back when there is none.
func TestConnBeforeServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := NewConn(ConnConfig{Handler: handler(nil)})
		_ = c.Send(request("m123", "x"), nil)
		c.Flush()
		done := make(chan error, 1)
		go func() { done <- c.Serve(near) }()
		readFrames(t, far, 1)
		far.Close()
		if err := <-done; err != io.EOF {
			t.Error(err)
		}
		var o outcomes
		d := NewConn(ConnConfig{Handler: handler(nil)})
		_ = d.Send(request("m123", "x"), &Transaction{Owner: &o})
		why := errors.New("no route")
		d.Fail(why)
		if all := o.list(); len(all) != 1 || all[0].err != why {
			t.Errorf("%+v", all)
		}
	})
}

// TestConnFinish: what is queued leaves, and what the handler at work queues;
// what comes later is dropped.
func TestConnFinish(t *testing.T) {
	calls := 0
	var h handler = func(c *Conn, p *Piece) {
		calls++
		c.Finish(errors.New("enough"))
		_ = c.Respond(p.Head, 403, "", nil)
		c.Touch(c)
	}
	inConn(t, Limits{}, h, func(t *testing.T, c *Conn, far net.Conn) {
		go io.WriteString(far, frame("abcd", "x", Complete)+frame("efgh", "x", Complete))
		if f := readFrames(t, far, 1)[0]; !strings.HasPrefix(f.raw, "MSRP abcd 403") {
			t.Errorf("%s", f.raw)
		}
		<-c.Done()
		if calls != 1 || c.Err().Error() != "enough" {
			t.Errorf("%d calls, %v", calls, c.Err())
		}
	})
}

// TestConnPanic: a fault of the handler costs its connection, not the process.
func TestConnPanic(t *testing.T) {
	var h handler = func(*Conn, *Piece) { panic("a bug") }
	inConn(t, Limits{}, h, func(t *testing.T, c *Conn, far net.Conn) {
		go io.WriteString(far, frame("abcd", "x", Complete))
		<-c.Done()
		if !strings.Contains(c.Err().Error(), "a bug") {
			t.Error(c.Err())
		}
	})
}

// TestConnUnreadAnswers: from a peer that reads no answers nothing more is
// read, so that they cannot pile up; then it is cut off.
func TestConnUnreadAnswers(t *testing.T) {
	var h handler = func(c *Conn, p *Piece) {
		_ = c.Respond(p.Head, 200, "", nil)
		c.Touch(c)
	}
	inConn(t, Limits{Answers: 10_000}, h, func(t *testing.T, c *Conn, far net.Conn) {
		_ = far.SetWriteDeadline(time.Now().Add(10 * time.Second))
		n := 0
		for ; ; n++ {
			if _, err := io.WriteString(far, frame("abcd", "x", Complete)); err != nil {
				break
			}
		}
		if n > 1000 || c.Depth() > 40_000 {
			t.Errorf("%d requests were read, %d octets wait", n, c.Depth())
		}
		<-c.Done()
	})
}

// TestConnIdle: a silent connection has one goroutine and no buffer.
func TestConnIdle(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		synctest.Wait()
		before := runtime.NumGoroutine()
		_ = c.Send(request("m123", "x"), nil)
		c.Flush()
		readFrames(t, far, 1)
		synctest.Wait()
		if n := runtime.NumGoroutine(); n != before {
			t.Errorf("%d goroutines, then %d", before, n)
		}
		if len(c.requests.blocks)+len(c.answers.blocks) > 0 {
			t.Error("blocks are held")
		}
	})
}

// TestSlots: a transaction id finds its slot and nothing else; slots are used again.
func TestSlots(t *testing.T) {
	s := newSlots()
	var ids [][tidLen]byte
	for i := range 100 {
		k := s.open(&Transaction{}, 100)
		if int(k) != i {
			t.Fatal(k)
		}
		s.all[k].tid = newTID(k)
		ids = append(ids, s.all[k].tid)
		if !isIdent(ids[i][:]) {
			t.Fatalf("%q is no ident", ids[i])
		}
	}
	if s.open(&Transaction{}, 100) >= 0 {
		t.Error("more than the limit")
	}
	for i := range 100 {
		if i%2 == 0 {
			s.sent(int32(i), uint64(i))
		}
		if s.find(ids[i][:]) != int32(i) {
			t.Errorf("slot %d is not found", i)
		}
	}
	for _, i := range rand.Perm(100) {
		s.release(int32(i))
		if s.find(ids[i][:]) >= 0 {
			t.Errorf("slot %d is found again", i)
		}
	}
	if s.first >= 0 || s.last >= 0 || s.next >= 0 || s.used != 0 {
		t.Errorf("%+v", s)
	}
	for range 100 {
		if k := s.open(&Transaction{}, 100); k < 0 || len(s.all) != 100 {
			t.Error("slots are not used again")
		}
	}
}

// sinkConn swallows what is written.
type sinkConn struct{ net.Conn }

func (sinkConn) Write(b []byte) (int, error)      { return len(b), nil }
func (sinkConn) SetWriteDeadline(time.Time) error { return nil }
func (sinkConn) Close() error                     { return nil }

// TestConnAllocates: sending and answering costs no allocation once it runs.
func TestConnAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	c := NewConn(ConnConfig{Handler: handler(nil)})
	c.nc = sinkConn{}
	var o Owner = nothing{}
	rq := request("m123", strings.Repeat("x", 2000))
	b := new(batch)
	n := testing.AllocsPerRun(1000, func() {
		if err := c.Send(rq, &Transaction{Owner: o}); err != nil {
			t.Fatal(err)
		}
		_ = c.SendResponse(&Response{TID: []byte("abcd"), Code: 200, To: Path(rq.Paths), From: Path(rq.Paths)})
		for c.takeBatch(b) {
			if err := c.write(b); err != nil {
				t.Fatal(err)
			}
			b.release()
		}
		c.slots.release(c.slots.last)
	})
	if n > 0 {
		t.Errorf("%v allocations for a request and a response", n)
	}
}

type nothing struct{}

func (nothing) Done(*Conn, *Transaction, Result) {}

func BenchmarkSend(b *testing.B) {
	for _, size := range []int{200, 2048, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := NewConn(ConnConfig{Handler: handler(nil)})
			c.nc = sinkConn{}
			rq := request("m123", strings.Repeat("x", size))
			bt := new(batch)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Send(rq, &Transaction{Owner: nothing{}}); err != nil {
					b.Fatal(err)
				}
				for c.takeBatch(bt) {
					_ = c.write(bt)
					bt.release()
				}
				c.slots.release(c.slots.last)
			}
		})
	}
}
