package msrp

import (
	"errors"
	"fmt"
)

// A SyntaxError reports octets that are not MSRP.
type SyntaxError struct {
	Rule string // what was wrong; from a small fixed set, so it serves as a metric label
	Near string // the octets at fault, cut to 40
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("msrp: bad %s near %q", e.Rule, e.Near)
}

func syntaxError[T ~string | ~[]byte](rule string, near T) *SyntaxError {
	return &SyntaxError{Rule: rule, Near: string(near[:min(len(near), 40)])}
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
