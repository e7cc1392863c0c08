package msrp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrSessionClosed: the session was closed by this side.
var ErrSessionClosed = errors.New("msrp: session closed")

// An EndpointConfig says how an Endpoint behaves; its zero value works.
type EndpointConfig struct {
	Limits Limits
	Log    *slog.Logger // nil = none
	// Linger is how long a connection that had sessions is kept after the last
	// of them was closed. Default 5 s; negative = until the caller closes it,
	// as for the connection to a relay.
	Linger time.Duration
	// Chunk is ConnConfig.Chunk, for connections that carry messages.
	Chunk int
}

func (c *EndpointConfig) linger() time.Duration { return or(c.Linger, 5*time.Second) }

// An Endpoint is an MSRP user agent's sessions, over any number of connections.
//
//  1. Each SEND is judged by its head alone, in this order: 400, 481, 506, 501,
//     415, 403 or 413. A refusal leaves at once and the rest of that chunk is
//     dropped (CORE-158); a 200 leaves when the end-line was read.
//  2. Which answers are due is for the sender to say, by Failure-Report and
//     Success-Report (RFC 4975 §7.1.1). A REPORT is never answered.
//  3. A session belongs to one connection: the one it was given, or the one its
//     first request came on (RFC 4975 §5.4). It ends with that connection.
//  4. Handlers and Sinks are called with no lock held, from the goroutine that
//     reads the connection: nothing else is read until they return.
type Endpoint struct {
	// Set by NewEndpoint, then read-only.
	cfg EndpointConfig
	lim *Limits

	mu       sync.RWMutex        // guards what follows and the links' sessions; locked before a Session's
	sessions map[string]*Session // by session-id
}

// NewEndpoint returns an Endpoint without sessions.
func NewEndpoint(cfg EndpointConfig) *Endpoint {
	e := &Endpoint{cfg: cfg, sessions: make(map[string]*Session)}
	e.lim = &e.cfg.Limits
	return e
}

// NewConn returns a Conn for sessions of e, to be run by Serve or ended by
// Fail. See ConnConfig for trace, which may be nil.
func (e *Endpoint) NewConn(trace Tracer) *Conn {
	l := &link{e: e, sessions: make(map[*Session]struct{}), turn: make(chan struct{}, 1)}
	l.c = NewConn(ConnConfig{Handler: l, Limits: e.cfg.Limits, Log: e.cfg.Log, Trace: trace, Chunk: e.cfg.Chunk})
	return l.c
}

// Serve runs c, a Conn of e, on nc until the connection ends, and then fails
// every session on it (RFC 4975 §5.4, CORE-118).
func (e *Endpoint) Serve(c *Conn, nc net.Conn) error {
	err := c.Serve(nc)
	c.h.(*link).lost(err)
	return err
}

// Fail ends a Conn of e whose network connection could not be made.
func (e *Endpoint) Fail(c *Conn, err error) {
	c.Fail(err)
	c.h.(*link).lost(err)
}

// find returns the live session that a To-Path names: exactly one URI, equal by
// RFC 4975 §6.1 (§7.3, CORE-67).
func (e *Endpoint) find(to Path) *Session {
	u, err := ParseURI(view(to))
	if err != nil {
		return nil // or several URIs
	}
	e.mu.RLock()
	s := e.sessions[u.Session]
	e.mu.RUnlock()
	if s == nil || !s.uri.Equal(u) {
		return nil
	}
	return s
}

// A SessionConfig describes one session. Local and Handler must be set.
type SessionConfig struct {
	// Local is the own URI, exactly as the SDP path has it.
	Local string
	// Peer is the To-Path, its leftmost URI the next hop. It may be empty while
	// Conn is: then the From-Path of the first request is the way back (RELAY-18).
	Peer []string
	// Conn is set in an active session. nil = the connection of the first
	// request. Who is active must Bind or Send at once (RFC 4975 §5.4, CORE-115).
	Conn *Conn
	// AcceptTypes lists the media types to be accepted, as SDP accept-types
	// does: "*", "text/*", "text/plain". Default "*".
	AcceptTypes []string
	// MaxSize is the largest message accepted, in octets. Default Limits.Message.
	MaxSize int64
	// PeerTypes and PeerMaxSize are what the peer accepts. Default: anything.
	PeerTypes   []string
	PeerMaxSize int64
	Handler     SessionHandler
}

// A Session is one MSRP session of an Endpoint. Its methods may be called from
// any goroutine.
type Session struct {
	// Set by NewSession, then read-only.
	e     *Endpoint
	cfg   SessionConfig
	uri   URI
	max   int64         // octets of a message received
	done  chan struct{} // closed when the session ends
	bound chan struct{} // closed once conn and to are set

	mu       sync.Mutex // guards what follows; never held across I/O or a call of the Handler or a Sink
	conn     *Conn      // set before bound is closed, then read-only
	to       string     // the To-Path; likewise
	calls    int        // calls of the Handler and of Sinks that run
	err      error      // final once set
	partials map[string]*partial
	seen     memory      // messages done or refused
	timer    *time.Timer // runs expire while there are partials
	sent     map[string]*Outgoing
	sentIDs  []*Outgoing // those in sent, oldest first
}

// NewSession starts a session.
func (e *Endpoint) NewSession(cfg SessionConfig) (*Session, error) {
	if cfg.Handler == nil {
		return nil, errors.New("session without a handler")
	}
	cfg.Peer = slices.Clone(cfg.Peer)
	s := &Session{
		e: e, cfg: cfg, max: or(cfg.MaxSize, e.lim.message()), to: strings.Join(cfg.Peer, " "),
		done: make(chan struct{}), bound: make(chan struct{}),
		partials: make(map[string]*partial), sent: make(map[string]*Outgoing),
		seen: memory{max: e.lim.remembered()},
	}
	var err error
	if s.uri, err = ParseURI(cfg.Local); err != nil {
		return nil, fmt.Errorf("own URI: %w", err)
	}
	if s.uri.Session == "" {
		return nil, errors.New("own URI without a session-id")
	}
	for _, p := range cfg.Peer {
		if _, err := ParseURI(p); err != nil {
			return nil, fmt.Errorf("peer's path: %w", err)
		}
	}
	var l *link
	if cfg.Conn != nil {
		if l, _ = cfg.Conn.h.(*link); l == nil || l.e != e {
			return nil, errors.New("connection of another endpoint")
		}
		if s.to == "" {
			return nil, errors.New("active session without the peer's path")
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions[s.uri.Session] != nil {
		return nil, errors.New("session-id in use") // RFC 4975 §8.2 (CORE-11)
	}
	if l != nil {
		if l.err != nil {
			return nil, lost(l.err)
		}
		s.attach(l, nil)
	}
	e.sessions[s.uri.Session] = s
	return s, nil
}

// attach binds s to a connection. e.mu is held.
func (s *Session) attach(l *link, from Path) {
	s.mu.Lock()
	s.conn = l.c
	if s.to == "" {
		// The From-Path is the whole way back, relays included (RFC 4976 §6.4).
		s.to = string(from)
	}
	s.mu.Unlock()
	close(s.bound)
	l.sessions[s] = struct{}{}
}

// bindTo binds s to the connection of its first request, and reports whether
// no other has it (RFC 4975 §5.4, CORE-117).
func (s *Session) bindTo(l *link, from Path) bool {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		return c == l.c
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.conn == nil && s.e.sessions[s.uri.Session] == s { // attach is the only writer, under e.mu
		s.attach(l, from)
	}
	return s.conn == nil || s.conn == l.c // nil: it ended just now, which enter tells
}

// Local returns the own URI as it was given.
func (s *Session) Local() string { return s.cfg.Local }

// Bound is closed once the session has its connection.
func (s *Session) Bound() <-chan struct{} { return s.bound }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session ended, or nil.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session: messages being sent are aborted, those being
// received are dropped, later requests get 481 (CORE-122). It does not wait for
// a call of the Handler that runs, so the Handler may call it.
func (s *Session) Close() { s.end(ErrSessionClosed) }

func (s *Session) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	idle := s.calls == 0
	sent := s.sentIDs
	s.sentIDs, s.sent = nil, nil
	s.mu.Unlock()
	s.e.remove(s)
	close(s.done)
	for _, o := range sent {
		o.fail(err)
	}
	if idle {
		s.tearDown()
	}
}

// remove forgets s. Its connection is closed some time after its last session
// has been (CORE-120, CORE-122).
func (e *Endpoint) remove(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s.uri.Session)
	if s.conn == nil {
		return
	}
	l := s.conn.h.(*link)
	delete(l.sessions, s)
	if d := e.cfg.linger(); d > 0 && l.err == nil && len(l.sessions) == 0 {
		time.AfterFunc(d, l.closeUnused)
	}
}

// enter announces a call of the Handler or of a Sink. It fails once the session ended.
func (s *Session) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.calls++
	return true
}

// leave ends what enter began. The last to leave a session that has ended
// tears it down, so that Closed is the last call its Handler sees.
func (s *Session) leave() {
	s.mu.Lock()
	s.calls--
	last := s.calls == 0 && s.err != nil
	s.mu.Unlock()
	if last {
		s.tearDown()
	}
}

func (s *Session) tearDown() {
	s.mu.Lock()
	ps, err := s.partials, s.err
	s.partials = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	for _, p := range ps {
		p.giveUp(err)
	}
	s.cfg.Handler.Closed(s, err)
}

// A link is what an Endpoint knows of one of its connections.
type link struct {
	// Set by NewConn, then read-only.
	e *Endpoint
	c *Conn
	// turn is held while one piece of a message is queued. Channels serve in
	// order of arrival, so sessions that share the connection alternate
	// (RFC 4975 §7.1.1, CORE-57).
	turn chan struct{}

	// Owned by Conn.Serve. Frames of one connection never interleave.
	in inbound

	// Guarded by e.mu.
	sessions map[*Session]struct{}
	err      error // final once set
}

func (l *link) lost(err error) {
	l.e.mu.Lock()
	l.err = err
	ss := l.sessions
	l.sessions = nil
	l.e.mu.Unlock()
	for s := range ss {
		s.end(lost(err))
	}
}

func (l *link) closeUnused() {
	l.e.mu.RLock()
	unused := l.err == nil && len(l.sessions) == 0
	l.e.mu.RUnlock()
	if unused {
		l.c.Finish(nil)
	}
}

// An inbound is the request that is being received. A Head is void after its
// first piece, so what the answer needs is copied.
type inbound struct {
	tid      Ident
	to, from []byte // To-Path's and From-Path's first URI
	failure  ReportWish
	answered bool // or not to be answered at all
	success  bool

	s     *Session // of a SEND that was not refused
	p     *partial // nil: the body is dropped
	id    Ident    // of the message
	dup   bool     // of a message that was completed before
	way   string   // From-Path, of a duplicate that wants REPORTs
	rng   ByteRange
	count int64 // octets of the body that came so far
}

// ServePiece implements Handler.
func (l *link) ServePiece(c *Conn, p *Piece) {
	in := &l.in
	if p.First {
		*in = inbound{to: in.to[:0], from: in.from[:0]}
		l.begin(p)
	}
	if in.s != nil && in.s.enter() {
		defer in.s.leave()
		if p.First {
			in.refuse(c, in.s.open(in, p))
		}
		if in.p != nil && len(p.Body) > 0 {
			in.refuse(c, in.s.write(in, p.Body))
		}
		in.count += int64(len(p.Body))
		if p.Last && in.s != nil {
			l.finish(p.Flag)
		}
	} else if in.s != nil {
		// The session ended meanwhile.
		in.refuse(c, Status{Code: 481})
	}
	c.Touch(c)
}

// refuse answers with an error, unless the sender wants none (RFC 4975 §7.1.4,
// CORE-83), and drops the rest of the chunk. It does nothing for a Status that
// accepts.
func (in *inbound) refuse(c *Conn, st Status) {
	if st.ok() {
		return
	}
	in.s, in.p = nil, nil
	if in.failure != No {
		in.answer(c, st)
	}
	in.answered = true
}

func (in *inbound) answer(c *Conn, st Status) {
	// An error only says that the connection is gone, and the answer's reader with it (CORE-87).
	_ = c.SendResponse(&Response{
		TID: in.tid.Bytes(), Code: st.Code, Comment: st.Comment, To: in.from, From: in.to,
	})
}

// begin judges the head of a request as far as its session is not asked.
func (l *link) begin(p *Piece) {
	h, c, in := p.Head, l.c, &l.in
	if h.Is("REPORT") {
		l.serveReport(h) // RFC 4975 §7.1.2 (CORE-88): never answered, however wrong it is
		return
	}
	if err := h.From.check(); err != nil || len(h.To) == 0 {
		// CORE-157: an answer could not be addressed.
		if err == nil {
			err = syntaxError("To-Path", h.TID)
		}
		c.Finish(err)
		return
	}
	s, st := l.judge(h)
	if !st.ok() && !h.Is("SEND") && h.WantsFailure() {
		_ = c.Respond(h, st.Code, st.Comment, nil) // the whole way back (CORE-85); an error: see answer
		return
	}
	in.tid, in.failure, in.success = MakeIdent(h.TID), h.Failure, h.Success == Yes
	in.to, in.from = append(in.to, h.To.First()...), append(in.from, h.From.First()...)
	in.rng, in.id, in.s = h.Range, MakeIdent(h.MessageID), s
	in.refuse(c, st)
}

// judge finds the session of a request.
func (l *link) judge(h *Head) (*Session, Status) {
	if h.Err != nil {
		var se *SyntaxError
		if errors.As(h.Err, &se) {
			return nil, Status{400, "bad " + se.Rule}
		}
		return nil, Status{Code: 400}
	}
	s := l.e.find(h.To)
	switch {
	case s == nil:
		return nil, Status{Code: 481} // RFC 4975 §7.3 (CORE-67)
	case !s.bindTo(l, h.From):
		return nil, Status{Code: 506} // RFC 4975 §5.4 (CORE-117)
	case !h.Is("SEND"):
		return nil, Status{Code: 501} // RFC 4975 §12 (CORE-40)
	}
	return s, Status{}
}

// ok reports whether a Status accepts.
func (st Status) ok() bool { return st.Code == 0 || st.Code/100 == 2 }

// fit returns st as it can be put on the wire: it may come from a Handler.
func (st Status) fit() Status {
	if st.Code < 100 || st.Code > 999 {
		st.Code = 400
	}
	if !isText([]byte(st.Comment)) {
		st.Comment = ""
	}
	return st
}

// acceptsType compares with the entries of accept-types, whose parameters do
// not count (RFC 4975 §8.6, CORE-134, CORE-136).
func acceptsType[T ~string | ~[]byte](entries []string, contentType T) bool {
	if len(entries) == 0 {
		return true
	}
	ct := bareType(string(contentType))
	typ, _, _ := strings.Cut(ct, "/")
	return slices.ContainsFunc(entries, func(e string) bool {
		e = bareType(e)
		wild, isWild := strings.CutSuffix(e, "/*")
		return e == "*" || isWild && equalFoldASCII(wild, typ) || equalFoldASCII(e, ct)
	})
}

// AcceptsType reports whether a Content-Type is one of entries, each as in the
// SDP attribute accept-types: a media type, such as "text/plain", or "image/*",
// or "*" (RFC 4975 §8.6). Case and parameters do not count. No entries allow all.
func AcceptsType(entries []string, contentType []byte) bool { return acceptsType(entries, contentType) }

func bareType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}
