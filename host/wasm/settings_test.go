package wasm

import (
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  Settings
		want []string // parts of the faults; none = valid
	}{
		{"least", Settings{File: "x"}, nil},
		{"most", Settings{
			File: "x", SHA256: strings.Repeat("0a", 32), Memory: 1 << 20, Instances: Instances{Warm: 2, Max: 2},
			Breaker: Breaker{Failures: -1, Probation: -1}, Grants: Grants{HTTP: []string{"https://h.example/auth", "http://127.0.0.1:8080"}},
		}, nil},
		{"nothing", Settings{}, []string{"file: is needed"}},
		{"hash", Settings{File: "x", SHA256: "abc"}, []string{"sha256: is not 64 hex digits"}},
		{"less than a page", Settings{File: "x", Memory: 1000}, []string{"memory: 1000 bytes are less than a page"}},
		{"negative", Settings{File: "x", Budget: -1, Timeout: -time.Second}, []string{"budget: -1 is not from 0", "timeout: -1000000000 is not"}},
		{"more warm than may be", Settings{File: "x", Instances: Instances{Warm: 9}}, []string{"instances.warm: 9 is more than max, which is 8"}},
		{"less than no rate", Settings{File: "x", Output: Output{Rate: -0.5}}, []string{"output.rate: -0.5"}},
		{"no rate", Settings{File: "x", Output: Output{Rate: math.NaN()}}, []string{"output.rate: NaN"}},
		{"a breaker that cannot open", Settings{File: "x", Breaker: Breaker{Failures: 21}}, []string{"breaker.failures: 21 is not from 0 to 20"}},
		{
			"URLs",
			Settings{File: "x", Grants: Grants{HTTP: []string{"ftp://h/", "h.example", "https://u@h/", "https://h/?q=1"}}},
			[]string{"grants.http.0", "grants.http.1", "grants.http.2", "grants.http.3"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.set.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatal(err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v lacks %q", err, part)
				}
			}
		})
	}
}

func TestAllowed(t *testing.T) {
	var grants []*url.URL
	for _, text := range []string{"https://hr.example/auth", "http://127.0.0.1:8080", "https://docs.example/a/"} {
		u, err := parseGrant(text)
		if err != nil {
			t.Fatal(err)
		}
		grants = append(grants, u)
	}
	for text, want := range map[string]bool{
		"https://hr.example/auth":              true,
		"https://HR.example/auth?user=alice":   true,
		"https://hr.example/auth/users/alice":  true,
		"https://hr.example/auth/":             true,
		"https://hr.example/authority":         false,
		"https://hr.example/":                  false,
		"https://hr.example":                   false,
		"http://hr.example/auth":               false,
		"https://hr.example:8443/auth":         false,
		"https://hr.example.evil.example/auth": false,
		"https://hr.example@evil.example/auth": false,
		"https://u:p@hr.example/auth":          false,
		"https://hr.example/auth/../admin":     false,
		"https://hr.example/auth/./x":          false,
		"https://hr.example/auth//x":           false,
		"https://hr.example/auth/%2e%2e/admin": false,
		"https://hr.example/auth/..%2fadmin":   false,
		"https://hr.example/auth/%2e":          false,
		"https://hr.example/auth/a%2fb":        false,
		"https://hr.example/auth/%252e%252e/x": false,
		"https://hr.example/auth/%0a":          false,
		"https://hr.example/auth/..;/admin":    false,
		`https://hr.example/auth/..\admin`:     false,
		"https:hr.example/auth":                false,
		"//hr.example/auth":                    false,
		"http://127.0.0.1:8080":                true,
		"http://127.0.0.1:8080/any/thing":      true,
		"http://127.0.0.1:80801/":              false,
		"http://127.0.0.1/":                    false,
		"https://docs.example/a/":              true,
		"https://docs.example/a/b":             true,
		"https://docs.example/ab":              false,
		"https://docs.example/a":               false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			if want {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if got := allowed(grants, u); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// TestCacheDir: what is in the cache is run as native code, so nobody else may
// write there.
func TestCacheDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "cache")
	newHost(t, Options{CacheDir: dir})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{CacheDir: open}); err == nil || !strings.Contains(err.Error(), open) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a directory that others can read: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{CacheDir: link}); err == nil {
		t.Error("a link was accepted")
	}
}

func TestPruneCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	h := newHost(t, Options{CacheDir: dir, CacheSize: 250})
	now := time.Now()
	for i, name := range []string{"new", "old", "older"} {
		file := filepath.Join(dir, "wazero-x", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, now, now.Add(time.Duration(-i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(dir, "relay.key")
	if err := os.WriteFile(key, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	h.pruneCache()
	if _, err := os.Stat(key); err != nil {
		t.Error("removed what is not the cache's", err)
	}
	for name, want := range map[string]bool{"new": true, "old": true, "older": false} {
		if _, err := os.Stat(filepath.Join(dir, "wazero-x", name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
