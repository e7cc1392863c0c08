package msrp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
)

// A Reply is a response that outlives its connection's buffer.
type Reply struct {
	Code    int
	Comment string
	Head    []byte // start line and headers, each with its CRLF
}

// OK reports whether the request was accepted (CORE-93).
func (r *Reply) OK() bool { return r.Code/100 == 2 }

// Header returns the value of the first header of this name, in any case.
func (r *Reply) Header(name string) (value string, ok bool) {
	for v := range headersIn(r.Head, name) {
		return v, true
	}
	return "", false
}

// Headers returns the values of all headers of this name.
func (r *Reply) Headers(name string) []string {
	var vs []string
	for v := range headersIn(r.Head, name) {
		vs = append(vs, v)
	}
	return vs
}

// headersIn yields the values of the headers of this name among lines.
func headersIn(lines []byte, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(lines) > 0 {
			var line []byte
			line, lines = cutLine(lines)
			if n, v, ok := cutHeader(line); ok && equalFoldASCII(n, name) && !yield(string(v)) {
				return
			}
		}
	}
}

// A StatusError is the refusal of a request or of a message: by a response or
// by a REPORT, which count alike (RFC 4975 §7.3.2, CORE-110).
type StatusError struct {
	Code    int
	Comment string
}

func (e *StatusError) Error() string {
	comment := e.Comment
	if comment == "" {
		comment = StatusText(e.Code)
	}
	return fmt.Sprintf("msrp: %03d %s", e.Code, comment)
}

// Is makes a 408 count as a time-out of ours: a relay noticed it in our place
// (RFC 4976 §6.4.1).
func (e *StatusError) Is(target error) bool { return e.Code == 408 && target == ErrTimeout }

// RoundTrip sends rq and waits for its response, which may say no. Without a
// response the error is ctx's, ErrTimeout, or that of the connection. It must
// not be called from a Handler, whose return the response waits for.
func (c *Conn) RoundTrip(ctx context.Context, rq *Request) (*Reply, error) {
	if string(rq.Method) == "REPORT" {
		return nil, errors.New("msrp: a REPORT has no response") // RFC 4975 §7.1.2 (CORE-99)
	}
	whole := *rq
	if whole.Flag == 0 {
		whole.Flag = Complete
	}
	w := make(waiter, 1)
	for {
		err := c.Send(&whole, &Transaction{Owner: w, Range: whole.Range})
		if err == nil {
			break
		}
		if !errors.Is(err, ErrFull) {
			return nil, lost(err)
		}
		if err := c.waitRoom(ctx, whole.size()); err != nil {
			return nil, err
		}
	}
	c.Flush()
	select {
	case a := <-w:
		return a.reply, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

type answer struct {
	reply *Reply
	err   error
}

// A waiter owns one transaction. It has room for the one answer, so that
// nobody needs to be there to take it.
type waiter chan answer

// Done implements Owner.
func (w waiter) Done(_ *Conn, _ *Transaction, r Result) {
	switch {
	case r.Head != nil:
		h := r.Head
		w <- answer{reply: &Reply{Code: r.Code, Comment: string(h.Comment), Head: bytes.Clone(h.Raw)}}
	default:
		w <- answer{err: lost(r.Err)}
	}
}

// lost names what a connection's end means to someone who still wanted
// something of it: a bare EOF says nothing.
func lost(err error) error {
	if errors.Is(err, ErrTimeout) {
		return err
	}
	return fmt.Errorf("connection lost: %w", err)
}

// waitRoom waits until a request of n octets can be sent, or ctx is over.
func (c *Conn) waitRoom(ctx context.Context, n int) error {
	stop := context.AfterFunc(ctx, c.wakeAll)
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	// No deadline of its own: a peer that reads nothing loses the connection
	// (Limits.Write), and before there is one ctx is all that counts.
	err := c.await(math.MaxInt64, func() bool { return ctx.Err() != nil || c.hasRoom(n) })
	switch {
	case err != nil:
		return lost(err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

func (c *Conn) wakeAll() {
	c.mu.Lock()
	c.wake()
	c.mu.Unlock()
}
