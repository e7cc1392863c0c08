package msrp

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestStats: every octet of every frame is counted under its method or status,
// and the times of a request that is forwarded.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var st Stats
		near, far := net.Pipe()
		c := NewConn(ConnConfig{Stats: &st, Limits: Limits{Piece: 64}, Handler: handler(func(c *Conn, p *Piece) {
			if p.Last && p.Head.Is("PLAY") {
				_ = c.SendResponse(&Response{TID: []byte("play0001"), Code: 501, To: Path("msrp://a:1;tcp"), From: Path("msrp://b:1;tcp")})
				c.Touch(c)
			}
		})})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.Serve(near)
		}()
		written := make(chan int)
		var out strings.Builder
		go func() {
			n, _ := io.Copy(&out, far) // ends with the connection
			written <- int(n)
		}()
		head := "To-Path: msrp://b:1;tcp\r\nFrom-Path: msrp://a:1;tcp\r\n"
		sendFrame := "MSRP send0001 SEND\r\n" + head + "Message-ID: m123\r\nContent-Type: a/b\r\n\r\n" + strings.Repeat("x", 500) + "\r\n-------send0001$\r\n"
		play := "MSRP play0001 PLAY\r\n" + head + "-------play0001$\r\n"
		write := func(s string) {
			if _, err := io.WriteString(far, s); err != nil {
				t.Error(err)
			}
		}
		write(sendFrame + play + sendFrame)

		rq := request("m1", "hello")
		rq.Arrived = c.LastRead()
		time.Sleep(3 * time.Millisecond)
		if err := c.Send(rq, &Transaction{Owner: &outcomes{}}); err != nil {
			t.Fatal(err)
		}
		s := c.NewStream(request("m2", ""), &Transaction{Owner: &outcomes{}})
		s.Arrived = c.LastRead() + 3*time.Millisecond - time.Second
		for _, flag := range []Flag{0, 0, Complete} {
			if err := s.Write([]byte("part"), flag); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Send(&Request{Method: []byte("REPORT"), Paths: []byte(testPaths), Flag: Complete}, nil); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		synctest.Wait()
		time.Sleep(30 * time.Millisecond)
		var ok string
		for frame := range strings.SplitSeq(out.String(), "MSRP ") {
			if tid, _, _ := strings.Cut(frame, " "); strings.Contains(frame, " SEND\r\n") {
				ok += "MSRP " + tid + " 200 OK\r\n" + head + "-------" + tid + "$\r\n"
			}
		}
		write(ok)
		synctest.Wait()
		far.Close()
		<-done
		got := map[string]uint64{}
		octets := map[bool]int{}
		for _, f := range st.Frames() {
			if f.Frames > 0 {
				got[map[bool]string{false: "in ", true: "out "}[f.Out]+f.Method+f.Status] = f.Frames
			}
			octets[f.Out] += int(f.Octets)
		}
		want := map[string]uint64{"in SEND": 2, "in other": 1, "in 200": 2, "out SEND": 2, "out REPORT": 1, "out 501": 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if in := 2*len(sendFrame) + len(play) + len(ok); octets[false] != in {
			t.Errorf("%d octets in, want %d", octets[false], in)
		}
		if n := <-written; octets[true] != n {
			t.Errorf("%d octets out, want %d", octets[true], n)
		}
		f, a := st.Forwarding(), st.Answering()
		if f.Count != 2 || f.Sum != time.Second+3*time.Millisecond || f.Buckets[6].Count != 1 || f.Buckets[5].Count != 0 {
			t.Errorf("forwarding: %+v", f)
		}
		if a.Count != 2 || a.Sum != 60*time.Millisecond {
			t.Errorf("answering: %+v", a)
		}
	})
}

// TestStatsEarlyAnswer: a response that is read before the write has returned
// loses no sample.
func TestStatsEarlyAnswer(t *testing.T) {
	c := NewConn(ConnConfig{Handler: handler(nil), Stats: new(Stats)})
	k := slot{state: slotSent, arrived: time.Millisecond}
	c.lastRead.Store(int64(3 * time.Millisecond))
	c.countAnswered(&k)
	c.flushReceived()
	c.flushSent()
	if f, a := c.stats.Forwarding(), c.stats.Answering(); f.Count != 1 || f.Sum != 2*time.Millisecond || a.Count != 1 || a.Sum != 0 {
		t.Errorf("%+v %+v", f, a)
	}
}

func TestDurations(t *testing.T) {
	var d Durations
	for _, v := range []time.Duration{-1, 50 * time.Microsecond, 51 * time.Microsecond, time.Hour} {
		d.Add(v)
	}
	h := d.Snapshot()
	if h.Count != 4 || h.Sum != time.Hour+101*time.Microsecond || h.Buckets[0].Count != 2 || h.Buckets[1].Count != 3 ||
		h.Buckets[len(h.Buckets)-1] != (Bucket{10 * time.Second, 3}) {
		t.Errorf("%+v", h)
	}
}
