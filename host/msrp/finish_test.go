package msrp_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

const (
	nearURI = "msrp://near.example:2855/n;tcp"
	farURI  = "msrp://far.example:2855/f;tcp"
)

type pieceFunc func(c *msrp.Conn, p *msrp.Piece)

func (f pieceFunc) ServePiece(c *msrp.Conn, p *msrp.Piece) { f(c, p) }

// served runs f with a Conn on a network that can be closed for writing alone.
func served(t *testing.T, lim msrp.Limits, h pieceFunc, f func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, ended <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := msrptest.Pipe()
		c := msrp.NewConn(msrp.ConnConfig{Handler: h, Limits: lim})
		ended := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() { ended <- c.Serve(near) })
		f(t, c, msrptest.NewPeer(t, far), far, ended)
		far.Close()
		c.Close(nil)
		wg.Wait()
	})
}

func sendTo(c *msrp.Conn, id, body string) error {
	return c.Send(&msrp.Request{
		Method: []byte("SEND"), Paths: msrp.AppendPaths(nil, []byte(farURI), []byte(nearURI), nil),
		Before: []byte("Message-ID: " + id + "\r\n"), After: []byte("Content-Type: text/plain\r\n"),
		Range: msrp.ByteRange{Start: 1, End: int64(len(body)), Total: int64(len(body))},
		Body:  []byte(body), HasBody: true, Flag: msrp.Complete,
	}, nil)
}

// TestFinishLingers: what was queued leaves, then the peer is told the end and
// has a second to say the rest, which is dropped. What others queue meanwhile is
// refused, and does not cost the peer that second.
func TestFinishLingers(t *testing.T) {
	why := errors.New("enough")
	var calls atomic.Int32
	count := func(*msrp.Conn, *msrp.Piece) { calls.Add(1) }
	served(t, msrp.Limits{}, count, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, ended <-chan error) {
		p.Limit(100)
		for i := range 3 {
			if err := sendTo(c, fmt.Sprintf("m12%d", i), strings.Repeat("x", 300)); err != nil {
				t.Fatal(err)
			}
		}
		c.Finish(why)
		// Not all has left: answers still can.
		resp := &msrp.Response{TID: []byte("abcd"), Code: 200, To: msrp.Path(farURI), From: msrp.Path(nearURI)}
		if err := c.SendResponse(resp); err != nil {
			t.Error(err)
		}
		if err := sendTo(c, "m130", "x"); err != msrp.ErrClosed {
			t.Errorf("a SEND after Finish: %v", err)
		}
		time.Sleep(10 * time.Second)
		p.Limit(0)
		for range 4 {
			p.Next()
		}
		p.WantClosed()
		start := time.Now()
		if err := c.SendResponse(resp); err != msrp.ErrClosed {
			t.Errorf("a response after the end: %v", err)
		}
		if err := c.Send(&msrp.Request{Method: []byte("REPORT"), Flag: msrp.Complete}, nil); err != msrp.ErrClosed {
			t.Errorf("a REPORT after the end: %v", err)
		}
		c.Flush()
		time.Sleep(time.Second / 2)
		p.SendFrame(msrptest.FrameSpec{To: nearURI, From: farURI, ID: "m999", Body: "late"})
		<-c.Done()
		if d := time.Since(start); d != time.Second || c.Err() != why || calls.Load() != 0 {
			t.Errorf("%v after %v, %d requests served", c.Err(), d, calls.Load())
		}
		if err := <-ended; err != why {
			t.Error(err)
		}
	})
}

// TestFinishCutsOff: a peer that does not read cannot hold a Finish up for more
// than Limits.Write, even if it takes an octet now and then.
func TestFinishCutsOff(t *testing.T) {
	served(t, msrp.Limits{Write: 5 * time.Second}, nil, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, _ <-chan error) {
		p.Limit(100)
		_ = sendTo(c, "m123", strings.Repeat("x", 3000))
		start := time.Now()
		c.Finish(nil)
		<-c.Done()
		if d := time.Since(start); d != 5*time.Second || c.Err() != msrp.ErrClosed {
			t.Errorf("%v after %v", c.Err(), d)
		}
	})
}

// TestFinishIdle: with nothing to write the end comes at once; the peer's own
// end ends the wait.
func TestFinishIdle(t *testing.T) {
	served(t, msrp.Limits{}, nil, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, ended <-chan error) {
		start := time.Now()
		c.Finish(nil)
		c.Finish(errors.New("too late"))
		p.WantClosed()
		p.Close()
		if err := <-ended; err != msrp.ErrClosed || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestFinishBeforeServe: what was queued leaves once there is a connection.
func TestFinishBeforeServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{0, 1} {
			c := msrp.NewConn(msrp.ConnConfig{})
			for range n {
				_ = sendTo(c, "m123", "x")
			}
			c.Finish(nil)
			near, far := msrptest.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- c.Serve(near) }()
			p := msrptest.NewPeer(t, far)
			for range n {
				p.WantRequest("SEND")
			}
			p.WantClosed()
			p.Close()
			if err := <-ended; err != msrp.ErrClosed {
				t.Error(err)
			}
		}
	})
}

// TestSlowIsAlive: a peer that reads slowly, but reads, is not cut off.
func TestSlowIsAlive(t *testing.T) {
	served(t, msrp.Limits{}, nil, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, _ <-chan error) {
		p.Limit(1000)
		for range 10 {
			if err := sendTo(c, "m123", strings.Repeat("x", 20_000)); err != nil {
				t.Fatal(err)
			}
		}
		c.Flush()
		start, buf := time.Now(), make([]byte, 1000)
		for c.Depth() > 0 {
			time.Sleep(time.Second)
			if _, err := far.Read(buf); err != nil {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
		}
		if time.Since(start) < 2*time.Minute || c.Err() != nil {
			t.Error(time.Since(start), c.Err())
		}
	})
}

// TestCloseWhileWriting: Close does not wait for a peer that does not read, and
// Serve leaves no one behind.
func TestCloseWhileWriting(t *testing.T) {
	served(t, msrp.Limits{}, nil, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, ended <-chan error) {
		p.Limit(100)
		_ = sendTo(c, "m123", strings.Repeat("x", 3000))
		c.Flush()
		synctest.Wait()
		start := time.Now()
		why := errors.New("now")
		c.Close(why)
		c.Close(errors.New("later"))
		if err := <-ended; err != why || time.Since(start) != 0 || c.Err() != why {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := sendTo(c, "m124", "x"); err != why {
			t.Error(err)
		}
	})
}

// TestOrderConcurrent: a Send that returned before another began leaves first.
func TestOrderConcurrent(t *testing.T) {
	served(t, msrp.Limits{Outbox: 1 << 20}, nil, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, _ <-chan error) {
		var clock atomic.Int64
		const senders, each = 8, 100
		type span struct{ from, to int64 }
		var spans [senders][each]span
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				for k := range each {
					from := clock.Add(1)
					if err := sendTo(c, fmt.Sprintf("m%d.%d", 100+i, k), "x"); err != nil {
						t.Error(err)
					}
					spans[i][k] = span{from, clock.Add(1)}
					if k%10 == 0 {
						c.Flush()
					}
				}
			})
		}
		wg.Wait()
		c.Flush()
		latest := int64(0) // begin of a Send whose frame has come
		for range senders * each {
			var i, k int
			if _, err := fmt.Sscanf(p.WantRequest("SEND").Get("Message-ID"), "m%d.%d", &i, &k); err != nil {
				t.Fatal(err)
			}
			s := spans[i-100][k]
			if s.to < latest {
				t.Fatalf("m%d.%d was sent at %d..%d, and came after one that was sent from %d on", i, k, s.from, s.to, latest)
			}
			latest = max(latest, s.from)
		}
	})
}

// TestConcurrentEnd: whatever ends a connection, while whatever goes on, each
// transaction ends once and Serve returns.
func TestConcurrentEnd(t *testing.T) {
	for name, end := range map[string]func(c *msrp.Conn, far net.Conn){
		"close":      func(c *msrp.Conn, _ net.Conn) { c.Close(nil) },
		"finish":     func(c *msrp.Conn, _ net.Conn) { c.Finish(nil) },
		"peer":       func(_ *msrp.Conn, far net.Conn) { far.Close() },
		"peer half":  func(_ *msrp.Conn, far net.Conn) { far.(interface{ CloseWrite() error }).CloseWrite() },
		"garbage":    func(_ *msrp.Conn, far net.Conn) { _, _ = io.WriteString(far, "garbage\r\n") },
		"everything": func(c *msrp.Conn, far net.Conn) { go c.Finish(nil); go c.Close(nil); far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			answerAll := func(c *msrp.Conn, p *msrp.Piece) {
				if p.Last {
					_ = c.Respond(p.Head, 200, "", nil)
					c.Touch(c)
				}
			}
			served(t, msrp.Limits{Outbox: 20_000, Pending: 300}, answerAll, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, ended <-chan error) {
				var wg sync.WaitGroup
				var mu sync.Mutex
				begun, done := 0, map[string]int{}
				owner := ownerOf(func(tx *msrp.Transaction) {
					mu.Lock()
					done[tx.MessageID.String()]++
					mu.Unlock()
				})
				for i := range 4 {
					wg.Go(func() {
						for k := 0; ; k++ {
							id := fmt.Sprintf("m%d.%d", 100+i, k)
							rq := msrp.Request{
								Method: []byte("SEND"), Paths: msrp.AppendPaths(nil, []byte(farURI), []byte(nearURI), nil),
								Before: []byte("Message-ID: " + id + "\r\n"), Flag: msrp.Complete, Wait: time.Second,
							}
							tx := &msrp.Transaction{Owner: owner, MessageID: msrp.MakeIdent([]byte(id))}
							if err := c.Send(&rq, tx); errors.Is(err, msrp.ErrFull) {
								continue
							} else if err != nil {
								return
							}
							mu.Lock()
							begun++
							mu.Unlock()
							c.Flush()
						}
					})
				}
				wg.Go(func() {
					s := c.NewStream(&msrp.Request{
						Paths: msrp.AppendPaths(nil, []byte(farURI), []byte(nearURI), nil), Before: []byte("Message-ID: m999\r\n"),
						After: []byte("Content-Type: a/b\r\n"), Range: msrp.ByteRange{Start: 1, Total: msrp.Unknown},
					}, nil)
					s.Wait = time.Second
					for err := error(nil); err == nil || errors.Is(err, msrp.ErrFull); {
						err = s.Write(make([]byte, 500), 0)
					}
				})
				wg.Go(func() {
					rd := msrp.NewReader(far, msrp.Limits{})
					for n := 0; ; n++ {
						q, err := rd.Next()
						if err != nil {
							return
						}
						if q.Last && !q.Head.IsResponse() && n%3 > 0 {
							fmt.Fprintf(far, "MSRP %s 200\r\nTo-Path: %s\r\nFrom-Path: %s\r\n-------%s$\r\n", q.Head.TID, nearURI, farURI, q.Head.TID)
						}
					}
				})
				time.Sleep(100 * time.Millisecond)
				end(c, far)
				<-ended
				far.Close()
				wg.Wait()
				for id, n := range done {
					if n != 1 {
						t.Errorf("%s ended %d times", id, n)
					}
				}
				if len(done) != begun || begun == 0 || c.Pending() != 0 || c.Depth() != 0 {
					t.Errorf("%d requests, %d outcomes, %d pending, %d octets", begun, len(done), c.Pending(), c.Depth())
				}
			})
		})
	}
}

type ownerOf func(tx *msrp.Transaction)

func (f ownerOf) Done(_ *msrp.Conn, tx *msrp.Transaction, _ msrp.Result) { f(tx) }

// TestPause: a handler that lets its peer wait does not hold up the end, and what
// was answered before leaves before.
func TestPause(t *testing.T) {
	why := errors.New("enough")
	for _, tt := range []struct {
		name string
		end  func(c *msrp.Conn)
		took time.Duration
	}{
		{"to its end", func(*msrp.Conn) {}, time.Minute},
		{"closed", func(c *msrp.Conn) { c.Close(why) }, time.Second},
		{"to be finished", func(c *msrp.Conn) { c.Finish(why) }, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			type outcome struct {
				whole bool
				took  time.Duration
			}
			var paused atomic.Pointer[outcome]
			pause := func(c *msrp.Conn, p *msrp.Piece) {
				_ = c.Respond(p.Head, 200, "", nil)
				c.Touch(c)
				start := time.Now()
				whole := c.Pause(time.Minute)
				paused.Store(&outcome{whole, time.Since(start)})
			}
			served(t, msrp.Limits{}, pause, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, far net.Conn, ended <-chan error) {
				p.SendFrame(msrptest.FrameSpec{Method: "SEND", To: nearURI, From: farURI, TID: "aaaa"})
				p.WantResponse("aaaa", 200)
				time.AfterFunc(time.Second, func() { tt.end(c) })
				time.Sleep(2 * time.Minute)
				if got := paused.Load(); got == nil || *got != (outcome{tt.took == time.Minute, tt.took}) {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}
