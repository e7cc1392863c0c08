package msrp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

// recorder is a connection that keeps what is written.
type recorder struct {
	sinkConn
	buf *bytes.Buffer
}

func (r recorder) Write(b []byte) (int, error) { return r.buf.Write(b) }

// runOutbox does what ops say on a Conn, one octet an operation, with writes in
// between, and checks what has left: frames are whole, each kind is in order,
// each stream complete, and no request begins to leave after a response was
// queued and before it (rule 1 of Conn).
func runOutbox(t *testing.T, ops []byte) {
	var out bytes.Buffer
	c := NewConn(ConnConfig{Handler: handler(nil), Limits: Limits{Outbox: 1 << 30, Answers: 1 << 30}})
	c.nc = recorder{buf: &out}
	b := new(batch)
	write := func() bool {
		if !c.takeBatch(b) {
			return false
		}
		before := out.Len()
		if err := c.write(b); err != nil {
			t.Fatal(err)
		}
		if c.inFlight != 0 || int(c.written) > out.Len() || out.Len() == before {
			t.Fatalf("in flight %d, written %d of %d", c.inFlight, c.written, out.Len())
		}
		b.release()
		return true
	}
	var streams [3]*Stream
	var want [3]strings.Builder
	for i := range streams {
		rq := request(fmt.Sprintf("stream%d", i), "y")
		rq.Range.Total = Unknown
		streams[i] = c.NewStream(rq, nil)
	}
	sends, queuedAt := 0, []int{}
	for _, op := range ops {
		kind, arg := op&7, int(op>>3) // 0..31
		size := arg * arg * 40        // up to 38 kB: more than two blocks
		switch kind {
		case 0, 1:
			if err := c.Send(request(fmt.Sprintf("single%d", sends), strings.Repeat("-", size)), nil); err != nil {
				t.Fatal(err)
			}
			sends++
		case 2, 3:
			queuedAt = append(queuedAt, out.Len())
			var err error
			if tid := fmt.Sprintf("answer%d", len(queuedAt)-1); kind == 2 {
				r := answerTo(tid, 200)
				r.Headers = []byte("X: " + strings.Repeat("y", arg*100) + "\r\n")
				err = c.SendResponse(r)
			} else {
				rq := request(tid, strings.Repeat("r", size/10))
				rq.Method, rq.After = []byte("REPORT"), append(rq.After, "Status: 000 200\r\n"...)
				err = c.Send(rq, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
		case 4, 5, 6:
			body := strings.Repeat(string(rune('a'+kind-4)), size)
			flag := Flag(0)
			if arg%7 == 6 {
				flag = Continue
			}
			want[kind-4].WriteString(body)
			if err := streams[kind-4].Write([]byte(body), flag); err != nil {
				t.Fatal(err)
			}
		case 7:
			write()
		}
	}
	for _, s := range streams {
		if err := s.Write(nil, Complete); err != nil {
			t.Fatal(err)
		}
	}
	for write() {
	}
	if c.Depth() != 0 || c.written != c.requests.total || c.inFrame {
		t.Fatalf("%d octets are left, %d of %d written", c.Depth(), c.written, c.requests.total)
	}

	rd := NewReader(bytes.NewReader(out.Bytes()), Limits{Head: 64 << 10})
	var got [3]strings.Builder
	var ended [3]bool
	from, singles, answers, lastBegin, at := 0, 0, 0, 0, 0
	current := "" // Message-ID of the frame
	for {
		p, err := rd.Next()
		if err != nil {
			break
		}
		h := p.Head
		if p.First {
			if h.Err != nil {
				t.Fatal(h.Err)
			}
			from = at
			at += len(h.Raw) + 7 + len(h.TID) + 3
			if p.HasBody {
				at += 4
			}
			id := string(h.MessageID)
			current = id
			switch {
			case h.IsResponse(), h.Is("REPORT"):
				if h.IsResponse() {
					id = string(h.TID)
				}
				if id != fmt.Sprintf("answer%d", answers) {
					t.Fatalf("%s came instead of answer %d", id, answers)
				}
				if lastBegin > queuedAt[answers] {
					t.Fatalf("%s was queued at %d, but a request began to leave at %d", id, queuedAt[answers], lastBegin)
				}
				answers++
			case strings.HasPrefix(id, "single"):
				if id != fmt.Sprintf("single%d", singles) {
					t.Fatalf("%s came instead of number %d", id, singles)
				}
				singles++
				lastBegin = max(lastBegin, from)
			default:
				i := id[len(id)-1] - '0'
				if int(h.Range.Start) != got[i].Len()+1 || h.Range.End != Unknown || ended[i] {
					t.Fatalf("%s goes on at %d after %d", id, h.Range.Start, got[i].Len())
				}
				lastBegin = max(lastBegin, from)
			}
		}
		at += len(p.Body)
		if strings.HasPrefix(current, "stream") {
			i := current[len(current)-1] - '0'
			got[i].Write(p.Body)
			ended[i] = p.Last && p.Flag == Complete
		} else if len(p.Body) > 0 && 'a' <= p.Body[0] && p.Body[0] <= 'c' {
			t.Fatalf("octets of a stream in %s", current)
		}
	}
	if at != out.Len() || singles != sends || answers != len(queuedAt) {
		t.Fatalf("%d of %d octets, %d of %d requests, %d of %d answers", at, out.Len(), singles, sends, answers, len(queuedAt))
	}
	for i := range got {
		if got[i].String() != want[i].String() || !ended[i] {
			t.Fatalf("stream %d: %d octets of %d, ended %v", i, got[i].Len(), want[i].Len(), ended[i])
		}
	}
}

func TestOutbox(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		ops := make([]byte, 1+rnd.IntN(60))
		for i := range ops {
			ops[i] = byte(rnd.Uint32())
			if rnd.IntN(3) == 0 {
				ops[i] |= 7
			}
		}
		runOutbox(t, ops)
		if t.Failed() {
			t.Fatalf("ops %q", ops)
		}
	}
}

func FuzzOutbox(f *testing.F) {
	f.Add([]byte("\xff\xf8\xff\x12\xff"))
	f.Add([]byte("\xfc\xff\xfc\x02\xff\xfd\x03\x07\x07"))
	f.Add([]byte("\xfc\xfc\xfc\xfc\xfc\xfc\xff\xfc\x02\xfc\x07"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) < 60 {
			runOutbox(t, ops)
		}
	})
}

// stutter takes a few octets a call and then reports a time-out, as a TCP
// connection to a slow peer does.
type stutter struct {
	recorder
	step, stalls int
}

func (s *stutter) WriteBuffers(v *net.Buffers) (int64, error) {
	var some net.Buffers
	n := 0
	for n < s.step && len(*v) > 0 {
		k := min(s.step-n, len((*v)[0]))
		some = append(some, (*v)[0][:k])
		n += k
		if (*v)[0] = (*v)[0][k:]; len((*v)[0]) == 0 {
			*v = (*v)[1:]
		}
	}
	_, _ = some.WriteTo(s.buf)
	if n == 0 || len(*v) > 0 {
		s.stalls++
		return int64(n), os.ErrDeadlineExceeded
	}
	return int64(n), nil
}

// TestWriteProgress: a time-out after some octets is progress, and the write
// goes on where it stopped; one after none ends it. What has left is counted.
func TestWriteProgress(t *testing.T) {
	for _, step := range []int{1, 7, 1000, blockSize, blockSize + 1, 1 << 20} {
		var out bytes.Buffer
		nc := &stutter{recorder: recorder{buf: &out}, step: step}
		c := NewConn(ConnConfig{Handler: handler(nil)})
		c.nc = nc
		for i := range 3 {
			_ = c.Send(request(fmt.Sprintf("m12%d", i), strings.Repeat("x", 20_000)), nil)
		}
		_ = c.SendResponse(answerTo("abcd", 200))
		c.writeOut(t, new(batch))
		frames, rd := 0, NewReader(bytes.NewReader(out.Bytes()), Limits{})
		for {
			p, err := rd.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			if p.Last {
				frames++
			}
		}
		if frames != 4 || c.written != c.requests.total || c.inFlight != 0 || step < 50_000 && nc.stalls == 0 {
			t.Errorf("step %d: %d frames, %d of %d written, %d in flight", step, frames, c.written, c.requests.total, c.inFlight)
		}
	}
	c := NewConn(ConnConfig{Handler: handler(nil)})
	c.nc = &stutter{recorder: recorder{buf: new(bytes.Buffer)}}
	_ = c.Send(request("m123", "x"), nil)
	b := new(batch)
	if !c.takeBatch(b) || !errors.Is(c.write(b), os.ErrDeadlineExceeded) {
		t.Error("a peer that takes nothing is waited for")
	}
}

// A trier takes step octets at once, and all when it is waited for.
type trier struct {
	recorder
	step int
}

func (s *trier) TryWrite(b [][]byte) (n int, err error) {
	for _, v := range b {
		v = v[:min(len(v), s.step-n)]
		s.buf.Write(v)
		n += len(v)
	}
	return n, nil
}

// TestTryWrite: what the network does not take at once leaves behind it, in order and
// counted.
func TestTryWrite(t *testing.T) {
	for _, step := range []int{0, 1, 7, 1000, blockSize, blockSize + 1, 1 << 20} {
		var out bytes.Buffer
		c := NewConn(ConnConfig{Handler: handler(nil)})
		c.nc = &trier{recorder: recorder{buf: &out}, step: step}
		var want []string
		for range 3 {
			for i := range 3 {
				id := fmt.Sprintf("m12%d", i)
				_ = c.Send(request(id, strings.Repeat("x", 20_000)), nil)
				want = append(want, id)
			}
			c.Flush()
			c.writers.Wait()
		}
		var got []string
		for rd := NewReader(bytes.NewReader(out.Bytes()), Limits{}); ; {
			p, err := rd.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			if p.First {
				got = append(got, string(p.Head.MessageID))
			}
		}
		if !slices.Equal(got, want) || c.written != c.requests.total || c.inFlight != 0 || c.writing {
			t.Errorf("step %d: %v, %d of %d written, %d in flight", step, got, c.written, c.requests.total, c.inFlight)
		}
	}
}
