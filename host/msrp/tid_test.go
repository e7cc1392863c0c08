package msrp

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTID: an ident, with 64 random bits at least (CORE-27), that names its slot.
func TestTID(t *testing.T) {
	for _, slot := range []int32{0, 1, 63, 64, 4095, 4096, 1 << 18, maxSlots - 1} {
		var seen [tidRandom]map[byte]bool
		ids := map[[tidLen]byte]bool{}
		for range 5000 {
			tid := newTID(slot)
			if !isIdent(tid[:]) || slotOf(tid[:]) != slot || ids[tid] {
				t.Fatalf("slot %d: %s, of slot %d", slot, tid[:], slotOf(tid[:]))
			}
			ids[tid] = true
			for i := range seen {
				if seen[i] == nil {
					seen[i] = map[byte]bool{}
				}
				seen[i][tid[i]] = true
			}
		}
		for i, m := range seen {
			if want := 64 - 32*max(0, 1-i); len(m) != want {
				t.Errorf("character %d takes %d values, want %d", i, len(m), want)
			}
		}
	}
	for _, bad := range []string{"", "abcd", "ABCDEFGHIJKAAA", "ABCDEFGHIJKAAAAA", "ABCDEFGHIJKAA+A", "ABCDEFGHIJKAA\x00A", "ABCDEFGHIJKAA\xffA"} {
		if s := slotOf([]byte(bad)); s >= 0 {
			t.Errorf("%q names slot %d", bad, s)
		}
	}
}

func TestNewID(t *testing.T) {
	for n := range 33 {
		id := NewID(n)
		if len(id) != n || n >= 4 && !isIdent([]byte(id)) || n > 0 && !isAlpha(id[0]) || !all(id, sessionChars) {
			t.Errorf("%q", id)
		}
	}
}

// TestSlotsModel compares the slots with a list that does the same slowly.
func TestSlotsModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	type entry struct {
		slot int32
		id   string
		sent bool
		end  uint64
		due  time.Duration
	}
	const limit = 50
	s := newSlots()
	var model []entry // in the order of opening; the sent ones in order, too
	total, written := uint64(0), uint64(0)
	check := func() {
		t.Helper()
		var order []int32
		for i := s.first; i >= 0; i = s.all[i].nx {
			order = append(order, i)
		}
		var want []int32
		for _, e := range model {
			if e.sent {
				want = append(want, e.slot)
			}
			if k := &s.all[e.slot]; k.due != e.due || k.tx.MessageID.String() != e.id {
				t.Fatalf("slot %d: due %v of %s, want %v of %s", e.slot, k.due, k.tx.MessageID, e.due, e.id)
			}
		}
		if !slices.Equal(order, want) || s.used != len(model) || len(s.all) > limit {
			t.Fatalf("list %v, want %v; %d used of %d", order, want, s.used, len(model))
		}
	}
	for step := range 20_000 {
		switch k := rnd.IntN(10); {
		case k < 4: // open, perhaps as an open Stream does, and then only one
			id := fmt.Sprintf("m%d", step)
			i := s.open(&Transaction{MessageID: MakeIdent([]byte(id))}, limit)
			if i < 0 != (len(model) == limit) {
				t.Fatalf("slot %d with %d in use", i, len(model))
			}
			if i < 0 {
				break
			}
			s.all[i].tid = newTID(i)
			if n := len(model); n > 0 && !model[n-1].sent {
				total += 10
				model[n-1].sent, model[n-1].end = true, total
				s.sent(model[n-1].slot, total)
			}
			e := entry{slot: i, id: id}
			if rnd.IntN(2) == 0 {
				total += 10
				e.sent, e.end = true, total
				s.sent(i, total)
			}
			model = append(model, e)
		case k < 6: // write
			written = min(total, written+uint64(rnd.IntN(30)))
			due := time.Duration(step + 1)
			s.written(written, due, func(*slot) {})
			for j := range model {
				if model[j].sent && model[j].end <= written && model[j].due == 0 {
					model[j].due = due
				}
			}
		case len(model) > 0: // a response, perhaps before the request is written or even closed
			j := rnd.IntN(len(model))
			tid := s.all[model[j].slot].tid
			if s.find(tid[:]) != model[j].slot {
				t.Fatalf("%s is not found", tid[:])
			}
			wrong := tid
			wrong[rnd.IntN(tidLen)] ^= 1
			if s.find(wrong[:]) >= 0 {
				t.Fatalf("%s is found instead of %s", wrong[:], tid[:])
			}
			if tx := s.release(model[j].slot); tx.MessageID.String() != model[j].id {
				t.Fatalf("%s instead of %s", tx.MessageID, model[j].id)
			}
			if s.find(tid[:]) >= 0 {
				t.Fatalf("%s is found again", tid[:])
			}
			model = slices.Delete(model, j, j+1)
		}
		check()
	}
}

// TestTIDCollision: a transaction id whose end-line is in the body is not taken
// (CORE-34, CORE-163): in a Send, a REPORT, and at the begin of a chunk.
func TestTIDCollision(t *testing.T) {
	inConn(t, Limits{}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		n := 0
		tidOf := func(n int, slot int32) [tidLen]byte {
			tid := [tidLen]byte([]byte(fmt.Sprintf("COLLISION%02dAAAA", n)))
			tid[tidLen-1-3] = identChars[slot]
			return tid
		}
		c.newTID = func(slot int32) [tidLen]byte { n++; return tidOf(n, slot) }
		var o outcomes
		for i, send := range []func(rq *Request) error{
			func(rq *Request) error { return c.Send(rq, &Transaction{Owner: &o}) },
			func(rq *Request) error { rq.Method = []byte("REPORT"); return c.Send(rq, nil) },
			func(rq *Request) error {
				return c.NewStream(rq, &Transaction{Owner: &o}).Write(rq.Body, Complete)
			},
		} {
			var body string
			for k := range 3 { // the next three; without flag or line ends, too
				for slot := range int32(4) {
					tid := tidOf(n+1+k, slot)
					body += []string{"-------" + string(tid[:]), "\r\n-------" + string(tid[:]) + "$\r\n", "x-------" + string(tid[:]) + "+"}[k]
				}
			}
			first := n + 1
			if err := send(request("m123", body)); err != nil {
				t.Fatal(err)
			}
			c.Flush()
			f := readFrames(t, far, 1)[0]
			tid := strings.Fields(f.raw)[1]
			if n != first+3 || !strings.HasPrefix(tid, fmt.Sprintf("COLLISION%02d", n)) || f.body != body {
				t.Errorf("%d: %d transaction ids tried; %s, %d octets of %d", i, n-first+1, tid, len(f.body), len(body))
			}
			if strings.Contains(f.raw, " SEND") {
				fmt.Fprintf(far, "MSRP %s 200\r\n%s-------%s$\r\n", tid, testPaths, tid)
			}
		}
		synctest.Wait()
		if all := o.list(); len(all) != 2 || all[0].code != 200 || all[1].code != 200 {
			t.Errorf("%+v", all)
		}
	})
}

// TestSlotsGivenBack: the table of a burst is freed once all were answered, and
// the next burst works.
func TestSlotsGivenBack(t *testing.T) {
	inConn(t, Limits{Outbox: 1 << 20}, nil, func(t *testing.T, c *Conn, far net.Conn) {
		for range 2 {
			var o outcomes
			for range 1000 {
				if err := c.Send(request("m123", "x"), &Transaction{Owner: &o}); err != nil {
					t.Fatal(err)
				}
			}
			c.Flush()
			fs := readFrames(t, far, 1000)
			for _, i := range rand.Perm(1000) {
				tid := strings.Fields(fs[i].raw)[1]
				fmt.Fprintf(far, "MSRP %s 200\r\n%s-------%s$\r\n", tid, testPaths, tid)
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			c.mu.Lock()
			size, timer := cap(c.slots.all), c.timer
			c.mu.Unlock()
			if all := o.list(); len(all) != 1000 || size != 0 || timer != nil || c.Pending() != 0 {
				t.Errorf("%d outcomes, %d slots, timer %v", len(all), size, timer)
			}
		}
	})
}
