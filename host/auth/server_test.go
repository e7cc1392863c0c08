package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	dora  = "dora"
	realm = "north.example"
	pass  = "correct horse"
	uri   = "msrps://in.north.example:2855;tcp"
)

var good = Secret{Password: pass}

func newServer(t testing.TB, change func(*ServerConfig)) *Server {
	t.Helper()
	c := ServerConfig{Realm: realm}
	if change != nil {
		change(&c)
	}
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer makes credentials for a new challenge on conn, as a client would.
func answer(t testing.TB, s *Server, conn uint64, password string, change func(*Credentials)) Credentials {
	t.Helper()
	ch, err := ParseChallenge(s.Challenges(conn, false)[0])
	if err != nil {
		t.Fatal(err)
	}
	return respond(ch, password, change)
}

// respond answers ch; change comes before the digest is made.
func respond(ch Challenge, password string, change func(*Credentials)) Credentials {
	c := Credentials{
		Username: dora, Realm: ch.Realm, Nonce: ch.Nonce, URI: uri, Algorithm: ch.Algorithm,
		CNonce: "c", Opaque: ch.Opaque, QOP: "auth", NC: "00000001",
	}
	if change != nil {
		change(&c)
	}
	c.Response = Response(c.Algorithm, HA1(c.Algorithm, c.Username, c.Realm, password), "AUTH", uri, c.Nonce, c.NC, c.CNonce)
	return c
}

func judge(s *Server, conn uint64, c Credentials, secret Secret) (Result, error) {
	k, err := s.Check(conn, c)
	if err != nil {
		return Result{}, err
	}
	return s.Verify(k, "AUTH", uri, secret), nil
}

func wantResult(t testing.TB, s *Server, conn uint64, c Credentials, secret Secret, want Result) {
	t.Helper()
	if r, err := judge(s, conn, c, secret); r != want || err != nil {
		t.Errorf("%+v, %v; want %+v", r, err, want)
	}
}

// TestCheck: what needs no secret to be refused (RELAY-69, 71, 74, 76, 78).
func TestCheck(t *testing.T) {
	s := newServer(t, nil)
	for _, tt := range []struct {
		name   string
		conn   uint64
		change func(*Credentials)
		want   error
	}{
		{"good", 1, nil, nil},
		{"RELAY-4: no uri", 1, func(c *Credentials) { c.URI = "" }, nil},
		{"no opaque", 1, func(c *Credentials) { c.Opaque = "" }, nil},
		{"no qop", 1, func(c *Credentials) { c.QOP = "" }, RefusedQOP},
		{"auth-int", 1, func(c *Credentials) { c.QOP = "auth-int" }, RefusedQOP},
		{"no nc", 1, func(c *Credentials) { c.NC = "" }, RefusedNC},
		{"nc zero", 1, func(c *Credentials) { c.NC = "00000000" }, RefusedNC},
		{"no cnonce", 1, func(c *Credentials) { c.CNonce = "" }, RefusedCNonce},
		{"another realm", 1, func(c *Credentials) { c.Realm = "south" }, RefusedRealm},
		{"SHA-256 not offered", 1, func(c *Credentials) { c.Algorithm = SHA256 }, RefusedAlgorithm},
		{"MD5-sess", 1, func(c *Credentials) { c.Algorithm = "MD5-sess" }, RefusedAlgorithm},
		{"another connection", 2, nil, RefusedNonce},
		{"nonce of another", 1, func(c *Credentials) { c.Nonce = "Zk3qP1vB7sXy2LwA9dRt" }, RefusedNonce},
		{"nonce cut", 1, func(c *Credentials) { c.Nonce = c.Nonce[1:] }, RefusedNonce},
		{"nonce longer", 1, func(c *Credentials) { c.Nonce += "A" }, RefusedNonce},
		{"nonce with line ends", 1, func(c *Credentials) { c.Nonce = c.Nonce[:54] + "\r\n" }, RefusedNonce},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := s.Check(tt.conn, answer(t, s, 1, pass, tt.change)); err != tt.want {
				t.Errorf("%v; want %v", err, tt.want)
			}
		})
	}
	c := answer(t, s, 1, pass, nil)
	c.Response += c.Response
	if _, err := s.Check(1, c); err != RefusedResponse {
		t.Error(err)
	}
}

// TestTampered: no octet of a nonce can be changed (RELAY-78).
func TestTampered(t *testing.T) {
	s := newServer(t, nil)
	c := answer(t, s, 1, pass, nil)
	raw, _ := base64.RawURLEncoding.DecodeString(c.Nonce)
	for i := range raw {
		raw[i] ^= 1
		c.Nonce = base64.RawURLEncoding.EncodeToString(raw)
		if _, err := s.Check(1, c); err != RefusedNonce {
			t.Errorf("octet %d: %v", i, err)
		}
		raw[i] ^= 1
	}
	if _, err := newServer(t, nil).Check(1, answer(t, s, 1, pass, nil)); err != RefusedNonce {
		t.Errorf("another key: %v", err)
	}
	if a, b := s.newNonce(1), s.newNonce(1); a == b {
		t.Error("a nonce twice")
	}
}

func TestVerify(t *testing.T) {
	s := newServer(t, func(c *ServerConfig) { c.Algorithms = []Algorithm{SHA256, MD5} })
	md5 := HA1(MD5, dora, realm, pass)
	for _, tt := range []struct {
		name     string
		password string
		change   func(*Credentials)
		secret   Secret
		ok       bool
	}{
		{"password", pass, nil, good, true},
		{"HA1 (RELAY-81)", pass, nil, Secret{HA1: md5}, true},
		{"HA1 in upper case", pass, nil, Secret{HA1: strings.ToUpper(md5)}, true},
		{"HA1 before password", pass, nil, Secret{HA1: md5, Password: "x"}, true},
		{"the lookup compared it", "x", nil, Secret{Authenticated: true}, true},
		{"wrong password", "x", nil, good, false},
		{"wrong HA1", "x", nil, Secret{HA1: md5}, false},
		{"HA1 of another algorithm", pass, func(c *Credentials) { c.Algorithm = SHA256 }, Secret{HA1: md5}, false},
		{"SHA-256", pass, func(c *Credentials) { c.Algorithm = SHA256 }, good, true},
		{"unknown user (RELAY-79)", pass, nil, Secret{Unknown: true}, false},
		{"unknown counts first", pass, nil, Secret{Unknown: true, Authenticated: true, Password: pass}, false},
		{"zero Secret", "", nil, Secret{}, false},
		{"unknown user who guessed the decoy", s.decoy, nil, Secret{Unknown: true}, false},
		{"the same, zero Secret", s.decoy, nil, Secret{}, false},
		{"RELAY-72: another uri", pass, func(c *Credentials) { c.URI = strings.ToUpper(uri) }, good, false},
		{"RELAY-72: the same when the lookup compared", pass, func(c *Credentials) { c.URI += ";x" }, Secret{Authenticated: true}, false},
		{"RELAY-4: no uri", pass, func(c *Credentials) { c.URI = "" }, good, true},
		{"nc in hex", pass, func(c *Credentials) { c.NC = "0000000a" }, good, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantResult(t, s, 1, answer(t, s, 1, tt.password, tt.change), tt.secret, Result{OK: tt.ok})
		})
	}
	c := answer(t, s, 1, pass, nil)
	k, err := s.Check(1, c)
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Verify(k, "SEND", uri, good); r.OK || r.Stale {
		t.Errorf("another method: %+v", r)
	}
	if r := s.Verify(k, "AUTH", uri+"x", good); r.OK || r.Stale {
		t.Errorf("another digest-uri: %+v", r)
	}
}

// TestInfo: RFC 4976 §9.1 (RELAY-73), and where rspauth cannot be made.
func TestInfo(t *testing.T) {
	s := newServer(t, nil)
	for _, secret := range []Secret{good, {Authenticated: true}, {Authenticated: true, HA1: HA1(MD5, dora, realm, pass)}} {
		c := answer(t, s, 7, pass, nil)
		k, err := s.Check(7, c)
		if err != nil || !s.Verify(k, "AUTH", uri, secret).OK {
			t.Fatal(err)
		}
		text := s.Info(7, k, uri)
		i, err := ParseInfo(text)
		if err != nil || i.QOP != "auth" || i.CNonce != c.CNonce || i.NC != c.NC || !strings.Contains(text, "qop=auth,") {
			t.Errorf("%s, %v", text, err)
		}
		want := RspAuth(MD5, HA1(MD5, dora, realm, pass), uri, c.Nonce, c.NC, c.CNonce)
		if secret == (Secret{Authenticated: true}) {
			want = ""
		}
		if i.RspAuth != want {
			t.Errorf("rspauth %q; want %q", i.RspAuth, want)
		}
		next := respond(Challenge{Realm: realm, Nonce: i.NextNonce, Algorithm: MD5}, pass, nil)
		if _, err := s.Check(8, next); err != RefusedNonce {
			t.Errorf("nextnonce on another connection: %v", err)
		}
		wantResult(t, s, 7, next, good, Result{OK: true})
	}
}

// TestReplay: each nonce and count is good once, and counts rise (RELAY-78,
// ECO-193). A replay with a wrong digest is wrong, not stale.
func TestReplay(t *testing.T) {
	s := newServer(t, nil)
	ch, _ := ParseChallenge(s.Challenges(1, false)[0])
	nc := func(n int, password string) Credentials {
		return respond(ch, password, func(c *Credentials) { c.NC = fmt.Sprintf("%08x", n) })
	}
	for i, tt := range []struct {
		c    Credentials
		want Result
	}{
		{nc(2, "x"), Result{}},
		{nc(1, pass), Result{OK: true}},
		{nc(1, pass), Result{Stale: true}},
		{nc(1, "x"), Result{}},
		{nc(5, pass), Result{OK: true}}, // gaps are answers that were lost
		{nc(4, pass), Result{Stale: true}},
		{nc(6, pass), Result{OK: true}},
	} {
		if r, err := judge(s, 1, tt.c, good); r != tt.want || err != nil {
			t.Errorf("%d: %+v, %v; want %+v", i, r, err, tt.want)
		}
	}
	if _, err := judge(s, 2, nc(7, pass), good); err != RefusedNonce {
		t.Errorf("on another connection: %v", err)
	}
}

// TestReplayRace: of many at once, one gets in.
func TestReplayRace(t *testing.T) {
	s := newServer(t, nil)
	c := answer(t, s, 1, pass, nil)
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if r, _ := judge(s, 1, c, good); r.OK {
				in.Add(1)
			}
			s.Challenges(1, true)
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("%d got in", in.Load())
	}
}

// TestExpired: RELAY-77: stale only if the digest is right.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		young, right, wrong := answer(t, s, 1, pass, nil), answer(t, s, 1, pass, nil), answer(t, s, 1, "x", nil)
		time.Sleep(2*time.Minute - 1)
		wantResult(t, s, 1, young, good, Result{OK: true})
		time.Sleep(time.Nanosecond)
		wantResult(t, s, 1, right, good, Result{Stale: true})
		wantResult(t, s, 1, right, Secret{Authenticated: true}, Result{Stale: true})
		wantResult(t, s, 1, wrong, good, Result{})
		wantResult(t, s, 1, right, Secret{Unknown: true}, Result{})
	})
}

// TestNeverTwice: whenever a nonce was used, it is never accepted again, also
// when hooks take long between Check and Verify.
func TestNeverTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(c *ServerConfig) { c.Lifetime = time.Minute })
		for offset := range 13 {
			time.Sleep(time.Duration(offset) * 7 * time.Second)
			c := answer(t, s, 1, pass, nil)
			wantResult(t, s, 1, c, good, Result{OK: true})
			for range 16 {
				time.Sleep(11 * time.Second)
				wantResult(t, s, 1, c, good, Result{Stale: true})
				k, _ := s.Check(1, c)
				time.Sleep(1 * time.Second)
				wantResult(t, s, 1, answer(t, s, 1, pass, nil), good, Result{OK: true})
				if r := s.Verify(k, "AUTH", uri, good); r != (Result{Stale: true}) {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}

// TestReplayBounded: the table does not grow over its bound; what it forgets
// stays refused, and new nonces work at once.
func TestReplayBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 4
		s := newServer(t, func(c *ServerConfig) { c.MaxReplay = most })
		unused := answer(t, s, 1, pass, nil)
		var used []Credentials
		for range 10 * most {
			time.Sleep(time.Millisecond)
			c := answer(t, s, 1, pass, nil)
			wantResult(t, s, 1, answer(t, s, 1, "x", nil), good, Result{}) // takes no room
			wantResult(t, s, 1, c, good, Result{OK: true})
			used = append(used, c)
			if n := len(s.guard.cur) + len(s.guard.old); n > 2*most {
				t.Fatalf("%d entries", n)
			}
		}
		for _, c := range used {
			wantResult(t, s, 1, c, good, Result{Stale: true})
		}
		wantResult(t, s, 1, unused, good, Result{Stale: true}) // older than what was forgotten
	})
}

// TestRestart: another process with the same key does not know what was used.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := func(c *ServerConfig) { c.Key = []byte("0123456789abcdef") }
		c := answer(t, newServer(t, key), 1, pass, nil)
		time.Sleep(time.Second)
		s := newServer(t, key)
		wantResult(t, s, 1, c, good, Result{Stale: true})
		wantResult(t, s, 1, answer(t, s, 1, pass, nil), good, Result{OK: true})
	})
}

// TestChallenges: RELAY-1, 69, 70, 71, 80 and what msrplib needs; and RELAY-79:
// a challenge does not tell why it was sent.
func TestChallenges(t *testing.T) {
	for _, algs := range [][]Algorithm{nil, {SHA256, MD5}, {MD5, SHA256, MD5}, {SHA256}} {
		s := newServer(t, func(c *ServerConfig) { c.Algorithms = algs })
		for _, stale := range []bool{false, true} {
			values := s.Challenges(1, stale)
			if want := map[int]int{0: 1, 1: 1, 2: 2, 3: 2}[len(algs)]; len(values) != want {
				t.Fatalf("%d challenges for %v", len(values), algs)
			}
			for i, v := range values {
				c, err := ParseChallenge(v)
				if err != nil || c.Realm != realm || c.QOP != "auth" || c.Opaque == "" || c.Stale != stale || c.String() != v {
					t.Errorf("%s, %v", v, err)
				}
				if !strings.Contains(v, `qop="auth"`) || strings.Contains(v, "domain") || strings.Contains(v, "stale=true") != stale {
					t.Errorf("%s", v)
				}
				if len(algs) > 1 && (c.Algorithm == MD5) != (i == 0) {
					t.Errorf("MD5 is not first: %v", values)
				}
			}
		}
	}
}

func TestServerConfig(t *testing.T) {
	c := ServerConfig{Realm: "a\r\nb", Key: []byte("short"), Lifetime: -1, MaxReplay: -1, Algorithms: []Algorithm{"MD5-sess"}}
	if _, err := NewServer(c); err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("%v; want five faults", err)
	}
	for _, c := range []ServerConfig{{}, {Realm: `a"b`}, {Realm: "r", Key: []byte{}}} {
		if _, err := NewServer(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if newServer(t, nil).Realm() != realm {
		t.Error("realm")
	}
}

// TestHidden: secrets do not come out of any verb.
func TestHidden(t *testing.T) {
	for _, v := range []any{Secret{Password: pass, HA1: pass}, &Secret{Password: pass}, Client{Password: pass}, &Client{HA1: pass}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, pass) || strings.Contains(text, fmt.Sprintf("%x", pass)) {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
}

// TestRefusalText: a Refusal is an error to compare with.
func TestRefusalText(t *testing.T) {
	err := fmt.Errorf("x: %w", RefusedNonce)
	if !errors.Is(err, RefusedNonce) || errors.Is(err, RefusedNC) || RefusedNonce.Error() != "auth: nonce is not ours" {
		t.Error(err)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, bb := range []struct {
		name   string
		secret Secret
	}{
		{"password", Secret{Password: "wrong"}},
		{"ha1", Secret{HA1: HA1(MD5, dora, realm, "wrong")}},
		{"unknown", Secret{Unknown: true}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := newServer(b, nil)
			c := answer(b, s, 1, pass, nil)
			b.ReportAllocs()
			for b.Loop() {
				if r, err := judge(s, 1, c, bb.secret); err != nil || r.OK {
					b.Fatal(r, err)
				}
			}
		})
	}
}
