package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	dora  = "dora"
	realm = "north.example"
	pass  = "correct horse"
)

// TestVectors has the worked numbers for RFC 4976 §9.1 (RELAY-72, RELAY-73).
func TestVectors(t *testing.T) {
	for _, tt := range []struct {
		name                           string
		alg                            Algorithm
		method, uri, nonce, nc, cnonce string
		ha1, response, rspauth         string
	}{
		{
			"inner relay", MD5, "AUTH", "msrps://in.north.example:2855;tcp", "Zk3qP1vB7sXy2LwA9dRt", "00000001", "5f1c9a07e2b44d10",
			"eb1e7d5571e1e79898e8367c807a2dc5", "bbf7840e81ff9a969d3fb3ecf5c09858", "97ffbfcdc4099334eb0e2a643a094857",
		},
		{
			"outer relay", MD5, "AUTH", "msrps://out.north.example:2855;tcp", "Q8nT4hVc0mJe6KzU1xGb", "00000001", "a91e0b7733cd5512",
			"eb1e7d5571e1e79898e8367c807a2dc5", "2ac9f7ac3433d548e47f177208b2f448", "46ba702170cd2b62f0a8bd5871249a26",
		},
		{
			"nextnonce", MD5, "AUTH", "msrps://in.north.example:2855;tcp", "Hn7mW2rC5yDf8NpE3uKj", "00000001", "0d4b6c2ef1a97788",
			"eb1e7d5571e1e79898e8367c807a2dc5", "b17d791bf940c5752b813e34f3d433bf", "6f54cc12a9c239864579e1466c204bc3",
		},
		{
			"nc 2", MD5, "AUTH", "msrps://in.north.example:2855;tcp", "Zk3qP1vB7sXy2LwA9dRt", "00000002", "77aa01be90c3d4f2",
			"eb1e7d5571e1e79898e8367c807a2dc5", "7a4f78613d977b8ed959c9266509443e", "df8648b2b060a4f0401a210dadfcc466",
		},
		{
			"SIP MD5", MD5, "REGISTER", "sip:north.example", "r4Yc8LzQ2uHd6VbN", "00000001", "c17e55aa09f3b2d8",
			"eb1e7d5571e1e79898e8367c807a2dc5", "348cea4e3cb97426ece4f39b68c5ca5f", "74df5301b170bb98356a036894a52289",
		},
		{
			"SIP SHA-256", SHA256, "REGISTER", "sip:north.example", "r4Yc8LzQ2uHd6VbN", "00000001", "c17e55aa09f3b2d8",
			"d45c3d47333f2fbf56061987d6b5916248f8c824b910cc9a82cb85baddf4e2bd",
			"339473e5932905e2021301ac3d11ed48f558eb45f31fed83a27595a3f0674660",
			"197d5da9afe74b856b8ce57fed3ac0b6cefc5103448c85dfc39e361df8be4253",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ha1 := HA1(tt.alg, dora, realm, pass)
			if ha1 != tt.ha1 {
				t.Errorf("HA1 = %s", ha1)
			}
			if r := Response(tt.alg, ha1, tt.method, tt.uri, tt.nonce, tt.nc, tt.cnonce); r != tt.response {
				t.Errorf("response = %s", r)
			}
			if r := Response(tt.alg, ha1, "", tt.uri, tt.nonce, tt.nc, tt.cnonce); r != tt.rspauth {
				t.Errorf("rspauth = %s", r)
			}
		})
	}
}

const uri = "msrps://in.north.example:2855;tcp"

func newServer(t testing.TB, change func(*ServerConfig)) *Server {
	t.Helper()
	cfg := ServerConfig{Realm: realm}
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// try parses, checks and verifies an Authorization.
func try(t testing.TB, s *Server, conn uint64, authorization string, secret Secret) (Result, *Check, error) {
	t.Helper()
	cred, err := ParseCredentials(authorization)
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.Check(conn, cred)
	if err != nil {
		return Result{}, nil, err
	}
	return s.Verify(k, "AUTH", uri, secret), k, nil
}

// TestExchange is a whole AUTH with every algorithm, then one without a 401
// (RELAY-71, RELAY-75, RELAY-76).
func TestExchange(t *testing.T) {
	for _, algs := range [][]Algorithm{nil, {MD5, SHA256}, {SHA256}} {
		s := newServer(t, func(c *ServerConfig) { c.Algorithms = algs })
		c := Client{Username: dora, Password: pass}
		lines := s.Challenges(1, false)
		if len(lines) != max(1, len(algs)) {
			t.Fatalf("%d challenges", len(lines))
		}
		for _, line := range lines {
			// RELAY-1, RELAY-69, RELAY-70: qop is quoted and "auth" alone; opaque is always there.
			if !strings.Contains(line, `qop="auth"`) || !strings.Contains(line, "opaque=") || strings.Contains(line, "domain") || strings.Contains(line, "stale") {
				t.Errorf("%s", line)
			}
		}
		authorization, err := c.Answer(lines, "AUTH", uri)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"qop=auth", "nc=00000001", `uri="` + uri + `"`, "opaque="} {
			if !strings.Contains(authorization, want) {
				t.Errorf("%s lacks %s", authorization, want)
			}
		}
		r, k, err := try(t, s, 1, authorization, Secret{Password: pass})
		if err != nil || !r.OK {
			t.Fatal(r, err)
		}
		info := s.Info(1, k, uri)
		if !strings.Contains(info, "qop=auth") || !strings.Contains(info, `cnonce="`) || !strings.Contains(info, "nc=00000001") {
			t.Errorf("%s", info)
		}
		if err := c.Success(info); err != nil {
			t.Error(err)
		}
		again, ok := c.Preemptive("AUTH", uri)
		if r, _, err = try(t, s, 1, again, Secret{HA1: HA1(k.cred.Algorithm, dora, realm, pass)}); !ok || err != nil || !r.OK {
			t.Error(ok, r, err)
		}
		if err := c.Success(strings.Replace(info, `rspauth="`, `rspauth="0`, 1)); !errors.Is(err, ErrBadRspAuth) {
			t.Errorf("wrong rspauth: %v", err)
		}
	}
}

// TestRefusals: what Check and Verify do not let pass.
func TestRefusals(t *testing.T) {
	s := newServer(t, nil)
	answer := func(conn uint64, password string) string {
		c := Client{Username: dora, Password: password}
		a, err := c.Answer(s.Challenges(conn, false), "AUTH", uri)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	good := Secret{Password: pass}
	for _, tt := range []struct {
		name          string
		authorization string
		secret        Secret
		want          Result
		err           error
	}{
		{"right", answer(1, pass), good, Result{OK: true}, nil},
		{"wrong password", answer(1, "wrong"), good, Result{}, nil},
		{"unknown user", answer(1, pass), Secret{}, Result{}, nil},
		{"RELAY-78: another connection's nonce", answer(2, pass), good, Result{}, ErrNotOurs},
		{"another realm", strings.Replace(answer(1, pass), realm, "south", 1), good, Result{}, ErrNotOurs},
		{"forged nonce", strings.Replace(answer(1, pass), `nonce="`, `nonce="A`, 1), good, Result{}, ErrNotOurs},
		{"short nonce", strings.Replace(answer(1, pass), `nonce="`, `nonce="A", x="`, 1), good, Result{}, ErrNotOurs},
		{"algorithm not offered", strings.Replace(strings.Replace(answer(1, pass), "MD5", "SHA-256", 1), `response="`, `response="`+strings.Repeat("0", 32), 1), good, Result{}, ErrNotOurs},
		{"no qop", strings.Replace(answer(1, pass), "qop=auth, ", "", 1), good, Result{}, ErrMalformed},
		{"qop auth-int", strings.Replace(answer(1, pass), "qop=auth", "qop=auth-int", 1), good, Result{}, ErrMalformed},
		{"no cnonce", strings.Replace(answer(1, pass), "cnonce", "xnonce", 1), good, Result{}, ErrMalformed},
		{"nc of 7 digits", strings.Replace(answer(1, pass), "nc=00000001", "nc=0000001", 1), good, Result{}, ErrMalformed},
		{"nc 0", strings.Replace(answer(1, pass), "nc=00000001", "nc=00000000", 1), good, Result{}, ErrMalformed},
		{"nc changed", strings.Replace(answer(1, pass), "nc=00000001", "nc=00000002", 1), good, Result{}, nil},
		{"another uri", strings.Replace(answer(1, pass), "in.north", "out.north", 1), good, Result{}, nil},
		{"RELAY-4: no uri", strings.Replace(answer(1, pass), `uri="`+uri+`", `, "", 1), good, Result{OK: true}, nil},
		{"the provider checked it", answer(1, "whatever"), Secret{Authenticated: true}, Result{OK: true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _, err := try(t, s, 1, tt.authorization, tt.secret)
			if r != tt.want || err != tt.err {
				t.Errorf("%+v, %v; want %+v, %v", r, err, tt.want, tt.err)
			}
		})
	}
}

// TestReplay: each nonce and count is good once, and counts grow (RELAY-78).
func TestReplay(t *testing.T) {
	s := newServer(t, func(c *ServerConfig) { c.MaxReplay = 3 })
	c := Client{Username: dora, Password: pass}
	first, err := c.Answer(s.Challenges(1, false), "AUTH", uri)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := c.Preemptive("AUTH", uri)
	third, _ := c.Preemptive("AUTH", uri)
	for i, tt := range []struct {
		authorization string
		want          Result
	}{{first, Result{OK: true}}, {first, Result{Stale: true}}, {third, Result{OK: true}}, {second, Result{Stale: true}}, {third, Result{Stale: true}}} {
		if r, _, err := try(t, s, 1, tt.authorization, Secret{Password: pass}); r != tt.want || err != nil {
			t.Errorf("%d: %+v %v", i, r, err)
		}
	}
	// The table is bounded: beyond it clients are asked again, and nothing is forgotten.
	for i := range 5 {
		c := Client{Username: dora, Password: pass}
		a, _ := c.Answer(s.Challenges(1, false), "AUTH", uri)
		if r, _, _ := try(t, s, 1, a, Secret{Password: pass}); r.OK != (i < 2) || r.Stale != (i >= 2) {
			t.Errorf("nonce %d: %+v", i+2, r)
		}
	}
	// A wrong digest takes no room.
	for range 100 {
		c := Client{Username: dora, Password: "wrong"}
		a, _ := c.Answer(s.Challenges(1, false), "AUTH", uri)
		_, _, _ = try(t, s, 1, a, Secret{Password: pass})
	}
	if len(s.used)+len(s.usedOld) != 3 {
		t.Errorf("%d nonces remembered", len(s.used)+len(s.usedOld))
	}
}

// TestStale: an old nonce is stale if the digest is right, and wrong if it is
// not (RELAY-77); a replay stays known as long as its nonce lives.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		make := func(password string) string {
			c := Client{Username: dora, Password: password}
			a, err := c.Answer(s.Challenges(1, false), "AUTH", uri)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		right, wrong, used := make(pass), make("wrong"), make(pass)
		if r, _, _ := try(t, s, 1, used, Secret{Password: pass}); !r.OK {
			t.Error(r)
		}
		for range 11 {
			time.Sleep(10 * time.Second)
			if r, _, _ := try(t, s, 1, used, Secret{Password: pass}); !r.Stale {
				t.Errorf("replayed: %+v", r)
			}
		}
		time.Sleep(11 * time.Second)
		if r, _, _ := try(t, s, 1, right, Secret{Password: pass}); !r.Stale || r.OK {
			t.Errorf("right: %+v", r)
		}
		if r, _, _ := try(t, s, 1, wrong, Secret{Password: pass}); r.Stale || r.OK {
			t.Errorf("wrong: %+v", r)
		}
	})
}

// TestClient: what a client refuses to answer (RELAY-69, RELAY-74, ECO-189).
func TestClient(t *testing.T) {
	const good = `Digest realm="r", nonce="n", qop="auth"`
	for _, tt := range []struct {
		name       string
		challenges []string
		want       string // in the Authorization; "" = refused
	}{
		{"good", []string{good}, "algorithm=MD5"},
		{"qop among others", []string{`Digest realm="r", nonce="n", qop="auth-int,auth"`}, "qop=auth,"},
		{"domain is ignored", []string{good + `, domain="x"`}, "algorithm=MD5"},
		{"the first that it knows", []string{`Digest realm="r", nonce="n", algorithm=SHA-512-256, qop="auth"`, `Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth"`, good}, "algorithm=SHA-256"},
		{"Basic", []string{`Basic realm="r"`}, ""},
		{"MD5-sess", []string{`Digest realm="r", nonce="n", algorithm=MD5-sess, qop="auth"`}, ""},
		{"auth-int alone", []string{`Digest realm="r", nonce="n", qop="auth-int"`}, ""},
		{"no qop", []string{`Digest realm="r", nonce="n"`}, ""},
		{"no nonce", []string{`Digest realm="r", qop="auth"`}, ""},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Client{Username: dora, Password: pass}
			a, err := c.Answer(tt.challenges, "AUTH", uri)
			if (err != nil) != (tt.want == "") || !strings.Contains(a, tt.want) {
				t.Errorf("%s, %v", a, err)
			}
		})
	}
	c := Client{Username: dora, Password: pass}
	_, _ = c.Answer([]string{good}, "AUTH", uri)
	if _, err := c.Answer([]string{good + ", stale=TRUE"}, "AUTH", uri); err != nil {
		t.Errorf("stale: %v", err)
	}
	if _, err := c.Answer([]string{good}, "AUTH", uri); !errors.Is(err, ErrCredentials) {
		t.Errorf("refused twice: %v", err)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{ // want "" = an error
		{`Digest username="a", realm="b", nonce="c", response="d", qop=auth, nc=00000001, cnonce="e"`, `Digest username="a", realm="b", nonce="c", response="d", algorithm=MD5, cnonce="e", qop=auth, nc=00000001`},
		{"digest USERNAME=\"a\"\t,realm = \"b\" ,,nonce=c,response=d,algorithm=md5,cnonce=e,qop=\"auth\",nc=\"00000001\",", `Digest username="a", realm="b", nonce="c", response="d", algorithm=MD5, cnonce="e", qop=auth, nc=00000001`},
		{`Digest username="a\"\\b", realm="", nonce="c", other="x y", yet=another`, `Digest username="a\"\\b", realm="", nonce="c", response="", algorithm=MD5, cnonce="", qop=, nc=`},
		{"", ""},
		{"Digest", `Digest username="", realm="", nonce="", response="", algorithm=MD5, cnonce="", qop=, nc=`},
		{"Basic abcd", ""},
		{"Digest username", ""},
		{"Digest username=", ""},
		{`Digest username="a`, ""},
		{`Digest username="a" realm="b"`, ""},
		{`Digest username="a", username="b"`, ""},
		{`Digest ="a"`, ""},
		{"Digest username=\"a\r\nb\"", ""},
		{"Digest username=\"a\x00b\"", ""},
		{"Digest username=\"a\\\nb\"", ""},
		{`Digest username="a", algorithm=MD5-sess`, ""},
		{`Digest username="` + strings.Repeat("a", 5000) + `"`, ""},
		{`Digest a=b;c=d`, ""},
	} {
		c, err := ParseCredentials(tt.in)
		if (err != nil) != (tt.want == "") || err == nil && c.String() != tt.want {
			t.Errorf("%.60q: %s, %v", tt.in, c, err)
		}
	}
}

func TestServerConfig(t *testing.T) {
	for _, cfg := range []ServerConfig{{}, {Realm: "r", Key: []byte("short")}, {Realm: "r", Algorithms: []Algorithm{"SHA-1"}}} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	// A nonce outlives the process if the key does.
	key := []byte("0123456789abcdef")
	s, s2 := newServer(t, func(c *ServerConfig) { c.Key = key }), newServer(t, func(c *ServerConfig) { c.Key = key })
	c := Client{Username: dora, Password: pass}
	a, err := c.Answer(s.Challenges(1, false), "AUTH", uri)
	if err != nil {
		t.Fatal(err)
	}
	if r, _, err := try(t, s2, 1, a, Secret{Password: pass}); !r.OK || err != nil {
		t.Error(r, err)
	}
}

// FuzzDigest: no header value makes a parser panic, and what was parsed prints
// as something that parses the same.
func FuzzDigest(f *testing.F) {
	f.Add(`Digest username="a\"", realm="b", nonce="c", response="d", qop=auth, nc=00000001, cnonce="e", uri="f", opaque="g"`)
	f.Add(`Digest realm="r", nonce="n", stale=TRUE, algorithm=SHA-256, qop="auth,auth-int"`)
	f.Add(`nextnonce="n", qop=auth, rspauth="00", cnonce="c", nc=00000001`)
	f.Fuzz(func(t *testing.T, in string) {
		if c, err := ParseCredentials(in); err == nil && c.QOP != "" && c.NC != "" && isAllToken(c.QOP) && isAllToken(c.NC) {
			if again, err := ParseCredentials(c.String()); err != nil && len(c.String()) <= maxValue || err == nil && again != c {
				t.Errorf("%q: %+v, %+v, %v", in, c, again, err)
			}
		}
		if c, err := ParseChallenge(in); err == nil {
			if again, err := ParseChallenge(c.String()); err != nil && len(c.String()) <= maxValue || err == nil && fmt.Sprint(again) != fmt.Sprint(c) {
				t.Errorf("%q: %+v, %+v, %v", in, c, again, err)
			}
		}
		_, _ = ParseInfo(in)
	})
}

func isAllToken(s string) bool {
	for i := range len(s) {
		if !isToken(s[i]) {
			return false
		}
	}
	return true
}

func BenchmarkVerify(b *testing.B) {
	s := newServer(b, nil)
	ha1 := HA1(MD5, dora, realm, pass)
	b.ReportAllocs()
	for b.Loop() {
		c := Client{Username: dora, Password: pass}
		a, err := c.Answer(s.Challenges(1, false), "AUTH", uri)
		if err != nil {
			b.Fatal(err)
		}
		if r, _, err := try(b, s, 1, a, Secret{HA1: ha1}); !r.OK {
			b.Fatal(r, err)
		}
	}
}
