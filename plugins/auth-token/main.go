// Command auth-token is a plugin that answers authenticate for credentials which
// a web service hands out for a while, as TURN servers know them: the user is
// "<when they expire>:<user>", and the password is made of that and a secret.
package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/jsonconfig"
)

type config struct {
	Secrets     jsonconfig.List     `json:"secrets"`
	Algorithm   string              `json:"algorithm"`
	MaxLifetime jsonconfig.Duration `json:"max_lifetime"`
	Skew        jsonconfig.Duration `json:"skew"`
}

// minSecret is in octets. Whoever has one credential can try secrets as fast as
// a machine hashes.
const minSecret = 16

// What is in use.
var (
	secrets     []string
	algorithm   string // as service hash knows it
	maxLifetime time.Duration
	skew        time.Duration
)

func init() {
	parley.OnLoad(load)
	authenticate.Handle(answer)
}

func main() {}

func load(text string) error {
	c := config{Algorithm: "sha1", MaxLifetime: jsonconfig.Duration(24 * time.Hour)}
	if err := jsonconfig.Decode(text, &c); err != nil {
		return err
	}
	if len(c.Secrets) == 0 {
		return errors.New("secrets: at least one is needed")
	}
	for i, s := range c.Secrets {
		switch {
		case len(s) < minSecret:
			return fmt.Errorf("secrets: number %d is shorter than %d octets", i+1, minSecret)
		case slices.Contains(c.Secrets[:i], s):
			return fmt.Errorf("secrets: number %d is there already", i+1)
		}
	}
	switch c.Algorithm {
	case "sha1":
		algorithm = parley.SHA1
	case "sha256":
		algorithm = parley.SHA256
	default:
		return fmt.Errorf("algorithm: %q is not sha1 or sha256", c.Algorithm)
	}
	switch d := time.Duration(c.MaxLifetime); {
	case d < time.Second:
		return errors.New("max_lifetime: is less than a second")
	case d > 365*24*time.Hour:
		return errors.New("max_lifetime: is more than a year")
	case time.Duration(c.Skew) > time.Hour:
		return errors.New("skew: is more than an hour")
	}
	if !parley.Feature(abi.ServiceTime) {
		return errors.New("needs the grant clock")
	}
	secrets, maxLifetime, skew = c.Secrets, time.Duration(c.MaxLifetime), time.Duration(c.Skew)
	return nil
}

func answer(r authenticate.Request) authenticate.Reply {
	end, user, ok := parseName(r.Username())
	if !ok {
		return authenticate.Next() // somebody else may know
	}
	now, err := parley.Time()
	if err != nil {
		return authenticate.Fail("the time: " + err.Error())
	}
	left := end.Add(skew).Sub(now)
	switch {
	case left < time.Second: // sessions are counted in seconds
		return authenticate.Deny(403, "expired")
	case end.Sub(now) > maxLifetime+skew:
		return authenticate.Deny(403, "valid for too long")
	}
	password, err := passwordOf(r)
	if err != nil {
		return authenticate.Fail("hash: " + err.Error())
	}
	return authenticate.Done().Password(password).MaxExpires(left).Attribute("user", user)
}

// parseName takes a user apart: seconds since 1970, a colon, and the user that
// is meant.
func parseName(name string) (end time.Time, user string, ok bool) {
	digits, user, ok := strings.Cut(name, ":")
	// 12 digits reach beyond the year 30000, and no further than time does.
	if !ok || user == "" || digits == "" || len(digits) > 12 || strings.Trim(digits, "0123456789") != "" {
		return end, "", false
	}
	seconds, err := strconv.ParseInt(digits, 10, 64)
	return time.Unix(seconds, 0), user, err == nil
}

// passwordOf returns the password of the request's user. With more than one
// secret, all of them count, so that they can be changed while credentials are
// out: it is the one by which the peer has answered the challenge. If none is,
// any will do, as it does not match.
func passwordOf(r authenticate.Request) (string, error) {
	var first string
	for i, secret := range secrets {
		sum, err := parley.HMAC(algorithm, []byte(secret), []byte(r.Username()))
		if err != nil {
			return "", err
		}
		password := base64.StdEncoding.EncodeToString(sum)
		if len(secrets) == 1 {
			return password, nil
		}
		if i == 0 {
			first = password
		}
		ha1, err := r.HA1(password)
		if err != nil {
			return "", err
		}
		if ok, err := r.Matches(ha1); ok || err != nil {
			return password, err
		}
	}
	return first, nil
}
