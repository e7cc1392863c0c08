package main

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/parleytest"
)

const (
	newSecret = "0123456789abcdef"
	oldSecret = "the secret of yesterday"
)

func password(newHash func() hash.Hash, secret, name string) string {
	h := hmac.New(newHash, []byte(secret))
	h.Write([]byte(name))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// digest is an answer to a challenge.
func digest(name, realm, password string) parleytest.Fields {
	sum := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	ha1, ha2 := sum(name+":"+realm+":"+password), sum("AUTH:msrps://relay.example.com;tcp")
	return parleytest.Fields{
		"username": name, "realm": realm, "algorithm": "MD5", "method": "AUTH", "uri": "msrps://relay.example.com;tcp",
		"nonce": "n", "nc": "00000001", "cnonce": "c", "qop": "auth", "response": sum(ha1 + ":n:00000001:c:auth:" + ha2),
	}
}

func TestAnswer(t *testing.T) {
	at := func(h *parleytest.Host, d time.Duration, user string) string {
		return fmt.Sprintf("%d:%s", h.Now.Add(d).Unix(), user)
	}
	const one = `{"secrets": "` + newSecret + `"}`
	const skewed = `{"secrets": "` + newSecret + `", "skew": "30s", "max_lifetime": "1h"}`
	for _, tt := range []struct {
		name   string
		config string
		user   string // with when it expires, if left is not 0
		left   time.Duration
		want   string // $P is the password
	}{
		{"good", one, "alice", time.Minute, "done password=$P max_expires_ms=60000 attribute.user=alice"},
		{"a user with a colon", one, "a:b", time.Minute, "done password=$P max_expires_ms=60000 attribute.user=a:b"},
		{"to the end", one, "alice", time.Second, "done password=$P max_expires_ms=1000 attribute.user=alice"},
		{"expired", one, "alice", -time.Second, "deny status=403 reason=expired"},
		{"a whole day", one, "alice", 24 * time.Hour, "done password=$P max_expires_ms=86400000 attribute.user=alice"},
		{"too long", one, "alice", 24*time.Hour + time.Second, "deny status=403 reason=valid for too long"},
		{"within the skew", skewed, "alice", -20 * time.Second, "done password=$P max_expires_ms=10000 attribute.user=alice"},
		{"beyond the skew", skewed, "alice", -30 * time.Second, "deny status=403 reason=expired"},
		{"as long as the other clock says", skewed, "alice", time.Hour + 30*time.Second, "done password=$P max_expires_ms=3660000 attribute.user=alice"},
		{"longer", skewed, "alice", time.Hour + 31*time.Second, "deny status=403 reason=valid for too long"},
		{"no time", one, "alice", 0, "next"},
		{"a time alone", one, "1900000000", 0, "next"},
		{"a time without a user", one, "1900000000:", 0, "next"},
		{"no time before the colon", one, "sip:alice", 0, "next"},
		{"nothing before the colon", one, ":alice", 0, "next"},
		{"a negative time", one, "-1900000000:alice", 0, "next"},
		{"a time beyond all", one, "99999999999999999999:alice", 0, "next"},
		{"the last time there is", one, "999999999999:alice", 0, "deny status=403 reason=valid for too long"},
		{"1970", one, "0:alice", 0, "deny status=403 reason=expired"},
		{"sha256", `{"secrets": ["` + newSecret + `"], "algorithm": "sha256"}`, "alice", time.Minute, "done password=$S max_expires_ms=60000 attribute.user=alice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := parleytest.New(t)
			if err := h.Load(tt.config); err != nil {
				t.Fatal(err)
			}
			name := tt.user
			if tt.left != 0 {
				name = at(h, tt.left, tt.user)
			}
			want := strings.NewReplacer("$P", password(sha1.New, newSecret, name), "$S", password(sha256.New, newSecret, name)).Replace(tt.want)
			if got := h.Ask(authenticate.Answer, digest(name, "example.com", "")).String(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestRotation(t *testing.T) {
	h := parleytest.New(t)
	if err := h.Load(`{"secrets": ["` + newSecret + `", "` + oldSecret + `"]}`); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%d:alice", h.Now.Add(time.Hour).Unix())
	by := func(secret string) string { return password(sha1.New, secret, name) }
	for _, tt := range []struct{ name, password, want string }{
		{"the new one", by(newSecret), by(newSecret)},
		{"the old one", by(oldSecret), by(oldSecret)},
		{"none of them", by("another"), by(newSecret)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := h.Ask(authenticate.Answer, digest(name, "example.com", tt.password)).Text(abi.FieldPassword); got != tt.want {
				t.Errorf("password %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for config, want := range map[string]string{
		"":                         "there is no configuration",
		`{}`:                       "secrets: at least one",
		`{"secrets": []}`:          "secrets: at least one",
		`{"secrets": ["short"]}`:   "secrets: number 1 is shorter than 16 octets",
		`{"secrets": [7]}`:         "secrets: cannot be",
		`{"secret": "0123456789"}`: `unknown key "secret"`,
		`{"secrets": ["0123456789abcdef", "0123456789abcdef"]}`:    "secrets: number 2 is there already",
		`{"secrets": "0123456789abcdef", "algorithm": "md5"}`:      `algorithm: "md5" is not sha1 or sha256`,
		`{"secrets": "0123456789abcdef", "max_lifetime": "0s"}`:    "max_lifetime: is less than a second",
		`{"secrets": "0123456789abcdef", "max_lifetime": "a day"}`: "max_lifetime: cannot be",
		`{"secrets": "0123456789abcdef", "skew": -3}`:              "skew: cannot be",
		`{"secrets": "0123456789abcdef", "max_lifetime": "8761h"}`: "max_lifetime: is more than a year",
		`{"secrets": "0123456789abcdef", "skew": "2h"}`:            "skew: is more than an hour",
	} {
		err := parleytest.New(t).Load(config)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	h := parleytest.New(t)
	h.Errors[abi.ServiceTime] = abi.ErrPerm
	if err := h.Load(`{"secrets": "0123456789abcdef"}`); err == nil || err.Error() != "needs the grant clock" {
		t.Errorf("without a clock: %v", err)
	}
}

func TestFails(t *testing.T) {
	for service, want := range map[abi.Service]string{
		abi.ServiceTime: "fail reason=the time: IO",
		abi.ServiceHash: "fail reason=hash: IO",
	} {
		h := parleytest.New(t)
		if err := h.Load(`{"secrets": "0123456789abcdef"}`); err != nil {
			t.Fatal(err)
		}
		h.Errors[service] = abi.ErrIO
		name := fmt.Sprintf("%d:alice", h.Now.Add(time.Hour).Unix())
		if got := h.Ask(authenticate.Answer, digest(name, "example.com", "")).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
