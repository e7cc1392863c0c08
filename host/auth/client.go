package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

var (
	// ErrNoChallenge: none of the challenges can be answered. The error that
	// wraps it says why.
	ErrNoChallenge = errors.New("auth: no challenge that can be answered")
	// ErrCredentials: the server refused a right answer to a fresh challenge,
	// so user name or password must be wrong. Do not repeat.
	ErrCredentials = errors.New("auth: user or password is wrong")
	// ErrStale: the server calls each of its nonces stale.
	ErrStale = errors.New("auth: server calls fresh nonces stale")
	// ErrBadRspAuth: the server does not know the secret, or something between
	// changed its answer. It may not be who it says.
	ErrBadRspAuth = errors.New("auth: rspauth does not verify")
	// ErrNoRspAuth: the server did not prove that it knows the secret, as
	// RFC 4976 §9.1 demands (RELAY-73). Over TLS to a relay whose name was
	// checked, a client may let that pass.
	ErrNoRspAuth = errors.New("auth: no rspauth")
)

// maxStale is how many stale challenges in a row are answered.
const maxStale = 3

// A Client is the side that authenticates itself, to one relay (RFC 4976 §9.1:
// the authority of the URI is the protection space, RELAY-74). Each AUTH goes
//
//	Preemptive → send → 401 → Answer → send → 200 → Success
//
// with the middle as often as Answer agrees. The AUTHs to one relay are not
// pipelined (RELAY-64), so a Client is for one goroutine at a time. It may
// outlive a connection; the nonce it holds then costs one more round trip.
type Client struct {
	Username string
	Password string
	// HA1, if set, is used instead of Password: 32 hex digits for MD5, 64 for
	// SHA-256. Challenges with the other algorithm are then passed over.
	HA1 string

	challenge Challenge    // being used; no Nonce = none
	nc        uint32       // uses of challenge.Nonce
	sent      *Credentials // to which no Success has come yet
	answered  bool         // sent answers a challenge of this exchange
	stales    int          // stale challenges of this exchange
}

// Format keeps the secret out of every fmt verb, and so out of logs.
func (c Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "auth.Client(hidden)") }

// LogValue keeps the secret out of logs.
func (c Client) LogValue() slog.Value { return slog.StringValue("auth.Client(hidden)") }

// Preemptive begins an AUTH. If the server has given a nonce that can be used,
// it returns the Authorization to send with the first request; otherwise send
// that without (RFC 2617 §3.2.3, RELAY-76).
func (c *Client) Preemptive(method, uri string) (authorization string, ok bool) {
	c.sent, c.answered, c.stales = nil, false, 0
	if c.challenge.Nonce == "" || c.checkNames(uri) != nil {
		return "", false
	}
	return c.authorize(method, uri), true
}

// Answer answers a 401 (RELAY-8).
//
// Answer returns the Authorization with which to repeat a request that was
// answered 401. challenges are the values of WWW-Authenticate from top to
// bottom; uri is the rightmost URI of To-Path, as it is sent (RELAY-72).
func (c *Client) Answer(challenges []string, method, uri string) (authorization string, err error) {
	if err := c.checkNames(uri); err != nil {
		return "", err
	}
	ch, err := c.choose(challenges)
	if err != nil {
		return "", err
	}
	// RFC 2617 §3.2.1 (RELAY-77): stale means that only the nonce was wrong.
	switch {
	case ch.Stale && c.stales == maxStale:
		c.challenge = Challenge{}
		return "", ErrStale
	case ch.Stale:
		c.stales++
	case c.answered:
		c.challenge = Challenge{}
		return "", ErrCredentials
	}
	if ch.Nonce != c.challenge.Nonce {
		c.nc = 0 // RELAY-76: it counts the uses of one nonce
	}
	c.challenge, c.answered = ch, true
	return c.authorize(method, uri), nil
}

// Success takes the Authentication-Info of a 200 ("" if there is none). Unless
// it returns nil or [ErrNoRspAuth], nothing of it is used, and the next AUTH
// starts without a nonce.
func (c *Client) Success(info string) error {
	sent, used := c.sent, c.challenge
	c.sent, c.answered, c.stales, c.challenge = nil, false, 0, Challenge{}
	i, err := ParseInfo(info)
	if err != nil {
		return err
	}
	if sent == nil {
		return ErrBadRspAuth // credentials that were never sent
	}
	if i.RspAuth != "" {
		want := RspAuth(sent.Algorithm, c.ha1(sent.Algorithm, sent.Realm), sent.URI, sent.Nonce, sent.NC, sent.CNonce)
		right := subtle.ConstantTimeCompare([]byte(want), []byte(i.RspAuth)) == 1
		// RFC 2617 §3.2.3: cnonce and nc "MUST be the ones for the client
		// request". Absent they do no harm, since rspauth covers them.
		if !right || i.CNonce != "" && i.CNonce != sent.CNonce || i.NC != "" && i.NC != sent.NC {
			return ErrBadRspAuth
		}
	}
	c.challenge = used
	if i.NextNonce != "" && i.NextNonce != used.Nonce {
		c.challenge.Nonce, c.nc = i.NextNonce, 0
	}
	if i.RspAuth == "" {
		return ErrNoRspAuth
	}
	return nil
}

// choose returns the topmost challenge that can be answered (ECO-189).
func (c *Client) choose(challenges []string) (Challenge, error) {
	reason := errors.New("none given")
	for _, value := range challenges {
		ch, err := ParseChallenge(value) // RELAY-69: Basic, too, ends here
		if err != nil {
			reason = err
			continue
		}
		alg, err := ParseAlgorithm(string(ch.Algorithm))
		if err != nil || c.HA1 != "" && len(c.HA1) != alg.digits() {
			reason = fmt.Errorf("algorithm %q", ch.Algorithm)
			continue
		}
		if !offersAuth(ch.QOP) {
			reason = fmt.Errorf("qop %q", ch.QOP)
			continue
		}
		return ch, nil
	}
	return Challenge{}, fmt.Errorf("%w: %w", ErrNoChallenge, reason)
}

// offersAuth: RFC 4976 §9.1 (RELAY-69, 71) demands a qop, and auth-int is not
// for MSRP.
func offersAuth(qop string) bool {
	for v := range strings.SplitSeq(qop, ",") {
		if strings.EqualFold(trim(v), "auth") {
			return true
		}
	}
	return false
}

func (c *Client) authorize(method, uri string) string {
	c.nc++
	cr := Credentials{
		Username:  c.Username,
		Realm:     c.challenge.Realm,
		Nonce:     c.challenge.Nonce,
		URI:       uri, // RELAY-4: Kamailio demands it
		Algorithm: c.challenge.Algorithm,
		CNonce:    rand.Text(),
		Opaque:    c.challenge.Opaque,
		QOP:       "auth",
		NC:        fmt.Sprintf("%08x", c.nc),
	}
	cr.Response = Response(cr.Algorithm, c.ha1(cr.Algorithm, cr.Realm), method, uri, cr.Nonce, cr.NC, cr.CNonce)
	c.sent = &cr
	return cr.String()
}

func (c *Client) ha1(alg Algorithm, realm string) string {
	if c.HA1 != "" {
		return strings.ToLower(c.HA1)
	}
	return HA1(alg, c.Username, realm, c.Password)
}

func (c *Client) checkNames(uri string) error {
	if strings.ContainsFunc(c.Username+uri, isControl) {
		return errors.New("auth: control character in user name or URI")
	}
	return nil
}
