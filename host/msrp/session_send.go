package msrp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
)

var (
	// ErrTooLarge: the message exceeds SessionConfig.PeerMaxSize.
	ErrTooLarge = errors.New("msrp: message larger than the peer accepts")
	// ErrSize: the body is shorter or longer than Message.Size.
	ErrSize = errors.New("msrp: body does not have the size given")
	// ErrNoReport: a success REPORT did not come before Limits.Remembered later
	// messages were sent. How long to wait is the application's to say (CORE-97).
	ErrNoReport = errors.New("msrp: no success report")
)

// smallChunk is the longest body that need not be interruptible (RFC 4975
// §7.1.1, CORE-52); CORE-54 wants no smaller ones but the last.
const smallChunk = 2048

// A Message is what Session.Send sends.
type Message struct {
	ID          string   // Message-ID; default NewID(20)
	ContentType string   // must be set
	Headers     []string // further header lines, such as "Content-Disposition: attachment"
	// Size is the number of octets of Body. 0 = what Body's method Len says, if
	// it has one, and else Unknown.
	Size    int64
	Body    io.Reader  // nil = an empty body
	Success bool       // ask for success REPORTs
	Failure ReportWish // default Yes
	// Chunk is how many octets go into one SEND. 0 = as many as there are,
	// interrupted only when something else waits (CORE-53).
	Chunk int
	// Progress, if not nil, is told how many octets were queued, and how many
	// of them were confirmed: by success REPORTs if those are asked for, else by
	// responses. It is called from several goroutines, and must not block. A
	// Wait without error returns after the last call.
	Progress func(sent, confirmed int64)
}

// An Outgoing is a message that was sent, or is being.
type Outgoing struct {
	// Set by Send, then read-only.
	ID       string
	s        *Session
	failure  ReportWish
	success  bool
	progress func(sent, confirmed int64)
	done     chan struct{}
	stop     context.CancelCauseFunc // ends the sending of what was not sent

	mu       sync.Mutex // guards what follows; innermost
	sent     int64      // octets queued
	begun    int        // transactions; final once queued is set
	answered int
	telling  int   // calls of progress under way
	acked    spans // by responses
	reported spans // by success REPORTs
	empty    bool  // a success REPORT came, of whatever range
	queued   bool  // all of it
	ended    bool  // done is closed
	err      error
}

// Done is closed when Wait has something to return.
func (o *Outgoing) Done() <-chan struct{} { return o.done }

// Wait waits until every chunk was answered, unless Failure-Report says that no
// answer comes, and success REPORTs cover every octet if they were asked for
// (CORE-112). The error is a *StatusError if the message was refused, ErrTimeout
// if no response came 30 s after a chunk's last octet (RFC 4975 §7.1.1, CORE-95).
func (o *Outgoing) Wait(ctx context.Context) error {
	select {
	case <-o.done:
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (o *Outgoing) fail(err error) {
	o.mu.Lock()
	if !o.ended {
		o.ended, o.err = true, err
		close(o.done)
	}
	o.mu.Unlock()
	o.stop(err)
}

// settle ends o if nothing is awaited any more. o.mu is held.
func (o *Outgoing) settle() {
	if !o.ended && o.queued && o.answered >= o.begun && o.telling == 0 &&
		(!o.success || o.empty && o.reported.covers(o.sent)) {
		o.ended = true
		close(o.done)
	}
}

// onlyReports reports whether nothing but REPORTs can still come.
func (o *Outgoing) onlyReports() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended || o.queued && o.answered >= o.begun
}

// tell calls progress, if there is one, and settles after it. mu is held, but
// not during the call.
func (o *Outgoing) tell() {
	if o.progress != nil {
		sent, confirmed := o.sent, o.acked.size()
		if o.success {
			confirmed = o.reported.size()
		}
		o.telling++
		o.mu.Unlock()
		o.progress(sent, min(sent, confirmed)) // a peer can report more than it got
		o.mu.Lock()
		o.telling--
	}
	o.settle()
}

// An owner is an Outgoing as the Owner of its transactions.
type owner Outgoing

// Done implements Owner.
func (w *owner) Done(_ *Conn, tx *Transaction, r Result) {
	o := (*Outgoing)(w)
	switch {
	case r.OK(), errors.Is(r.Err, ErrTimeout) && o.failure == Partial:
		// CORE-96: with "partial" only bad news is sent; no news is good news.
		o.mu.Lock()
		o.answered++
		if len(o.acked) < o.s.e.lim.extents() {
			o.acked.add(tx.Range.Start, tx.Range.End)
		}
		o.tell()
		o.mu.Unlock()
	case r.Err != nil:
		o.fail(lost(r.Err))
	default:
		o.fail(&StatusError{r.Code, string(r.Head.Comment)})
	}
}

// report takes a REPORT (RFC 4975 §7.3.2, CORE-109, CORE-110).
func (o *Outgoing) report(r ByteRange, st Status) {
	if st.Code/100 != 2 {
		// CORE-111: what the peer did not get is lost for this session.
		o.fail(&StatusError{st.Code, st.Comment})
		return
	}
	o.mu.Lock()
	if r.End == Unknown {
		r.End = math.MaxInt64 - 1
	}
	o.empty = true
	if len(o.reported) < o.s.e.lim.extents() { // a peer may not fill our memory with gaps
		o.reported.add(r.Start, r.End)
	}
	o.tell()
	o.mu.Unlock()
}

// serveReport finds the message that a REPORT is about; what is unknown is
// ignored (CORE-101, CORE-109).
func (l *link) serveReport(h *Head) {
	if h.Err != nil || h.Status.Code == 0 {
		return
	}
	s := l.e.find(h.To)
	if s == nil || !s.enter() {
		return
	}
	defer s.leave()
	s.mu.Lock()
	o := s.sent[string(h.MessageID)]
	if s.conn != l.c {
		o = nil
	}
	s.mu.Unlock()
	if o == nil {
		return
	}
	if rh, ok := s.cfg.Handler.(ReportHandler); ok {
		rh.Report(s, o.ID, h.Range, h.Status) // first: who waits has then heard of it
	}
	o.report(h.Range, h.Status)
}

// ready waits until s is bound: who is passive may not send before the first
// request told it where to (RFC 4975 §5.4, CORE-116).
func (s *Session) ready(ctx context.Context) error {
	select {
	case <-s.bound:
		return nil
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Bind sends a SEND without a body and waits for the response: it tells the
// peer which session the connection is for (RFC 4975 §5.4, CORE-115), and
// later that it still is there (CORE-164).
func (s *Session) Bind(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := s.Err(); err != nil {
		return err
	}
	rp, err := s.conn.RoundTrip(ctx, &Request{
		Method: []byte("SEND"), Paths: s.paths(), Range: ByteRange{1, 0, 0},
		Before: []byte("Message-ID: " + NewID(20) + "\r\n"),
	})
	if err == nil && !rp.OK() {
		err = &StatusError{rp.Code, rp.Comment}
	}
	return err
}

// paths returns the lines To-Path and From-Path; the latter has the own URI
// alone (RFC 4976 §5.2, RELAY-13). s is bound.
func (s *Session) paths() []byte { return AppendPaths(nil, []byte(s.to), []byte(s.cfg.Local), nil) }

// Send sends m and returns when all of it is queued, or cannot be: m was
// refused meanwhile, ctx or the session is over, or its body is at fault. A
// message that was begun is then aborted (RFC 4975 §7.1, CORE-32). It must not
// be called from a Handler or Sink. Reading m.Body cannot be interrupted.
func (s *Session) Send(ctx context.Context, m *Message) (*Outgoing, error) {
	rq, size, err := s.compose(m)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	rq.Paths = s.paths()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	o := &Outgoing{
		ID: string(rq.Before[len("Message-ID: ") : len(rq.Before)-2]), s: s,
		success: m.Success, failure: m.Failure, progress: m.Progress,
		done: make(chan struct{}), stop: stop,
	}
	if err := s.track(o); err != nil {
		return nil, err
	}
	out := &sender{o: o, c: s.conn, turn: s.conn.h.(*link).turn, rq: rq}
	if m.Failure != No {
		out.tx = &Transaction{Owner: (*owner)(o), MessageID: MakeIdent([]byte(o.ID))}
	}
	body := source{r: m.Body, size: size, max: s.cfg.PeerMaxSize}
	if err := out.run(ctx, &body, m.Chunk); err != nil {
		out.abort()
		o.fail(err)
		return nil, err
	}
	o.mu.Lock()
	o.queued = true
	if out.stream != nil {
		o.begun += out.stream.transactions()
	}
	o.settle()
	o.mu.Unlock()
	return o, nil
}

// compose makes the request of m's chunks, but for the paths.
func (s *Session) compose(m *Message) (rq *Request, size int64, err error) {
	id := m.ID
	if id == "" {
		id = NewID(20) // RFC 4975 §7.1.1 (CORE-43)
	}
	switch {
	case !isIdent([]byte(id)):
		return nil, 0, fmt.Errorf("message-ID %q is no ident", id)
	case !isMediaType([]byte(m.ContentType)) || !isText([]byte(m.ContentType)):
		return nil, 0, fmt.Errorf("content type %q is no media type", m.ContentType)
	case !acceptsType(s.cfg.PeerTypes, m.ContentType):
		return nil, 0, &StatusError{415, "not among the peer's accept-types"} // RFC 4975 §8.6 (CORE-64)
	case m.Chunk < 0:
		return nil, 0, errors.New("negative chunk size")
	}
	size = m.Size
	if sized, ok := m.Body.(interface{ Len() int }); ok && size == 0 {
		size = int64(sized.Len())
	} else if m.Body != nil && size == 0 {
		size = Unknown
	}
	if s.cfg.PeerMaxSize > 0 && size > s.cfg.PeerMaxSize {
		return nil, 0, ErrTooLarge // RFC 4975 §8.6 (CORE-63)
	}
	rq = &Request{Method: []byte("SEND"), Before: []byte("Message-ID: " + id + "\r\n"), HasBody: true}
	var after strings.Builder
	if m.Success {
		after.WriteString("Success-Report: yes\r\n")
	}
	if m.Failure != Absent {
		after.WriteString("Failure-Report: " + m.Failure.String() + "\r\n")
	}
	for _, line := range m.Headers {
		if err := checkHeader(line); err != nil {
			return nil, 0, err
		}
		after.WriteString(line + "\r\n")
	}
	// RFC 4975 §7.1 (CORE-28): Content-Type comes last.
	after.WriteString("Content-Type: " + m.ContentType + "\r\n")
	rq.After = []byte(after.String())
	return rq, size, nil
}

// checkHeader keeps a header line from becoming two, or one that frames the message.
func checkHeader(line string) error {
	name, value, ok := cutHeader([]byte(line))
	own := slices.ContainsFunc([]string{
		"To-Path", "From-Path", "Message-ID", "Byte-Range", "Success-Report", "Failure-Report", "Status", "Content-Type",
		"Content-Transfer-Encoding", // RFC 4975 §7.1.1 (CORE-37)
	}, func(s string) bool { return equalFoldASCII(name, s) })
	if !ok || own || !isAlpha(name[0]) || !all(name, tokenChars) || !isText(value) {
		return fmt.Errorf("header line %q cannot be sent", line)
	}
	return nil
}

// track makes REPORTs find o, now and for some time after it was sent.
func (s *Session) track(o *Outgoing) error {
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	if old := s.sent[o.ID]; old != nil {
		select {
		case <-old.done:
			s.sentIDs = slices.DeleteFunc(s.sentIDs, func(p *Outgoing) bool { return p == old })
		default:
			s.mu.Unlock()
			return fmt.Errorf("message-ID %s is in use", o.ID)
		}
	}
	var oldest *Outgoing
	if len(s.sentIDs) >= max(1, s.e.lim.remembered()) {
		// Only what a peer can leave open for ever is given up: the rest ends in 30 s.
		if i := slices.IndexFunc(s.sentIDs, (*Outgoing).onlyReports); i >= 0 {
			oldest = s.sentIDs[i]
			s.sentIDs = slices.Delete(s.sentIDs, i, i+1)
			delete(s.sent, oldest.ID)
		}
	}
	s.sent[o.ID] = o
	s.sentIDs = append(s.sentIDs, o)
	s.mu.Unlock()
	if oldest != nil {
		oldest.fail(ErrNoReport) // unless it is done
	}
	return nil
}

// A sender queues one message. It is for one goroutine.
type sender struct {
	o      *Outgoing
	c      *Conn
	turn   chan struct{}
	rq     *Request
	tx     *Transaction // nil = no response comes
	pos    int64        // octets queued
	stream *Stream      // of an interruptible message, once it is begun
}

func (w *sender) run(ctx context.Context, body *source, chunk int) error {
	step := smallChunk
	if chunk > 0 {
		step = min(step, chunk)
	}
	for {
		piece, last, err := body.next(step)
		if err != nil {
			return err
		}
		flag := Continue
		if last {
			flag = Complete
		}
		w.o.mu.Lock()
		w.o.sent += int64(len(piece)) // first: the REPORT may be here before queue returns
		w.o.mu.Unlock()
		switch {
		case chunk > 0 && chunk <= smallChunk, w.stream == nil && last:
			// Known and short: the range can be exact (RFC 4975 §7.1.1, CORE-48).
			err = w.queue(ctx, len(piece), func() error { return w.sendChunk(piece, body.size, flag) })
		default:
			if w.stream == nil {
				w.rq.Range = ByteRange{1, Unknown, body.size}
				w.stream = w.c.NewStream(w.rq, w.tx)
			}
			if chunk > 0 {
				// A longer chunk is interruptible, and still ends where it was asked to.
				if left := int64(chunk) - w.pos%int64(chunk) - int64(len(piece)); !last && left > 0 {
					flag = 0
				}
			} else if !last {
				flag = 0
			}
			err = w.queue(ctx, len(piece), func() error { return w.stream.Write(piece, flag) })
			step = pieceSize
			if chunk > 0 {
				step = int(min(pieceSize, int64(chunk)-(w.pos+int64(len(piece)))%int64(chunk)))
			}
		}
		if err != nil {
			return err
		}
		w.pos += int64(len(piece))
		w.o.mu.Lock()
		w.o.tell()
		w.o.mu.Unlock()
		if last {
			return nil
		}
	}
}

// pieceSize is how much of a long message is queued at a time, and so how much
// one session sends before another that shares the connection has its turn.
const pieceSize = 16 << 10

func (w *sender) sendChunk(piece []byte, total int64, flag Flag) error {
	from := w.pos + 1
	w.rq.Range = ByteRange{from, w.pos + int64(len(piece)), total}
	if flag == Complete {
		w.rq.Range.Total = w.rq.Range.End
	}
	w.rq.Body, w.rq.Flag = piece, flag
	if w.tx != nil {
		w.tx.Range = w.rq.Range
		// Counted first: the response may be here before Send returns.
		w.o.mu.Lock()
		w.o.begun++
		w.o.mu.Unlock()
	}
	err := w.c.Send(w.rq, w.tx)
	if err != nil && w.tx != nil {
		w.o.mu.Lock()
		w.o.begun--
		w.o.mu.Unlock()
	}
	return err
}

// queue calls put when it is this message's turn, again while there is no room.
func (w *sender) queue(ctx context.Context, n int, put func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	n += len(w.rq.Paths) + len(w.rq.Before) + len(w.rq.After) + 128 // as Send and Write count
	for {
		err := put()
		if err == nil {
			w.c.Flush()
			return nil
		}
		if !errors.Is(err, ErrFull) {
			return lost(err)
		}
		if err := w.c.waitRoom(ctx, n); err != nil {
			return err
		}
	}
}

// abort tells the peer that no more comes, if anything did (RFC 4975 §7.1,
// §7.3.2, §10.5, CORE-91, CORE-92). Should the connection be gone, it knows.
func (w *sender) abort() {
	if w.pos == 0 {
		return
	}
	if w.stream == nil {
		w.rq.Range.Start = w.pos + 1
		w.stream = w.c.NewStream(w.rq, nil)
	}
	_ = w.stream.Write(nil, Abort)
	w.c.Flush()
}

// transactions returns how many s has begun.
func (s *Stream) transactions() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.begun
}

// A source reads a body in pieces and knows which is the last.
type source struct {
	r     io.Reader // nil once it is at its end
	size  int64     // or Unknown
	max   int64     // more is ErrTooLarge, if it is positive
	buf   []byte
	rest  []byte // of buf, read and not handed out
	total int64  // octets read
}

// next returns the next piece: n octets, or all there are. It reads one octet
// more, to know whether the body ends there. The piece is valid until the next call.
func (b *source) next(n int) (piece []byte, last bool, err error) {
	need := n + 1
	if b.size != Unknown {
		need = int(min(int64(need), int64(len(b.rest))+b.size-b.total+1)) // a short body gets a short buffer
	}
	if len(b.buf) < need {
		grown := make([]byte, need)
		copy(grown, b.rest)
		b.buf = grown
	} else {
		copy(b.buf, b.rest)
	}
	have := len(b.rest)
	if b.r != nil {
		m, err := io.ReadAtLeast(b.r, b.buf[have:need], need-have)
		b.total += int64(m)
		have += m
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			b.r = nil
		case err != nil:
			return nil, false, fmt.Errorf("read body: %w", err)
		}
	}
	switch {
	case b.size != Unknown && (b.total > b.size || b.r == nil && b.total < b.size):
		return nil, false, ErrSize
	case b.max > 0 && b.total > b.max:
		return nil, false, ErrTooLarge
	}
	n = min(n, have)
	b.rest = b.buf[n:have]
	return b.buf[:n], b.r == nil && have == n, nil
}
