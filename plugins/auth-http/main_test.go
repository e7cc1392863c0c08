package main

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/parley-msrp/parley/sdk/abi"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/parleytest"
)

const (
	md5Hash    = "939e7578ed9e3c518a452acee763bce9"
	sha256Hash = "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"
)

// A service is the web service: what it says, and what it was asked.
type service struct {
	status int
	body   string

	asked int
	last  *http.Request
	got   string
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.asked++
	s.last, s.got = r, string(body)
	w.WriteHeader(s.status)
	io.WriteString(w, s.body)
}

func start(t *testing.T, config string) (*parleytest.Host, *service) {
	t.Helper()
	h, s := parleytest.New(t), &service{status: 200}
	h.HTTP = s
	if err := h.Load(config); err != nil {
		t.Fatal(err)
	}
	return h, s
}

// asks is alice's request; its response is by the password.
func asks(password string, more parleytest.Fields) parleytest.Fields {
	sum := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	ha1, ha2 := ha1Of(password), sum("AUTH:msrps://relay.example.com;tcp")
	f := parleytest.Fields{
		"username": "alice", "realm": "example.com", "listener": "edge", "transport": "tls", "remote_addr": "192.0.2.7:40000",
		"algorithm": "MD5", "method": "AUTH", "uri": "msrps://relay.example.com;tcp", "nonce": "n", "nc": "00000001", "cnonce": "c", "qop": "auth",
		"response": sum(ha1 + ":n:00000001:c:auth:" + ha2),
	}
	maps.Copy(f, more)
	return f
}

func ha1Of(password string) string {
	return fmt.Sprintf("%x", md5.Sum([]byte("alice:example.com:"+password)))
}

const plain = `{"url": "https://hr.example/auth"}`

func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		status  int
		body    string
		request parleytest.Fields
		want    string
	}{
		{"password", 200, `{"password": "wonderland"}`, nil, "done ha1=" + ha1Of("wonderland")},
		{"ha1", 200, `{"ha1": "` + md5Hash + `", "more": 1}`, nil, "done ha1=" + md5Hash},
		{"ha1 in capitals", 200, `{"ha1": "` + strings.ToUpper(md5Hash) + `"}`, nil, "done ha1=" + md5Hash},
		{"ha1, SHA-256", 200, `{"ha1": "` + sha256Hash + `"}`, parleytest.Fields{"algorithm": "SHA-256"}, "done ha1=" + sha256Hash},
		{"limits", 200, `{"ha1": "` + md5Hash + `", "max_expires": 600, "attributes": {"group": "eu", "color": "blue"}}`, nil, "done ha1=" + md5Hash + " max_expires_ms=600000 attribute.color=blue attribute.group=eu"},
		{"more limits", 200, `{"ha1": "` + md5Hash + `", "limits": {"max_sessions": 3, "messages_per_minute": 60, "max_message": 4096, "user_bytes_per_second": 0, "else": 1}}`, nil, "done ha1=" + md5Hash + " max_sessions=3 messages_per_minute=60 max_message=4096"},
		{"deny", 200, `{"deny": {"status": 404, "reason": "left the company"}}`, nil, "deny status=404 reason=left the company"},
		{"deny without a word", 200, `{"deny": {}}`, nil, "deny"},
		{"deny with more than a line", 200, `{"deny": {"reason": "a\nb"}}`, nil, "deny reason=a b"},
		{"unknown", 404, `whatever`, nil, "next"},
		{"the token is wrong", 401, ``, nil, "fail reason=the web service says 401"},
		{"down", 503, ``, nil, "fail reason=the web service says 503"},
		{"nothing", 200, `{}`, nil, "fail reason=the web service's answer: has not exactly one of password, ha1 and deny"},
		{"two", 200, `{"password": "a", "deny": {}}`, nil, "fail reason=the web service's answer: has not exactly one of password, ha1 and deny"},
		{"no JSON", 200, `secret`, nil, "fail reason=the web service's answer: is not the JSON that is expected"},
		{"other JSON", 200, `{"password": 5}`, nil, "fail reason=the web service's answer: is not the JSON that is expected"},
		{"ha1 of another algorithm", 200, `{"ha1": "` + sha256Hash + `"}`, nil, "fail reason=the web service's answer: ha1 is not 32 hex digits, as MD5 needs"},
		{"a status that is none", 200, `{"deny": {"status": 200}}`, nil, "fail reason=the web service's answer: deny.status: 200 is not one of [400 403 404 413 415 423 481 501 506]"},
		{"a lifetime that is none", 200, `{"password": "a", "max_expires": 0.5}`, nil, "fail reason=the web service's answer: max_expires is not from 1 second to a year"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, s := start(t, plain)
			s.status, s.body = tt.status, tt.body
			if got := h.Ask(authenticate.Answer, asks("wonderland", tt.request)).String(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestHandshake: of a WebSocket the service tells the user, if it is to be asked at all.
func TestHandshake(t *testing.T) {
	request := parleytest.Fields{
		"listener": "web", "transport": "wss", "remote_addr": "192.0.2.7:40000", "method": "GET", "uri": "/", "cookie": "sid=1", "bearer": "t0ken", "origin": "https://chat.example",
	}
	h, s := start(t, plain)
	if got := h.Ask(authenticate.Answer, request).String(); got != "next" || s.asked != 0 {
		t.Errorf("%s after %d questions", got, s.asked)
	}
	for _, tt := range []struct {
		status     int
		body, want string
	}{
		{200, `{"username": "alice", "max_expires": 600, "limits": {"max_sessions": 2}}`, "done authenticated=1 username=alice max_expires_ms=600000 max_sessions=2"},
		{200, `{"deny": {"reason": "logged out"}}`, "deny reason=logged out"},
		{404, ``, "next"},
		{503, ``, "fail reason=the web service says 503"},
		{200, `{"password": "x"}`, "fail reason=the web service's answer: has not exactly one of username and deny"},
		{200, `{"username": "alice", "ha1": "x"}`, "fail reason=the web service's answer: has not exactly one of username and deny"},
	} {
		h, s := start(t, `{"url": "https://hr.example/auth", "handshakes": true, "cache": {"positive": "60s"}}`)
		s.status, s.body = tt.status, tt.body
		for n := range 2 {
			if got := h.Ask(authenticate.Answer, request).String(); got != tt.want || s.asked != n+1 {
				t.Errorf("%s after %d questions, want %s", got, s.asked, tt.want)
			}
		}
		var doc map[string]any
		if err := json.Unmarshal([]byte(s.got), &doc); err != nil || doc["cookie"] != "sid=1" || doc["bearer"] != "t0ken" || doc["origin"] != "https://chat.example" {
			t.Errorf("%s, %v", s.got, err)
		}
	}
}

func TestLongReason(t *testing.T) {
	h, s := start(t, plain)
	s.body = `{"deny": {"reason": "` + strings.Repeat("ü", 65) + `"}}`
	got := h.Ask(authenticate.Answer, asks("", nil)).Text(abi.FieldReason)
	if len(got) != 128 || !utf8.ValidString(got) {
		t.Errorf("reason of %d bytes", len(got))
	}
}

func TestErrors(t *testing.T) {
	for e, want := range map[abi.Errno]string{
		abi.ErrTimedOut: "fail reason=the web service cannot be asked: TIMEDOUT",
		abi.ErrPerm:     "fail reason=the url is not among those of the grant http",
	} {
		h, _ := start(t, plain)
		h.Errors[abi.ServiceHTTP] = e
		if got := h.Ask(authenticate.Answer, asks("", nil)).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	h, s := start(t, `{"url": "https://hr.example/auth", "token": "tok", "header": {"X-Relay": "r1"}}`)
	h.Ask(authenticate.Answer, asks("", parleytest.Fields{"param.group": []string{"eu", "us", "de"}, "param.floor": "3", "param.team": []string{"a", "b"}}))
	var doc map[string]any
	if err := json.Unmarshal([]byte(s.got), &doc); err != nil {
		t.Fatalf("%s: %v", s.got, err)
	}
	want := `map[algorithm:MD5 listener:edge params:map[floor:3 group:[eu us de] team:[a b]] realm:example.com remote_addr:192.0.2.7:40000 tls_sni: transport:tls username:alice]`
	if got := fmt.Sprint(doc); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if s.last.Method != "POST" || s.last.URL.String() != "https://hr.example/auth" || s.last.Header.Get("Authorization") != "Bearer tok" ||
		s.last.Header.Get("X-Relay") != "r1" || s.last.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s %v", s.last.Method, s.last.URL, s.last.Header)
	}
}

func TestForm(t *testing.T) {
	h, s := start(t, `{"url": "https://hr.example/auth", "body": "form"}`)
	h.Ask(authenticate.Answer, asks("", parleytest.Fields{"username": "a&b", "param.group": []string{"eu", "us"}}))
	want := "algorithm=MD5&listener=edge&params.group=eu&params.group=us&realm=example.com&remote_addr=192.0.2.7%3A40000&tls_sni=&transport=tls&username=a%26b"
	if s.got != want || s.last.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("%s, want %s", s.got, want)
	}
}

func TestGet(t *testing.T) {
	h, s := start(t, `{"url": "https://hr.example/auth?u={username}&r={realm}", "method": "GET"}`)
	h.Ask(authenticate.Answer, asks("", parleytest.Fields{"username": "a&b={realm}/../ü"}))
	q := s.last.URL.Query()
	if s.last.Method != "GET" || s.got != "" || s.last.URL.Path != "/auth" || q.Get("u") != "a&b={realm}/../ü" || q.Get("r") != "example.com" {
		t.Errorf("%s %s", s.last.Method, s.last.URL)
	}
}

const cached = `{"url": "https://hr.example/auth", "cache": {"positive": "60s", "negative": "10s", "stale": "10m"}}`

func TestCache(t *testing.T) {
	h, s := start(t, cached)
	good := "done ha1=" + ha1Of("wonderland") + " attribute.group=eu"
	says := func(status int, body string) func() { return func() { s.status, s.body = status, body } }
	wait := func(d time.Duration) func() { return func() { h.Now = h.Now.Add(d) } }
	for _, step := range []struct {
		name     string
		do       func()
		password string
		more     parleytest.Fields
		want     string
		asked    int
	}{
		{"first", says(200, `{"password": "wonderland", "attributes": {"group": "eu"}}`), "wonderland", nil, good, 1},
		{"again", nil, "wonderland", nil, good, 0},
		{"from another address", nil, "wonderland", parleytest.Fields{"remote_addr": "192.0.2.8:40001"}, good, 0},
		{"at another listener", nil, "wonderland", parleytest.Fields{"listener": "core"}, good, 1},
		{"with a parameter", nil, "wonderland", parleytest.Fields{"param.group": "eu"}, good, 1},
		{"by another algorithm", nil, "wonderland", parleytest.Fields{"algorithm": "SHA-256", "response": "x"}, "", 1},
		{"a wrong password", nil, "wrong", nil, good, 1},
		{"a wrong password at once", nil, "wrong", nil, good, 0},
		{"the password has changed", func() { wait(retry)(); says(200, `{"password": "other"}`)() }, "other", nil, "done ha1=" + ha1Of("other"), 1},
		{"down, but fresh", says(500, ""), "other", nil, "done ha1=" + ha1Of("other"), 0},
		{"down, stale", wait(time.Minute), "other", nil, "done ha1=" + ha1Of("other"), 1},
		{"down, too old", wait(10 * time.Minute), "other", nil, "fail reason=the web service says 500", 1},
		{"up", says(200, `{"password": "wonderland"}`), "wonderland", nil, "done ha1=" + ha1Of("wonderland"), 1},
		{"down, a wrong password", says(500, ""), "wrong", nil, "done ha1=" + ha1Of("wonderland"), 1},
		{"gone", func() { wait(time.Minute)(); says(404, "")() }, "wonderland", nil, "next", 1},
		{"gone, still", nil, "wonderland", nil, "next", 0},
		{"down, and gone before", func() { wait(10 * time.Second)(); says(500, "")() }, "wonderland", nil, "fail reason=the web service says 500", 1},
		{"denied", says(200, `{"deny": {"status": 404, "reason": "no"}}`), "wonderland", nil, "deny status=404 reason=no", 1},
		{"denied, still", nil, "wonderland", nil, "deny status=404 reason=no", 0},
	} {
		if step.do != nil {
			step.do()
		}
		before := s.asked
		got := h.Ask(authenticate.Answer, asks(step.password, step.more)).String()
		if step.want != "" && got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
		if n := s.asked - before; n != step.asked {
			t.Errorf("%s: the service was asked %d times, want %d", step.name, n, step.asked)
		}
	}
	for _, key := range h.Keys() {
		value, _ := h.Get(key)
		if len(key) != 65 || strings.Contains(value, "wonderland") || strings.Contains(value, "other") {
			t.Errorf("entry %s: %q", key, value)
		}
	}
	if h.Metric("lookups_total", "result", "hit") == 0 || h.Metric("lookups_total", "result", "stale") == 0 {
		t.Error("lookups are not counted")
	}
}

func TestCachePerAddress(t *testing.T) {
	h, s := start(t, `{"url": "https://hr.example/auth", "cache": {"positive": "60s", "per_address": true}}`)
	s.body = `{"password": "wonderland"}`
	for _, addr := range []string{"192.0.2.7:1", "192.0.2.7:2", "192.0.2.8:1"} {
		h.Ask(authenticate.Answer, asks("wonderland", parleytest.Fields{"remote_addr": addr}))
	}
	if s.asked != 2 {
		t.Errorf("asked %d times, want 2", s.asked)
	}
}

// TestCacheOfAnother: what was cached under another configuration is not used.
func TestCacheOfAnother(t *testing.T) {
	h, s := start(t, cached)
	s.body = `{"password": "wonderland"}`
	h.Ask(authenticate.Answer, asks("wonderland", nil))
	if err := h.Load(strings.Replace(cached, "hr.", "dir.", 1)); err != nil {
		t.Fatal(err)
	}
	h.Ask(authenticate.Answer, asks("wonderland", nil))
	if s.asked != 2 {
		t.Errorf("asked %d times, want 2", s.asked)
	}
}

// TestCacheFails: without its store the plugin works as without a cache.
func TestCacheFails(t *testing.T) {
	h, s := start(t, cached)
	s.body = `{"password": "wonderland"}`
	h.Errors[abi.ServiceKVGet], h.Errors[abi.ServiceKVSet] = abi.ErrIO, abi.ErrTooBig
	if got := h.Ask(authenticate.Answer, asks("wonderland", nil)).String(); got != "done ha1="+ha1Of("wonderland") || len(h.Lines) == 0 {
		t.Errorf("%s, logged %q", got, h.Lines)
	}
}

func TestLoadRefuses(t *testing.T) {
	for config, want := range map[string]string{
		"":                                   "there is no configuration",
		`{}`:                                 "url: is needed",
		`{"url": "hr"}`:                      "url: write it as",
		`{"url": "ftp://hr"}`:                "url: write it as",
		`{"url": "https://u:p@hr.example/"}`: "url: write it as",
		`{"url": "https://hr.example/{username}"}`:                               "url: {…} can only stand after the question mark",
		`{"url": "https://hr.example/?u={user}"}`:                                "url: {user} is not one of {username}, {realm}",
		`{"url": "https://hr.example/?u={username"}`:                             "url: {username} is not one of",
		`{"url": "https://hr.example/", "method": "GET"}`:                        "url: with method GET, it needs {username}",
		`{"url": "https://hr.example/", "method": "PUT"}`:                        `method: "PUT" is not GET or POST`,
		`{"url": "https://hr.example/", "body": "xml"}`:                          `body: "xml" is not json or form`,
		`{"url": "https://hr.example/", "token": "a\nb"}`:                        "token: has spaces",
		`{"url": "https://hr.example/", "header": {"X: ": "a"}}`:                 "header: ",
		`{"url": "https://hr.example/", "header": {"Host": "a"}}`:                "header: Host cannot be set here",
		`{"url": "https://hr.example/", "cache": {"stale": "1m"}}`:               "cache.stale: needs cache.positive",
		`{"url": "https://hr.example/", "cache": {"positive": 60}}`:              "cache.positive: cannot be",
		`{"url": "https://hr.example/", "cache": {"ttl": "1m"}}`:                 `unknown key "ttl"`,
		`{"url": "https://hr.example/", "cache": {"positive": "1m"}, "x": true}`: `unknown key "x"`,
	} {
		h := parleytest.New(t)
		h.HTTP = http.NotFoundHandler()
		if err := h.Load(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	h := parleytest.New(t)
	if err := h.Load(plain); err == nil || !strings.Contains(err.Error(), "grant http") {
		t.Errorf("without the grant http: %v", err)
	}
	h.HTTP = http.NotFoundHandler()
	h.Errors[abi.ServiceKVSet] = abi.ErrPerm
	if err := h.Load(cached); err == nil || !strings.Contains(err.Error(), "grant kv") {
		t.Errorf("without the grant kv: %v", err)
	}
	if err := h.Load(strings.Replace(plain, "https", "http", 1)); err != nil || len(h.Lines) != 0 {
		t.Errorf("http without a token: %v, %q", err, h.Lines)
	}
	if err := h.Load(`{"url": "http://127.0.0.1/auth", "token": "tok"}`); err != nil || len(h.Lines) != 1 {
		t.Errorf("http with a token: %v, %q", err, h.Lines)
	}
}
