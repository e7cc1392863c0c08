package msrp

import "strconv"

// Unknown is a range end or total written as "*".
const Unknown int64 = -1

// A ByteRange is the value of a Byte-Range header: which octets of the whole
// message a chunk carries, counted from 1 (RFC 4975 §7.1.1).
type ByteRange struct {
	Start int64 // at least 1
	End   int64 // Start-1 for no octets; Unknown for "*"
	Total int64 // Unknown for "*"
}

// ParseByteRange parses a header value such as "1-2048/5000". It refuses what
// cannot be true: a start of 0, an end before the start, a total that the range
// passes (CORE-74, CORE-162).
func ParseByteRange[T ~string | ~[]byte](s T) (ByteRange, error) {
	var r ByteRange
	i, ok := 0, true
	if r.Start, i, ok = rangeNumber(s, 0, false); !ok || i == len(s) || s[i] != '-' {
		return r, syntaxError("Byte-Range", s)
	}
	if r.End, i, ok = rangeNumber(s, i+1, true); !ok || i == len(s) || s[i] != '/' {
		return r, syntaxError("Byte-Range", s)
	}
	if r.Total, i, ok = rangeNumber(s, i+1, true); !ok || i != len(s) {
		return r, syntaxError("Byte-Range", s)
	}
	switch {
	case r.Start < 1,
		r.End != Unknown && r.End < r.Start-1,
		r.Total != Unknown && (r.Start > r.Total+1 || r.End > r.Total):
		return r, syntaxError("Byte-Range values", s)
	}
	return r, nil
}

// rangeNumber reads digits, or "*" where star allows it, from s[i:]. Numbers
// end at 10^17, so that sums of two cannot overflow.
func rangeNumber[T ~string | ~[]byte](s T, i int, star bool) (n int64, next int, ok bool) {
	if star && i < len(s) && s[i] == '*' {
		return Unknown, i + 1, true
	}
	from := i
	for ; i < len(s) && isDigit(s[i]); i++ {
		if n = n*10 + int64(s[i]-'0'); n > 1e17 {
			return 0, i, false
		}
	}
	return n, i, i > from
}

// Append appends the header's value to b.
func (r ByteRange) Append(b []byte) []byte {
	b = append(strconv.AppendInt(b, r.Start, 10), '-')
	b = append(appendOrStar(b, r.End), '/')
	return appendOrStar(b, r.Total)
}

func (r ByteRange) String() string { return string(r.Append(nil)) }

func appendOrStar(b []byte, n int64) []byte {
	if n == Unknown {
		return append(b, '*')
	}
	return strconv.AppendInt(b, n, 10)
}
