// Package trace shows frames as they come and go, to who asks: the log, a capture
// file, a Homer collector, or an operator who looks on.
//
//	sub := hub.Subscribe(trace.Filter{User: "alice"}, users)
//	defer sub.Close()
//	f, err := sub.Next(ctx)
//
// Credentials are never shown, and of session URIs, which are secrets, too, only
// the beginning (RFC 4976 §9, RELAY-124).
package trace

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

const (
	queueLen = 1024    // frames that wait for one reader
	maxBody  = 8 << 10 // bytes of a body that are shown
)

// A Filter says which frames to show; the zero value says all. What is set must
// all be true of a frame.
type Filter struct {
	// Session is one of the relay's session URIs, its session-id, or the
	// beginning of that, as logs show it.
	Session string
	// User has a session that the frame goes by. AUTHs that failed are nobody's.
	User string
	// Listener is that of the frame's connection, or "dialled".
	Listener string
	// Peer has the address at the other end of the connection.
	Peer netip.Prefix
	// Bodies shows the first 8 KiB of bodies, too.
	Bodies bool
}

// ParsePeer reads an address, or a prefix of some.
func ParsePeer(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// sessionMark returns the octets that a frame of f.Session has in a path.
func (f *Filter) sessionMark() []byte {
	id := f.Session
	if u, err := msrp.ParseURI(id); err == nil {
		id = u.Session
	}
	if id = strings.TrimSuffix(id, "~"); id == "" {
		return nil
	}
	return []byte("/" + id)
}

// An Event is a frame, or the beginning of a long one, as it is on the wire.
type Event struct {
	msrp.Traced
	Listener string
	Conn     uint64 // number of the connection
	Ends     Ends
}

// Ends are those of a connection. They are not known while it is dialled.
type Ends struct {
	Local, Remote netip.AddrPort
	Transport     string // tcp, tls, ws, wss
}

// A Frame is what is shown of an Event.
type Frame struct {
	Time     time.Time
	Out      bool // sent by the relay
	Listener string
	Conn     uint64
	Ends     Ends
	Users    []string // whose sessions it goes by
	Call     string   // the same for all frames by the same session; "" = not known
	Head     string   // lines with their CRLF, harmless
	Body     []byte   // its beginning, if wanted
	HasBody  bool
	Hidden   bool // there is more of the body
	TID      string
	Flag     msrp.Flag
	Lost     uint64 // frames before this one that there was no room for
}

// A Hub hands events to its subscribers. The zero value is ready.
type Hub struct {
	subs atomic.Pointer[[]*Sub] // nil = none
	lost atomic.Uint64
	mu   sync.Mutex // held to change subs
}

// Active reports whether there are subscribers. It is for the hot path: one atomic load.
func (h *Hub) Active() bool { return h.subs.Load() != nil }

// Readers is how many subscribers there are.
func (h *Hub) Readers() int {
	if subs := h.subs.Load(); subs != nil {
		return len(*subs)
	}
	return 0
}

// Lost is how many frames some subscriber had no room for.
func (h *Hub) Lost() uint64 { return h.lost.Load() }

// queued is an Event that is kept.
type queued struct {
	Event
	at time.Time
}

// Publish shows e to all who want it, and waits for nobody. Nothing of e is kept.
func (h *Hub) Publish(e *Event) {
	subs := h.subs.Load()
	if subs == nil {
		return
	}
	var kept *queued
	for _, s := range *subs {
		if !s.wants(e) {
			continue
		}
		if kept == nil {
			kept = &queued{*e, time.Now()}
			kept.Head, kept.TID = bytes.Clone(e.Head), bytes.Clone(e.TID)
			kept.Body = bytes.Clone(e.Body[:min(len(e.Body), maxBody)])
			kept.Whole = e.Whole && len(e.Body) <= maxBody
		}
		select {
		case s.queue <- kept:
		default:
			s.lost.Add(1)
			h.lost.Add(1)
		}
	}
}

// Subscribe begins to show frames. Users names the user of a live session URI of
// this relay by its session-id. Close must follow.
func (h *Hub) Subscribe(f Filter, users func(session string) (string, bool)) *Sub {
	s := &Sub{hub: h, filter: f, mark: f.sessionMark(), users: users, queue: make(chan *queued, queueLen), closed: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	subs := []*Sub{s}
	if old := h.subs.Load(); old != nil {
		subs = append(slices.Clone(*old), s)
	}
	h.subs.Store(&subs)
	return s
}

// A Sub is shown frames. Next is for one goroutine.
type Sub struct {
	hub    *Hub
	filter Filter
	mark   []byte
	users  func(string) (string, bool)
	queue  chan *queued
	lost   atomic.Uint64
	close  sync.Once
	closed chan struct{}
}

// Close ends s. Next then returns what is left, and io.EOF.
func (s *Sub) Close() {
	s.close.Do(func() {
		h := s.hub
		h.mu.Lock()
		defer h.mu.Unlock()
		subs := slices.DeleteFunc(slices.Clone(*h.subs.Load()), func(x *Sub) bool { return x == s })
		h.subs.Store(&subs)
		if len(subs) == 0 {
			h.subs.Store(nil)
		}
		close(s.closed)
	})
}

// wants decides by what costs nothing to look at; the user is looked up by Next.
func (s *Sub) wants(e *Event) bool {
	f := &s.filter
	return (f.Listener == "" || f.Listener == e.Listener) &&
		(!f.Peer.IsValid() || f.Peer.Contains(e.Ends.Remote.Addr())) &&
		(s.mark == nil || bytes.Contains(e.Head, s.mark))
}

// Next waits for the next frame. The error is that of ctx, or io.EOF once s is closed.
func (s *Sub) Next(ctx context.Context) (*Frame, error) {
	for {
		q, err := s.take(ctx)
		if err != nil {
			return nil, err
		}
		if f := s.frame(q); s.filter.User == "" || slices.Contains(f.Users, s.filter.User) {
			f.Lost = s.lost.Swap(0)
			return f, nil
		}
	}
}

func (s *Sub) take(ctx context.Context) (*queued, error) {
	select {
	case q := <-s.queue:
		return q, nil
	default:
	}
	select {
	case q := <-s.queue:
		return q, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.closed:
		return nil, io.EOF
	}
}

// Waiting reports whether Next would return at once.
func (s *Sub) Waiting() bool { return len(s.queue) > 0 }

func (s *Sub) frame(q *queued) *Frame {
	f := &Frame{
		Time: q.at, Out: q.Out, Listener: q.Listener, Conn: q.Conn, Ends: q.Ends,
		HasBody: q.HasBody, Hidden: q.HasBody && (!s.filter.Bodies && len(q.Body) > 0 || !q.Whole), TID: string(q.TID), Flag: q.Flag,
	}
	if s.filter.Bodies {
		f.Body = q.Body
	}
	var ids []string
	f.Head, ids = harmless(string(q.Head))
	call := ""
	for _, id := range ids {
		user, ours := s.users(id)
		if !ours {
			continue
		}
		if !slices.Contains(f.Users, user) {
			f.Users = append(f.Users, user)
		}
		if call == "" || id < call {
			call = id
		}
	}
	if call != "" {
		sum := sha256.Sum256([]byte(call))
		f.Call = hex.EncodeToString(sum[:8])
	}
	return f
}

// Each calls do with each frame until s is closed, ctx is done, or do fails. What
// waits when s is closed is done, too.
func (s *Sub) Each(ctx context.Context, do func(*Frame) error) error {
	for {
		f, err := s.Next(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := do(f); err != nil {
			return err
		}
	}
}

// harmless returns a head without its secrets, and the session-ids in its paths.
func harmless(head string) (string, []string) {
	var b strings.Builder
	var ids []string
	for line := range strings.SplitSeq(strings.TrimRight(head, "\r\n"), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		switch {
		case !ok:
			b.WriteString(line)
		case secret[strings.ToLower(name)]:
			b.WriteString(name + ": (hidden)")
		case paths[strings.ToLower(name)]:
			b.WriteString(name + ":")
			for uri := range strings.FieldsSeq(value) {
				u, err := msrp.ParseURI(uri)
				if err != nil {
					b.WriteString(" (not a URI)")
					continue
				}
				ids = append(ids, u.Session)
				b.WriteString(" " + u.Short())
			}
		default:
			b.WriteString(line)
		}
		b.WriteString("\r\n")
	}
	return b.String(), ids
}

var (
	secret = map[string]bool{"authorization": true, "www-authenticate": true, "authentication-info": true}
	paths  = map[string]bool{"to-path": true, "from-path": true, "use-path": true}
)
