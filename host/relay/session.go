package relay

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/msrp"
)

// A session is what one AUTH opened: a session URI, bound to the connection on
// which it was given (RFC 4976 §6.3, RELAY-45), or to the relay through which.
type session struct {
	// Set by newSession, then read-only.
	r        *Relay
	log      *slog.Logger
	conn     *conn                    // the way back to the client; nil if it is behind
	via      *inner                   // another relay
	back     atomic.Pointer[msrp.URI] // the first URI on that way: From-Path of the AUTH (RELAY-115); see leadsBack
	backSum  [16]byte                 // its fingerprint
	user     string
	listener *Listener // where the AUTH came in, as it was then
	main     *entry    // what Use-Path shows
	expires  time.Time
	timer    *time.Timer
	out, in  *limit.Meter // of what it sends and what it is sent; nil = no limit
	ofUser   *limit.Meter // of what its user sends
	message  int64        // octets of the largest; 0 = no limit

	dead atomic.Bool

	// Guarded by r.mu.
	entries []*entry // main and the fronts
	account *account // set once
	place   *place   // likewise; nil = nowhere

	mu         sync.Mutex        // guards what follows
	attributes map[string]string // labels by hooks, for hooks; the map itself is never changed
	peers      map[string]*conn  // by their URI: those that reached this session, or were dialled for it
	exits      map[string]*exit  // by next-hop URI: how the session leaves there
}

// An entry is one URI of a session: the one in its client's Use-Path, or the
// one that stands for it on another interface.
type entry struct {
	session  *session
	listener *Listener
	uri      msrp.URI
	raw      []byte // as issued
}

// An exit is what select_interface decided for a next hop.
type exit struct {
	iface  *Interface // nil = the default
	source netip.Addr
	front  *entry
}

// sessionIDLen gives 6 bits each: 132 bits (RFC 4976 §6.3 asks for 64, RFC 4975
// §14.1 for 80; RELAY-58).
const sessionIDLen = 22

// newEntry gives s one more URI, of listener l. r.mu is held.
func (r *Relay) newEntry(s *session, l *Listener) *entry {
	id := r.sealID(s, l)
	if id == "" {
		id = msrp.NewID(sessionIDLen)
	}
	return r.enter(s, l, id)
}

// enter makes s known by the URI of l with this session-id. r.mu is held.
func (r *Relay) enter(s *session, l *Listener, id string) *entry {
	u := l.URI
	u.Session = id
	e := &entry{session: s, listener: l, uri: u, raw: []byte(u.String())}
	r.sessions[u.Session] = e
	s.entries = append(s.entries, e)
	return e
}

// newSession opens a session on c, or for a client behind the relay that c is
// of, unless there are too many.
func (r *Relay) newSession(c *conn, s *session, relay string, l *Listener, lifetime time.Duration, lim *hook.Limits) *denial {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.r, s.log = r, c.log
	if relay == "" {
		s.place = c.place
	}
	if d := r.crowded(s, lim); d != nil {
		return d
	}
	full := &denial{refusedLimit, 403, "Too many sessions on this connection"}
	switch {
	case c.gone.Load():
		return full
	case relay != "":
		s.log = c.log.With("relay", relay)
		if !r.hold(s, relay) {
			return full
		}
		s.via.met(c)
	case len(c.sessions) >= or(r.cfg().Limits.Sessions, 1000):
		return full
	default:
		s.conn = c
		c.sessions[s] = struct{}{}
	}
	r.enrol(s, lim)
	s.expires = time.Now().Add(lifetime)
	s.main = r.newEntry(s, l)
	s.began()
	// RFC 4976 §6.3 (RELAY-61): the URI is invalid after its time.
	s.timer = time.AfterFunc(lifetime, func() { s.end("expired") })
	return nil
}

// label sets attributes, up to maxAttributes and maxLabels in all.
func (s *session) label(attributes map[string]string) {
	if len(attributes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.attributes)
	if all == nil {
		all = map[string]string{}
	}
	size := 0
	for name, text := range all {
		size += len(name) + len(text)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) { // so that the same ones are too many each time
		text := attributes[name]
		old, ok := all[name]
		more := len(text) - len(old)
		if !ok {
			more += len(name)
		}
		if (ok || len(all) < maxAttributes) && size+more <= maxLabels {
			all[name] = text
			size += more
		}
	}
	s.attributes = all
}

// What the attributes of a session may be, which hooks make: how many, and bytes
// of names and texts. Each later hook is sent all of them.
const (
	maxAttributes = 64
	maxLabels     = 8 << 10
)

// group is what s is counted in: the listener where its AUTH came in.
func (s *session) group() *group { return s.r.cfg().groups[s.listener.Name] }

// began counts s. r.mu is held.
func (s *session) began() {
	s.group().begun.Add(1)
	s.group().live.Add(1)
}

// end makes the URIs of s unknown. What is under way goes on (RELAY-111).
func (s *session) end(why string) {
	s.r.mu.Lock()
	alive := s.drop()
	s.r.mu.Unlock()
	if alive {
		s.ended(why)
	}
}

// drop takes s out of the tables and reports whether it was there. r.mu is held.
func (s *session) drop() bool {
	if s.dead.Swap(true) {
		return false
	}
	s.group().live.Add(-1)
	s.timer.Stop()
	for _, e := range s.entries {
		delete(s.r.sessions, e.uri.Session)
	}
	s.entries = nil
	if s.via != nil {
		s.via.release(s.r, s)
	} else {
		delete(s.conn.sessions, s)
	}
	s.r.resign(s)
	return true
}

// ended tells of the end of a session that was dropped.
func (s *session) ended(why string) {
	s.group().ended.add(label(why), 1)
	s.log.Info("session ended", "user", s.user, "uri", s.main.uri.Short(), "why", why)
}

// entry finds a live session URI. The session-id is looked up first; the rest
// must match by RFC 4975 §6.1.
func (r *Relay) entry(raw []byte, u *msrp.URI) *entry {
	r.mu.Lock()
	e := r.sessions[u.Session]
	r.mu.Unlock()
	if e == nil {
		e = r.revive(u)
	}
	if e == nil || e.session.dead.Load() || string(e.raw) != string(raw) && !e.uri.Equal(*u) {
		return nil
	}
	return e
}

// front returns the URI that stands for s at listener l.
func (s *session) front(l *Listener) *entry {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for _, e := range s.entries {
		if e.listener.Name == l.Name {
			return e
		}
	}
	if s.dead.Load() {
		return s.main
	}
	return s.r.newEntry(s, l)
}

// frontFor returns the URI that stands for s on connection out.
func (s *session) frontFor(out *conn) *entry {
	l := out.l
	if l == nil {
		if out.iface != nil {
			l = s.r.cfg().listeners[out.iface.Listener]
		}
	}
	if l == nil {
		return s.main
	}
	if l = s.r.shown(l); l.Name == s.main.listener.Name {
		return s.main
	}
	return s.front(l)
}

// meet remembers that the peer with this URI is reached over c, if no living
// connection has that name already: what comes back to it must not be dialled,
// as it may be behind a NAT (RFC 4976 §6.4.2, RELAY-51).
//
// A name with msrps is only taken on a TLS connection, and one that this relay
// dialled has only the name that was dialled: nobody else's certificate was
// checked (RELAY-28).
func (s *session) meet(name []byte, c *conn) {
	uri := string(name)
	u, err := msrp.ParseURI(uri)
	if err != nil || u.Secure && !c.secure {
		return
	}
	if t := c.target; c.l == nil && (u.Port != t.port || u.Secure != t.secure || !msrp.EqualHost(u.Host, t.host)) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.peers[uri]; old != nil && !old.gone.Load() {
		return
	}
	if len(s.peers) >= or(s.r.cfg().Limits.Peers, 32) {
		for u, old := range s.peers {
			if old.gone.Load() {
				delete(s.peers, u)
			}
		}
		if len(s.peers) >= or(s.r.cfg().Limits.Peers, 32) {
			return
		}
	}
	if s.peers == nil {
		s.peers = map[string]*conn{}
	}
	s.peers[uri] = c
}

// peer returns the living connection on which the peer with this URI came.
func (s *session) peer(uri string) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.peers[uri]; c != nil && !c.gone.Load() {
		return c
	}
	return nil
}
