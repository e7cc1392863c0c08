package msrp

import (
	"net/netip"
	"strconv"
	"strings"
)

// A URI is an MSRP URI (RFC 4975 §6, §9; RFC 7977 §5.2.1 for "ws").
// Fields keep the case they were written in; compare with [URI.Equal].
type URI struct {
	Secure    bool   // msrps: the hop to this authority is over TLS (CORE-4)
	User      string // userinfo, rare; never a password (CORE-6)
	Host      string // name, IPv4, or IPv6 without its brackets
	Port      uint16 // 0 = none was given
	Session   string // session-id, case-sensitive; "" = the URI of a device (CORE-8)
	Transport string // "tcp", "ws", …
	Params    string // what follows the transport, with its leading ";"
}

// ParseURI parses s. The error is a *SyntaxError that names the part at fault.
// The result's strings share memory with s.
func ParseURI(s string) (u URI, err error) {
	rest, ok := cutPrefixFold(s, "msrp")
	if !ok {
		return u, uriError("URI scheme", s)
	}
	if len(rest) > 0 && (rest[0] == 's' || rest[0] == 'S') {
		u.Secure = true
		rest = rest[1:]
	}
	if rest, ok = strings.CutPrefix(rest, "://"); !ok {
		return u, uriError("URI scheme", s)
	}
	authority, params, ok := strings.Cut(rest, ";")
	if !ok {
		// CORE-1, RFC 4975 §6: the transport parameter is mandatory.
		return u, uriError("URI without transport", s)
	}
	authority, u.Session, ok = strings.Cut(authority, "/")
	if ok && (u.Session == "" || !all(u.Session, sessionChars)) {
		return u, uriError("URI session-id", s)
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		// CORE-6, RFC 4975 §6: userinfo "MUST NOT" carry a password, so no colon.
		u.User, authority = authority[:at], authority[at+1:]
		if !allEscaped(u.User, isUserChar) {
			return u, uriError("URI userinfo", s)
		}
	}
	if err := u.parseHostPort(authority, s); err != nil {
		return u, err
	}
	if i := strings.IndexByte(params, ';'); i >= 0 {
		params, u.Params = params[:i], params[i:]
	}
	if u.Transport = params; params == "" || !all(params, alphanums) {
		return u, uriError("URI transport", s)
	}
	for p := u.Params; p != ""; {
		var one string
		one, p = cutParam(p[1:])
		name, value, eq := strings.Cut(one, "=")
		if name == "" || !all(name, tokenChars) || eq && (value == "" || !all(value, tokenChars)) {
			return u, uriError("URI parameter", s)
		}
	}
	return u, nil
}

// uriError shows s only up to its session-id, even if there is no telling
// where that begins.
func uriError(rule, s string) *SyntaxError {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return syntaxError(rule, s[:min(len(s), len("msrps:"))])
	}
	authority, _, _ := strings.Cut(rest, "/")
	return syntaxError(rule, scheme+"://"+authority)
}

// cutParam splits at the next ";", which stays at the head of rest.
func cutParam(p string) (one, rest string) {
	if i := strings.IndexByte(p, ';'); i >= 0 {
		return p[:i], p[i:]
	}
	return p, ""
}

func (u *URI) parseHostPort(authority, s string) error {
	host, port := authority, ""
	hasPort, literal := false, false
	if inner, ok := strings.CutPrefix(authority, "["); ok {
		end := strings.IndexByte(inner, ']')
		if end < 0 {
			return uriError("URI host", s)
		}
		host, literal = inner[:end], true
		if after := inner[end+1:]; after != "" {
			if after[0] != ':' {
				return uriError("URI host", s)
			}
			port, hasPort = after[1:], true
		}
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() || a.Zone() != "" {
			return uriError("URI host", s)
		}
	} else {
		host, port, hasPort = strings.Cut(authority, ":")
		if host == "" || !allEscaped(host, isHostChar) {
			return uriError("URI host", s)
		}
		literal = looksNumeric(unescapeUnreserved(host))
	}
	u.Host = host
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || !isDigit(port[0]) {
			return uriError("URI port", s)
		}
		u.Port = uint16(n)
	} else if literal {
		// CORE-2, RFC 4975 §6: a numeric address "MUST" come with a port.
		return uriError("URI with an address but no port", s)
	}
	return nil
}

// looksNumeric reports whether host is an IPv4 address.
func looksNumeric(host string) bool {
	if !isDigit(host[len(host)-1]) {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Is4()
}

// String prints u; an IPv6 host gets its brackets back.
func (u URI) String() string {
	b := make([]byte, 0, 64)
	if u.Secure {
		b = append(b, "msrps://"...)
	} else {
		b = append(b, "msrp://"...)
	}
	if u.User != "" {
		b = append(append(b, u.User...), '@')
	}
	if strings.IndexByte(u.Host, ':') >= 0 {
		b = append(append(append(b, '['), u.Host...), ']')
	} else {
		b = append(b, u.Host...)
	}
	if u.Port != 0 {
		b = strconv.AppendUint(append(b, ':'), uint64(u.Port), 10)
	}
	if u.Session != "" {
		b = append(append(b, '/'), u.Session...)
	}
	b = append(append(b, ';'), u.Transport...)
	return string(append(b, u.Params...))
}

// Short prints u for logs: a session URI is a bearer secret (RFC 4976 §3.1,
// §9.3, RELAY-11, RELAY-124), so of the session-id only the first four characters are shown.
func (u URI) Short() string {
	u.User, u.Params = "", ""
	if len(u.Session) > 4 {
		u.Session = u.Session[:4] + "~"
	}
	return u.String()
}

// Equal compares by the rules of RFC 4975 §6.1 (CORE-12..17): scheme, host and
// transport ignore case, the session-id does not, addresses and ports compare
// as values, userinfo and further parameters do not count. Names are never resolved.
func (u URI) Equal(v URI) bool {
	return u.Secure == v.Secure && u.Port == v.Port && u.Session == v.Session &&
		strings.EqualFold(u.Transport, v.Transport) && EqualHost(u.Host, v.Host)
}

// EqualHost compares the host parts of two URIs (RFC 4975 §6.1, CORE-13).
func EqualHost(a, b string) bool {
	if a == b {
		return true
	}
	a, b = unescapeUnreserved(a), unescapeUnreserved(b)
	if equalFoldASCII(a, b) {
		return true
	}
	ia, errA := netip.ParseAddr(a)
	ib, errB := netip.ParseAddr(b)
	return errA == nil && errB == nil && ia == ib
}

// unescapeUnreserved decodes percent-encoded unreserved characters only.
func unescapeUnreserved(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && isUnreserved(byte(n)) {
				b = append(b, byte(n))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isAlpha(c byte) bool    { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool    { return '0' <= c && c <= '9' }
func isAlphanum(c byte) bool { return isAlpha(c) || isDigit(c) }
func isUnreserved(c byte) bool {
	return isAlphanum(c) || c == '-' || c == '.' || c == '_' || c == '~'
}
func isSessionChar(c byte) bool { return isUnreserved(c) || c == '+' || c == '=' || c == '/' }
func isUserChar(c byte) bool    { return isUnreserved(c) || isSubDelim(c) }
func isHostChar(c byte) bool    { return isUnreserved(c) || isSubDelim(c) }

// isSubDelim leaves out ";", which in an MSRP URI starts the transport.
func isSubDelim(c byte) bool { return strings.IndexByte("!$&'()*+,=", c) >= 0 }

// isTokenChar follows the "token" rule of RFC 4975 §9.
func isTokenChar(c byte) bool {
	return c == 0x21 || 0x23 <= c && c <= 0x27 || c == 0x2A || c == 0x2B || c == 0x2D || c == 0x2E ||
		isDigit(c) || 0x41 <= c && c <= 0x5A || 0x5E <= c && c <= 0x7E
}

// isIdentChar follows the "ident-char" rule of RFC 4975 §9.
func isIdentChar(c byte) bool {
	return isAlphanum(c) || c == '.' || c == '-' || c == '+' || c == '%' || c == '='
}

// A class is a set of characters. Of what comes with each frame it is looked up, which
// is quicker than a call for each character.
type class [256]bool

func classOf(is func(byte) bool) *class {
	k := new(class)
	for c := range k {
		k[c] = is(byte(c))
	}
	return k
}

var (
	identSet     = classOf(isIdentChar)
	digits       = classOf(isDigit)
	uppers       = classOf(isUpper)
	alphanums    = classOf(isAlphanum)
	tokenChars   = classOf(isTokenChar)
	sessionChars = classOf(isSessionChar)
)

func all[T ~string | ~[]byte](s T, in *class) bool {
	for i := range len(s) {
		if !in[s[i]] {
			return false
		}
	}
	return true
}

// allEscaped is all, with percent-encoded octets allowed between.
func allEscaped(s string, ok func(byte) bool) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			i += 2
		} else if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !equalFoldASCII(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// equalFoldASCII compares without regard to ASCII case; nothing else folds in MSRP.
func equalFoldASCII[A, B ~string | ~[]byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x != y && (x|0x20 != y|0x20 || !isAlpha(x)) {
			return false
		}
	}
	return true
}
