package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Errors of a Client.
var (
	ErrCredentials = errors.New("auth: user or password is wrong")
	ErrBadRspAuth  = errors.New("auth: the server does not know the password")
)

// A Client answers challenges of one protection space, for one user. It is for
// one goroutine.
type Client struct {
	Username string
	Password string

	challenge Challenge
	nc        uint32
	ha1       string
	cnonce    string
	uri       string
	tried     bool // an answer was refused
}

// Answer returns the Authorization for a 401 that carries challenges (RELAY-8). It takes
// the first that it supports (ECO-189). A second 401 in a row that is not stale
// means that the password is wrong.
func (c *Client) Answer(challenges []string, method, uri string) (string, error) {
	var errs []error
	for _, s := range challenges {
		ch, err := ParseChallenge(s)
		if err == nil && !slices.Contains(ch.QOP, "auth") {
			err = errors.New("auth: challenge without qop auth") // RFC 4976 §9.1 (RELAY-71)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if c.tried && !ch.Stale {
			return "", ErrCredentials
		}
		c.tried = true
		c.take(ch)
		return c.authorize(method, uri), nil
	}
	return "", fmt.Errorf("auth: no challenge that can be answered: %w", errors.Join(errs...))
}

func (c *Client) take(ch Challenge) {
	c.challenge, c.nc = ch, 0
	c.ha1 = HA1(ch.Algorithm, c.Username, ch.Realm, c.Password)
}

// Preemptive returns an Authorization with the nonce of the last exchange, which
// spares the 401 (RELAY-76). ok is false if there was none.
func (c *Client) Preemptive(method, uri string) (authorization string, ok bool) {
	if c.challenge.Nonce == "" {
		return "", false
	}
	return c.authorize(method, uri), true
}

func (c *Client) authorize(method, uri string) string {
	var random [12]byte
	rand.Read(random[:]) // never fails
	c.nc++
	c.cnonce, c.uri = hex.EncodeToString(random[:]), uri
	nc := fmt.Sprintf("%08x", c.nc)
	ch := &c.challenge
	return Credentials{
		Username: c.Username, Realm: ch.Realm, Nonce: ch.Nonce, URI: uri, Algorithm: ch.Algorithm, CNonce: c.cnonce,
		NC: nc, QOP: "auth", Opaque: ch.Opaque,
		Response: Response(ch.Algorithm, c.ha1, method, uri, ch.Nonce, nc, c.cnonce),
	}.String()
}

// Success reads the Authentication-Info of a 200: the server proves that it
// knows the password (RELAY-75), and gives the next nonce. "" is accepted, as a
// server may have let somebody else check the digest.
func (c *Client) Success(info string) error {
	c.tried = false
	if info == "" {
		return nil
	}
	i, err := ParseInfo(info)
	if err != nil {
		return err
	}
	ch := &c.challenge
	if i.RspAuth != "" {
		want := Response(ch.Algorithm, c.ha1, "", c.uri, ch.Nonce, fmt.Sprintf("%08x", c.nc), c.cnonce)
		if subtle.ConstantTimeCompare([]byte(want), []byte(i.RspAuth)) != 1 {
			return ErrBadRspAuth
		}
	}
	if i.NextNonce != "" {
		ch.Nonce, c.nc = i.NextNonce, 0
	}
	return nil
}
