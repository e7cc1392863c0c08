package relay

import (
	"bytes"
	"errors"

	"github.com/parley-msrp/parley/host/msrp"
)

// A reporter tells the original sender that a SEND this relay answered for was
// lost: "the hop that got a non-200 or a time-out from its next hop" does
// (RFC 4976 §6.4.1, §6.4.3, RELAY-84..87). Responses go no further (RELAY-99),
// and of success only the last endpoint reports (RELAY-100).
type reporter struct {
	in   *conn
	from msrp.Path // of the SEND
	own  []byte    // the first URI of its To-Path
	// partial: Failure-Report was "partial", which leaves out time-outs
	// (RFC 4975 §7.1.4, CORE-82).
	partial bool
}

// cares reports whether the sender wants to hear of this failure.
func (o *reporter) cares(r msrp.Result) bool {
	return !o.partial || !errors.Is(r.Err, msrp.ErrTimeout)
}

// Done implements [msrp.Owner].
func (o *reporter) Done(_ *msrp.Conn, tx *msrp.Transaction, r msrp.Result) {
	if r.OK() || !o.cares(r) {
		return
	}
	o.in.count(reportsMade)
	code, comment := failure(r)
	// RFC 4976 §6.4.1 and RFC 4975 §7.1.3 (RELAY-89): To-Path is the whole
	// From-Path of the SEND, From-Path the URI of ours that it was sent to.
	rq := msrp.Request{Method: []byte("REPORT"), Range: tx.Range, Flag: msrp.Complete}
	rq.Paths = msrp.AppendPaths(nil, o.from, o.own, nil)
	rq.Before, rq.After = msrp.AppendReport(nil, nil, tx.MessageID.Bytes(), msrp.Status{Code: code, Comment: comment})
	if err := o.in.m.Send(&rq, nil); err != nil {
		o.in.count(droppedReport) // the sender is gone, or does not read
		return
	}
	o.in.m.Flush()
}

// maxComment is how much of a response's comment goes on in a REPORT, in bytes.
const maxComment = 128

// failure returns the code that a REPORT or a late answer carries. Only codes
// that are registered may (ECO-197); a next hop that is gone means that the
// session is.
func failure(r msrp.Result) (code int, comment string) {
	switch {
	case r.Head != nil:
		if code = r.Code; code < 300 || code > 999 {
			code = 400 // CORE-93
		}
		// A comment is for people; a long one would make the REPORT too long to read.
		return code, string(r.Head.Comment[:min(len(r.Head.Comment), maxComment)])
	case errors.Is(r.Err, msrp.ErrTimeout):
		return 408, msrp.StatusText(408)
	case errors.As(r.Err, new(unreachable)):
		return 408, "Next hop not reached"
	}
	return 481, "Connection lost"
}

// forwardOther forwards a request that is neither SEND nor for this relay:
// REPORT, AUTH to another relay, and methods that are not known here (RFC 4976
// §6.4.2, RELAY-102). There is no answer from here.
func (c *conn) forwardOther(rt *route, p *msrp.Piece) bool {
	h := p.Head
	rq := msrp.Request{
		Method: h.Method, Paths: rt.paths, Before: h.Before, After: h.After,
		Body: p.Body, HasBody: p.HasBody, Flag: p.Flag, Forwarded: true,
	}
	if h.HasRange {
		rq.Range = h.Range
	}
	if rq.HeadSize() > c.r.cfg().maxHead {
		c.refuse(h, refusedSyntax, 400, "Head too large to be forwarded")
		return true
	}
	var tx *msrp.Transaction
	if !h.Is("REPORT") {
		_, answer := h.Get("Authorization")
		tx = &msrp.Transaction{Owner: &inTransit{rt: rt, tid: msrp.MakeIdent(h.TID), auth: h.Is("AUTH"), answer: answer && h.Is("AUTH")}}
	}
	err := rt.out.m.Send(&rq, tx)
	if err == msrp.ErrFull && tx != nil {
		rq.Wait = c.patience(rt.out)
		err = c.patient(rt.out, rt.out.m.Send(&rq, tx))
	}
	switch {
	case err == nil:
		c.m.Touch(rt.out.m)
		c.succeeded()
	case err != msrp.ErrFull && tx != nil:
		return false
	case tx != nil:
		c.refuse(h, refusedSlow, 413, "Receiver too slow")
	default:
		c.count(droppedReport) // it is gone, or does not read
	}
	return true
}

// inTransit is a request that was forwarded and whose response goes back under
// the transaction id it came with, over the connection it came on (RFC 4976
// §6.4.3, RELAY-52, RELAY-107). If none comes
// its sender notices by itself (RELAY-109).
type inTransit struct {
	rt     *route
	tid    msrp.Ident
	auth   bool // it is an AUTH
	answer bool // and has an answer to a challenge
}

// Done implements [msrp.Owner].
func (o *inTransit) Done(out *msrp.Conn, _ *msrp.Transaction, r msrp.Result) {
	if r.Head == nil {
		return
	}
	rt := o.rt
	in := rt.in
	if o.answer && r.Code == 401 && in.cert == nil && in.l != nil && !bytes.Contains(bytes.ToLower(r.Head.After), []byte("stale=true")) {
		// RFC 4976 §6.3 (RELAY-39): the same as for AUTHs to this relay, and
		// likewise not of other relays (RELAY-40).
		in.accuse(false)
		if int(in.transit.Add(1)) >= or(in.r.cfg().Limits.AuthFailures, 5) {
			defer in.finish(errFailures)
		}
	}
	// Take off what was pushed; each URI moves to the front of From-Path.
	h := r.Head
	sent, from := rt.from(), h.From
	if !bytes.Equal(h.To, sent) && !bytes.Equal(h.To, sent.First()) {
		in.count(droppedResponse) // RELAY-104: not addressed as it must be
		return
	}
	// Kamailio names the next hop only, as for a SEND; we know the others.
	to := sent
	for range rt.pushed {
		u := to.First()
		to = to.Rest()
		b := make(msrp.Path, 0, len(u)+1+len(from))
		from = append(append(append(b, u...), ' '), from...)
	}
	headers := h.After
	if h.HasRange {
		headers = append(append(bytes.Clone(h.Before), "Byte-Range: "...), h.Range.String()+"\r\n"...)
		headers = append(headers, h.After...)
	}
	if len(to)+len(from)+len(headers)+len(h.Comment)+128 > in.r.cfg().maxHead {
		in.count(droppedResponse)
		return
	}
	if o.auth && r.Code/100 == 2 {
		in.transit.Store(0)
	}
	err := in.m.SendResponse(&msrp.Response{
		TID: o.tid.Bytes(), Code: r.Code, Comment: string(h.Comment), To: to, From: from, Headers: headers,
	})
	if err != nil {
		in.count(droppedResponse) // RELAY-107: "discard"; the connection is gone, or is not read
		return
	}
	out.Touch(in.m)
}
