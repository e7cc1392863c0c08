package auth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestVectors has the worked numbers for RFC 4976 §9.1 (RELAY-72, 73) and RFC
// 2617.
func TestVectors(t *testing.T) {
	const (
		md5HA1 = "eb1e7d5571e1e79898e8367c807a2dc5"
		shaHA1 = "d45c3d47333f2fbf56061987d6b5916248f8c824b910cc9a82cb85baddf4e2bd"
		out    = "msrps://out.north.example:2855;tcp"
	)
	for _, tt := range []struct {
		name                            string
		alg                             Algorithm
		ha1, method, uri, nonce, cnonce string
		nc                              int
		response, rspauth               string
	}{
		{"D1: AUTH to inner", MD5, md5HA1, "AUTH", uri, "Zk3qP1vB7sXy2LwA9dRt", "5f1c9a07e2b44d10", 1, "bbf7840e81ff9a969d3fb3ecf5c09858", "97ffbfcdc4099334eb0e2a643a094857"},
		{"D2: AUTH to outer", MD5, md5HA1, "AUTH", out, "Q8nT4hVc0mJe6KzU1xGb", "a91e0b7733cd5512", 1, "2ac9f7ac3433d548e47f177208b2f448", "46ba702170cd2b62f0a8bd5871249a26"},
		{"D3: nextnonce", MD5, md5HA1, "AUTH", uri, "Hn7mW2rC5yDf8NpE3uKj", "0d4b6c2ef1a97788", 1, "b17d791bf940c5752b813e34f3d433bf", "6f54cc12a9c239864579e1466c204bc3"},
		{"D4: nc 2", MD5, md5HA1, "AUTH", uri, "Zk3qP1vB7sXy2LwA9dRt", "77aa01be90c3d4f2", 2, "7a4f78613d977b8ed959c9266509443e", "df8648b2b060a4f0401a210dadfcc466"},
		{"SIP MD5", MD5, md5HA1, "REGISTER", "sip:north.example", "r4Yc8LzQ2uHd6VbN", "c17e55aa09f3b2d8", 1, "348cea4e3cb97426ece4f39b68c5ca5f", "74df5301b170bb98356a036894a52289"},
		{"SIP SHA-256", SHA256, shaHA1, "REGISTER", "sip:north.example", "r4Yc8LzQ2uHd6VbN", "c17e55aa09f3b2d8", 1, "339473e5932905e2021301ac3d11ed48f558eb45f31fed83a27595a3f0674660", "197d5da9afe74b856b8ce57fed3ac0b6cefc5103448c85dfc39e361df8be4253"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nc := fmt.Sprintf("%08x", tt.nc)
			if h := HA1(tt.alg, dora, realm, pass); h != tt.ha1 {
				t.Errorf("HA1 %s", h)
			}
			if r := Response(tt.alg, tt.ha1, tt.method, tt.uri, tt.nonce, nc, tt.cnonce); r != tt.response {
				t.Errorf("response %s", r)
			}
			if r := RspAuth(tt.alg, tt.ha1, tt.uri, tt.nonce, nc, tt.cnonce); r != tt.rspauth {
				t.Errorf("rspauth %s", r)
			}
		})
	}
}

const sum = "0123456789abcdef0123456789abcdef"

// TestString: what is quoted and what is not (RELAY-1, 2, 3).
func TestString(t *testing.T) {
	for _, tt := range []struct {
		v    fmt.Stringer
		want string
	}{
		{Challenge{Realm: "r", Nonce: "n", QOP: "auth"}, `Digest realm="r", nonce="n", qop="auth"`},
		{Challenge{Realm: `a"\`, Nonce: "n", Opaque: "o", Stale: true, Algorithm: SHA256, QOP: "auth"}, `Digest realm="a\"\\", nonce="n", opaque="o", stale=true, algorithm=SHA-256, qop="auth"`},
		{
			Credentials{Username: "u", Realm: "r", Nonce: "n", URI: "x", Response: sum, CNonce: "c", Opaque: "o", QOP: "auth", NC: "00000001", Algorithm: MD5},
			`Digest username="u", realm="r", nonce="n", uri="x", algorithm=MD5, qop=auth, nc=00000001, cnonce="c", response="` + sum + `", opaque="o"`,
		},
		{Info{NextNonce: "n", QOP: "auth", RspAuth: sum, CNonce: "c", NC: "00000001"}, `nextnonce="n", qop=auth, rspauth="` + sum + `", cnonce="c", nc=00000001`},
		{Info{}, ""},
		// No value ends a header, whoever supplied it.
		{Info{CNonce: "a\r\nb\x00\u0085", QOP: "au,th\r\n"}, `qop=auth, cnonce="ab"`},
	} {
		if s := tt.v.String(); s != tt.want {
			t.Errorf("%s\nwant %s", s, tt.want)
		}
	}
}

// TestLenient: how peers write that are understood (RELAY-2, RELAY-4).
func TestLenient(t *testing.T) {
	want := Credentials{Username: "u", Realm: "r", Nonce: "n=", Response: sum, Algorithm: MD5, CNonce: "c", QOP: "auth", NC: "00000001"}
	for _, s := range []string{
		`Digest username="u", realm="r", nonce="n=", response="` + sum + `", cnonce="c", qop=auth, nc=00000001`,
		`Digest username="u", realm="r", nonce="n=", qop="auth", nc="00000001", cnonce="c", response="` + sum + `"`, // msrplib
		`dIGEST nc=00000001,qop=auth,cnonce=c,response=` + sum + `,nonce=n=,realm=r,username=u`,
		" \tDigest\t USERNAME\t = \t\"u\" \t,\t Realm =r , nonce=\"n=\",response=" + sum + ",cnonce=c,qop=auth,nc=00000001 \t",
		`Digest username="\u", realm="r", nonce="n=", response=` + sum + `, cnonce=c, qop=auth, nc=00000001, algorithm=md5, x=y, z="\"\\,="`,
	} {
		if c, err := ParseCredentials(s); err != nil || c != want {
			t.Errorf("%s\n%v %v", s, c, err)
		}
	}
}

// malformed is what no parser may accept, and the rule that it breaks. x names
// the header: c = WWW-Authenticate, a = Authorization, i = Authentication-Info.
var malformed = []struct{ x, in, rule string }{
	{"ca", "", "scheme is not Digest"},
	{"ca", "Basic YTpi", "scheme is not Digest"},
	{"ca", "Diges", "scheme is not Digest"},
	{"ca", "Digestrealm=r", "scheme is not Digest"},
	{"ca", `realm="r", nonce="n"`, "scheme is not Digest"},
	{"ca", "Digest", "parameter without name"},
	{"ca", "Digest ", "parameter without name"},
	{"ca", `Digest ,realm="r"`, "parameter without name"},
	{"ca", `Digest realm="r",`, "parameter without name"},
	{"ca", `Digest realm="r",,nonce="n"`, "parameter without name"},
	{"ca", `Digest ="r"`, "parameter without name"},
	{"ca", `Digest "realm"="r"`, "parameter without name"},
	{"ca", `Digest réalm="r"`, "parameter without value"},
	{"ca", "Digest realm", "parameter without value"},
	{"ca", "Digest realm=", "parameter without value"},
	{"ca", "Digest realm=,nonce=n", "parameter without value"},
	{"ca", "Digest realm nonce=n", "parameter without value"},
	{"ca", "Digest realm=é", "parameter without value"},
	{"ca", `Digest realm=\a`, "parameter without value"},
	{"ca", `Digest realm="r`, "quoted string without end"},
	{"ca", `Digest realm="`, "quoted string without end"},
	{"ca", `Digest realm="r\"`, "quoted string without end"},
	{"ca", `Digest realm="r\`, "quoted string without end"},
	{"ca", `Digest realm="r" nonce="n"`, "no comma after value"},
	{"ca", `Digest realm="r"x, nonce="n"`, "no comma after value"},
	{"ca", `Digest realm="r""s"`, "no comma after value"},
	{"ca", `Digest realm=r"s"`, "no comma after value"},
	{"ca", `Digest realm=r s, nonce=n`, "no comma after value"},
	{"ca", `Digest realm="r"; nonce="n"`, "no comma after value"},
	{"ca", `Digest realm="r", realm="r"`, "duplicate parameter"},
	{"ca", `Digest realm="r", REALM=s`, "duplicate parameter"},
	{"ca", `Digest x=1, realm="r", X=2`, "duplicate parameter"},
	{"ca", "Digest realm=\"r\"\r\nnonce=n", "control character"},
	{"ca", "Digest realm=\"r\r\nTo-Path: x\"", "control character"},
	{"ca", "Digest realm=\"r\\\n\"", "control character"},
	{"ca", "Digest realm=\"r\x00\"", "control character"},
	{"ca", "Digest realm=\"r\x7f\"", "control character"},
	{"ca", "Digest realm=\"r\u009b\"", "control character"},
	{"ca", "Digest realm=\"r\xff\"", "not UTF-8"},
	{"ca", `Digest realm="` + strings.Repeat("r", maxHeader) + `"`, "longer than 4096 octets"},
	{"ca", strings.Repeat(" ", maxHeader) + `Digest realm="r"`, "longer than 4096 octets"},
	{"ca", `Digest nonce="n", username="u", response="` + sum + `"`, "realm missing"},
	{"ca", `Digest realm="r", username="u", response="` + sum + `"`, "nonce missing"},
	{"ca", `Digest realm="r", nonce="", username="u", response="` + sum + `"`, "nonce missing"},
	{"ca", `Digest realm="r", nonce="n", username="u", response="` + sum + `", algorithm="a b"`, "algorithm is not a token"},
	{"a", `Digest realm="r", nonce="n", response="` + sum + `"`, "username missing"},
	{"a", `Digest username="u", realm="r", nonce="n"`, "response missing"},
	{"a", `Digest username="u", realm="r", nonce="n", response=""`, "response is not 32 or 64 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + sum[1:] + `"`, "response is not 32 or 64 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + sum + `0"`, "response is not 32 or 64 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + strings.ToUpper(sum) + `"`, "response is not 32 or 64 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="g` + sum[1:] + `"`, "response is not 32 or 64 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + sum + `", nc=1`, "nc is not 8 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + sum + `", nc=000000001`, "nc is not 8 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + sum + `", nc=0000000A`, "nc is not 8 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + sum + `", nc=+0000001`, "nc is not 8 lower-case hex digits"},
	{"a", `Digest username="u", realm="r", nonce="n", response="` + sum + `", qop="auth,auth-int"`, "qop is not a token"},
	{"i", `nextnonce`, "parameter without value"},
	{"i", `,`, "parameter without name"},
	{"i", `Digest nextnonce="n"`, "parameter without value"},
	{"i", `rspauth="0"`, "rspauth is not 32 or 64 lower-case hex digits"},
	{"i", `nc=0`, "nc is not 8 lower-case hex digits"},
	{"i", `qop="a b"`, "qop is not a token"},
	{"i", `nextnonce="a", nextnonce="b"`, "duplicate parameter"},
	{"i", "nextnonce=\"a\r\n\"", "control character"},
}

func TestMalformed(t *testing.T) {
	parsers := map[rune]func(string) error{
		'c': func(s string) error { _, err := ParseChallenge(s); return err },
		'a': func(s string) error { _, err := ParseCredentials(s); return err },
		'i': func(s string) error { _, err := ParseInfo(s); return err },
	}
	for _, tt := range malformed {
		for _, x := range tt.x {
			var fault *SyntaxError
			if err := parsers[x](tt.in); !errors.As(err, &fault) || fault.Rule != tt.rule {
				t.Errorf("%c %.60q: %v; want %s", x, tt.in, err, tt.rule)
			}
		}
	}
}

// TestRoundTrip: whatever values are made of, they come back.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		const runes = "ab \t\"\\,=;:/é日/"
		all := []rune(runes)
		out := []rune{'x'} // not empty, which is absent
		for range r.IntN(9) {
			out = append(out, all[r.IntN(len(all))])
		}
		return string(out)
	}
	for range 5000 {
		ch := Challenge{Realm: text(), Nonce: text(), Opaque: text(), Stale: r.IntN(2) == 0, QOP: text(), Algorithm: SHA256}
		if got, err := ParseChallenge(ch.String()); err != nil || got != ch {
			t.Fatalf("%s: %v, %v", ch, got, err)
		}
		cr := Credentials{
			Username: text(), Realm: text(), Nonce: text(), URI: text(), CNonce: text(), Opaque: text(), QOP: "auth",
			Algorithm: MD5, NC: fmt.Sprintf("%08x", r.Uint32()), Response: MD5.hash(text()),
		}
		if got, err := ParseCredentials(cr.String()); err != nil || got != cr {
			t.Fatalf("%s: %v, %v", cr, got, err)
		}
		i := Info{NextNonce: text(), QOP: "auth", RspAuth: SHA256.hash(text()), CNonce: text(), NC: cr.NC}
		if got, err := ParseInfo(i.String()); err != nil || got != i {
			t.Fatalf("%s: %v, %v", i, got, err)
		}
	}
}

// FuzzDigest: no value makes a parser panic, what parses prints as something
// that parses the same, and nothing that is printed has a line end.
func FuzzDigest(f *testing.F) {
	for _, tt := range malformed {
		f.Add(tt.in)
	}
	f.Add(`Digest username="a\"", realm="b", nonce=c, uri="f", response="` + sum + `", qop=auth, nc=00000001, cnonce="e", opaque="g"`)
	f.Add(`Digest realm="r", nonce="n", stale=TRUE, algorithm=SHA-256, qop="auth,auth-int", domain="x"`)
	f.Add(`nextnonce="n", qop=auth, rspauth="` + sum + `", cnonce="c", nc=00000001`)
	f.Fuzz(func(t *testing.T, in string) {
		again(t, in, ParseChallenge)
		again(t, in, ParseCredentials)
		again(t, in, ParseInfo)
	})
}

func again[T interface {
	comparable
	String() string
}](t *testing.T, in string, parse func(string) (T, error)) {
	v, err := parse(in)
	if err != nil {
		return
	}
	text := v.String()
	if strings.ContainsAny(text, "\r\n\x00") {
		t.Errorf("%q gives %q", in, text)
	}
	if len(text) > maxHeader {
		return // quotes and spaces made it longer
	}
	if w, err := parse(text); err != nil || w != v {
		t.Errorf("%q: %+v; then %q: %+v, %v", in, v, text, w, err)
	}
}
