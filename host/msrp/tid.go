package msrp

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"time"
)

// identChars has 64 of the characters that an ident may hold (RFC 4975 §9),
// those that may start one first.
const identChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-"

// tidLen: 11 characters of 65 random bits (RFC 4975 §7.1 asks for 64, CORE-27),
// then the slot of the transaction in 4.
const (
	tidLen    = 15
	tidRandom = 11
	maxSlots  = 1 << 24
)

// newTID makes the transaction id of a slot, new at each hop (RELAY-48). math/rand/v2's global source is
// ChaCha8 seeded by the system, needs no lock and no allocation.
func newTID(slot int32) (tid [tidLen]byte) {
	x, y := mathrand.Uint64(), mathrand.Uint32()
	tid[0] = identChars[x&31]
	x >>= 5
	for i := 1; i < tidRandom; i++ {
		if i == 10 {
			x = uint64(y)
		}
		tid[i] = identChars[x&63]
		x >>= 6
	}
	for i := tidRandom; i < tidLen; i++ {
		tid[i] = identChars[slot&63]
		slot >>= 6
	}
	return tid
}

// slotOf returns the slot that a transaction id of ours names, or -1.
func slotOf(tid []byte) int32 {
	if len(tid) != tidLen {
		return -1
	}
	slot := int32(0)
	for i := tidLen - 1; i >= tidRandom; i-- {
		v := identValue[tid[i]]
		if v < 0 {
			return -1
		}
		slot = slot<<6 | int32(v)
	}
	return slot
}

var identValue = func() (v [256]int8) {
	for i := range v {
		v[i] = -1
	}
	for i, c := range []byte(identChars) {
		v[c] = int8(i)
	}
	return v
}()

// NewID returns n random characters that are valid in an ident and, but for
// ".", safe in a session-id; they hold 6 bits each. It serves Message-IDs
// (RFC 4975 §7.1.1) and, with n of 22 or more, session-ids (§14.1: 80 bits).
func NewID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	for i, c := range b {
		b[i] = identChars[c&63]
	}
	if n > 0 {
		b[0] = identChars[identValue[b[0]]&31] // ids start with a letter
	}
	return string(b)
}

// An Ident is a transaction or message id, kept without allocation.
type Ident struct {
	b [32]byte
	n uint8
}

// MakeIdent copies the first 32 octets of b, the longest ident there is.
func MakeIdent(b []byte) (id Ident) {
	id.n = uint8(copy(id.b[:], b))
	return id
}

// Bytes returns the characters; they share memory with id.
func (id *Ident) Bytes() []byte { return id.b[:id.n] }

func (id Ident) String() string { return string(id.b[:id.n]) }

// A Transaction is a request that waits for its response.
type Transaction struct {
	Owner     Owner // is told once how the transaction ended
	MessageID Ident
	Range     ByteRange // the octets that went out in this request, with their real end
}

// An Owner of transactions learns how each of them ended: in a response (then
// Head is set), by time-out (ErrTimeout), or because the connection was lost
// (any other error). It is called from the goroutine that found out, with no
// lock held, and must not block. tx and r are valid during the call.
type Owner interface {
	Done(c *Conn, tx *Transaction, r Result)
}

// A Result is the end of a transaction.
type Result struct {
	Code int   // of the response; 408 for a time-out
	Head *Head // of the response, valid during the call; nil without one
	Err  error // why there is no response
}

// OK reports whether the request was accepted; codes that are not known count
// by their class (CORE-93).
func (r Result) OK() bool { return r.Err == nil && r.Code/100 == 2 }

// slots holds the transactions of one connection. A transaction id names its
// slot, so that finding one costs no hash and keeping one no allocation.
type slots struct {
	all   []slot
	free  int32 // head of the list of free slots, -1 at its end
	used  int
	first int32 // head of the list of closed requests, in the order they leave
	last  int32
	next  int32 // the first of them that is not wholly written
}

type slot struct {
	tx       Transaction
	tid      [tidLen]byte
	state    slotState
	prev, nx int32
	end      uint64        // offset of the request's last octet in the stream of requests
	arrived  time.Duration // since epoch; 0 = not told
	due      time.Duration // the same; 0 until the request is written
}

type slotState uint8

const (
	slotFree slotState = iota
	slotOpen           // the request is still being queued
	slotSent           // the request is queued whole, and in the list
)

func newSlots() slots { return slots{free: -1, first: -1, last: -1, next: -1} }

// open takes a slot, or returns -1 when max are in use.
func (s *slots) open(tx *Transaction, max int) int32 {
	if s.used >= min(max, maxSlots) {
		return -1
	}
	i := s.free
	if i >= 0 {
		s.free = s.all[i].nx
	} else {
		i = int32(len(s.all))
		s.all = append(s.all, slot{})
	}
	s.used++
	k := &s.all[i]
	k.tx, k.state, k.prev, k.nx, k.end, k.arrived, k.due = *tx, slotOpen, -1, -1, 0, 0, 0
	return i
}

// sent appends an open slot to the list.
func (s *slots) sent(i int32, end uint64) {
	k := &s.all[i]
	k.state, k.end, k.prev = slotSent, end, s.last
	if s.last >= 0 {
		s.all[s.last].nx = i
	} else {
		s.first = i
	}
	s.last = i
	if s.next < 0 {
		s.next = i
	}
}

// written starts the timers of the requests that end at or before offset end, and
// tells of each.
func (s *slots) written(end uint64, due time.Duration, tell func(*slot)) {
	for s.next >= 0 && s.all[s.next].end <= end {
		k := &s.all[s.next]
		k.due = due
		tell(k)
		s.next = k.nx
	}
}

// find returns the slot in use that tid names, or -1.
func (s *slots) find(tid []byte) int32 {
	i := slotOf(tid)
	if i < 0 || int(i) >= len(s.all) || s.all[i].state == slotFree || string(s.all[i].tid[:]) != string(tid) {
		return -1
	}
	return i
}

// release frees a slot and returns its transaction.
func (s *slots) release(i int32) Transaction {
	k := &s.all[i]
	tx := k.tx
	if k.state == slotSent {
		if k.prev >= 0 {
			s.all[k.prev].nx = k.nx
		} else {
			s.first = k.nx
		}
		if k.nx >= 0 {
			s.all[k.nx].prev = k.prev
		} else {
			s.last = k.prev
		}
		if s.next == i {
			s.next = k.nx
		}
	}
	*k = slot{nx: s.free}
	s.free = i
	s.used--
	return tx
}
