package msrp

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
)

// A Piece is a frame, or the next part of a frame with a long body. All of it
// is valid until the next call of Next.
type Piece struct {
	Head    *Head  // of the first piece; its slices are void in the later ones
	Body    []byte // never more than Limits.Piece of it, unless it is a whole frame
	HasBody bool   // the frame has a body, if only an empty one (CORE-31)
	First   bool   // first piece of its frame
	Last    bool   // the end-line was read
	Flag    Flag   // set with Last
	Plain   bool   // Body holds no "-------", and so no end-line of any frame
}

// A Reader splits a stream of octets into Pieces. It never holds more than
// Limits.Head + Limits.Piece and some slack, however much the peer sends, and
// nothing while it waits for a frame to begin.
type Reader struct {
	// Set by NewReader, then read-only.
	src   io.Reader
	lim   Limits
	user  readerUser                       // nil = nobody
	msgs  interface{ NextMessage() error } // src, if it carries messages
	quiet quietReader                      // src, if it can wait without a buffer

	inMsg   bool            // a message was begun, and its end not seen
	spent   bool            // its frame was read: nothing may follow
	buf     []byte          // nil while idle, or stowed
	stowed  *[stowSize]byte // holds buf[:w] while the peer is silent in mid-frame
	r, w    int             // buf[r:w] is unread
	frame   int             // offset in buf where the current head begins
	ends    []int           // line ends within the current head, from frame
	headEnd int             // end of the current head, from frame
	body    bool            // inside a body
	begin   bool            // at the first octet of a body
	once    bool            // the body may not be handed on in parts
	end     []byte          // "-------" tid; made anew in mark for each frame
	mark    [7 + 32]byte
	dashed  int      // offset in buf behind the last "-------" that was found in a body
	moved   bool     // the current head was moved in buf while it arrived
	met     [2]paths // of the last request and the last response
	known   paths    // the one of them that the current head has, too
	head    Head
	piece   Piece
	one     [1]byte
	err     error // final once set
}

// bufSize is what a Reader takes from the pool to read into. It holds a head and a
// piece of default size, and what many peers send at once: fewer system calls.
const bufSize = 128 << 10

// stowSize is what a Reader takes instead while the rest of a frame does not come, if
// it holds no more than that.
const stowSize = 2 << 10

// heldSize is what a Reader takes that cannot do so, and holds while it waits.
const heldSize = 64 << 10

var (
	buffers = sync.Pool{New: func() any { return new([bufSize]byte) }}
	helds   = sync.Pool{New: func() any { return new([heldSize]byte) }}
	stows   = sync.Pool{New: func() any { return new([stowSize]byte) }}
)

func putBuffer(b []byte) {
	switch len(b) {
	case bufSize:
		buffers.Put((*[bufSize]byte)(b))
	case heldSize:
		helds.Put((*[heldSize]byte)(b))
	}
}

// A paths is where To-Path and From-Path of a frame without a fault lie in the
// Reader's buffer. A peer repeats them octet for octet, so that most are only compared.
type paths struct {
	at, mid, size int // of both lines, and the second of them; size 0 = none
	to, from      int // of the values, each from its line
}

// A quietReader can wait without a buffer. ReadNow returns 0 and no error if there is
// nothing to read, and then WaitReadable waits until there is.
type quietReader interface {
	ReadNow(b []byte) (int, error)
	WaitReadable() error
}

// errParked is what Next returns when the user has rested between two frames. It is not
// final.
var errParked = errors.New("msrp: nothing to read")

// NewReader returns a Reader on src. If src has the methods
//
//	ReadNow(b []byte) (int, error)
//	WaitReadable() error
//
// the Reader calls them instead of Read: ReadNow, and when that returns 0 and no error
// WaitReadable, so that waiting takes no buffer. Of others it asks for the first octet of
// a frame alone.
//
// If src has a method NextMessage() error, as in [MessageConn], each message is
// to hold one frame (RFC 7977 §5.1, WS-11, WS-15), or nothing but line breaks: a
// message that ends inside a frame, or goes on behind it, is a fault that ends the
// stream. The frame is handed on before what follows it is seen.
func NewReader(src io.Reader, lim Limits) *Reader {
	r := readers.New().(*Reader)
	r.init(src, lim)
	return r
}

// A readerUser is told when a Reader is about to read src, and that this has brought
// octets. If src is quiet it may set a read deadline in beforeWait, which is called
// between frames; rested is called once one has passed, and reports whether that was all.
type readerUser interface {
	beforeRead()
	afterRead()
	beforeWait()
	rested() bool
}

// readers keeps the Readers of Conns that have nothing to read.
var readers = sync.Pool{New: func() any { return &Reader{ends: make([]int, 0, 16)} }}

func (r *Reader) init(src io.Reader, lim Limits) {
	*r = Reader{src: src, lim: lim, ends: r.ends[:0]}
	if r.msgs, _ = src.(interface{ NextMessage() error }); r.msgs == nil {
		r.quiet, _ = src.(quietReader)
	}
}

// Next returns the next piece. It returns io.EOF only between frames; the
// first error is final, for a stream without framing cannot be taken up again.
// A fault that leaves the framing intact is no error but Head.Err.
func (r *Reader) Next() (*Piece, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.piece = Piece{Head: &r.head}
	var err error
	if !r.body {
		err = r.readHead()
	}
	if err == nil && r.body {
		err = r.readBody()
	}
	if err != nil {
		if err != errParked {
			r.err = err
		}
		r.release()
		return nil, err
	}
	return &r.piece, nil
}

// Close gives the buffer back; the Reader must not be used any more.
func (r *Reader) Close() {
	r.release()
	*r = Reader{err: io.ErrClosedPipe, ends: r.ends}
}

func (r *Reader) release() {
	putBuffer(r.buf)
	if r.stowed != nil {
		stows.Put(r.stowed)
		r.stowed = nil
	}
	r.buf, r.r, r.w, r.frame, r.dashed, r.met = nil, 0, 0, 0, 0, [2]paths{}
	r.head, r.piece = Head{}, Piece{Head: &r.head} // or they would keep the buffer from the garbage collector
}

// fill reads more octets behind buf[r.w], making room first.
func (r *Reader) fill() error {
	for {
		err := r.fillOnce()
		if err != io.EOF || !r.inMsg {
			return err
		}
		// It is the message that ended.
		r.inMsg = false
		if r.body || r.frame < r.w {
			return io.ErrUnexpectedEOF
		}
	}
}

func (r *Reader) fillOnce() error {
	if r.user != nil {
		r.user.beforeRead()
	}
	var n int
	var err error
	switch {
	case r.holdsNothing():
		// Wait for the peer without a buffer.
		r.release()
		switch {
		case r.msgs != nil:
			n, err = r.wait()
		case r.quiet == nil:
			n, err = r.read(r.one[:])
		}
		if err != nil {
			return err
		}
		if n > 0 {
			r.w = copy(r.lend(), r.one[:n])
			return nil
		}
	case r.frame > 0 && len(r.buf)-r.w < len(r.buf)/8:
		// Rather than to read a little now and the rest by another system call.
		r.move(r.buf)
	}
	if r.quiet == nil {
		n, err = r.read(r.lend())
	} else {
		n, err = r.readQuietly()
	}
	r.w += n
	return err
}

func (r *Reader) readQuietly() (int, error) {
	for {
		n, err := r.quiet.ReadNow(r.lend())
		if n > 0 && r.user != nil {
			r.user.afterRead()
		}
		if n > 0 {
			return n, err
		}
		r.takeBack()
		if err == nil {
			if r.user != nil && r.holdsNothing() {
				r.user.beforeWait()
			}
			err = r.quiet.WaitReadable()
		}
		switch {
		case err == nil:
		case r.user == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !r.user.rested():
			return 0, err
		case r.holdsNothing():
			return 0, errParked
		}
	}
}

func (r *Reader) holdsNothing() bool { return r.frame == r.w && !r.body }

// move moves what is held to the front of dst, which takes the place of buf.
func (r *Reader) move(dst []byte) {
	copy(dst, r.buf[r.frame:r.w])
	r.moved, r.met = true, [2]paths{}
	r.dashed = max(0, r.dashed-r.frame)
	r.r, r.w, r.frame = r.r-r.frame, r.w-r.frame, 0
}

// lend returns where to read to: the rest of the buffer, which comes from the pool if
// there is none.
func (r *Reader) lend() []byte {
	if r.buf == nil {
		switch need := r.need(); {
		case r.quiet == nil && need <= heldSize:
			r.buf = helds.Get().(*[heldSize]byte)[:]
		case need <= bufSize:
			r.buf = buffers.Get().(*[bufSize]byte)[:]
		default:
			r.buf = make([]byte, need)
		}
	}
	if r.stowed != nil {
		copy(r.buf, r.stowed[:r.w])
		stows.Put(r.stowed)
		r.stowed = nil
	}
	return r.buf[r.w:]
}

// takeBack gives the buffer back to the pool, unless it holds too much.
func (r *Reader) takeBack() {
	switch {
	case r.holdsNothing():
		r.release()
	case r.quiet != nil && len(r.buf) == bufSize && r.w-r.frame <= stowSize:
		r.stowed = stows.Get().(*[stowSize]byte)
		r.move(r.stowed[:])
		putBuffer(r.buf)
		r.buf, r.head = nil, Head{Method: r.head.Method} // as in release; a request remains one
	}
}

// wait waits for the next message; what is left of the last one comes first.
func (r *Reader) wait() (n int, err error) {
	if r.inMsg {
		n, err = r.read(r.one[:])
		if n > 0 && r.spent {
			err = syntaxError("message", r.one[:n])
		}
		return n, err
	}
	if err = r.msgs.NextMessage(); err == nil {
		r.inMsg, r.spent = true, false
	}
	return 0, err
}

func (r *Reader) read(b []byte) (int, error) {
	for range 100 {
		if n, err := r.src.Read(b); n > 0 {
			if r.user != nil {
				r.user.afterRead()
			}
			return n, nil // an error that came with octets comes again
		} else if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// need is the buffer size that the limits ask for.
func (r *Reader) need() int {
	return r.lim.head() + max(r.lim.piece(), r.lim.otherBody()) + 2 + len(r.mark) + 3
}

var (
	crlf   = []byte("\r\n")
	dashes = []byte("-------")
)

// readHead reads up to the blank line that a body follows, or to the end-line.
func (r *Reader) readHead() error {
	r.frame, r.ends, r.moved, r.known = r.r, r.ends[:0], false, paths{}
	if r.spent && r.r < r.w {
		return syntaxError("message", r.buf[r.r:r.w])
	}
	scan := r.r
	start := 0 // of the current line, from frame
	for {
		if len(r.ends) == 0 {
			if n, bad := badStart(r.buf[r.frame:r.w]); bad {
				return syntaxError("start line", r.buf[r.frame:r.frame+n])
			}
		}
		i := bytes.IndexByte(r.buf[scan:r.w], '\n')
		end := scan + i + 1 // of the line
		if i < 0 {
			end = r.w
		}
		if end-r.frame > r.lim.head() {
			return ErrHeadTooLarge
		}
		if i < 0 {
			done := r.w - r.frame
			if err := r.fill(); err == io.EOF && done > 0 {
				return io.ErrUnexpectedEOF
			} else if err != nil {
				return err
			}
			scan = r.frame + done
			continue
		}
		from := r.frame + start
		scan, start = end, end-r.frame
		if end-from < 2 || r.buf[end-2] != '\r' {
			return syntaxError("line ending", r.buf[from:end])
		}
		line := r.buf[from : end-2]
		switch {
		case len(r.ends) == 0 && len(line) == 0:
			// Peers keep connections alive with a bare CRLF between frames.
			r.r, r.frame, start = end, end, 0
			continue
		case len(r.ends) == 0:
			r.head = Head{}
			if err := r.head.parseStart(line); err != nil {
				return err
			}
			r.end = append(append(r.mark[:0], dashes...), r.head.TID...)
			if k := r.meet(); k.size > 0 && bytes.HasPrefix(r.buf[end:r.w], r.buf[k.at:k.at+k.size]) {
				r.known = *k
				r.ends = append(r.ends, start, start+k.mid, start+k.size)
				scan, start = end+k.size, start+k.size
				continue
			}
		case len(line) == 0:
			r.headEnd, r.r = from-r.frame, end
			r.body, r.begin = true, true
			r.restart()
			r.once = !r.head.Is("SEND")
			return nil
		case bytes.HasPrefix(line, dashes):
			flag, ok := bytes.CutPrefix(line, r.end)
			if !ok || len(flag) != 1 || !Flag(flag[0]).valid() {
				return syntaxError("end-line", line)
			}
			r.headEnd, r.r = from-r.frame, end
			r.finishHead(false)
			r.spent = r.inMsg
			r.piece.First, r.piece.Last, r.piece.Flag = true, true, Flag(flag[0])
			return nil
		}
		if len(r.ends) <= r.lim.headers()+1 { // one more than allowed tells that there were too many
			r.ends = append(r.ends, end-r.frame)
		}
	}
}

// restart parses the start line again if it was moved since.
func (r *Reader) restart() {
	if r.moved {
		r.moved = false
		r.head = Head{}
		_ = r.head.parseStart(r.buf[r.frame : r.frame+r.ends[0]-2]) // it parsed before
	}
}

// finishHead parses the head where it lies now; it does not move any more
// before the piece is handed on.
func (r *Reader) finishHead(hasBody bool) {
	r.restart()
	r.head.parse(r.buf[r.frame:r.frame+r.headEnd], r.ends, r.lim.headers(), &r.known)
	r.head.finish(hasBody)
	if r.known.size == 0 && r.head.Err == nil {
		at := r.frame + r.ends[0]
		*r.meet() = paths{
			at: at, mid: r.ends[1] - r.ends[0], size: len(r.head.Paths),
			to: r.ends[1] - 2 - r.ends[0] - len(r.head.To), from: r.ends[2] - 2 - r.ends[1] - len(r.head.From),
		}
	}
}

// meet returns where the paths of frames such as the current one are.
func (r *Reader) meet() *paths {
	if r.head.IsResponse() {
		return &r.met[1]
	}
	return &r.met[0]
}

// badStart reports whether b cannot become a start line or a bare CRLF, and how
// many octets tell. Judging each octet as it comes keeps a peer that speaks
// another protocol from being listened to for long.
func badStart(b []byte) (n int, bad bool) {
	want := "MSRP "
	if len(b) > 0 && b[0] == '\r' {
		want = "\r\n"
	}
	for i := range min(len(b), len(want)) {
		if b[i] != want[i] {
			return i + 1, true
		}
	}
	return 0, false
}

// readBody sets the next body piece, ending at the end-line.
func (r *Reader) readBody() error {
	first := r.begin
	if !first {
		r.frame = r.r
	}
	tail := 2 + len(r.end) + 3 // CRLF, marker, flag, CRLF
	limit := r.lim.piece()
	if r.once {
		limit = r.lim.otherBody()
	}
	from := r.r // octets before it need not be searched again
	if first {
		// The CRLF of the blank line may serve as the one before the end-line:
		// nobody may send such a body (CORE-34), so it has only this meaning.
		from -= 2
	}
	for {
		end, flag, ok := r.findEnd(from, min(r.w, r.r+limit+tail))
		size := r.w - r.r - tail // octets that surely belong to the body
		if ok {
			size = max(0, end-tail-r.r)
		}
		switch {
		case size > limit && r.once:
			return ErrBodyTooLarge
		case size > limit, size == limit && !ok && !r.once:
			r.deliver(first, limit)
			return nil
		case ok:
			r.deliver(first, size)
			r.r, r.body = end, false
			r.spent = r.inMsg
			r.piece.Last, r.piece.Flag = true, flag
			return nil
		}
		from = max(from, r.w-tail+1) - r.frame
		if err := r.fill(); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		from += r.frame
	}
}

func (r *Reader) deliver(first bool, size int) {
	r.piece.First, r.piece.HasBody = first, true
	r.piece.Body = r.buf[r.r : r.r+size : r.r+size]
	r.piece.Plain = r.dashed <= r.r
	r.r += size
	r.begin = false
	if first {
		r.finishHead(true)
	}
}

// findEnd looks for the end-line in buf[from:to] and returns where it ends. A body
// may hold the marker by chance or another frame's end-line; only CRLF, dashes, this
// transaction id, a flag and CRLF together end the frame (CORE-35). What looks like one
// and is none is kept in dashed.
func (r *Reader) findEnd(from, to int) (int, Flag, bool) {
	for next := from; ; {
		i := bytes.Index(r.buf[next:to], dashes)
		if i < 0 {
			return 0, 0, false
		}
		i += next
		next = i + len(dashes)
		if i >= from+2 && r.buf[i-2] == '\r' && r.buf[i-1] == '\n' {
			end := i + len(r.end) + 3
			if end > to {
				return 0, 0, false // what is there is looked at again with what follows
			}
			rest := r.buf[i+len(r.end) : end]
			if bytes.HasPrefix(r.buf[i:], r.end) && Flag(rest[0]).valid() && rest[1] == '\r' && rest[2] == '\n' {
				return end, Flag(rest[0]), true
			}
		}
		for next < to && r.buf[next] == '-' {
			next++
		}
		r.dashed = next
	}
}
