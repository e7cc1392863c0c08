package msrp

import (
	"bytes"
	"strings"
	"time"
	"unicode"
)

// A Request is a request to be sent, its transaction id apart. Nothing of it
// is kept.
type Request struct {
	Method []byte
	// Paths is the two lines To-Path and From-Path, each with its CRLF.
	Paths []byte
	// Before and After are further header lines, each with its CRLF, that stand
	// on both sides of Byte-Range.
	Before, After []byte
	// Range is written as Byte-Range, unless its Start is 0.
	Range ByteRange
	// Body follows when HasBody is set.
	Body    []byte
	HasBody bool
	Flag    Flag
	// Wait is how long to wait for room in the outbox. 0 = not at all.
	Wait time.Duration
	// Arrived is what LastRead said when the end of what is forwarded here was
	// there; for Stats.
	Arrived time.Duration
	// Plain says that Body holds no "-------", so that it need not be searched for the
	// end-line: see Piece.
	Plain bool
	// Forwarded marks a REPORT that others made: so that they cannot keep a peer
	// from being answered, it gets less room.
	Forwarded bool
}

// HeadSize is how many octets the head of rq takes, at most.
func (rq *Request) HeadSize() int {
	return len(rq.Paths) + len(rq.Before) + len(rq.After) + len(rq.Method) + 128
}

// size is what rq takes in the outbox, nearly.
func (rq *Request) size() int { return rq.HeadSize() + len(rq.Body) }

// AppendPaths appends the lines To-Path and From-Path to b. A path given in
// two parts is joined by a space.
func AppendPaths(b []byte, to, from1 []byte, from2 Path) []byte {
	b = append(append(append(b, "To-Path: "...), to...), "\r\nFrom-Path: "...)
	b = append(b, from1...)
	if len(from1) > 0 && len(from2) > 0 {
		b = append(b, ' ')
	}
	return append(append(b, from2...), "\r\n"...)
}

// Send queues rq under a new transaction id; Flush or Touch starts to write it.
// With a tx, its Owner learns of the response; the end of tx.Range is set here,
// from the body. A REPORT has no response (CORE-99), so that its tx is ignored;
// it goes out beside the queue, in room of its own. On error nothing was queued, and the Owner is not called.
func (c *Conn) Send(rq *Request, tx *Transaction) error {
	report := string(rq.Method) == "REPORT"
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.half || (c.finish != nil || c.barred) && !report {
		return ErrClosed
	}
	if report {
		return c.sendReport(rq)
	}
	if n := rq.size(); !c.hasRoom(n) {
		if err := c.roomWithin(n, rq.Wait); err != nil {
			return err
		}
	}
	c.interrupt()
	i := int32(-1)
	if tx != nil {
		i = c.slots.open(tx, c.lim.pending())
		c.slots.all[i].tx.Range.End = tx.Range.Start + int64(len(rq.Body)) - 1
	}
	searched := rq.Body
	if rq.Plain {
		searched = nil
	}
	tid := c.freshTID(i, searched)
	from := c.requests.total
	c.requests.appendHead(rq, &tid)
	if c.traced() {
		c.traceRequest(rq, &tid, rq.Body, rq.Flag)
	}
	if rq.HasBody {
		c.requests.append(rq.Body)
		c.requests.append(crlf)
	}
	c.requests.appendEnd(&tid, rq.Flag)
	if i >= 0 {
		c.slots.all[i].arrived = rq.Arrived
		c.slots.sent(i, c.requests.total)
	}
	c.countSent(&c.requests, methodKind(rq.Method), 1, from)
	return nil
}

// freshTID makes a transaction id for slot i that does not occur in body.
func (c *Conn) freshTID(i int32, body []byte) [tidLen]byte {
	for {
		tid := c.newTID(max(i, 0))
		if !collides(body, &tid) {
			if i >= 0 {
				c.slots.all[i].tid = tid
			}
			return tid
		}
	}
}

// sendReport queues rq among the responses. mu is held.
func (c *Conn) sendReport(rq *Request) error {
	// REPORTs are never answered (CORE-99), so nothing slows their senders down.
	max := 2 * c.lim.answers()
	if rq.Forwarded {
		max = c.lim.answers() / 4
	}
	if c.answers.size > max {
		return ErrFull
	}
	c.interrupt()
	tid := c.freshTID(-1, rq.Body)
	from := c.answers.total
	c.answers.appendHead(rq, &tid)
	if c.traced() {
		c.traceRequest(rq, &tid, rq.Body, rq.Flag)
	}
	if rq.HasBody {
		c.answers.append(rq.Body)
		c.answers.append(crlf)
	}
	c.answers.appendEnd(&tid, rq.Flag)
	c.countSent(&c.answers, kindReport, 1, from)
	return nil
}

// appendHead appends the head of rq, with the blank line if it has a body.
func appendHead(b []byte, rq *Request, tid *[tidLen]byte) []byte {
	b = append(append(b, "MSRP "...), tid[:]...)
	b = append(append(append(b, ' '), rq.Method...), crlf...)
	b = append(append(b, rq.Paths...), rq.Before...)
	if rq.Range.Start > 0 {
		b = append(rq.Range.Append(append(b, "Byte-Range: "...)), crlf...)
	}
	b = append(b, rq.After...)
	if rq.HasBody {
		b = append(b, crlf...)
	}
	return b
}

func (q *queue) appendHead(rq *Request, tid *[tidLen]byte) {
	q.commit(appendHead(q.reserve(rq.HeadSize()), rq, tid))
}

func (q *queue) appendEnd(tid *[tidLen]byte, flag Flag) {
	b := q.reserve(len(dashes) + tidLen + 3)
	q.commit(append(append(append(b, dashes...), tid[:]...), byte(flag), '\r', '\n'))
	q.endFrame()
}

// StatusText returns the comment that usually goes with a registered code.
func StatusText(code int) string {
	switch code {
	case 200:
		return "OK"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 408:
		return "Downstream timeout"
	case 413:
		return "Message too large"
	case 415:
		return "Unsupported media type"
	case 423:
		return "Interval Out-of-Bounds"
	case 481:
		return "No such session"
	case 501:
		return "Unknown method"
	case 506:
		return "Session in use on another connection"
	}
	return ""
}

// Respond queues the response to the request h, which has its paths. Its
// comment, if empty, is the usual one; headers are lines with their CRLF.
// A response to SEND goes to the first From-Path URI only, to any other method
// to all of them (RFC 4975 §7.2, CORE-85).
func (c *Conn) Respond(h *Head, code int, comment string, headers []byte) error {
	to := h.From
	if h.Is("SEND") {
		to = h.From.First()
	}
	return c.SendResponse(&Response{
		TID: h.TID, Code: code, Comment: comment, To: to, From: h.To.First(), Headers: headers,
	})
}

// A Response is a response to be sent. Nothing of it is kept.
type Response struct {
	TID     []byte
	Code    int
	Comment string // "" = StatusText(Code); control characters become spaces
	To      Path
	From    Path
	From2   Path   // follows From, if not empty
	Headers []byte // further lines, each with its CRLF
}

// SendResponse queues r beside the requests. Serve stops reading from a peer
// that has too many answers to read, so that room for those to its own requests
// never lacks; for others' it may, and then the error is ErrFull.
func (c *Conn) SendResponse(r *Response) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.half {
		return ErrClosed // the peer was told that no more comes
	}
	if c.answers.size > 2*c.lim.answers() {
		return ErrFull
	}
	c.interrupt()
	from := c.answers.total
	c.answers.appendResponse(r)
	c.countSent(&c.answers, codeKind(r.Code), 1, from)
	if c.traced() {
		c.trace.Frame(&Traced{Out: true, Head: appendResponseHead(nil, r), TID: bytes.Clone(r.TID), Whole: true, Flag: Complete})
	}
	return nil
}

// appendResponseHead appends all but the end-line to b.
func appendResponseHead(b []byte, r *Response) []byte {
	comment := r.Comment
	if comment == "" {
		comment = StatusText(r.Code)
	}
	b = append(append(append(b, "MSRP "...), r.TID...), ' ')
	b = appendCode(b, r.Code)
	if comment != "" {
		b = appendLine(append(b, ' '), comment)
	}
	b = append(append(b, "\r\nTo-Path: "...), r.To...)
	b = append(append(b, "\r\nFrom-Path: "...), r.From...)
	if len(r.From2) > 0 {
		b = append(append(b, ' '), r.From2...)
	}
	return append(append(b, crlf...), r.Headers...)
}

// appendLine appends text with spaces for control characters: hooks and peers have
// a say in it, and a line break would make a header of what follows.
func appendLine(b []byte, text string) []byte {
	if strings.IndexFunc(text, unicode.IsControl) >= 0 {
		text = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, text)
	}
	return append(b, text...)
}

func (q *queue) appendResponse(r *Response) {
	size := len(r.TID)*2 + len(r.Comment) + len(r.To) + len(r.From) + len(r.From2) + len(r.Headers) + 128
	b := appendResponseHead(q.reserve(size), r)
	q.commit(append(append(append(b, dashes...), r.TID...), "$\r\n"...))
	q.endFrame()
}

// appendCode appends code as the three digits that it always has (RFC 4975 §9).
// A forwarded "007" that became "7" would cost its receiver the framing, and so
// the connection.
func appendCode(b []byte, code int) []byte {
	return append(b, byte('0'+code/100%10), byte('0'+code/10%10), byte('0'+code%10))
}

// AppendReport appends the lines of a REPORT on what a chunk carried (RFC 4975
// §7.1.3, §7.1.4): Message-ID to before, Status to after.
func AppendReport(before, after []byte, messageID []byte, st Status) (b, a []byte) {
	b = append(append(append(before, "Message-ID: "...), messageID...), "\r\n"...)
	a = appendCode(append(after, "Status: 000 "...), st.Code)
	if st.Comment != "" {
		a = append(append(a, ' '), st.Comment...)
	}
	return b, append(a, "\r\n"...)
}

// A Stream sends one message, or the rest of one, of a length that need not be
// known: as one SEND with range-end "*" that is interrupted when something else
// waits for the connection, and goes on in another (RFC 4975 §7.1.1, CORE-48,
// CORE-53, CORE-55, CORE-56; for a relay RELAY-90). It is for one goroutine.
type Stream struct {
	// Set by NewStream, then read-only.
	c                    *Conn
	paths, before, after []byte
	total                int64
	owner                Owner // nil = no response is awaited
	id                   Ident

	// Wait is how long Write waits for room in the outbox. 0 = not at all.
	Wait time.Duration
	// Arrived is Request.Arrived of what is written, and Plain is Request.Plain.
	Arrived time.Duration
	Plain   bool

	// Guarded by c.mu.
	pos   int64 // of the next octet
	open  bool  // a chunk is begun
	slot  int32 // of the chunk; -1 if it has none or its response came
	begun int   // transactions begun
	tid   [tidLen]byte
	tail  []byte // the last octets of the chunk, where a forbidden end-line may begin
}

// NewStream returns a Stream that takes what rq says but for its body and
// flag; rq.Range.Start is where it begins. Each chunk is a transaction of tx's
// Owner; with a nil tx no response is awaited. rq is copied.
func (c *Conn) NewStream(rq *Request, tx *Transaction) *Stream {
	s := &Stream{
		c: c, paths: bytes.Clone(rq.Paths), before: bytes.Clone(rq.Before), after: bytes.Clone(rq.After),
		total: rq.Range.Total, pos: max(1, rq.Range.Start), slot: -1,
	}
	if tx != nil {
		s.owner, s.id = tx.Owner, tx.MessageID
	}
	return s
}

// Write queues body. A flag other than 0 ends the stream after it. It returns
// ErrFull, having queued nothing, when there is no room. On a connection that
// carries messages each Write is whole chunks: what is not whole could not leave.
func (s *Stream) Write(body []byte, flag Flag) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	ending := s.open && len(body) == 0 // an end-line always has room
	if (c.finish != nil || c.barred) && !ending {
		return ErrClosed
	}
	ending = ending || c.chunk > 0 && len(body) == 0
	if n := s.size(len(body)); !ending && !c.hasRoom(n) {
		if err := c.roomWithin(n, s.Wait); err != nil {
			return err
		}
	}
	for c.chunk > 0 && len(body) > c.chunk {
		s.put(body[:c.chunk], Continue)
		body = body[c.chunk:]
	}
	if c.chunk > 0 && flag == 0 {
		flag = Continue
	}
	s.put(body, flag)
	return nil
}

// size is what a body of n octets takes in the outbox, nearly.
func (s *Stream) size(n int) int {
	chunks := 1
	if s.c.chunk > 0 {
		chunks += n / s.c.chunk
	}
	return n + chunks*(len(s.paths)+len(s.before)+len(s.after)+128)
}

// put queues body and, with a flag, the end of the chunk. c.mu is held.
func (s *Stream) put(body []byte, flag Flag) {
	c := s.c
	if s.open && s.collides(body) {
		s.close(Continue) // CORE-34, RELAY-95: the rest goes under another transaction id
	}
	if !s.open && (len(body) > 0 || flag == Complete || flag == Abort) {
		s.begin(body, flag)
	}
	if s.open {
		from := c.requests.total
		c.requests.append(body)
		c.countSent(&c.requests, kindSend, 0, from)
		s.pos += int64(len(body))
		s.keepTail(body)
	}
	if flag != 0 && s.open {
		s.close(flag)
	}
}

// tailLen is how much of an end-line's dashes and transaction id can be there
// without being one.
const tailLen = len("-------") + tidLen - 1

// collides reports whether body, behind what the chunk holds, would end it.
func (s *Stream) collides(body []byte) bool {
	if !s.Plain && collides(body, &s.tid) {
		return true
	}
	var mem [2 * tailLen]byte
	joint := append(append(mem[:0], s.tail...), body[:min(len(body), tailLen)]...)
	return collides(joint, &s.tid)
}

// keepTail keeps the last octets in which an end-line may have begun.
func (s *Stream) keepTail(body []byte) {
	body = body[max(0, len(body)-tailLen):]
	keep := min(len(s.tail), tailLen-len(body))
	n := copy(s.tail, s.tail[len(s.tail)-keep:])
	s.tail = append(s.tail[:n], body...)
}

// begin queues the head of a chunk, and shows it to the trace with what follows at
// once. c.mu is held.
func (s *Stream) begin(body []byte, flag Flag) {
	c := s.c
	c.interrupt()
	if s.slot = -1; s.owner != nil {
		tx := Transaction{Owner: s.owner, MessageID: s.id, Range: ByteRange{s.pos, Unknown, s.total}}
		s.slot = c.slots.open(&tx, c.lim.pending())
		if s.slot >= 0 {
			s.begun++
		}
	}
	searched := body
	if s.Plain {
		searched = nil
	}
	s.tid = c.freshTID(s.slot, searched)
	rq := Request{
		Method: []byte("SEND"), Paths: s.paths, Before: s.before, After: s.after,
		Range: ByteRange{s.pos, Unknown, s.total}, HasBody: true,
	}
	from := c.requests.total
	c.requests.appendHead(&rq, &s.tid)
	c.countSent(&c.requests, kindSend, 1, from)
	if c.traced() {
		c.traceRequest(&rq, &s.tid, body, flag)
	}
	s.open, s.tail, c.open = true, s.tail[:0], s
}

// close ends the chunk. c.mu is held.
func (s *Stream) close(flag Flag) {
	c := s.c
	from := c.requests.total
	c.requests.append(crlf)
	c.requests.appendEnd(&s.tid, flag)
	c.countSent(&c.requests, kindSend, 0, from)
	if s.slot >= 0 {
		c.slots.all[s.slot].arrived = s.Arrived
		c.slots.all[s.slot].tx.Range.End = s.pos - 1
		c.slots.sent(s.slot, c.requests.total)
		s.slot = -1
	}
	s.open, c.open = false, nil
}

// interrupt ends the chunk that is being queued, because something else goes
// out: a response or REPORT must (RFC 4975 §7.1.1, CORE-56), another session's
// request may (CORE-57). mu is held.
func (c *Conn) interrupt() {
	if c.open != nil {
		c.open.close(Continue)
	}
}
