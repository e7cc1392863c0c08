package msrp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// ownerFunc is an Owner made of a function.
type ownerFunc func(c *Conn, tx *Transaction, r Result)

func (f ownerFunc) Done(c *Conn, tx *Transaction, r Result) { f(c, tx, r) }

// slowly reads far at rate octets a tenth of a second until it ends.
func slowly(far net.Conn, rate int) io.Reader { return &slowReader{far, rate} }

type slowReader struct {
	nc   net.Conn
	rate int
}

func (s *slowReader) Read(b []byte) (int, error) {
	time.Sleep(time.Second / 10)
	return s.nc.Read(b[:min(len(b), s.rate)])
}

func answerTo(tid string, code int) *Response {
	return &Response{TID: []byte(tid), Code: code, To: Path("msrp://b.example:1/x;tcp"), From: Path("msrp://a.example:1/y;tcp")}
}

// TestConnTimerSlow: the 30 s of a request run from when its own last octet was
// taken, not from the end of the write that it shares with others (CORE-95).
func TestConnTimerSlow(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var o outcomes
		const requests = 8
		for i := range requests {
			id := fmt.Sprintf("m12%d", i)
			if err := c.Send(request(id, strings.Repeat("x", 20_000)), &Transaction{Owner: &o, MessageID: MakeIdent([]byte(id))}); err != nil {
				t.Fatal(err)
			}
		}
		c.Flush()
		rd := NewReader(slowly(far, 1000), Limits{})
		var ends []time.Time
		for len(ends) < requests {
			p, err := rd.Next()
			if err != nil {
				t.Fatal(err)
			}
			if p.Last {
				ends = append(ends, time.Now())
			}
		}
		time.Sleep(time.Minute)
		all := o.list()
		if len(all) != requests {
			t.Fatalf("%d outcomes", len(all))
		}
		// The network is unbuffered: a write returns once its block was read.
		const block = blockSize / 1000 * time.Second / 10
		for i, e := range all {
			if d := e.at.Sub(ends[i]); e.id != fmt.Sprintf("m12%d", i) || d < 30*time.Second-block || d > 30*time.Second+2*block {
				t.Errorf("%d: %s timed out %v after its last octet", i, e.id, d)
			}
		}
	})
}

// TestSyntaxErrorHides: whatever is at fault, a session-id is not shown (RELAY-124).
func TestSyntaxErrorHides(t *testing.T) {
	for _, in := range []string{
		"MSRP abcd SEND\r\nTo-Path: msrp://b:1/SECRET;tcp\n",
		"MSRP abcd SEND\r\n To-Path: msrp://b:1/SECRET;tcp\r\n-------abcd$\r\n",
		"MSRP abcd SEND\r\nTo-Path : msrps://b:1/SECRET;tcp\r\n-------abcd$\r\n",
		"MSRP abcd SEND\r\nTo-Path: msrp:/b:1/SECRET;tcp\n",
		"MSRP msrp://b/SECRET;tcp SEND\r\n",
		"MSRP abcd send msrp://b/SECRET;tcp\r\n",
	} {
		p, err := NewReader(strings.NewReader(in), Limits{}).Next()
		if err == nil {
			err = p.Head.Err
		}
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestConnCodes: a code has three digits. A forwarded response must not become
// a line that costs its receiver the connection.
func TestConnCodes(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		for _, code := range []int{0, 7, 42, 200, 999} {
			_ = c.SendResponse(answerTo("abcd", code))
		}
		before, after := AppendReport(nil, nil, []byte("m123"), Status{7, "odd"})
		_ = c.Send(&Request{Method: []byte("REPORT"), Paths: []byte(testPaths), Before: before, After: after, Flag: Complete}, nil)
		c.Flush()
		fs := readFrames(t, far, 6)
		for i, want := range []string{"MSRP abcd 000\r\n", "MSRP abcd 007\r\n", "MSRP abcd 042\r\n", "MSRP abcd 200 OK\r\n", "MSRP abcd 999\r\n"} {
			if !strings.HasPrefix(fs[i].raw, want) {
				t.Errorf("%q, want %q", fs[i].raw, want)
			}
		}
		if !strings.Contains(fs[5].raw, "Status: 000 007 odd\r\n") {
			t.Errorf("%q", fs[5].raw)
		}
	})
}

// TestConnServeWaits: when Serve returns every Owner has been called, by the
// timer, too.
func TestConnServeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := NewConn(ConnConfig{Handler: handler(nil)})
		var told atomic.Bool
		slow := ownerFunc(func(*Conn, *Transaction, Result) {
			time.Sleep(time.Second) // other work of the process
			told.Store(true)
		})
		_ = c.Send(request("m123", "x"), &Transaction{Owner: slow})
		served := make(chan bool)
		go func() {
			_ = c.Serve(near)
			served <- told.Load()
		}()
		readFrames(t, far, 1)
		time.Sleep(30*time.Second + time.Second/2)
		far.Close()
		if !<-served {
			t.Error("Serve returned while an Owner was being told")
		}
	})
}

// TestConnOwnerPanics: a fault of an Owner costs its connection, not the
// process, and no other Owner its outcome.
func TestConnOwnerPanics(t *testing.T) {
	bad := ownerFunc(func(*Conn, *Transaction, Result) { panic("a bug") })
	send := func(t *testing.T, c *Conn, o Owner) {
		t.Helper()
		if err := c.Send(request("m123", "x"), &Transaction{Owner: o}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("response", func(t *testing.T) {
		inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
			var o outcomes
			send(t, c, bad)
			send(t, c, &o)
			c.Flush()
			tid := strings.Fields(readFrames(t, far, 2)[0].raw)[1]
			fmt.Fprintf(far, "MSRP %s 200\r\n%s-------%s$\r\n", tid, testPaths, tid)
			<-c.Done()
			synctest.Wait()
			if all := o.list(); len(all) != 1 || !strings.Contains(fmt.Sprint(all[0].err), "a bug") {
				t.Errorf("%+v", all)
			}
		})
	})
	t.Run("timeout", func(t *testing.T) {
		inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
			var o outcomes
			send(t, c, bad)
			send(t, c, &o)
			c.Flush()
			readFrames(t, far, 2)
			<-c.Done()
			synctest.Wait()
			if all := o.list(); len(all) != 1 || all[0].err != ErrTimeout || !strings.Contains(c.Err().Error(), "a bug") {
				t.Errorf("%+v, %v", all, c.Err())
			}
		})
	})
	t.Run("end", func(t *testing.T) {
		inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
			var o outcomes
			send(t, c, bad)
			send(t, c, &o)
			far.Close()
			<-c.Done()
			synctest.Wait()
			if all := o.list(); len(all) != 1 || all[0].err != io.EOF {
				t.Errorf("%+v", all)
			}
		})
	})
}

// TestConnFinishWakes: who waits for room when the connection is finished hears
// of it at once, and nothing of theirs goes out.
func TestConnFinishWakes(t *testing.T) {
	inConn(t, Limits{Outbox: 1000}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		_ = c.Send(request("m120", strings.Repeat("x", 900)), nil)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			rq := request("m121", strings.Repeat("x", 900))
			rq.Wait = time.Hour
			if err := c.Send(rq, nil); err != ErrClosed || time.Since(start) != time.Second {
				t.Errorf("Send: %v after %v", err, time.Since(start))
			}
		})
		wg.Go(func() {
			s := c.NewStream(request("m122", "x"), nil)
			s.Wait = time.Hour
			if err := s.Write([]byte("x"), 0); err != ErrClosed || time.Since(start) != time.Second {
				t.Errorf("Write: %v after %v", err, time.Since(start))
			}
		})
		time.Sleep(time.Second)
		c.Finish(errors.New("enough"))
		wg.Wait()
		if fs := readFrames(t, far, 1); !strings.Contains(fs[0].raw, "m120") {
			t.Error(fs[0].raw)
		}
		if b, err := io.ReadAll(far); err != nil || len(b) > 0 {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestConnManyAnswers: what others have to answer is bounded, too, when the one
// who asked does not read.
func TestConnManyAnswers(t *testing.T) {
	inConn(t, Limits{Answers: 10_000}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		n := 0
		for ; n < 10_000 && c.SendResponse(answerTo("abcd", 200)) == nil; n++ {
		}
		if d := c.Depth(); n == 10_000 || d < 10_000 || d > 50_000 {
			t.Errorf("%d responses, %d octets wait", n, d)
		}
		c.Flush()
		readFrames(t, far, n)
		synctest.Wait()
		if err := c.SendResponse(answerTo("abcd", 200)); err != nil {
			t.Error(err)
		}
	})
}

// TestResponseComment: a comment is one line, whatever it was made from.
func TestResponseComment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := NewConn(ConnConfig{Handler: handler(nil)})
		done := make(chan error)
		go func() { done <- c.Serve(near) }()
		r := answerTo("abcd", 403)
		r.Comment = "no\r\nUse-Path: msrp://evil.example:1/x;tcp\r\n\x00\x7fé"
		if err := c.SendResponse(r); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		f := readFrames(t, far, 1)[0]
		if line, _, _ := strings.Cut(f.raw, "\r\n"); line != "MSRP abcd 403 no  Use-Path: msrp://evil.example:1/x;tcp    é" {
			t.Errorf("%q", f.raw)
		}
		far.Close()
		<-done
	})
}

type tracer func(*Traced)

func (tracer) Tracing() bool      { return true }
func (tr tracer) Frame(f *Traced) { tr(f) }

// TestConnTrace: the trace sees the heads that are on the wire, without end-lines.
func TestConnTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var out, in, bodies []string
		c := NewConn(ConnConfig{Handler: handler(nil), Trace: tracer(func(f *Traced) {
			if f.Out {
				out = append(out, string(f.Head))
				bodies = append(bodies, fmt.Sprintf("%s %v %c", f.Body, f.Whole, f.Flag))
			} else {
				in = append(in, string(f.Head))
			}
		})})
		done := make(chan error)
		go func() { done <- c.Serve(near) }()
		_ = c.Send(request("m123", "hello"), nil)
		_ = c.Send(request("m124", ""), nil)
		s := c.NewStream(request("m125", "y"), nil)
		_ = s.Write([]byte("hello"), Continue)
		_ = s.Write([]byte("hello"), Complete)
		_ = c.SendResponse(answerTo("abcd", 200))
		c.Flush()
		wire := map[string]bool{}
		for _, f := range readFrames(t, far, 5) {
			wire[f.raw] = true
		}
		for _, head := range out {
			if !wire[head] {
				t.Errorf("not on the wire: %q", head)
			}
		}
		if want := []string{"hello true $", " true $", "hello true +", "hello true $", " true $"}; !slices.Equal(bodies, want) {
			t.Errorf("%q", bodies)
		}
		_, _ = io.WriteString(far, frame("abcd", "x", Complete))
		far.Close()
		if <-done; len(in) != 1 || !strings.HasPrefix(frame("abcd", "x", Complete), in[0]) || strings.Contains(in[0], "-------") {
			t.Errorf("%q", in)
		}
	})
}

// TestLimitsPending: no more transactions than a transaction id can number.
func TestLimitsPending(t *testing.T) {
	if n := (&Limits{Pending: 1 << 30}).pending(); n > maxSlots-1 {
		t.Errorf("%d of %d slots", n, maxSlots)
	}
}
