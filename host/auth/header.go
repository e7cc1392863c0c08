package auth

import (
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxHeader bounds a header value that is parsed, in octets.
const maxHeader = 4 << 10

const (
	hdrChallenge   = "WWW-Authenticate"
	hdrCredentials = "Authorization"
	hdrInfo        = "Authentication-Info"
)

// A SyntaxError reports a header value that is not what RFC 4976 §7 allows. It
// quotes nothing of the value, which may hold credentials.
type SyntaxError struct {
	Header string // such as "Authorization"
	Rule   string // what was wrong; from a small fixed set, so it serves as a metric label
}

func (e *SyntaxError) Error() string { return "auth: " + e.Header + ": " + e.Rule }

// A Challenge is the value of WWW-Authenticate.
type Challenge struct {
	Realm     string
	Nonce     string
	Opaque    string    // "" = none
	Algorithm Algorithm // MD5 if none is named; as on the wire if unknown
	QOP       string    // the list as on the wire, such as "auth,auth-int"
	Stale     bool
}

// ParseChallenge parses the value of WWW-Authenticate. The error is a
// *SyntaxError. Unknown parameters, and domain (RELAY-70), are ignored.
func ParseChallenge(s string) (Challenge, error) {
	p, err := parse(hdrChallenge, true, s)
	if err != nil {
		return Challenge{}, err
	}
	p.need("realm")
	p.need("nonce")
	p.check("nonce", "nonce missing", notEmpty)
	p.check("algorithm", "algorithm is not a token", isToken)
	return Challenge{
		Realm:     p.values["realm"],
		Nonce:     p.values["nonce"],
		Opaque:    p.values["opaque"],
		Algorithm: p.algorithm(),
		QOP:       p.values["qop"],
		// RFC 2617 §3.2.1 (RELAY-77): case does not count, and whatever is not
		// "true" is false.
		Stale: strings.EqualFold(p.values["stale"], "true"),
	}, p.err
}

// String returns the header value. RFC 4976 §9.1 (RELAY-1): qop is quoted here.
func (c Challenge) String() string {
	w := writer{b: []byte("Digest ")}
	w.quoted("realm", c.Realm)
	w.quoted("nonce", c.Nonce)
	w.quotedIf("opaque", c.Opaque)
	if c.Stale {
		w.token("stale", "true")
	}
	w.token("algorithm", string(c.Algorithm))
	w.quotedIf("qop", c.QOP)
	return string(w.b)
}

// Credentials are the value of Authorization. In each field but Username and
// Realm "" means that the parameter is absent.
type Credentials struct {
	Username  string
	Realm     string
	Nonce     string
	URI       string    // absent from some clients, as from RFC 4976's grammar (RELAY-4)
	Response  string    // 32 or 64 lower-case hex digits
	Algorithm Algorithm // MD5 if none is named; as on the wire if unknown
	CNonce    string
	Opaque    string
	QOP       string
	NC        string // 8 lower-case hex digits: the digest covers them as they are
}

// ParseCredentials parses the value of Authorization. The error is a
// *SyntaxError. Values are taken quoted or not: msrplib quotes qop and nc.
func ParseCredentials(s string) (Credentials, error) {
	p, err := parse(hdrCredentials, true, s)
	if err != nil {
		return Credentials{}, err
	}
	p.need("username")
	p.need("realm")
	p.need("nonce")
	p.check("nonce", "nonce missing", notEmpty)
	p.need("response")
	p.check("response", "response is not 32 or 64 lower-case hex digits", isSum)
	p.check("nc", "nc is not 8 lower-case hex digits", isNC)
	p.check("algorithm", "algorithm is not a token", isToken)
	p.check("qop", "qop is not a token", isToken)
	return Credentials{
		Username:  p.values["username"],
		Realm:     p.values["realm"],
		Nonce:     p.values["nonce"],
		URI:       p.values["uri"],
		Response:  p.values["response"],
		Algorithm: p.algorithm(),
		CNonce:    p.values["cnonce"],
		Opaque:    p.values["opaque"],
		QOP:       p.values["qop"],
		NC:        p.values["nc"],
	}, p.err
}

// String returns the header value: it is for the wire, not for logs, since a
// response lets its reader try passwords. RFC 4976 §9.1 (RELAY-1): qop and nc
// are not quoted here.
func (c Credentials) String() string {
	w := writer{b: []byte("Digest ")}
	w.quoted("username", c.Username)
	w.quoted("realm", c.Realm)
	w.quoted("nonce", c.Nonce)
	w.quotedIf("uri", c.URI) // RFC 4976 §9.1 (RELAY-4): quoted where it is used
	w.token("algorithm", string(c.Algorithm))
	w.token("qop", c.QOP)
	w.token("nc", c.NC)
	w.quotedIf("cnonce", c.CNonce)
	w.quoted("response", c.Response)
	w.quotedIf("opaque", c.Opaque)
	return string(w.b)
}

// LogValue shows who, not the proof.
func (c Credentials) LogValue() slog.Value {
	return slog.GroupValue(slog.String("user", c.Username), slog.String("realm", c.Realm), slog.String("nc", c.NC))
}

// An Info is the value of Authentication-Info. In each field "" means that the
// parameter is absent.
type Info struct {
	NextNonce string
	QOP       string
	RspAuth   string // 32 or 64 lower-case hex digits
	CNonce    string
	NC        string // 8 lower-case hex digits
}

// ParseInfo parses the value of Authentication-Info. The error is a
// *SyntaxError. An empty value is an Info without parameters.
func ParseInfo(s string) (Info, error) {
	if trim(s) == "" {
		return Info{}, nil
	}
	p, err := parse(hdrInfo, false, s)
	if err != nil {
		return Info{}, err
	}
	p.check("rspauth", "rspauth is not 32 or 64 lower-case hex digits", isSum)
	p.check("nc", "nc is not 8 lower-case hex digits", isNC)
	p.check("qop", "qop is not a token", isToken)
	return Info{
		NextNonce: p.values["nextnonce"],
		QOP:       p.values["qop"],
		RspAuth:   p.values["rspauth"],
		CNonce:    p.values["cnonce"],
		NC:        p.values["nc"],
	}, p.err
}

// String returns the header value. RFC 4976 §9.1 (RELAY-1): qop and nc are not
// quoted here.
func (i Info) String() string {
	var w writer
	w.quotedIf("nextnonce", i.NextNonce)
	w.token("qop", i.QOP)
	w.quotedIf("rspauth", i.RspAuth)
	w.quotedIf("cnonce", i.CNonce)
	w.token("nc", i.NC)
	return string(w.b)
}

// params are the parameters of one header value, names in lower case.
type params struct {
	header string
	values map[string]string
	err    error // the first fault that need or check found
}

func (p *params) need(name string) {
	if _, ok := p.values[name]; !ok {
		p.fail(name + " missing")
	}
}

func (p *params) check(name, rule string, ok func(string) bool) {
	if v, given := p.values[name]; given && !ok(v) {
		p.fail(rule)
	}
}

// algorithm keeps unknown names, so that the one who reads can tell them.
func (p *params) algorithm() Algorithm {
	if alg, err := ParseAlgorithm(p.values["algorithm"]); err == nil {
		return alg
	}
	return Algorithm(p.values["algorithm"])
}

func (p *params) fail(rule string) {
	if p.err == nil {
		p.err = &SyntaxError{p.header, rule}
	}
}

// parse reads
//
//	["Digest" SP] name "=" value *( "," name "=" value )
//
// with any SP and HTAB around what is separated, names in any case and order,
// each once (RFC 4976 §7; leniency: RELAY-2). Which of two equal parameters
// counts is what a relay and what stands before it could disagree about, so
// duplicates are refused even if unknown.
func parse(header string, scheme bool, s string) (params, error) {
	p := params{header: header, values: map[string]string{}}
	fail := func(rule string) (params, error) { return params{}, &SyntaxError{header, rule} }
	if len(s) > maxHeader {
		return fail("longer than 4096 octets")
	}
	if !utf8.ValidString(s) {
		return fail("not UTF-8")
	}
	// Before anything else, so that no value can carry CR or LF into a header
	// that is made from it, nor an escape sequence into a log.
	if strings.ContainsFunc(s, isControl) {
		return fail("control character")
	}
	s = trim(s)
	if scheme {
		const digest = "digest"
		n := len(digest)
		if len(s) < n || !strings.EqualFold(s[:n], digest) || len(s) > n && s[n] != ' ' && s[n] != '\t' {
			return fail("scheme is not Digest")
		}
		s = trim(s[n:])
	}
	for {
		name, rest := cut(s, isTokenChar)
		if name == "" {
			return fail("parameter without name")
		}
		rest, ok := strings.CutPrefix(trim(rest), "=")
		if !ok {
			return fail("parameter without value")
		}
		value, rest, rule := cutValue(trim(rest))
		if rule != "" {
			return fail(rule)
		}
		name = strings.ToLower(name)
		if _, dup := p.values[name]; dup {
			return fail("duplicate parameter")
		}
		p.values[name] = value
		if rest = trim(rest); rest == "" {
			return p, nil
		}
		if s, ok = strings.CutPrefix(rest, ","); !ok {
			return fail("no comma after value")
		}
		s = trim(s)
	}
}

// cutValue cuts a quoted-string, which it unescapes, or a bare word off the
// front of s. A bare word may be more than a token: some peers leave out the
// quotes of a nonce or a URI.
func cutValue(s string) (value, rest, rule string) {
	if !strings.HasPrefix(s, `"`) {
		value, rest = cut(s, isBareChar)
		if value == "" {
			return "", "", "parameter without value"
		}
		return value, rest, ""
	}
	var b []byte
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return string(b), s[i+1:], ""
		case '\\':
			if i++; i == len(s) {
				return "", "", "quoted string without end"
			}
		}
		b = append(b, s[i])
	}
	return "", "", "quoted string without end"
}

// A writer appends parameters. What is not allowed in a value is left out:
// nothing that a hook, a configuration or a peer supplied ends a header early.
type writer struct{ b []byte }

func (w *writer) name(name string) {
	if n := len(w.b); n > 0 && w.b[n-1] != ' ' {
		w.b = append(w.b, ", "...)
	}
	w.b = append(append(w.b, name...), '=')
}

func (w *writer) quoted(name, value string) {
	w.name(name)
	w.b = append(w.b, '"')
	for _, r := range value {
		if isControl(r) {
			continue
		}
		if r == '"' || r == '\\' {
			w.b = append(w.b, '\\')
		}
		w.b = utf8.AppendRune(w.b, r)
	}
	w.b = append(w.b, '"')
}

func (w *writer) quotedIf(name, value string) {
	if value != "" {
		w.quoted(name, value)
	}
}

func (w *writer) token(name, value string) {
	value = strings.Map(func(r rune) rune {
		if !isTokenChar(r) {
			return -1
		}
		return r
	}, value)
	if value != "" {
		w.name(name)
		w.b = append(w.b, value...)
	}
}

func trim(s string) string { return strings.Trim(s, " \t") }

// cut splits s after its longest prefix of which ok holds.
func cut(s string, ok func(rune) bool) (prefix, rest string) {
	if i := strings.IndexFunc(s, func(r rune) bool { return !ok(r) }); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

func all(s string, ok func(rune) bool) bool {
	_, rest := cut(s, ok)
	return rest == ""
}

func isControl(r rune) bool { return r != '\t' && unicode.IsControl(r) }

func isBareChar(r rune) bool { return r > ' ' && r < 0x7f && !strings.ContainsRune(`,"\`, r) }

func isTokenChar(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
}

func isLowerHex(r rune) bool { return '0' <= r && r <= '9' || 'a' <= r && r <= 'f' }

func notEmpty(s string) bool { return s != "" }

func isToken(s string) bool { return all(s, isTokenChar) }

// RFC 4976 §7 (RELAY-3): "response" and "nc" are lower-case hex of fixed length.
func isSum(s string) bool {
	return (len(s) == MD5.digits() || len(s) == SHA256.digits()) && all(s, isLowerHex)
}

func isNC(s string) bool { return len(s) == 8 && all(s, isLowerHex) }
