package msrp

import (
	"fmt"
	"strings"
	"testing"
)

// writeOut is drain in this goroutine.
func (c *Conn) writeOut(tb testing.TB, b *batch) {
	for c.takeBatch(b) {
		if err := c.write(b); err != nil {
			tb.Fatal(err)
		}
		b.release()
	}
}

// TestResponseAllocates: nor does matching a response to its request.
func TestResponseAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	c := NewConn(ConnConfig{Handler: handler(nil)})
	c.nc = sinkConn{}
	rq, b := request("m123", strings.Repeat("x", 2000)), new(batch)
	tx := &Transaction{Owner: nothing{}, MessageID: MakeIdent([]byte("m123"))}
	h := &Head{Code: 200}
	n := testing.AllocsPerRun(1000, func() {
		if err := c.Send(rq, tx); err != nil {
			t.Fatal(err)
		}
		c.writeOut(t, b)
		h.TID = append(h.TID[:0], c.slots.all[c.slots.last].tid[:]...)
		c.serveResponse(h)
	})
	if n > 0 || c.Pending() > 0 {
		t.Errorf("%v allocations for a request and its response, %d pending", n, c.Pending())
	}
}

// TestStreamAllocates: a piece of a long message costs no allocation, whether
// the chunk goes on or is interrupted.
func TestStreamAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	c := NewConn(ConnConfig{Handler: handler(nil)})
	c.nc = sinkConn{}
	s, b := c.NewStream(request("m123", "x"), nil), new(batch)
	body := []byte(strings.Repeat("x", 4000))
	resp := answerTo("abcd", 200)
	for name, f := range map[string]func(){
		"goes on":      func() {},
		"interrupted":  func() { _ = c.SendResponse(resp) },
		"small writes": func() { _ = s.Write(body[:5], 0); _ = s.Write(body[:5], 0) },
	} {
		if n := testing.AllocsPerRun(1000, func() {
			if err := s.Write(body, 0); err != nil {
				t.Fatal(err)
			}
			f()
			c.writeOut(t, b)
		}); n > 0 {
			t.Errorf("%s: %v allocations for a piece", name, n)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	for _, size := range []int{2048, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := NewConn(ConnConfig{Handler: handler(nil)})
			c.nc = sinkConn{}
			s, bt := c.NewStream(request("m123", "x"), nil), new(batch)
			body := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Write(body, 0); err != nil {
					b.Fatal(err)
				}
				c.writeOut(b, bt)
			}
		})
	}
}

// BenchmarkFlush includes what BenchmarkSend leaves out: the writer's goroutine.
func BenchmarkFlush(b *testing.B) {
	for _, size := range []int{200, 2048, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := NewConn(ConnConfig{Handler: handler(nil)})
			c.nc = sinkConn{}
			rq := request("m123", strings.Repeat("x", size))
			rq.Wait = 1 << 40
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Send(rq, nil); err != nil {
					b.Fatal(err)
				}
				c.Flush()
			}
		})
	}
}
