package msrp

import (
	"errors"
	"slices"
	"sort"
	"strings"
	"time"
)

// Why a message is given up before it is whole; a Sink's Done is told. Other
// reasons are the end of the session and a *StatusError, the refusal.
var (
	// ErrAborted: its sender gave it up (RFC 4975 §7.1, CORE-73).
	ErrAborted = errors.New("msrp: message aborted by its sender")
	// ErrExpired: no chunk came for Limits.PartialIdle, or Limits.Partials
	// other incomplete messages were younger.
	ErrExpired = errors.New("msrp: message left incomplete")
	// ErrIncomplete: not all of the message has come.
	ErrIncomplete = errors.New("msrp: message not complete")
)

// A SessionHandler receives the messages of a session. It must not block: it
// holds up all sessions of the connection, and the sender has 30 s (RFC 4975
// §5.3, CORE-79). What takes long is done later, see Incoming.DeferReport.
type SessionHandler interface {
	// Receive is asked at the first chunk of each message. A Status of 0 or 200
	// accepts; then the octets go to the Sink, and nowhere if that is nil. Any
	// other is the answer to all chunks of that message.
	Receive(s *Session, m *Incoming) (Sink, Status)
	// Closed is the last call for this session; its Sinks are done before.
	Closed(s *Session, err error)
}

// A ReportHandler is a SessionHandler that wants to see the REPORTs on the
// messages it sent, beside what Outgoing.Wait makes of them. A relay answers
// 200 for itself, so bad news can come after that.
type ReportHandler interface {
	Report(s *Session, messageID string, r ByteRange, st Status)
}

// A Sink takes the octets of one message, as they come (CORE-78).
type Sink interface {
	// WriteAt is called as octets come: in any order, and more than once for
	// the same offset; the last counts (RFC 4975 §7.3.1, CORE-72). off is below
	// SessionConfig.MaxSize. An error refuses the message, with 413 unless it is
	// a *StatusError.
	WriteAt(b []byte, off int64) (int, error)
	// Done is called once. With a nil err every octet was written, and an error
	// it returns refuses the message, as above. Else the message is given up.
	Done(err error) error
}

// An Incoming is a message that is being received.
type Incoming struct {
	MessageID   string
	ContentType string
	Size        int64 // by its sender's word; may be Unknown
	From        []string
	Success     bool // a success REPORT is wanted
	Failure     ReportWish

	s    *Session
	way  string // From-Path
	head []byte // its header lines after From-Path

	// Guarded by s.mu.
	total    int64 // Unknown until it is complete
	deferred bool
	reported bool
}

// Header returns the value of the first header of this name in the first chunk.
func (m *Incoming) Header(name string) (value string, ok bool) {
	for v := range headersIn(m.head, name) {
		return v, true
	}
	return "", false
}

// DeferReport says that Report will be called: the message goes further, and
// that its octets are here means nothing yet. It must be called from Receive or
// from the Sink.
func (m *Incoming) DeferReport() {
	m.s.mu.Lock()
	m.deferred = true
	m.s.mu.Unlock()
}

// Report tells the sender what became of a complete message, once, so far as it
// wants to know (RFC 4975 §7.1.2). It may be called from any goroutine.
func (m *Incoming) Report(st Status) error {
	s := m.s
	st = st.fit()
	s.mu.Lock()
	var err error
	switch {
	case s.err != nil:
		err = s.err // RFC 4975 §7.1.2 (CORE-107)
	case m.total == Unknown:
		err = ErrIncomplete
	case m.reported:
		err = errors.New("msrp: message reported already")
	}
	if err == nil {
		m.reported = true
		s.seen.put(m.MessageID, verdict{done: true, st: st, total: m.total})
	}
	r := ByteRange{1, m.total, m.total}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	err = s.report(m.way, []byte(m.MessageID), r, st, m.Success, m.Failure)
	s.conn.Flush()
	return err
}

// report queues a REPORT if one is wanted. Success-Report and Failure-Report do
// not touch each other (RFC 4975 §7.1.2..7.1.4, CORE-83, CORE-102..104).
func (s *Session) report(way string, id []byte, r ByteRange, st Status, success bool, failure ReportWish) error {
	if st.Code/100 == 2 && !success || st.Code/100 != 2 && failure == No {
		return nil
	}
	if st.Comment == "" {
		st.Comment = StatusText(st.Code)
	}
	rq := Request{
		Method: []byte("REPORT"), Range: r, Flag: Complete,
		// CORE-100, RFC 4975 §7.1.3: To-Path is the whole From-Path of the SEND.
		Paths: AppendPaths(nil, []byte(way), []byte(s.cfg.Local), nil),
	}
	rq.Before, rq.After = AppendReport(nil, nil, id, st)
	return s.conn.Send(&rq, nil)
}

// A partial is a message not all of which has come. It is in Session.partials
// until someone takes it out, who then calls Done of its sink.
type partial struct {
	// Set once, then read-only.
	m    *Incoming
	sink Sink

	// Guarded by Session.mu.
	got   spans
	total int64 // Unknown until the chunk that ends it came
	last  time.Time
	busy  bool // a WriteAt runs
}

func (p *partial) giveUp(err error) { _ = p.sink.Done(err) } // it is given up already

type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (discard) Done(error) error                       { return nil }

// open finds or starts the message that a chunk belongs to, by the head alone.
// It returns why the chunk is refused, if it is. s.mu is not held.
func (s *Session) open(in *inbound, piece *Piece) Status {
	h := piece.Head
	s.mu.Lock()
	p := s.partials[string(h.MessageID)]
	v, known := s.seen.get(h.MessageID)
	s.mu.Unlock()
	switch {
	case !piece.HasBody && piece.Flag != Abort:
		return Status{} // RFC 4975 §7.1 (CORE-31): without a body it is pure traffic
	case p == nil && !known && piece.Last && piece.Flag == Abort:
		return Status{} // begun and given up at once
	case piece.HasBody && !acceptsType(s.cfg.AcceptTypes, h.ContentType):
		return Status{Code: 415} // RFC 4975 §7.3.1 (CORE-76)
	case p == nil && known && v.done:
		in.dup = true // RFC 4975 §5.4 (CORE-75)
		if in.success || v.st.Code/100 != 2 {
			in.way = string(h.From)
		}
		return Status{}
	case p == nil && known && (!v.aborted || h.Range.Start > 1):
		return v.st // CORE-159
	case h.Range.Total > s.max || h.Range.Start-1 > s.max:
		return s.refuse(p, h.MessageID, Status{Code: 413})
	case p == nil:
		return s.start(in, h)
	}
	in.p = p
	return Status{}
}

func (s *Session) start(in *inbound, h *Head) Status {
	m := &Incoming{
		MessageID: string(h.MessageID), ContentType: string(h.ContentType), Size: h.Range.Total,
		Success: h.Success == Yes, Failure: h.Failure,
		s: s, way: string(h.From), head: slices.Concat(h.Before, h.After), total: Unknown,
	}
	m.From = strings.Split(m.way, " ")
	sink, st := s.cfg.Handler.Receive(s, m)
	if !st.ok() {
		return s.refuse(nil, h.MessageID, st.fit())
	}
	if sink == nil {
		sink = discard{}
	}
	in.p = &partial{m: m, sink: sink, total: Unknown, last: time.Now()}
	s.mu.Lock()
	s.partials[m.MessageID] = in.p
	s.arm(s.e.lim.partialIdle())
	s.mu.Unlock()
	return Status{}
}

// refuse gives p up, which may be nil, and remembers the answer for the chunks
// that still come (CORE-159).
func (s *Session) refuse(p *partial, id []byte, st Status) Status {
	s.mu.Lock()
	s.seen.put(string(id), verdict{st: st})
	mine := p != nil && s.partials[string(id)] == p
	if mine {
		delete(s.partials, string(id))
	}
	s.mu.Unlock()
	if mine {
		p.giveUp(&StatusError{st.Code, st.Comment})
	}
	return st
}

// statusOf is how a Sink's error is told to the sender.
func statusOf(err error) Status {
	if se, ok := errors.AsType[*StatusError](err); ok && !(Status{Code: se.Code}).ok() {
		return Status{se.Code, se.Comment}.fit()
	}
	return Status{Code: 413}
}

// write takes octets of a body. Where they belong follows from how many came
// before, never from range-end (RFC 4975 §7.3.1, CORE-69).
func (s *Session) write(in *inbound, body []byte) Status {
	p := in.p
	from := in.rng.Start + in.count
	to := from + int64(len(body)) - 1
	var st Status
	s.mu.Lock()
	switch {
	case s.partials[p.m.MessageID] != p:
		v, _ := s.seen.get(in.id.Bytes()) // it expired while this chunk came
		s.mu.Unlock()
		return v.st
	case to > s.max:
		st = Status{Code: 413}
	case in.rng.Total != Unknown && to > in.rng.Total, p.total != Unknown && to > p.total:
		st = Status{400, "more octets than the total"} // CORE-162
	default:
		p.got.add(from, to)
		if len(p.got) > s.e.lim.extents() {
			st = Status{Code: 413}
		}
		p.last, p.busy = time.Now(), true
	}
	s.mu.Unlock()
	if !st.ok() {
		return s.refuse(p, in.id.Bytes(), st)
	}
	_, err := p.sink.WriteAt(body, from-1)
	s.mu.Lock()
	p.busy = false
	s.mu.Unlock()
	if err != nil {
		return s.refuse(p, in.id.Bytes(), statusOf(err))
	}
	return Status{}
}

// finish ends a chunk that was not refused so far.
func (l *link) finish(flag Flag) {
	in, c := &l.in, l.c
	s, p := in.s, in.p
	complete := false
	if p != nil {
		var st Status
		st, complete = s.endChunk(in, flag)
		in.refuse(c, st)
	}
	if !in.answered && (in.failure == Absent || in.failure == Yes) {
		in.answer(c, Status{Code: 200}) // RFC 4975 §7.2 (CORE-81, CORE-82)
	}
	in.answered = true
	s.mu.Lock()
	var v verdict
	r := ByteRange{in.rng.Start, in.rng.Start + in.count - 1, Unknown}
	if complete && !p.m.deferred {
		v, r = verdict{done: true, st: Status{Code: 200}, total: p.total}, ByteRange{1, p.total, p.total}
		s.seen.put(p.m.MessageID, v)
		p.m.reported = true
	} else if in.dup {
		if v, _ = s.seen.get(in.id.Bytes()); in.count == 0 && v.total > 0 {
			v.st.Code = 0 // nothing to report on
		}
		r.Total = max(v.total, r.End)
	}
	s.mu.Unlock()
	if v.st.Code == 0 {
		return
	}
	if complete {
		in.way, in.success, in.failure = p.m.way, p.m.Success, p.m.Failure
	}
	_ = s.report(in.way, in.id.Bytes(), r, v.st, in.success, in.failure) // a lost connection ends the session anyway
}

// endChunk takes a chunk's end-line, and reports whether the message is whole.
func (s *Session) endChunk(in *inbound, flag Flag) (st Status, complete bool) {
	p, id := in.p, in.p.m.MessageID
	end := in.rng.Start + in.count - 1
	s.mu.Lock()
	if s.partials[id] != p {
		v, _ := s.seen.get(in.id.Bytes()) // it expired
		s.mu.Unlock()
		return v.st, false
	}
	p.last = time.Now()
	var old *partial
	switch {
	case flag == Abort:
		// Chunks of it that another way delayed are not a new message.
		s.seen.put(id, verdict{aborted: true, st: Status{413, "message was aborted"}})
		delete(s.partials, id)
		s.mu.Unlock()
		p.giveUp(ErrAborted)
		return Status{}, false
	case flag == Complete && end < p.got.end():
		s.mu.Unlock()
		return s.refuse(p, in.id.Bytes(), Status{400, "octets beyond the end"}), false
	case flag == Complete:
		p.total = end // RFC 4975 §7.3.1 (CORE-70)
	}
	if complete = p.got.covers(p.total); complete {
		delete(s.partials, id)
		p.m.total = p.total
		s.seen.put(id, verdict{done: true, total: p.total})
	} else if len(s.partials) > s.e.lim.partials() {
		old = s.oldest()
	}
	s.mu.Unlock()
	if old != nil {
		old.giveUp(ErrExpired)
	}
	if complete {
		if err := p.sink.Done(nil); err != nil {
			return s.refuse(nil, in.id.Bytes(), statusOf(err)), false
		}
	}
	return Status{}, complete
}

// drop takes p out of the table, for want of chunks. s.mu is held.
func (s *Session) drop(p *partial) {
	delete(s.partials, p.m.MessageID)
	s.seen.put(p.m.MessageID, verdict{st: Status{413, "message left incomplete"}})
}

// oldest takes out the partial longest without a chunk. s.mu is held.
func (s *Session) oldest() *partial {
	var old *partial
	for _, p := range s.partials {
		if !p.busy && (old == nil || p.last.Before(old.last)) {
			old = p
		}
	}
	if old != nil {
		s.drop(old)
	}
	return old
}

// arm runs expire after d, if that is not due already. s.mu is held.
func (s *Session) arm(d time.Duration) {
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.expire)
	}
}

// expire gives up the messages that nothing more came of. One timer serves
// all; it is set for the one that is due first and looks again.
func (s *Session) expire() {
	if !s.enter() {
		return
	}
	defer s.leave()
	idle, now := s.e.lim.partialIdle(), time.Now()
	var late []*partial
	s.mu.Lock()
	s.timer = nil
	next := idle
	for _, p := range s.partials {
		if left := p.last.Add(idle).Sub(now); left > 0 {
			next = min(next, left)
		} else if !p.busy {
			late = append(late, p)
		}
	}
	for _, p := range late {
		s.drop(p)
	}
	if len(s.partials) > 0 {
		s.arm(next)
	}
	s.mu.Unlock()
	for _, p := range late {
		p.giveUp(ErrExpired)
	}
}

// A verdict is what became of a message.
type verdict struct {
	done    bool   // it was complete
	aborted bool   // a chunk at octet 1 starts it anew
	st      Status // for the chunks that still come; 0 while its Report is not made
	total   int64  // octets, when done
}

// A memory holds the verdicts on the last max messages.
type memory struct {
	max  int
	m    map[string]verdict
	ids  []string // those in m; a ring once it is full
	next int
}

func (k *memory) get(id []byte) (verdict, bool) {
	v, ok := k.m[string(id)]
	return v, ok
}

func (k *memory) put(id string, v verdict) {
	if k.m == nil {
		k.m = make(map[string]verdict)
	}
	if _, ok := k.m[id]; !ok {
		if len(k.ids) < max(1, k.max) {
			k.ids = append(k.ids, id)
		} else {
			delete(k.m, k.ids[k.next])
			k.ids[k.next] = id
			k.next = (k.next + 1) % len(k.ids)
		}
	}
	k.m[id] = v
}

// A span is the octets from to to, both included.
type span struct{ from, to int64 }

// spans is a set of octets: sorted, no two of them touch.
type spans []span

func (ss *spans) add(from, to int64) {
	if to < from {
		return
	}
	s := *ss
	i := sort.Search(len(s), func(i int) bool { return s[i].to >= from-1 })
	j := i
	for ; j < len(s) && s[j].from <= to+1; j++ {
		from, to = min(from, s[j].from), max(to, s[j].to)
	}
	if j == i+1 {
		s[i] = span{from, to} // the usual case: the chunk goes on
		return
	}
	*ss = slices.Replace(s, i, j, span{from, to})
}

// end returns the last octet's position.
func (ss spans) end() int64 {
	if len(ss) == 0 {
		return 0
	}
	return ss[len(ss)-1].to
}

// covers reports whether every octet 1..total is there (CORE-71).
func (ss spans) covers(total int64) bool {
	return total == 0 || total > 0 && len(ss) == 1 && ss[0].from == 1 && ss[0].to >= total
}

// size returns the number of octets.
func (ss spans) size() (n int64) {
	for _, s := range ss {
		n += s.to - s.from + 1
	}
	return n
}

const (
	bufferMax  = 1 << 20
	bufferPage = 4 << 10
)

// A Buffer is a Sink in memory. It takes room for the octets that came, not
// for those that a Byte-Range promises (RFC 4975 §14.5, CORE-74).
type Buffer struct {
	// Max is how many octets are taken; more are refused. Default 1 MiB.
	Max int64
	// Then is called by Done, with the message or with why it was given up.
	Then func(body []byte, err error) error

	data  []byte
	pages map[int64]*[bufferPage]byte // octets that came before those ahead of them
	end   int64
}

// WriteAt implements Sink.
func (b *Buffer) WriteAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if end > or(b.Max, int64(bufferMax)) {
		return 0, &StatusError{Code: 413}
	}
	b.end = max(b.end, end)
	if have := int64(len(b.data)); off <= have {
		n := copy(b.data[off:], p)
		b.data = append(b.data, p[n:]...)
		return len(p), nil
	}
	if b.pages == nil {
		b.pages = make(map[int64]*[bufferPage]byte)
	}
	for rest := p; len(rest) > 0; {
		page := b.pages[off/bufferPage]
		if page == nil {
			page = new([bufferPage]byte)
			b.pages[off/bufferPage] = page
		}
		n := copy(page[off%bufferPage:], rest)
		rest, off = rest[n:], off+int64(n)
	}
	return len(p), nil
}

// Done implements Sink.
func (b *Buffer) Done(err error) error {
	if err != nil {
		b.data, b.pages = nil, nil
		return b.Then(nil, err)
	}
	for off := int64(len(b.data)); off < b.end; off = int64(len(b.data)) {
		page := b.pages[off/bufferPage]
		if page == nil {
			return b.Then(nil, ErrIncomplete) // a Sink's caller never lets this happen
		}
		n := min(bufferPage, b.end-off/bufferPage*bufferPage)
		b.data = append(b.data, page[off%bufferPage:n]...)
	}
	b.pages = nil
	return b.Then(slices.Clip(b.data), nil)
}
