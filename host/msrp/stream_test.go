package msrp

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestStreamsAlternate: two streams that compete for one connection advance
// together (CORE-57).
func TestStreamsAlternate(t *testing.T) {
	const octets, piece, outbox = 1 << 20, 8 << 10, 64 << 10
	inConn(t, Limits{Outbox: outbox}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for i := range 2 {
			wg.Go(func() {
				s := c.NewStream(request(fmt.Sprintf("m12%d", i), "y"), nil)
				s.Wait = time.Hour
				body := []byte(strings.Repeat(string(rune('a'+i)), piece))
				for range octets / piece {
					if s.Write(body, 0) != nil {
						return
					}
				}
				_ = s.Write(nil, Complete)
				c.Flush()
			})
		}
		rd := NewReader(slowly(far, 2000), Limits{})
		var n [2]int
		lead := 0
		for max(n[0], n[1]) < octets {
			p, err := rd.Next()
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Body) > 0 {
				n[p.Body[0]-'a'] += len(p.Body)
			}
			if d := max(n[0]-n[1], n[1]-n[0]); d > lead {
				lead = d
			}
		}
		// Before they compete, one may fill the outbox.
		if lead > outbox+4*piece {
			t.Errorf("one stream was %d octets ahead", lead)
		}
		c.Close(nil)
	})
}

// TestSendNotStarved: a large request finds room beside a flow of small ones.
func TestSendNotStarved(t *testing.T) {
	inConn(t, Limits{Outbox: 64 << 10}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		small := request("m120", strings.Repeat("x", 1000))
		small.Wait = time.Hour
		var wg sync.WaitGroup
		defer wg.Wait()
		for range 4 {
			wg.Go(func() {
				for c.Send(small, nil) == nil {
				}
			})
		}
		wg.Go(func() { _, _ = io.Copy(io.Discard, slowly(far, 10_000)) })
		time.Sleep(time.Second)
		large := request("m121", strings.Repeat("x", 60_000))
		large.Wait = time.Minute
		start := time.Now()
		if err := c.Send(large, nil); err != nil {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		c.Close(nil)
	})
}

// TestStreamTail: what is kept of a chunk is its last octets, however they came.
func TestStreamTail(t *testing.T) {
	var s Stream
	all := ""
	for n := range 200 {
		body := strings.Repeat(string(rune('0'+n%70)), n*7%40)
		s.keepTail([]byte(body))
		if all += body; string(s.tail) != all[max(0, len(all)-tailLen):] {
			t.Fatalf("%q, want the end of %q", s.tail, all[max(0, len(all)-60):])
		}
	}
}

// TestStreamPending: a chunk is no way around the limit of transactions.
func TestStreamPending(t *testing.T) {
	inConn(t, Limits{Pending: 3}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		var o outcomes
		s := c.NewStream(request("m123", "x"), &Transaction{Owner: &o})
		other := c.NewStream(request("m124", "x"), nil)
		n := 0
		for ; n < 10; n++ {
			if s.Write([]byte("hello"), 0) != nil {
				break
			}
			_ = other.Write([]byte("hello"), 0) // interrupts, if it still may
		}
		if n > 4 || c.Pending() > 4 {
			t.Errorf("%d chunks, %d pending", n, c.Pending())
		}
		if err := s.Write(nil, Abort); err != nil {
			t.Errorf("an abort: %v", err)
		}
		c.Flush()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if all := o.list(); len(all) != n || c.Pending() != 0 {
			t.Errorf("%d outcomes of %d chunks", len(all), n)
		}
	})
}
