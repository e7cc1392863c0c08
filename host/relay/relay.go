// Package relay is an MSRP relay (RFC 4976). To an MSRP network it is what a
// TURN server is to media: clients authenticate to it with AUTH, get session
// URIs, and let their peers reach them through these.
//
//	r, err := relay.New(relay.Config{
//		Auth: server, Dialer: dialer,
//		Listeners: []relay.Listener{{Name: "edge", URI: uri, Hooks: hooks}},
//	})
//	…
//	go r.Serve(ctx, "edge", ln) // one call per listener
//	…
//	cancel(); r.Close()
//
// It does not listen, resolve names or know users: connections come from
// Serve's listener, outgoing ones from the Dialer, passwords and routes from
// hook chains.
package relay

import (
	"context"
	"crypto/cipher"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/trace"
	"github.com/parley-msrp/parley/host/transport"
)

// A Dialer opens connections to next hops.
type Dialer interface {
	Dial(ctx context.Context, t transport.Target) (net.Conn, error)
}

// A Config says what a Relay is. Listeners and Auth must be set; in all other
// fields zero means the default.
type Config struct {
	Auth       *auth.Server // checks Digest answers; its realm is the relay's
	Dialer     Dialer       // nil = no next hop is ever dialled
	DialTLS    *tls.Config  // authorities and certificate for secure next hops; nil = the system's
	Listeners  []Listener
	Interfaces []Interface
	Relays     Relays // which peers are relays; zero = none
	// URIKey, if set, seals what a session URI stands for into the URI itself, if
	// it was given through another relay: it then outlives this process (RFC 4976
	// §6.3, RELAY-46). 32 secret octets.
	URIKey  []byte
	Expires Expires
	Limits  Limits
	// Addresses says what counts as one address, and who is not counted so.
	Addresses limit.Addresses
	// Bans counts failed AUTHs by address; closing it is up to who made it. nil =
	// nobody is banned.
	Bans *limit.Bans
	Log  *slog.Logger // nil = none
}

// A Listener is one address at which the relay is reached.
type Listener struct {
	Name string
	// URI is what Use-Path shows, without session-id. Its host should be a
	// name (RFC 4976 §4.2, RELAY-59).
	URI msrp.URI
	// Aliases are further host names by which clients may address an AUTH to
	// this listener, such as the domain of a farm of relays.
	Aliases []string
	// Advertise names the listener whose URI clients of this one get in
	// Use-Path. "" = this one.
	Advertise string
	// PlainAuth allows AUTH without TLS, which RFC 4976 §6.3 and §9.2 forbid
	// (RELAY-26, RELAY-30): for tests and closed networks only.
	PlainAuth bool
	// Certificate is shown to secure next hops that ask, by sessions for which
	// this listener's URI stands. nil = none; other relays then take this one
	// for an endpoint.
	Certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// MediaTypes are those that sessions of this listener may send and be sent,
	// as in accept-types: "text/plain", "image/*", "*". Others are answered 415
	// (RFC 4976 §9.4, RELAY-101). Default: all.
	MediaTypes []string
	Hooks      Hooks
	// WebSocket counts for a URI of transport ws only. Such a listener must
	// advertise one of transport tcp, which stands in Use-Path (RFC 7977
	// §5.2.2, WS-24).
	WebSocket WebSocket
}

// Hooks are the decisions of a deployment at one listener.
type Hooks struct {
	Authenticate    *hook.Chain[hook.AuthRequest, hook.AuthReply]
	SelectInterface *hook.Chain[hook.InterfaceRequest, hook.InterfaceReply]
}

// An Interface is where sessions leave by.
type Interface struct {
	Name string
	// Address is the local address of outgoing connections. Zero = the system's choice.
	Address netip.Addr
	// Listener, if set, names the listener whose URI stands for the session on
	// this side, so that what is behind the relay stays hidden.
	Listener string
	// Allow opens address ranges, such as private ones, that the relay would
	// otherwise not dial.
	Allow []netip.Prefix
}

// Expires bounds the lifetime of session URIs (RFC 4976 §4.6).
type Expires struct {
	Default time.Duration // when the client names none. 0 = 30 min
	Min     time.Duration // less is answered 423. 0 = 1 min
	Max     time.Duration // more is answered 423. 0 = 1 h
}

// Limits bounds what peers can make the relay do (RELAY-68). In each field 0 means the default.
type Limits struct {
	// Conn are the limits of each connection.
	Conn msrp.Limits
	// Connections is how many peers may be connected at once; more are closed
	// at once. Default 20000.
	Connections int
	// Dialled is how many connections to next hops may be open. Default 5000.
	Dialled int
	// DialledBy is how many of them one client connection may have opened.
	// Default 64.
	DialledBy int
	// Handshake is how long TLS may take. Default 10 s.
	Handshake time.Duration
	// Dial is how long connecting to a next hop may take. Default 15 s.
	Dial time.Duration
	// DialAgain is how long a next hop that was not reached is not tried again.
	// Default 5 s.
	DialAgain time.Duration
	// Path is the longest To-Path or From-Path, in bytes; a longer one ends the
	// connection, as every answer would repeat it. Default 2 KiB, some twenty hops.
	Path int
	// Routes is how many pairs of paths a connection remembers, and how many
	// clients behind it with a wrong password. Default 256.
	Routes int
	// Probation is how long a new connection may go without a successful
	// request. Default 30 s (RFC 4976 §6.1).
	Probation time.Duration
	// Failures is how many unsuccessful requests a connection may send before
	// the first successful one. Default 10 (RFC 4976 §6.1).
	Failures int
	// AuthFailures is how many wrong answers to a challenge a connection may
	// send. Default 5 (RFC 4976 §6.3).
	AuthFailures int
	// Idle is how long a connection without sessions may be silent. Default
	// 1 h (RFC 4976 §6.5); negative = for ever.
	Idle time.Duration
	// Sessions is how many session URIs one connection may hold. Default 1000.
	Sessions int
	// RelaySessions is how many session URIs may be given through one other
	// relay. Default 50000.
	RelaySessions int
	// Peers is how many peers may be connected to one session URI, and how many
	// next hops one session may have: a relay must not be turned against a victim
	// (CORE-152). Default 32.
	Peers int
	// Stall is how long a connection that sends to one slow peer only may have
	// to wait for room there. Default 10 s.
	Stall time.Duration
	// SharedStall is the same for a connection that sends to others, too,
	// which wait with it. Default 1 s.
	SharedStall time.Duration
	// CloseSlow closes the connection of a peer for which Stall was not
	// enough. By default it is kept, and what is sent to it is refused with
	// 413 until it reads again.
	CloseSlow bool

	// UserSessions is how many session URIs a user may hold at once, on whatever
	// connections. 0 = any number.
	UserSessions int
	// AddressSessions is the same for an address. 0 = any number.
	AddressSessions int
	// AddressConnections is how many connections may come from one address; more
	// are closed at once. Default: a quarter of Connections, and 100 at least, so
	// that no address takes them all; negative = any number.
	AddressConnections int
	// SessionMessages is how many SENDs a minute a session may send, and how
	// many it may be sent. Each chunk is one. Methods that are not known count, too.
	// 0 = any number.
	SessionMessages int64
	// SessionBytes is the same for octets of bodies, a second.
	SessionBytes int64
	// UserMessages is how many SENDs a minute all sessions of a user may send
	// together. 0 = any number.
	UserMessages int64
	// UserBytes is the same for octets of bodies, a second.
	UserBytes int64
	// Burst is how much time's worth of messages and octets may come at once.
	// Default 10 s, and 64 KiB at least.
	Burst time.Duration
	// Throttle is how long nothing is read from a connection whose user sends too
	// many octets; what would have to wait longer is refused with 413. A connection
	// that carries several users is never kept waiting. Default 10 s; negative =
	// not at all.
	Throttle time.Duration
	// Message is how many octets a message may have. 0 = any number.
	Message int64
	// Chunk is the same for the body of one SEND.
	Chunk int64
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Validate joins all faults of c.
func (c *Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Auth == nil {
		fault("relay: Auth is not set")
	}
	if len(c.Listeners) == 0 {
		fault("relay: no listener")
	}
	known := map[string]bool{}
	for _, l := range c.Listeners {
		if known[l.Name] {
			fault("relay: listener %q is there twice", l.Name)
		}
		known[l.Name] = true
		switch {
		case l.Name == Dialled:
			fault("relay: listener %q: the name stands for no listener in metrics", l.Name)
		case l.URI.Host == "" || l.URI.Port == 0 || l.URI.Transport == "":
			fault("relay: listener %q: its URI needs host, port and transport", l.Name)
		case l.URI.Session != "":
			fault("relay: listener %q: its URI must not have a session-id", l.Name)
		}
	}
	for _, l := range c.Listeners {
		if l.Advertise != "" && !known[l.Advertise] {
			fault("relay: listener %q advertises %q, which is no listener", l.Name, l.Advertise)
		}
		if shown := c.shown(&l); shown != nil && shown.isWebSocket() {
			fault("relay: listener %q needs to advertise one of transport tcp", l.Name)
		} else if shown != nil && shown.URI.Secure && !l.URI.Secure {
			fault("relay: listener %q without TLS advertises %q with it, which its clients could not use", l.Name, shown.Name)
		}
	}
	names := map[string]bool{}
	for _, i := range c.Interfaces {
		if i.Name == "" || names[i.Name] {
			fault("relay: interface %q has no name of its own", i.Name)
		}
		names[i.Name] = true
		if i.Listener != "" && !known[i.Listener] {
			fault("relay: interface %q: %q is no listener", i.Name, i.Listener)
		}
		if l := c.listener(i.Listener); l != nil && l.isWebSocket() {
			fault("relay: interface %q: nobody can be reached at the WebSockets of %q", i.Name, i.Listener)
		}
	}
	if c.URIKey != nil && len(c.URIKey) != 32 {
		fault("relay: URIKey has %d octets, not 32", len(c.URIKey))
	}
	if err := c.Addresses.Validate(); err != nil {
		fault("relay: addresses: %w", err)
	}
	e := c.expires()
	if e.Min <= 0 || e.Default < e.Min || e.Max < e.Default {
		fault("relay: expires must grow from min (%v) by default (%v) to max (%v)", e.Min, e.Default, e.Max)
	}
	return errors.Join(errs...)
}

func (c *Config) listener(name string) *Listener {
	i := slices.IndexFunc(c.Listeners, func(l Listener) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Listeners[i]
}

// shown returns the listener whose URI clients of l get.
func (c *Config) shown(l *Listener) *Listener {
	if l.Advertise != "" {
		return c.listener(l.Advertise)
	}
	return l
}

func (c *Config) expires() Expires {
	return Expires{
		Default: or(c.Expires.Default, 30*time.Minute),
		Min:     or(c.Expires.Min, time.Minute),
		Max:     or(c.Expires.Max, time.Hour),
	}
}

// A Relay forwards MSRP between the connections it is given and those it opens.
type Relay struct {
	// Set by New, then read-only.
	log    *slog.Logger
	ctx    context.Context // ends dialled connections
	cancel context.CancelFunc
	seal   cipher.AEAD // of session URIs; nil = they are random
	epoch  uint64      // makes the numbers of connections new in each process

	now       atomic.Pointer[setup] // swapped whole by Reload, which reloading is for
	reloading sync.Mutex            // taken before mu
	frames    trace.Hub
	draining  atomic.Bool // after Drain
	settling  atomic.Bool // after Settle has begun

	dials, dialsFailed msrp.Durations

	nextID  atomic.Uint64
	dialled sync.WaitGroup

	mu        sync.Mutex // guards what follows
	conns     map[*conn]struct{}
	targets   map[target]*conn
	unreached map[target]time.Time // next hops not to be tried before
	sessions  map[string]*entry    // by session-id
	inner     map[string]*inner    // relays through which session URIs were given, by name
	accounts  map[string]*account  // by user
	places    map[netip.Prefix]*place
}

// New returns a relay; Close must be called when it is no longer served.
func New(cfg Config) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Listeners, cfg.Interfaces = slices.Clone(cfg.Listeners), slices.Clone(cfg.Interfaces)
	r := &Relay{
		log:   cfg.Log,
		conns: map[*conn]struct{}{}, targets: map[target]*conn{}, unreached: map[target]time.Time{}, sessions: map[string]*entry{},
		inner: map[string]*inner{}, epoch: rand.Uint64(),
		accounts: map[string]*account{}, places: map[netip.Prefix]*place{},
	}
	r.now.Store(newSetup(cfg, nil))
	if cfg.URIKey != nil {
		r.seal = newSeal(cfg.URIKey)
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Serve serves the connections of ln as the listener of this name, until ctx is
// done; then it refuses new ones, writes what is queued, and returns when all
// are closed.
func (r *Relay) Serve(ctx context.Context, listener string, ln net.Listener) error {
	l := r.cfg().listeners[listener]
	if l == nil {
		ln.Close()
		return fmt.Errorf("relay: no listener %q", listener)
	}
	return transport.Serve(ctx, ln, r.log, func(nc net.Conn) { r.serveConn(ctx, l, nc) })
}

// Close ends the connections to next hops, and waits for them.
func (r *Relay) Close() {
	r.cancel()
	r.dialled.Wait()
	for _, s := range r.innerSessions() {
		s.end("relay stopped")
	}
}

// own returns the listener whose authority u has, if any. withoutPort accepts
// a URI that has no port (RFC 4976 §8: only in the To-Path of an AUTH, RELAY-20).
func (r *Relay) own(u *msrp.URI, withoutPort bool) *Listener {
	ls := r.cfg().Listeners
	for i := range ls {
		l := &ls[i]
		if l.URI.Secure != u.Secure || !strings.EqualFold(l.URI.Transport, u.Transport) {
			continue
		}
		if u.Port != l.URI.Port && (u.Port != 0 || !withoutPort) {
			continue
		}
		if msrp.EqualHost(u.Host, l.URI.Host) || slices.ContainsFunc(l.Aliases, func(a string) bool { return msrp.EqualHost(u.Host, a) }) {
			return l
		}
	}
	return nil
}

// Check returns what is inconsistent in the relay's tables; nil is expected at
// any time.
func (r *Relay) Check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	entries := 0
	held := func(by string, sessions map[*session]struct{}, own func(*session) bool) {
		for s := range sessions {
			if !own(s) {
				errs = append(errs, fmt.Errorf("%s holds a session that is not its own", by))
			}
			for _, e := range s.entries {
				entries++
				if r.sessions[e.uri.Session] != e {
					errs = append(errs, fmt.Errorf("%s: a URI of its session is not in the table", by))
				}
			}
		}
	}
	for c := range r.conns {
		held(fmt.Sprint("connection ", c.id), c.sessions, func(s *session) bool { return s.conn == c && s.via == nil })
	}
	for name, in := range r.inner {
		held("relay "+name, in.sessions, func(s *session) bool { return s.via == in && s.conn == nil })
		if in.name != name || len(in.sessions) == 0 {
			errs = append(errs, fmt.Errorf("relay %s is known without a session", name))
		}
		for _, c := range in.conns {
			if _, ok := r.conns[c]; !ok {
				errs = append(errs, fmt.Errorf("relay %s has a connection that is not open", name))
			}
		}
	}
	if entries != len(r.sessions) {
		errs = append(errs, fmt.Errorf("%d session URIs in the table, %d on connections", len(r.sessions), entries))
	}
	if err := r.checkCounts(); err != nil {
		errs = append(errs, err)
	}
	for t, c := range r.targets {
		if _, ok := r.conns[c]; !ok || c.target != t {
			errs = append(errs, fmt.Errorf("next hop %s:%d has a connection that is not open", t.host, t.port))
		}
	}
	return errors.Join(errs...)
}
