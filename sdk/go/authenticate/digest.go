package authenticate

import (
	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
)

// HA1 returns what Digest needs of a password: the lower-case hex hash of
// username:realm:password. The algorithm is MD5 or SHA-256.
func HA1(algorithm, username, realm, password string) (string, error) {
	return digest(algorithm, username+":"+realm+":"+password)
}

// HA1 returns the HA1 that this request needs, if this is the user's password.
func (r Request) HA1(password string) (string, error) {
	return HA1(r.Algorithm(), r.Username(), r.Realm(), password)
}

// Matches reports whether the peer has answered the challenge by this HA1. The
// host checks that by itself when a reply has password or ha1; it is for plugins
// that try several, or say Authenticated.
func (r Request) Matches(ha1 string) (bool, error) {
	ha2, err := digest(r.Algorithm(), r.Method()+":"+r.URI())
	if err != nil {
		return false, err
	}
	// RFC 4976 §9.1: qop is auth.
	want, err := digest(r.Algorithm(), ha1+":"+r.Nonce()+":"+r.NC()+":"+r.CNonce()+":auth:"+ha2)
	return err == nil && equal(want, r.Response()), err
}

// equal compares without telling by its time where the difference is.
func equal(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	var diff byte
	for i := range len(a) {
		diff |= a[i] ^ b[i]
	}
	return diff == 0
}

// digest is the hash that Digest is made of.
func digest(algorithm, text string) (string, error) {
	switch algorithm {
	case "MD5":
		algorithm = parley.MD5
	case "SHA-256":
		algorithm = parley.SHA256
	default:
		return "", abi.ErrInval
	}
	sum, err := parley.Hash(algorithm, []byte(text))
	if err != nil {
		return "", err
	}
	const digits = "0123456789abcdef"
	hex := make([]byte, 0, 2*len(sum))
	for _, c := range sum {
		hex = append(hex, digits[c>>4], digits[c&15])
	}
	return string(hex), nil
}
