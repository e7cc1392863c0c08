package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// A ServerConfig says how a Server challenges. Realm must be set.
type ServerConfig struct {
	Realm string
	// Key authenticates nonces: at least 16 random octets. nil = made anew, so
	// that nonces do not outlive the process.
	Key []byte
	// Lifetime is how long a nonce is good for. 0 = 2 min.
	Lifetime time.Duration
	// Algorithms are offered in this order. nil = MD5 only, which is all that
	// RFC 4976's grammar allows (RELAY-80).
	Algorithms []Algorithm
	// MaxReplay is how many nonces that were used are remembered per Lifetime;
	// beyond it clients are asked to try again. 0 = 1,000,000.
	MaxReplay int
}

// A Server challenges clients and checks their answers. It keeps nothing of a
// nonce before that was used with the right password.
type Server struct {
	// Set by NewServer, then read-only.
	cfg    ServerConfig
	decoy  map[Algorithm]string // the HA1 of users that do not exist
	opaque string

	mu       sync.Mutex // guards what follows
	used     map[string]uint32
	usedOld  map[string]uint32
	turnOver time.Time // when used becomes usedOld
}

const (
	nonceTime   = 8
	nonceRandom = 16
	nonceMAC    = 16
)

// NewServer returns a Server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Realm == "" {
		return nil, errors.New("auth: no realm")
	}
	if cfg.Key == nil {
		cfg.Key = make([]byte, 32)
		rand.Read(cfg.Key) // never fails
	}
	if len(cfg.Key) < 16 {
		return nil, fmt.Errorf("auth: the key has %d octets; 16 are the least", len(cfg.Key))
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 2 * time.Minute
	}
	if cfg.Algorithms == nil {
		cfg.Algorithms = []Algorithm{MD5}
	}
	if cfg.MaxReplay == 0 {
		cfg.MaxReplay = 1_000_000
	}
	s := &Server{cfg: cfg, decoy: map[Algorithm]string{}, used: map[string]uint32{}}
	for _, a := range cfg.Algorithms {
		if _, err := ParseAlgorithm(string(a)); err != nil {
			return nil, err
		}
		var secret [32]byte
		rand.Read(secret[:]) // never fails
		s.decoy[a] = hex.EncodeToString(secret[:])[:a.digits()]
	}
	s.opaque = base64.RawURLEncoding.EncodeToString(s.mac([]byte("opaque"))[:9])
	return s, nil
}

// Realm returns the realm of all challenges.
func (s *Server) Realm() string { return s.cfg.Realm }

func (s *Server) mac(parts ...[]byte) []byte {
	h := hmac.New(sha256.New, s.cfg.Key)
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write(p)
	}
	return h.Sum(nil)[:nonceMAC]
}

// nonce makes one that is good on connection conn only: its time, random octets
// and a MAC over both and what they are for (RELAY-78).
func (s *Server) nonce(conn uint64) string {
	b := make([]byte, nonceTime+nonceRandom, nonceTime+nonceRandom+nonceMAC)
	binary.BigEndian.PutUint64(b, uint64(time.Now().UnixNano()))
	rand.Read(b[nonceTime:]) // never fails
	return base64.RawURLEncoding.EncodeToString(append(b, s.nonceMAC(conn, b)...))
}

func (s *Server) nonceMAC(conn uint64, b []byte) []byte {
	return s.mac([]byte("nonce"), []byte(s.cfg.Realm), binary.BigEndian.AppendUint64(nil, conn), b)
}

// Challenges returns the values of the WWW-Authenticate headers of a 401 on
// connection conn, one for each algorithm. stale says that only the nonce was
// at fault (RELAY-77).
func (s *Server) Challenges(conn uint64, stale bool) []string {
	var lines []string
	for _, a := range s.cfg.Algorithms {
		lines = append(lines, Challenge{
			Realm: s.cfg.Realm, Nonce: s.nonce(conn), Opaque: s.opaque, Stale: stale, Algorithm: a, QOP: []string{"auth"},
		}.String())
	}
	return lines
}

// A Check is credentials that answer a challenge of ours, not yet compared with
// a secret.
type Check struct {
	cred  Credentials
	nc    uint32
	stale bool
	ha1   string // set by Verify
}

// Errors of Server.Check.
var (
	ErrMalformed = errors.New("auth: credentials lack what a digest needs")
	ErrNotOurs   = errors.New("auth: not an answer to a challenge of this connection")
)

// Check looks at all of c that needs no secret: realm, algorithm, qop, and that
// the nonce was given to connection conn.
func (s *Server) Check(conn uint64, c Credentials) (*Check, error) {
	nc, err := strconv.ParseUint(c.NC, 16, 32)
	switch {
	case err != nil || len(c.NC) != 8 || nc == 0,
		c.CNonce == "" || c.QOP != "auth", // RFC 4976 §9.1 (RELAY-71)
		len(c.Response) != c.Algorithm.digits():
		return nil, ErrMalformed
	}
	if c.Realm != s.cfg.Realm || s.decoy[c.Algorithm] == "" {
		return nil, ErrNotOurs
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Nonce)
	if err != nil || len(b) != nonceTime+nonceRandom+nonceMAC {
		return nil, ErrNotOurs
	}
	body, mac := b[:nonceTime+nonceRandom], b[nonceTime+nonceRandom:]
	if !hmac.Equal(mac, s.nonceMAC(conn, body)) {
		return nil, ErrNotOurs
	}
	age := time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(b))))
	return &Check{cred: c, nc: uint32(nc), stale: age > s.cfg.Lifetime || age < 0}, nil
}

// A Secret is what is known of a user: nothing (the zero Secret), a password,
// its HA1 under the algorithm of the credentials, or that somebody else has
// checked them.
type Secret struct {
	Password      string
	HA1           string
	Authenticated bool
}

// A Result is what Verify found.
type Result struct {
	OK    bool
	Stale bool // right, but the nonce is too old or was used: ask again
}

// Verify compares k with what the user's secret makes of uri, which is the
// rightmost To-Path URI as it stands on the wire (RELAY-72). An unknown user is
// computed like a known one, and the comparison takes constant time (RELAY-79).
func (s *Server) Verify(k *Check, method, uri string, secret Secret) Result {
	c := &k.cred
	known := true
	switch {
	case secret.HA1 != "":
		k.ha1 = secret.HA1
	case secret.Password != "":
		k.ha1 = HA1(c.Algorithm, c.Username, c.Realm, secret.Password)
	default:
		_ = HA1(c.Algorithm, c.Username, c.Realm, s.opaque) // takes the time that a password would
		k.ha1, known = s.decoy[c.Algorithm], false
	}
	want := Response(c.Algorithm, k.ha1, method, uri, c.Nonce, c.NC, c.CNonce)
	ok := subtle.ConstantTimeCompare([]byte(want), []byte(c.Response)) == 1 && known
	if secret.Authenticated {
		ok, k.ha1 = true, ""
	}
	// A uri that the client names must be the one it means (RELAY-4).
	if !ok || c.URI != "" && c.URI != uri {
		return Result{}
	}
	if k.stale || !s.use(c.Nonce, k.nc) {
		return Result{Stale: true}
	}
	return Result{OK: true}
}

// use reports whether the count of a nonce is new: each may be used once, and
// they must grow (RELAY-78). When the table is full the answer is no.
func (s *Server) use(nonce string, nc uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.After(s.turnOver) {
		if now.After(s.turnOver.Add(s.cfg.Lifetime)) {
			s.used = map[string]uint32{}
		}
		// A nonce lives for one turn, so that two tables hold all that live.
		s.usedOld, s.used, s.turnOver = s.used, map[string]uint32{}, now.Add(s.cfg.Lifetime)
	}
	last := max(s.used[nonce], s.usedOld[nonce])
	if _, known := s.used[nonce]; nc <= last || !known && len(s.used) >= s.cfg.MaxReplay {
		return false
	}
	s.used[nonce] = nc
	return true
}

// Info returns the value of Authentication-Info for the 200 to k on connection
// conn (RELAY-73). If somebody else checked the digest there is no HA1 and so no rspauth.
func (s *Server) Info(conn uint64, k *Check, uri string) string {
	c := &k.cred
	i := Info{NextNonce: s.nonce(conn), QOP: "auth", CNonce: c.CNonce, NC: c.NC}
	if k.ha1 != "" {
		i.RspAuth = Response(c.Algorithm, k.ha1, "", uri, c.Nonce, c.NC, c.CNonce)
	}
	return i.String()
}
