package msrp

import (
	"net"
	"slices"
	"sync"
)

// blockSize is one TLS record, so that a TLS connection writes full records.
const blockSize = 16 << 10

// batchBlocks bounds what one write takes from the queue of requests: what a
// response that comes during the write has to wait for.
const batchBlocks = 8

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// A block is queued octets. Frames follow each other in it and may go on in
// the next block.
type block struct {
	mem  *[blockSize]byte
	n    int // octets in mem
	edge int // offset of the first end of a frame, -1 if there is none
	last int // offset of the last one
}

// A queue is octets that wait to be written, copied into pooled blocks.
type queue struct {
	blocks []block
	size   int
	total  uint64 // octets ever appended

	// Of a connection that carries messages only.
	framed bool
	ended  uint64 // total when the last frame ended
	sizes  []int  // of the whole frames that have not begun to be written
	rest   int    // octets of the frame that has
}

func (q *queue) append(b []byte) {
	q.size += len(b)
	q.total += uint64(len(b))
	for len(b) > 0 {
		if n := len(q.blocks); n == 0 || q.blocks[n-1].n == blockSize {
			q.addBlock()
		}
		k := &q.blocks[len(q.blocks)-1]
		n := copy(k.mem[k.n:], b)
		k.n += n
		b = b[n:]
	}
}

// reserve returns an empty slice with room for n octets, to be filled by append and
// given to commit: a head has many parts. What needs more room than that, or than a
// block has, is copied.
func (q *queue) reserve(n int) []byte {
	if n > blockSize {
		return nil
	}
	if last := len(q.blocks) - 1; last < 0 || q.blocks[last].n+n > blockSize {
		q.addBlock()
	}
	k := &q.blocks[len(q.blocks)-1]
	return k.mem[k.n:k.n:blockSize]
}

func (q *queue) commit(b []byte) {
	if last := len(q.blocks) - 1; last >= 0 && len(b) > 0 && q.blocks[last].n < blockSize && &q.blocks[last].mem[q.blocks[last].n] == &b[0] {
		q.size += len(b)
		q.total += uint64(len(b))
		q.blocks[last].n += len(b)
		return
	}
	q.append(b)
}

func (q *queue) addBlock() {
	q.blocks = append(q.blocks, block{mem: blocks.Get().(*[blockSize]byte), edge: -1, last: -1})
}

// endFrame marks the end of a frame: responses may be written here.
func (q *queue) endFrame() {
	k := &q.blocks[len(q.blocks)-1]
	if k.last = k.n; k.edge < 0 {
		k.edge = k.n
	}
	if q.framed {
		q.sizes = append(q.sizes, int(q.total-q.ended))
		q.ended = q.total
	}
}

// begin moves to dst the sizes of the frames that begin in the next n octets,
// which are written now. All frames of such a queue are whole.
func (q *queue) begin(dst []int, n int) []int {
	i := 0
	for ; q.rest < n; i++ {
		q.rest += q.sizes[i]
	}
	q.rest -= n
	dst = append(dst, q.sizes[:i]...)
	q.sizes = slices.Delete(q.sizes, 0, i)
	if len(q.sizes) == 0 && cap(q.sizes) > 64 {
		q.sizes = nil // as in take
	}
	return dst
}

func octets(ks []block) (n int) {
	for _, k := range ks {
		n += k.n
	}
	return n
}

// take moves up to max blocks to dst.
func (q *queue) take(dst []block, max int) []block {
	n := min(len(q.blocks), max)
	dst = append(dst, q.blocks[:n]...)
	for _, k := range q.blocks[:n] {
		q.size -= k.n
	}
	rest := copy(q.blocks, q.blocks[n:])
	clear(q.blocks[rest:])
	q.blocks = q.blocks[:rest]
	if rest == 0 && cap(q.blocks) > 2*batchBlocks {
		q.blocks = nil // a long queue was an exception
	}
	return dst
}

// A batch is what one write takes: blocks, and their octets in the order in
// which they leave.
type batch struct {
	requests, answers []block
	iov               net.Buffers
	own               []int       // how many octets of each element of iov are of requests
	unwritten         net.Buffers // the rest of iov
	unpaid            []int       // the rest of own
	sent              int         // octets of requests
	sizes             []int       // of the frames that begin in it, if they are messages
}

// order lays out the octets: answers go first, unless the octets written
// before ended inside a frame (mid); then they go where that frame ends. It
// reports whether the answers found a place, and whether the batch ends inside a frame.
func (b *batch) order(mid bool) (placed, midAfter bool) {
	b.iov, b.own, b.sent = b.iov[:0], b.own[:0], 0
	put := func() {
		for _, k := range b.answers {
			b.iov, b.own = append(b.iov, k.mem[:k.n]), append(b.own, 0)
		}
		placed = true
	}
	add := func(octets []byte) {
		b.iov, b.own = append(b.iov, octets), append(b.own, len(octets))
		b.sent += len(octets)
	}
	if !mid {
		put()
	}
	for _, k := range b.requests {
		if !placed && k.edge >= 0 {
			add(k.mem[:k.edge])
			put()
			if k.edge < k.n {
				add(k.mem[k.edge:k.n])
			}
		} else {
			add(k.mem[:k.n])
		}
		mid = k.last != k.n
	}
	return placed, mid
}

// pay returns how many octets of requests have been written since the last call: those
// of elements that are gone.
func (b *batch) pay() (n int) {
	for ; len(b.unpaid) > len(b.unwritten); b.unpaid = b.unpaid[1:] {
		n += b.unpaid[0]
	}
	return n
}

// skip takes n octets that were written off unwritten.
func (b *batch) skip(n int) {
	for n > 0 {
		first := b.unwritten[0]
		if n < len(first) {
			b.unwritten[0] = first[n:]
			return
		}
		n -= len(first)
		b.unwritten = b.unwritten[1:]
	}
}

func (b *batch) release() {
	for _, ks := range [...][]block{b.requests, b.answers} {
		for _, k := range ks {
			blocks.Put(k.mem)
		}
	}
	b.requests, b.answers, b.unwritten = b.requests[:0], b.answers[:0], nil
}
