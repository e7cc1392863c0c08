package msrp

import (
	"errors"
	"fmt"
	"strings"
)

// A SyntaxError reports octets that are not MSRP.
type SyntaxError struct {
	Rule string // what was wrong; from a small fixed set, so it serves as a metric label
	Near string // the octets at fault, cut to 40 and before a session-id
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("msrp: bad %s near %q", e.Rule, e.Near)
}

// syntaxError shows near only up to a session-id, for that is a secret
// (RFC 4976 §9.3, RELAY-124) and errors end in logs.
func syntaxError[T ~string | ~[]byte](rule string, near T) *SyntaxError {
	s := string(near[:min(len(near), 40)])
	if i := strings.Index(s, ":/"); i >= 0 {
		from := i + len(":/")
		if strings.HasPrefix(s[from:], "/") {
			from++
		}
		if end := strings.IndexByte(s[from:], '/'); end >= 0 {
			s = s[:from+end]
		}
	}
	return &SyntaxError{Rule: rule, Near: s}
}

// Errors that end a connection. Framing is lost with the first of them, since
// only an end-line says where the next frame starts (CORE-42).
var (
	// ErrHeadTooLarge: start line and headers exceed Limits.Head.
	ErrHeadTooLarge = errors.New("msrp: frame head too large")
	// ErrBodyTooLarge: the body of a request other than SEND exceeds
	// Limits.OtherBody (RFC 4975 §7.1, CORE-38).
	ErrBodyTooLarge = errors.New("msrp: body of a request other than SEND too large")
)
