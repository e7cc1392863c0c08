package msrp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
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
