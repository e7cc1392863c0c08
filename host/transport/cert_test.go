package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nameFor returns the first name of the certificate that c has for sni.
func nameFor(t *testing.T, c *Certificates, sni string) string {
	t.Helper()
	hello := &tls.ClientHelloInfo{
		ServerName: sni, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
	return must[*tls.Certificate](t)(c.GetCertificate(hello)).Leaf.DNSNames[0]
}

func TestGetCertificate(t *testing.T) {
	ca := newAuthority(t)
	var pairs []CertPair
	for _, names := range [][]string{
		{"first.example.com"},
		{"*.example.com", "*.Example.net"},
		{"Exact.example.com", "exact.example.net"},
	} {
		pairs = append(pairs, ca.files(t, t.TempDir(), names...))
	}
	certs := must[*Certificates](t)(LoadCertificates(nil, pairs...))
	for sni, want := range map[string]string{
		"":                      "first.example.com",
		"first.example.com":     "first.example.com",
		"exact.example.com":     "Exact.example.com",
		"EXACT.EXAMPLE.NET.":    "Exact.example.com",
		"other.example.com":     "*.example.com",
		"other.example.net":     "*.example.com",
		"a.b.example.com":       "first.example.com",
		"example.com":           "first.example.com",
		"unknown.example.org":   "first.example.com",
		"localhost":             "first.example.com",
		"*.example.com":         "*.example.com",
		"sub.exact.example.com": "first.example.com",
	} {
		if got := nameFor(t, certs, sni); got != want {
			t.Errorf("for %q got the certificate of %s, want %s", sni, got, want)
		}
	}
}

func TestLoadCertificatesJoinsFaults(t *testing.T) {
	ca := newAuthority(t)
	good := ca.files(t, t.TempDir(), "a.example.com")
	other := ca.files(t, t.TempDir(), "a.example.com")
	mixed := CertPair{Certificate: good.Certificate, Key: other.Key}
	missing := CertPair{Certificate: good.Certificate + ".missing", Key: good.Key}
	_, err := LoadCertificates(nil, good, mixed, missing)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, part := range []string{other.Key, "does not match", missing.Certificate, "no such file"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	if _, err := LoadCertificates(nil); err == nil {
		t.Error("loaded nothing at all")
	}
}

func TestExpiredCertificateIsWarnedOf(t *testing.T) {
	ca := newAuthority(t)
	p := ca.files(t, t.TempDir(), "old.example.com")
	cert, key := ca.issue(t, time.Now().Add(-time.Hour), "old.example.com")
	write(t, p.Certificate, cert)
	write(t, p.Key, key)
	log := make(logTap, 2)
	must[*Certificates](t)(LoadCertificates(slog.New(log), p))
	wantLog(t, log, slog.LevelInfo, p.Certificate)
	wantLog(t, log, slog.LevelWarn, "expired", p.Certificate)
}

func TestReloadKeepsOld(t *testing.T) {
	ca := newAuthority(t)
	one, two := ca.files(t, t.TempDir(), "one.example.com"), ca.files(t, t.TempDir(), "two.example.com")
	certs := must[*Certificates](t)(LoadCertificates(nil, one, two))
	write(t, one.Certificate, []byte("broken"))
	ca.files(t, filepath.Dir(two.Certificate), "new.example.com")
	if err := certs.Reload(); err == nil || !strings.Contains(err.Error(), one.Certificate) ||
		strings.Contains(err.Error(), two.Certificate) {
		t.Errorf("Reload: %v", err)
	}
	for _, name := range []string{"one.example.com", "new.example.com"} {
		if got := nameFor(t, certs, name); got != name {
			t.Errorf("for %s got the certificate of %s", name, got)
		}
	}
}

// wantLog waits for the next record, which must have this level and these
// parts. On a slow machine, files that are half written may be spoken of before.
func wantLog(t *testing.T, log logTap, level slog.Level, parts ...string) {
	t.Helper()
	r := want(t, log)
	for level == slog.LevelInfo && r["level"] == slog.LevelWarn {
		r = want(t, log)
	}
	s := fmt.Sprint(r)
	for _, part := range parts {
		if r["level"] != level || !strings.Contains(s, part) {
			t.Fatalf("logged %s, want %s with %q", s, level, part)
		}
	}
}

// keepWatch runs Watch until the test ends.
func keepWatch(t *testing.T, certs *Certificates) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- certs.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel() // waits for changes to settle, in real time
	ca := newAuthority(t)
	dir := t.TempDir()
	p := ca.files(t, dir, "one.example.com")
	log := make(logTap, 10)
	certs := must[*Certificates](t)(LoadCertificates(slog.New(log), p))
	wantLog(t, log, slog.LevelInfo, "one.example.com")

	// Changed after the load, before the watch.
	ca.files(t, dir, "two.example.com")
	keepWatch(t, certs)
	wantLog(t, log, slog.LevelInfo, "two.example.com")

	// A broken file: said once, and the old one stays.
	key := must[[]byte](t)(os.ReadFile(p.Key))
	write(t, p.Key, bytes.Replace(key, []byte("PRIVATE"), []byte("PIRATE"), 2))
	r := want(t, log)
	s := fmt.Sprint(r)
	if r["level"] != slog.LevelWarn || !strings.Contains(s, p.Key) || !strings.Contains(s, "PIRATE KEY") {
		t.Errorf("logged %v", r)
	}
	if secret := bytes.Split(key, []byte("\n"))[1]; strings.Contains(s, string(secret)) {
		t.Errorf("the private key was logged: %s", s)
	}
	if got := nameFor(t, certs, ""); got != "two.example.com" {
		t.Errorf("after a broken file the certificate is that of %s", got)
	}

	// Replaced by renaming, as most tools do.
	next := ca.files(t, t.TempDir(), "three.example.com")
	rename(t, next.Certificate, p.Certificate)
	rename(t, next.Key, p.Key)
	wantLog(t, log, slog.LevelInfo, "three.example.com")
	if got := nameFor(t, certs, ""); got != "three.example.com" {
		t.Errorf("the certificate is that of %s", got)
	}
}
