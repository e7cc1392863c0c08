package auth

import (
	"errors"
	"strings"
	"testing"
)

func newClient() *Client { return &Client{Username: dora, Password: pass} }

func mustAnswer(t testing.TB, c *Client, challenge string) Credentials {
	t.Helper()
	text, err := c.Answer([]string{challenge}, "AUTH", uri)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, text)
}

func mustParse(t testing.TB, text string) Credentials {
	t.Helper()
	cr, err := ParseCredentials(text)
	if err != nil {
		t.Fatal(err)
	}
	return cr
}

// serverInfo is what a server that knows the password answers to cr.
func serverInfo(cr Credentials, next string) Info {
	return Info{
		NextNonce: next, QOP: "auth", CNonce: cr.CNonce, NC: cr.NC,
		RspAuth: RspAuth(cr.Algorithm, HA1(cr.Algorithm, dora, cr.Realm, pass), cr.URI, cr.Nonce, cr.NC, cr.CNonce),
	}
}

const chal = `Digest realm="r", nonce="n", opaque="o", qop="auth"`

// TestChoose: what a client answers, and what not (RELAY-69, 70, 71; ECO-189).
func TestChoose(t *testing.T) {
	sha := strings.Replace(chal, "realm", "algorithm=SHA-256, realm", 1)
	for _, tt := range []struct {
		name       string
		ha1        string
		challenges []string
		want       Algorithm // "" = none can be answered
	}{
		{"good", "", []string{chal}, MD5},
		{"topmost MD5", "", []string{chal, sha}, MD5},
		{"topmost SHA-256", "", []string{sha, chal}, SHA256},
		{"unknown algorithm first", "", []string{strings.Replace(sha, "SHA-256", "SHA-512-256", 1), chal}, MD5},
		{"unknown scheme first", "", []string{`Basic realm="r"`, chal}, MD5},
		{"broken first", "", []string{`Digest realm="`, chal}, MD5},
		{"auth among others", "", []string{strings.Replace(chal, `"auth"`, `"auth-int , AUTH"`, 1)}, MD5},
		{"domain is ignored", "", []string{chal + `, domain="/a /b"`}, MD5},
		{"HA1 of MD5", strings.Repeat("0", 32), []string{sha, chal}, MD5},
		{"HA1 of SHA-256", strings.Repeat("0", 64), []string{chal, sha}, SHA256},
		{"HA1 of neither", "0", []string{chal, sha}, ""},
		{"none", "", nil, ""},
		{"Basic", "", []string{`Basic realm="r"`}, ""},
		{"MD5-sess", "", []string{chal + ", algorithm=MD5-sess"}, ""},
		{"auth-int alone", "", []string{strings.Replace(chal, "auth", "auth-int", 1)}, ""},
		{"no qop", "", []string{`Digest realm="r", nonce="n"`}, ""},
		{"no nonce", "", []string{`Digest realm="r", qop="auth"`}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Client{Username: dora, Password: pass, HA1: tt.ha1}
			text, err := c.Answer(tt.challenges, "AUTH", uri)
			if tt.want == "" {
				if !errors.Is(err, ErrNoChallenge) {
					t.Errorf("%s, %v", text, err)
				}
				return
			}
			if cr := mustParse(t, text); cr.Algorithm != tt.want || cr.QOP != "auth" || cr.NC != "00000001" || cr.CNonce == "" || cr.Opaque != "o" || cr.URI != uri {
				t.Errorf("%s", text)
			}
		})
	}
}

// TestCounts: RELAY-76: nc counts the uses of one nonce.
func TestCounts(t *testing.T) {
	c := newClient()
	if _, ok := c.Preemptive("AUTH", uri); ok {
		t.Error("preemptive without a nonce")
	}
	cr := mustAnswer(t, c, chal)
	if err := c.Success(serverInfo(cr, "").String()); err != nil {
		t.Fatal(err)
	}
	text, ok := c.Preemptive("AUTH", uri) // the same nonce
	if cr = mustParse(t, text); !ok || cr.Nonce != "n" || cr.NC != "00000002" || cr.Opaque != "o" {
		t.Errorf("%s", text)
	}
	if cr = mustAnswer(t, c, chal); cr.NC != "00000003" { // challenged with it again
		t.Errorf("%+v", cr)
	}
	if err := c.Success(serverInfo(cr, "n2").String()); err != nil {
		t.Fatal(err)
	}
	text, _ = c.Preemptive("AUTH", uri)
	if cr = mustParse(t, text); cr.Nonce != "n2" || cr.NC != "00000001" {
		t.Errorf("%s", text)
	}
}

// TestRefused: a second 401 means wrong credentials, unless it is stale
// (RELAY-77) or answers a nonce from before.
func TestRefused(t *testing.T) {
	const fresh = `Digest realm="r", nonce="n3", qop="auth"`
	c := newClient()
	mustAnswer(t, c, chal)
	mustAnswer(t, c, fresh+", stale=TRUE")
	if _, err := c.Answer([]string{fresh}, "AUTH", uri); !errors.Is(err, ErrCredentials) {
		t.Error(err)
	}
	if _, ok := c.Preemptive("AUTH", uri); ok {
		t.Error("a refused nonce is used again")
	}
	// The connection broke, and the AUTH begins anew.
	mustAnswer(t, c, chal)
	c.Preemptive("AUTH", uri)
	cr := mustAnswer(t, c, fresh)
	if err := c.Success(serverInfo(cr, "n4").String()); err != nil {
		t.Fatal(err)
	}
	c.Preemptive("AUTH", uri)
	mustAnswer(t, c, fresh) // 401 to the remembered nonce, not to the password
	// A server that does not stop.
	var err error
	n := 0
	for c = newClient(); err == nil; n++ {
		_, err = c.Answer([]string{chal + ", stale=true"}, "AUTH", uri)
	}
	if !errors.Is(err, ErrStale) || n != maxStale+1 {
		t.Error(n, err)
	}
}

// TestSuccess: RELAY-73, RELAY-75.
func TestSuccess(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Info)
		want   error
		keeps  bool // nextnonce is used
	}{
		{"right", func(*Info) {}, nil, true},
		{"no cnonce, nc, qop", func(i *Info) { i.CNonce, i.NC, i.QOP = "", "", "" }, nil, true},
		{"no rspauth", func(i *Info) { i.RspAuth = "" }, ErrNoRspAuth, true},
		{"wrong rspauth", func(i *Info) { i.RspAuth = strings.Repeat("0", 32) }, ErrBadRspAuth, false},
		{"long rspauth", func(i *Info) { i.RspAuth += i.RspAuth }, ErrBadRspAuth, false},
		{"another cnonce", func(i *Info) { i.CNonce = "x" }, ErrBadRspAuth, false},
		{"another nc", func(i *Info) { i.NC = "00000002" }, ErrBadRspAuth, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient()
			i := serverInfo(mustAnswer(t, c, chal), "next")
			tt.change(&i)
			if err := c.Success(i.String()); !errors.Is(err, tt.want) {
				t.Errorf("%v; want %v", err, tt.want)
			}
			if text, ok := c.Preemptive("AUTH", uri); ok != tt.keeps || ok && mustParse(t, text).Nonce != "next" {
				t.Errorf("then %s, %v", text, ok)
			}
		})
	}
	c := newClient()
	mustAnswer(t, c, chal)
	if err := c.Success(`rspauth="zz"`); !errors.As(err, new(*SyntaxError)) {
		t.Error(err)
	}
	if err := newClient().Success(`rspauth="` + strings.Repeat("0", 32) + `"`); !errors.Is(err, ErrBadRspAuth) {
		t.Error(err)
	}
}

// TestInjection: nothing that a user is called becomes a header.
func TestInjection(t *testing.T) {
	c := Client{Username: "a\r\nTo-Path: b", Password: pass}
	if text, err := c.Answer([]string{chal}, "AUTH", uri); err == nil {
		t.Errorf("%q", text)
	}
	if text, err := newClient().Answer([]string{chal}, "AUTH", uri+"\r\nb"); err == nil {
		t.Errorf("%q", text)
	}
}

// TestBothSides: a client and a server, with HA1 and password, over a whole life.
func TestBothSides(t *testing.T) {
	for _, algs := range [][]Algorithm{{MD5}, {SHA256}, {MD5, SHA256}} {
		s := newServer(t, func(c *ServerConfig) { c.Algorithms = algs })
		ha1 := HA1(algs[0], dora, realm, pass)
		for _, c := range []*Client{newClient(), {Username: dora, HA1: ha1}} {
			text, ok := c.Preemptive("AUTH", uri)
			for round := range 3 {
				if ok != (round > 0) {
					t.Fatalf("round %d: preemptive %v", round, ok)
				}
				if !ok {
					var err error
					if text, err = c.Answer(s.Challenges(3, false), "AUTH", uri); err != nil {
						t.Fatal(err)
					}
				}
				k, err := s.Check(3, mustParse(t, text))
				if err != nil {
					t.Fatal(err)
				}
				if r := s.Verify(k, "AUTH", uri, Secret{HA1: ha1}); !r.OK {
					t.Fatalf("%+v", r)
				}
				if err := c.Success(s.Info(3, k, uri)); err != nil {
					t.Fatal(err)
				}
				text, ok = c.Preemptive("AUTH", uri)
			}
		}
	}
}
