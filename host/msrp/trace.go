package msrp

import "cmp"

// A Tracer sees the frames of a Conn.
type Tracer interface {
	// Tracing reports whether to call Frame. It is asked for each frame.
	Tracing() bool
	// Frame must not keep anything of t, and not call the Conn: for a frame that
	// is queued its lock is held, so that the trace has the order of the wire.
	Frame(t *Traced)
}

// Traced is a frame that was read or queued. Of a body that is not there whole
// only the first piece is shown.
type Traced struct {
	Out     bool // queued; else read
	Head    []byte
	TID     []byte
	Body    []byte
	HasBody bool
	Whole   bool // Body is all of it
	Flag    Flag // Continue if the end is not there yet
}

func (c *Conn) traced() bool { return c.trace != nil && c.trace.Tracing() }

func (c *Conn) traceRequest(rq *Request, tid *[tidLen]byte, body []byte, flag Flag) {
	id := *tid // that of the caller stays on its stack
	head := *rq
	head.HasBody = false // the blank line is not of the head
	c.trace.Frame(&Traced{
		Out: true, Head: appendHead(nil, &head, &id), TID: id[:], Body: body, HasBody: rq.HasBody, Whole: flag != 0, Flag: cmp.Or(flag, Continue),
	})
}
