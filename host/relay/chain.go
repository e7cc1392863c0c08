package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
)

// Relays says which peers are relays (RFC 4976 §6.1, RELAY-32, RELAY-67): who
// shows a certificate that Roots vouches for. All others are endpoints, whatever
// they show.
type Relays struct {
	Roots *x509.CertPool // nil = no peer is a relay
	// Allow, if not empty, is the whole list of relays: host names, or
	// "*.example.com" for all below example.com.
	Allow []string
	// Deny closes connections of relays whose certificate has one of these names.
	Deny []string
}

// An inner is a relay that is nearer to some clients than this one: they
// authenticated through it. Their session URIs are bound to its name, and not to a
// connection (RFC 4976 §6.3, RELAY-46, RELAY-121). It is known as long as there
// is such a session.
type inner struct {
	// name is host and port of its URI; the host, in lower case, is what its
	// certificate proves. Relays on several ports of one host have one certificate
	// between them, but are not one relay.
	name string

	// Guarded by Relay.mu.
	conns    []*conn // that it opened, newest last
	sessions map[*session]struct{}
}

// relayHost returns the host of a relay's name.
func relayHost(name string) string {
	host, _, _ := net.SplitHostPort(name) // made by JoinHostPort, or empty
	return host
}

// proof returns the certificate that makes a TLS peer a relay, or nil.
func (r *Relay) proof(st *tls.ConnectionState) *x509.Certificate {
	if r.cfg().Relays.Roots == nil || len(st.PeerCertificates) == 0 {
		return nil
	}
	opts := x509.VerifyOptions{
		Roots: r.cfg().Relays.Roots, Intermediates: x509.NewCertPool(),
		// Many authorities no longer certify clients; a relay's certificate is
		// that of a server (RELAY-27).
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, c := range st.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	leaf := st.PeerCertificates[0]
	if _, err := leaf.Verify(opts); err != nil || len(leaf.DNSNames) == 0 {
		return nil
	}
	return leaf
}

// denied reports whether a relay's certificate has a name that is denied.
func (l *Relays) denied(cert *x509.Certificate) bool {
	return cert != nil && slices.ContainsFunc(cert.DNSNames, func(n string) bool { return matchesAny(l.Deny, n) })
}

func (l *Relays) permits(host string) bool {
	return !matchesAny(l.Deny, host) && (len(l.Allow) == 0 || matchesAny(l.Allow, host))
}

// matchesAny reports whether one of the patterns matches a host name. A name
// of a certificate may have a wildcard itself, which is taken as it is.
func matchesAny(patterns []string, host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return slices.ContainsFunc(patterns, func(p string) bool {
		p = strings.TrimSuffix(strings.ToLower(p), ".")
		if parent, ok := strings.CutPrefix(p, "*"); ok {
			return strings.HasSuffix(host, parent)
		}
		return host == p
	})
}

// proves reports whether the peer has proved to be the relay host: by its
// certificate as a client, or as the server that was dialled under this name.
func (c *conn) proves(host string) bool {
	switch {
	case c.cert != nil:
		return c.cert.VerifyHostname(host) == nil && c.r.cfg().Relays.permits(host)
	case c.l == nil:
		return c.target.secure && msrp.EqualHost(c.target.host, host) && c.r.cfg().Relays.permits(host)
	}
	return false
}

// relayOf returns the name of the relay that a request came from, as in
// inner.name: that of the first From-Path URI, if the peer has proved to be its
// host (RFC 4976 §6.3, RELAY-34). "" = it came from no relay.
func (c *conn) relayOf(from msrp.Path) string {
	if len(from.Rest()) == 0 || c.cert == nil && c.l != nil {
		return "" // from the client itself, or an endpoint
	}
	u, err := msrp.ParseURI(string(from.First()))
	if err != nil || !u.Secure || u.Port == 0 || !c.proves(u.Host) {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(u.Host), strconv.Itoa(int(u.Port)))
}

// comesFrom reports whether a request on c comes from the client that s was
// given to: over the connection of its AUTH, or from the relay that the AUTH came
// through (RFC 4976 §6.3, §9.4, RELAY-44).
func (s *session) comesFrom(c *conn, from msrp.Path) bool {
	if s.via == nil {
		return c == s.conn
	}
	if c.relayOf(from) != s.via.name {
		return false
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if !s.dead.Load() {
		s.via.met(c)
	}
	return true
}

// met remembers a connection that the relay opened. r.mu is held.
func (in *inner) met(c *conn) {
	if c.l == nil || c.gone.Load() || slices.Contains(in.conns, c) {
		return
	}
	in.conns = append(in.conns, c)
	if !slices.Contains(c.inner, in) {
		c.inner = append(c.inner, in)
	}
}

// forgetConn undoes met. r.mu is held.
func (in *inner) forgetConn(c *conn) {
	in.conns = slices.DeleteFunc(in.conns, func(o *conn) bool { return o == c })
}

// wayBack returns the connection to the client of s, or to the relay that it is
// behind: one that this relay opened, if there is any, else one that is opened now,
// for c (RFC 4976 §6.4.2, RELAY-51). leadsBack was true.
func (s *session) wayBack(c *conn) (*conn, error) {
	if s.via == nil {
		return s.conn, nil
	}
	s.r.mu.Lock()
	for _, out := range slices.Backward(s.via.conns) {
		if !out.gone.Load() {
			s.r.mu.Unlock()
			return out, nil
		}
	}
	s.r.mu.Unlock()
	if !s.r.cfg().Relays.permits(relayHost(s.via.name)) {
		return nil, &denial{refusedRelay, 403, "Relay not allowed"}
	}
	return s.r.dial(c, s.back.Load(), nil, netip.Addr{}, s.main.listener)
}

// hold gives s to the relay of this name, unless that has too many. r.mu is held.
func (r *Relay) hold(s *session, name string) bool {
	in := r.inner[name]
	if in == nil {
		in = &inner{name: name, sessions: map[*session]struct{}{}}
	}
	if len(in.sessions) >= or(r.cfg().Limits.RelaySessions, 50000) {
		return false
	}
	r.inner[name], s.via = in, in
	in.sessions[s] = struct{}{}
	return true
}

// release takes s from its relay. r.mu is held.
func (in *inner) release(r *Relay, s *session) {
	delete(in.sessions, s)
	if len(in.sessions) > 0 {
		return
	}
	delete(r.inner, in.name)
	for _, c := range in.conns {
		c.inner = slices.DeleteFunc(c.inner, func(o *inner) bool { return o == in })
	}
	in.conns = nil
}

func (r *Relay) innerSessions() (ss []*session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range r.inner {
		for s := range in.sessions {
			ss = append(ss, s)
		}
	}
	return ss
}

// nonceConn is what a nonce is bound to: the connection, or the relay that
// brings its clients' requests over any connection of its own.
func (c *conn) nonceConn(relay string) uint64 {
	if relay == "" {
		return c.r.epoch + c.id
	}
	sum := sha256.Sum256([]byte(relay))
	return binary.BigEndian.Uint64(sum[:])
}

// A sealed session-id holds what its session is, so that the relay knows it after
// a restart (RELAY-116): one octet for the version, 4 for the seconds since 1970
// when it ends, a fingerprint of the first URI on the way back, the names of user
// and relay with their lengths. The URI itself would make paths longer with each relay.
const (
	sealVersion = 1
	maxSealed   = 384 // octets of what is sealed; what is longer is not, and dies with the process
	sealFixed   = 1 + 4 + 16
)

func newSeal(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the length of the key was validated
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return aead
}

// fingerprint is the same for URIs that are equal, but for spellings of the host that
// nobody uses.
func fingerprint(u *msrp.URI) (sum [16]byte) {
	v := msrp.URI{Secure: u.Secure, Host: strings.ToLower(u.Host), Port: u.Port, Session: u.Session, Transport: strings.ToLower(u.Transport)}
	all := sha256.Sum256([]byte(v.String()))
	copy(sum[:], all[:])
	return sum
}

// sealID returns a session-id that holds s, or "" if it cannot.
func (r *Relay) sealID(s *session, l *Listener) string {
	if r.seal == nil || s.via == nil || len(s.user) > 255 || len(s.via.name) > 255 || sealFixed+2+len(s.user)+len(s.via.name) > maxSealed {
		return ""
	}
	b := append(make([]byte, 0, maxSealed), sealVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(s.expires.Unix()))
	b = append(b, s.backSum[:]...)
	b = append(append(b, byte(len(s.user))), s.user...)
	b = append(append(b, byte(len(s.via.name))), s.via.name...)
	// The listener is authenticated, so that the URI is good with its own host only.
	return base64.RawURLEncoding.EncodeToString(r.seal.Seal(nil, nil, b, []byte(l.URI.String())))
}

// openID undoes sealID; relay is the name of the relay.
func (r *Relay) openID(id string, l *Listener) (s *session, relay string, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(sealed) > maxSealed+r.seal.Overhead() {
		return nil, "", false
	}
	b, err := r.seal.Open(nil, nil, sealed, []byte(l.URI.String()))
	if err != nil || len(b) < sealFixed || b[0] != sealVersion {
		return nil, "", false
	}
	s = &session{r: r, listener: l, expires: time.Unix(int64(binary.BigEndian.Uint32(b[1:])), 0)}
	copy(s.backSum[:], b[5:])
	b = b[sealFixed:]
	for _, name := range []*string{&s.user, &relay} {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return nil, "", false
		}
		end := 1 + int(b[0])
		*name, b = string(b[1:end]), b[end:]
	}
	return s, relay, len(b) == 0 && relay != ""
}

// leadsBack reports whether next is the first URI on the way to the client of s.
// Of a sealed URI only its fingerprint is known before.
func (s *session) leadsBack(next *msrp.URI) bool {
	if b := s.back.Load(); b != nil {
		return next.Equal(*b)
	}
	if fingerprint(next) != s.backSum {
		return false
	}
	s.back.Store(next)
	return true
}

// revive finds the session of a sealed URI that was given before this process began.
func (r *Relay) revive(u *msrp.URI) *entry {
	l := r.own(u, false)
	if r.seal == nil || l == nil || len(u.Session) <= sessionIDLen {
		return nil
	}
	s, name, ok := r.openID(u.Session, l)
	if !ok {
		return nil
	}
	left := time.Until(s.expires)
	if left <= 0 || !r.cfg().Relays.permits(relayHost(name)) {
		return nil
	}
	s.log = r.log.With("listener", l.Name, "relay", name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.sessions[u.Session]; e != nil {
		return e // somebody else was faster
	}
	if !r.hold(s, name) {
		r.cfg().groups[l.Name].count(refusedLimit)
		return nil
	}
	r.enrol(s, &hook.Limits{}) // what the hook said then is not sealed
	s.main = r.enter(s, l, u.Session)
	s.began()
	s.timer = time.AfterFunc(left, func() { s.end("expired") })
	return s.main
}
