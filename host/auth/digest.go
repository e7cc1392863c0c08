// Package auth is Digest authentication for MSRP (RFC 4976 §9.1), both sides,
// without any network: it makes and reads header values.
//
//	s, err := auth.NewServer(auth.ServerConfig{Realm: "example.com"})
//	lines := s.Challenges(connID, false)            // answer 401 with these
//	cred, err := auth.ParseCredentials(header)
//	check, err := s.Check(connID, cred)             // is the nonce ours?
//	r := s.Verify(check, "AUTH", toPathURI, auth.Secret{HA1: ha1})
//
// RFC 2617 libraries are no help here: for rspauth the method is empty, nonces
// are bound to connections, and the client's uri may be missing.
package auth

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// An Algorithm is a hash of Digest.
type Algorithm string

// The algorithms that are known. Nothing else is offered or accepted
// (RFC 4976 §9.1, RELAY-69: no MD5-sess).
const (
	MD5    Algorithm = "MD5"
	SHA256 Algorithm = "SHA-256"
)

// ParseAlgorithm reads an algorithm's name in any case; "" is MD5.
func ParseAlgorithm(s string) (Algorithm, error) {
	switch {
	case s == "" || strings.EqualFold(s, string(MD5)):
		return MD5, nil
	case strings.EqualFold(s, string(SHA256)):
		return SHA256, nil
	}
	return "", fmt.Errorf("auth: algorithm %q is not MD5 or SHA-256", s)
}

func (a Algorithm) hash(s string) string {
	if a == SHA256 {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	h := md5.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

func (a Algorithm) digits() int {
	if a == SHA256 {
		return 64
	}
	return 32
}

// HA1 is the hash of a user's password in a realm.
func HA1(a Algorithm, user, realm, password string) string {
	return a.hash(user + ":" + realm + ":" + password)
}

// Response is the digest that a client sends. With an empty method it is the
// rspauth that a server answers (RFC 4976 §9.1).
func Response(a Algorithm, ha1, method, uri, nonce, nc, cnonce string) string {
	return a.hash(ha1 + ":" + nonce + ":" + nc + ":" + cnonce + ":auth:" + a.hash(method+":"+uri))
}

// maxValue bounds a header value that is parsed.
const maxValue = 4 << 10

// parse reads parameters: name=token or name="quoted", parted by commas, in any
// order and with any space (RELAY-2).
func parse(s string) (map[string]string, error) {
	if len(s) > maxValue {
		return nil, errors.New("auth: header longer than 4096 bytes")
	}
	params := map[string]string{}
	for i := 0; ; {
		for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == ',') {
			i++
		}
		if i == len(s) {
			return params, nil
		}
		from := i
		for i < len(s) && isToken(s[i]) {
			i++
		}
		name := strings.ToLower(s[from:i])
		i = skipSpace(s, i)
		if name == "" || i == len(s) || s[i] != '=' {
			return nil, fmt.Errorf("auth: parameter without name or value at offset %d", from)
		}
		i = skipSpace(s, i+1)
		var value string
		if i < len(s) && s[i] == '"' {
			var ok bool
			if value, i, ok = unquote(s, i+1); !ok {
				return nil, fmt.Errorf("auth: bad quoted value of %s", name)
			}
		} else {
			from := i
			for i < len(s) && isToken(s[i]) {
				i++
			}
			if value = s[from:i]; value == "" {
				return nil, fmt.Errorf("auth: empty value of %s", name)
			}
		}
		if _, twice := params[name]; twice {
			return nil, fmt.Errorf("auth: %s is there twice", name)
		}
		params[name] = value
		if i = skipSpace(s, i); i < len(s) && s[i] != ',' {
			return nil, fmt.Errorf("auth: no comma after %s", name)
		}
	}
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t') {
		i++
	}
	return i
}

func isToken(c byte) bool {
	return c > 0x20 && c < 0x7F && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, rune(c))
}

// unquote reads up to the closing quote.
func unquote(s string, i int) (value string, next int, ok bool) {
	var b strings.Builder
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), i + 1, true
		case c == '\\' && i+1 < len(s) && s[i+1] >= 0x20 && s[i+1] != 0x7F:
			i++
			b.WriteByte(s[i])
		case c < 0x20 && c != '\t' || c == 0x7F || c == '\\':
			return "", i, false
		default:
			b.WriteByte(c)
		}
	}
	return "", i, false
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// cutScheme takes "Digest" off.
func cutScheme(s string) (string, error) {
	scheme, rest, _ := strings.Cut(strings.TrimLeft(s, " \t"), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return "", errors.New("auth: scheme is not Digest") // RELAY-69: never Basic
	}
	return rest, nil
}

// A Challenge is the value of WWW-Authenticate.
type Challenge struct {
	Realm     string
	Nonce     string
	Opaque    string
	Stale     bool
	Algorithm Algorithm
	QOP       []string
}

// ParseChallenge reads the value of a WWW-Authenticate header.
func ParseChallenge(s string) (c Challenge, err error) {
	rest, err := cutScheme(s)
	if err != nil {
		return c, err
	}
	p, err := parse(rest)
	if err != nil {
		return c, err
	}
	if c.Algorithm, err = ParseAlgorithm(p["algorithm"]); err != nil {
		return c, err
	}
	c.Realm, c.Nonce, c.Opaque = p["realm"], p["nonce"], p["opaque"]
	c.Stale = strings.EqualFold(p["stale"], "true") // RFC 2617 §3.2.1 (RELAY-77): any case
	c.QOP = strings.FieldsFunc(p["qop"], func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	if c.Nonce == "" {
		return c, errors.New("auth: challenge without nonce")
	}
	return c, nil
}

// String is the header's value. qop is quoted here (RFC 4976 §9.1, RELAY-1).
func (c Challenge) String() string {
	s := "Digest realm=" + quote(c.Realm) + ", nonce=" + quote(c.Nonce)
	if c.Opaque != "" {
		s += ", opaque=" + quote(c.Opaque)
	}
	if c.Stale {
		s += ", stale=true"
	}
	return s + ", algorithm=" + string(c.Algorithm) + ", qop=" + quote(strings.Join(c.QOP, ","))
}

// Credentials are the value of Authorization.
type Credentials struct {
	Username  string
	Realm     string
	Nonce     string
	URI       string // may be missing (RELAY-4)
	Response  string
	Algorithm Algorithm
	CNonce    string
	NC        string // 8 hex digits
	QOP       string
	Opaque    string
}

// ParseCredentials reads the value of an Authorization header. That all is
// there that a digest needs is for Server.Check to see.
func ParseCredentials(s string) (c Credentials, err error) {
	rest, err := cutScheme(s)
	if err != nil {
		return c, err
	}
	p, err := parse(rest)
	if err != nil {
		return c, err
	}
	if c.Algorithm, err = ParseAlgorithm(p["algorithm"]); err != nil {
		return c, err
	}
	c.Username, c.Realm, c.Nonce, c.URI = p["username"], p["realm"], p["nonce"], p["uri"]
	c.Response, c.CNonce, c.NC, c.QOP, c.Opaque = p["response"], p["cnonce"], p["nc"], p["qop"], p["opaque"]
	return c, nil
}

// String is the header's value. qop and nc are not quoted here (RELAY-1, RELAY-3).
func (c Credentials) String() string {
	s := "Digest username=" + quote(c.Username) + ", realm=" + quote(c.Realm) + ", nonce=" + quote(c.Nonce)
	if c.URI != "" {
		s += ", uri=" + quote(c.URI)
	}
	s += ", response=" + quote(c.Response) + ", algorithm=" + string(c.Algorithm) + ", cnonce=" + quote(c.CNonce)
	if c.Opaque != "" {
		s += ", opaque=" + quote(c.Opaque)
	}
	return s + ", qop=" + c.QOP + ", nc=" + c.NC
}

// Info is the value of Authentication-Info.
type Info struct {
	NextNonce string
	QOP       string
	RspAuth   string
	CNonce    string
	NC        string
}

// ParseInfo reads the value of an Authentication-Info header.
func ParseInfo(s string) (i Info, err error) {
	p, err := parse(s)
	if err != nil {
		return i, err
	}
	return Info{p["nextnonce"], p["qop"], p["rspauth"], p["cnonce"], p["nc"]}, nil
}

// String is the header's value (RFC 4976 §9.1, RELAY-73).
func (i Info) String() string {
	s := "qop=" + i.QOP + ", cnonce=" + quote(i.CNonce) + ", nc=" + i.NC
	if i.RspAuth != "" {
		s += ", rspauth=" + quote(i.RspAuth)
	}
	if i.NextNonce != "" {
		s += ", nextnonce=" + quote(i.NextNonce)
	}
	return s
}
