package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A ServerConfig configures a Server. Only Realm must be set.
type ServerConfig struct {
	// Realm is what users see and what their HA1 are made for.
	Realm string
	// Key authenticates nonces: at least 16 random octets, nil = made by
	// NewServer. Servers may share a key only if they never use the same
	// connection number, since each knows only its own replays.
	Key []byte
	// Lifetime is how long a nonce is good for. 0 = 2 min (RELAY-78: 30-300 s).
	Lifetime time.Duration
	// Algorithms to offer; nil = MD5 alone. MD5 is always offered first,
	// although RFC 8760 §2.3 (ECO-188) wants the best first: msrplib knows
	// nothing else and reads only the first challenge (RELAY-80).
	Algorithms []Algorithm
	// MaxReplay is how many used nonces are remembered per Lifetime, about 50
	// octets each, twice. Where more are used, nonces expire earlier. 0 = 65536.
	MaxReplay int
}

func (c ServerConfig) lifetime() time.Duration {
	if c.Lifetime == 0 {
		return 2 * time.Minute
	}
	return c.Lifetime
}

func (c ServerConfig) maxReplay() int {
	if c.MaxReplay == 0 {
		return 1 << 16
	}
	return c.MaxReplay
}

// algorithms returns what to offer, MD5 first.
func (c ServerConfig) algorithms() []Algorithm {
	if len(c.Algorithms) == 0 {
		return []Algorithm{MD5}
	}
	return slices.Compact(slices.Sorted(slices.Values(c.Algorithms)))
}

// Validate reports all that is wrong with c. There is no switching off: a
// negative Lifetime or MaxReplay would mean to accept replays.
func (c ServerConfig) Validate() error {
	var errs []error
	bad := func(is bool, text string) {
		if is {
			errs = append(errs, errors.New("auth: "+text))
		}
	}
	bad(c.Realm == "", "no realm")
	// msrplib, for one, ends a value at the first quote.
	bad(strings.ContainsFunc(c.Realm, isControl) || strings.ContainsAny(c.Realm, "\"\\\t"), "realm with a quote, backslash or control character")
	bad(c.Key != nil && len(c.Key) < 16, "key shorter than 16 octets")
	bad(c.Lifetime < 0, "negative nonce lifetime")
	bad(c.MaxReplay < 0, "negative size of the replay table")
	bad(slices.ContainsFunc(c.Algorithms, func(a Algorithm) bool { return a != MD5 && a != SHA256 }), "unknown algorithm")
	return errors.Join(errs...)
}

// A Server is the relay's side: it makes challenges and judges answers. It is
// safe for concurrent use.
//
//  1. A nonce is good on the connection that it was made for, and nowhere else.
//  2. Nothing is remembered for a peer before it has given a right answer.
//  3. "stale" is said to right answers only, so it tells nothing to who guesses.
//  4. An unknown user and a wrong password look the same and take as long.
type Server struct {
	// Set by NewServer, then read-only.
	realm  string
	key    []byte
	algs   []Algorithm
	opaque string
	decoy  string // the password of users that do not exist

	guard *replayGuard
}

// NewServer returns the server that c describes.
func NewServer(c ServerConfig) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	key := bytes.Clone(c.Key)
	if key == nil {
		key = []byte(rand.Text())
	}
	return &Server{
		realm: c.Realm, key: key, algs: c.algorithms(),
		opaque: rand.Text(), decoy: rand.Text(),
		guard: newReplayGuard(c.lifetime(), c.maxReplay()),
	}, nil
}

// Realm returns the configured realm.
func (s *Server) Realm() string { return s.realm }

// Challenges returns values for WWW-Authenticate, one header each. conn is a
// number that no other connection gets as long as this process runs. stale
// is what Verify said, and false otherwise.
func (s *Server) Challenges(conn uint64, stale bool) []string {
	nonce := s.newNonce(conn)
	var values []string
	for _, alg := range s.algs {
		c := Challenge{
			Realm:     s.realm,
			Nonce:     nonce,
			Algorithm: alg,
			// The nonce holds all there is to know. But msrplib crashes
			// without opaque.
			Opaque: s.opaque,
			Stale:  stale,
			// RFC 4976 §9.1 (RELAY-69, 71): qop always, and never auth-int.
			QOP: "auth",
		}
		values = append(values, c.String())
	}
	return values
}

// A Refusal is why credentials were refused without a look at the digest. The
// answer is 401 with a new challenge that is not stale. It is one of the
// constants below, so it serves as a metric label.
type Refusal string

const (
	RefusedQOP       Refusal = "qop is not auth"          // or absent
	RefusedNC        Refusal = "nc is absent or zero"     // RELAY-76: it starts at 1
	RefusedCNonce    Refusal = "cnonce is absent"         // RELAY-71
	RefusedRealm     Refusal = "realm is not ours"        // RELAY-74
	RefusedAlgorithm Refusal = "algorithm is not offered" // RELAY-69
	RefusedResponse  Refusal = "response does not fit the algorithm"
	RefusedNonce     Refusal = "nonce is not ours" // or was made for another connection
)

func (r Refusal) Error() string { return "auth: " + string(r) }

// A Check is credentials that Server.Check let pass: complete, and for a nonce
// of ours. It has one owner and is of use for one request.
type Check struct {
	cred   Credentials
	id     nonceID
	issued int64
	nc     uint32
	ha1    string // set by Verify if it says OK and knows it
}

// Check tells, without any secret, whether c can be an answer to a challenge
// of this server on conn. The error is a [Refusal]. opaque is not looked at:
// not all clients return it, and it proves nothing that the nonce does not.
func (s *Server) Check(conn uint64, c Credentials) (*Check, error) {
	if c.QOP != "auth" {
		return nil, RefusedQOP
	}
	nc, err := strconv.ParseUint(c.NC, 16, 32)
	if !isNC(c.NC) || err != nil || nc == 0 {
		return nil, RefusedNC
	}
	if c.CNonce == "" {
		return nil, RefusedCNonce
	}
	if c.Realm != s.realm {
		return nil, RefusedRealm
	}
	if !slices.Contains(s.algs, c.Algorithm) {
		return nil, RefusedAlgorithm
	}
	if len(c.Response) != c.Algorithm.digits() {
		return nil, RefusedResponse
	}
	id, issued, ok := s.openNonce(conn, c.Nonce)
	if !ok {
		return nil, RefusedNonce
	}
	return &Check{cred: c, id: id, issued: issued, nc: uint32(nc)}, nil
}

// A Secret is what a lookup found out about a user. The first field that is
// set counts. The zero Secret is that of an unknown user: it lets nobody in,
// and nobody has an empty password.
type Secret struct {
	Unknown       bool   // no such user
	Authenticated bool   // the lookup compared the digest itself
	HA1           string // made for this user, the server's realm and the algorithm of the credentials
	Password      string
}

// Format keeps the secret out of every fmt verb, and so out of logs.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "auth.Secret(hidden)") }

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("auth.Secret(hidden)") }

// A Result is a Server's judgement. The zero Result is a wrong password, an
// unknown user or a digest for another URI: 401 with Challenges(conn, false),
// and a failed AUTH (RELAY-39).
type Result struct {
	OK bool // 200 with Info
	// Stale: the digest is right, but the nonce is too old or was used with
	// this nc or a higher one. 401 with Challenges(conn, true).
	Stale bool
}

// Verify judges k. method is that of the request, and digestURI the rightmost
// URI of its To-Path, octet for octet as it came (RFC 4976 §9.1, RELAY-72).
// Credentials whose uri is present and differs from it in any octet are wrong.
//
// A nonce used before is stale and not wrong, so that a client which lost our
// answer, or never counts nc up, tries again instead of asking for a password.
func (s *Server) Verify(k *Check, method, digestURI string, secret Secret) Result {
	k.ha1 = ""
	// All users take the same steps, to the same end, so that time does not
	// tell whether one exists (RELAY-79): even where HA1 is at hand, an HA1 is
	// made, and the digest of an unknown user is compared.
	c := k.cred
	password := secret.Password
	if password == "" {
		password = s.decoy
	}
	ha1 := HA1(c.Algorithm, c.Username, c.Realm, password)
	if secret.HA1 != "" {
		ha1 = strings.ToLower(secret.HA1) // some tools write hex in upper case
	}
	want := Response(c.Algorithm, ha1, method, digestURI, c.Nonce, c.NC, c.CNonce)
	right := subtle.ConstantTimeCompare([]byte(want), []byte(c.Response)) == 1
	haveHA1 := secret.HA1 != "" || secret.Password != ""

	switch {
	case c.URI != "" && c.URI != digestURI:
		return Result{}
	case secret.Unknown:
		return Result{}
	case secret.Authenticated:
	case !haveHA1 || !right:
		return Result{}
	}
	// Only from here on may state be made, or stale be said.
	if !s.guard.use(k.id, k.issued, k.nc) {
		return Result{Stale: true}
	}
	if haveHA1 {
		k.ha1 = ha1
	}
	return Result{OK: true}
}

// Info returns the value of Authentication-Info for the 200 (RFC 4976 §9.1,
// RELAY-73), after Verify said OK, with a nonce for the next AUTH on conn.
// rspauth is left out when the lookup authenticated the user without telling
// HA1 or password: it cannot be computed then.
func (s *Server) Info(conn uint64, k *Check, digestURI string) string {
	c := k.cred
	i := Info{NextNonce: s.newNonce(conn), QOP: c.QOP, CNonce: c.CNonce, NC: c.NC}
	if k.ha1 != "" {
		i.RspAuth = RspAuth(c.Algorithm, k.ha1, digestURI, c.Nonce, c.NC, c.CNonce)
	}
	return i.String()
}
