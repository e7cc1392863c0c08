package relay

import (
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/trace"
)

// Trace begins to show frames; see [trace.Hub.Subscribe].
func (r *Relay) Trace(f trace.Filter) *trace.Sub { return r.frames.Subscribe(f, r.userOf) }

// userOf returns the user of a session URI of this relay.
func (r *Relay) userOf(session string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.sessions[session]; e != nil {
		return e.session.user, true
	}
	return "", false
}

// Tracing implements [msrp.Tracer].
func (c *conn) Tracing() bool { return c.r.frames.Active() }

// Frame implements [msrp.Tracer].
func (c *conn) Frame(t *msrp.Traced) {
	e := trace.Event{Traced: *t, Listener: c.group.name, Conn: c.id}
	if ends := c.ends.Load(); ends != nil {
		e.Ends = *ends
	}
	c.r.frames.Publish(&e)
}
