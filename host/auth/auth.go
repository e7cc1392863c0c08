// Package auth is Digest authentication as MSRP uses it (RFC 4976 §7, §9.1;
// RFC 2617; SHA-256 as in RFC 7616): the header values, the sums, and what
// each side has to remember between two requests.
//
//	// A relay, for each AUTH:
//	c, err := auth.ParseCredentials(authorization)
//	k, err := server.Check(conn, c)                  // ours, and complete?
//	secret := lookup(c.Username)                     // anything may happen here
//	r := server.Verify(k, "AUTH", rightmostToPath, secret)
//	// r.OK: 200 with server.Info(conn, k, rightmostToPath)
//	// else: 401 with server.Challenges(conn, r.Stale)
//
//	// A client, for each AUTH:
//	authorization, ok := client.Preemptive("AUTH", uri) // !ok: send it without
//	authorization, err = client.Answer(challenges, "AUTH", uri) // after a 401
//	err = client.Success(authenticationInfo)            // after the 200
//
// It does no networking, keeps no users and starts no goroutine. It never
// offers or answers Basic, auth-int or a -sess algorithm (RELAY-69).
//
// The sums are computed here and not by github.com/icholy/digest: they are ten
// lines, and that library wants a whole challenge for each of them, counts nc
// itself although the digest covers its octets on the wire, and links
// net/http. Its header parser lets duplicates pass and has no bounds.
package auth

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// An Algorithm is the hash of a challenge, by its name on the wire.
type Algorithm string

// What is offered and answered. The -sess variants are not known: RFC 4976
// §9.1 forbids them (RELAY-69).
const (
	MD5 Algorithm = "MD5"
	// SHA256 goes beyond RFC 4976, whose grammar has room for 32 digits only
	// (RELAY-80).
	SHA256 Algorithm = "SHA-256"
)

// ParseAlgorithm knows the name of an algorithm in any case. "" is MD5, as it
// is on the wire (RFC 2617 §3.2.1, ECO-187).
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, alg := range []Algorithm{MD5, SHA256} {
		if strings.EqualFold(name, string(alg)) {
			return alg, nil
		}
	}
	if name == "" {
		return MD5, nil
	}
	return "", fmt.Errorf("auth: algorithm %q is not MD5 or SHA-256", name)
}

// digits is the length of a sum in hex.
func (a Algorithm) digits() int {
	if a == SHA256 {
		return 2 * sha256.Size
	}
	return 2 * md5.Size
}

func (a Algorithm) hash(parts ...string) string {
	b := []byte(strings.Join(parts, ":"))
	if a == SHA256 {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// HA1 is what to store instead of a password (RELAY-81). It is as good as the
// password for that realm and algorithm, so keep it as secret.
func HA1(alg Algorithm, user, realm, password string) string {
	return alg.hash(user, realm, password)
}

// Response is the value of response in Authorization (RFC 2617 §3.2.2.1,
// ECO-186). All values are those of the header after unescaping; uri is the
// rightmost URI of To-Path, octet for octet (RFC 4976 §9.1, RELAY-72).
func Response(alg Algorithm, ha1, method, uri, nonce, nc, cnonce string) string {
	return alg.hash(ha1, nonce, nc, cnonce, "auth", alg.hash(method, uri))
}

// RspAuth is the value of rspauth in Authentication-Info, by which the server
// shows that it knows the secret, too. RFC 2617 §3.2.3: it is the response for
// an empty method.
func RspAuth(alg Algorithm, ha1, uri, nonce, nc, cnonce string) string {
	return Response(alg, ha1, "", uri, nonce, nc, cnonce)
}
