package msrp

import "time"

// Limits bounds what one peer can make us hold. The zero value is usable: in
// each field 0 means the default; where a bound can be switched off, a negative
// value does so and the field says it.
type Limits struct {
	// Head is the longest start line and header block, in bytes. Default 16 KiB.
	Head int
	// Headers is the largest number of header lines of a frame; a frame that
	// has more is refused with 400. Default 64.
	Headers int
	// Piece is how many body bytes of a long chunk are handed on at once.
	// Default 16 KiB.
	Piece int
	// OtherBody is the longest body of a request other than SEND, in bytes;
	// more ends the connection. Default 10240 (RFC 4975 §7.1, §7.1.2, CORE-108).
	OtherBody int
	// Outbox is how many bytes of requests may wait to be written to one
	// connection. Default 256 KiB.
	Outbox int
	// Answers is how many bytes of responses and REPORTs may wait beside
	// them; while there are more, nothing is read from that peer. Default 1 MiB.
	Answers int
	// Pending is how many requests may wait for the response of one peer, at
	// most 2^24-1. Default 65536.
	Pending int
	// Transaction is how long a response may take, counted from the last octet
	// of the request. Default 30 s (RFC 4975 §7.1.1, RFC 4976 §6.4.1).
	Transaction time.Duration
	// Write is how long a peer may accept no byte before its connection is
	// closed. Default 30 s.
	Write time.Duration
	// Message is the largest message an endpoint session accepts, in bytes.
	// Default 1 GiB.
	Message int64
	// Partials is how many incomplete messages an endpoint session holds; the
	// one longest without a chunk gives way. Default 16.
	Partials int
	// Extents is how many gaps an incomplete message may have. Default 1024.
	Extents int
	// PartialIdle is how long an incomplete message is kept without a new
	// chunk. Default 10 min.
	PartialIdle time.Duration
	// Remembered is how many Message-IDs an endpoint session keeps of messages
	// done or refused, to know later chunks and duplicates. Default 1024.
	Remembered int
}

func or[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func (l *Limits) head() int                  { return or(l.Head, 16<<10) }
func (l *Limits) headers() int               { return or(l.Headers, 64) }
func (l *Limits) piece() int                 { return or(l.Piece, 16<<10) }
func (l *Limits) otherBody() int             { return or(l.OtherBody, 10240) }
func (l *Limits) outbox() int                { return or(l.Outbox, 256<<10) }
func (l *Limits) answers() int               { return or(l.Answers, 1<<20) }
func (l *Limits) pending() int               { return min(or(l.Pending, 1<<16), maxSlots-1) }
func (l *Limits) transaction() time.Duration { return or(l.Transaction, 30*time.Second) }
func (l *Limits) write() time.Duration       { return or(l.Write, 30*time.Second) }
func (l *Limits) message() int64             { return or(l.Message, 1<<30) }
func (l *Limits) partials() int              { return or(l.Partials, 16) }
func (l *Limits) extents() int               { return or(l.Extents, 1024) }
func (l *Limits) partialIdle() time.Duration { return or(l.PartialIdle, 10*time.Minute) }
func (l *Limits) remembered() int            { return or(l.Remembered, 1024) }
