package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed" // demoPlugin
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

// Where the demo relay is. Its clients know, so that they need no flags.
const (
	demoRelay = "msrps://localhost:2855;tcp"
	demoPlain = "msrp://localhost:2856;tcp"
	demoWeb   = "msrp://localhost:2857;ws"
)

var demoUsers = []string{"alice", "bob"}

// demoPlugin answers whose password it is: examples/plugin-c, built by make guests.
//
//go:embed demo.wasm
var demoPlugin []byte

// A demo is what the demo relay keeps in the user's state directory: a
// certificate authority, the relay's certificate, the plugin that knows the users,
// and their password.
type demo struct {
	dir      string
	password string
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// stateDir is the directory of the demo's files.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "parley"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the state directory: %w (set XDG_STATE_HOME)", err)
	}
	return filepath.Join(home, ".local", "state", "parley"), nil
}

// openDemo reads the demo's files. With create it makes what is missing or
// about to expire.
func openDemo(create bool) (*demo, error) {
	dir, err := stateDir()
	if err != nil {
		return nil, err
	}
	d := &demo{dir: dir}
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := d.create(); err != nil {
			return nil, fmt.Errorf("prepare the demo in %s: %w", dir, err)
		}
	}
	password, err := os.ReadFile(d.path("password"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no demo relay yet: start one with 'parley serve', or name a relay with --relay")
	} else if err != nil {
		return nil, err
	}
	d.password = strings.TrimSpace(string(password))
	return d, nil
}

func (d *demo) create() error {
	if _, err := os.Stat(d.path("password")); errors.Is(err, fs.ErrNotExist) {
		password := strings.ToLower(msrp.NewID(16))
		if err := os.WriteFile(d.path("password"), []byte(password+"\n"), 0o600); err != nil {
			return err
		}
	}
	// Another demo may be running: it would reload what is written.
	if old, err := os.ReadFile(d.path("users.wasm")); err != nil || !bytes.Equal(old, demoPlugin) {
		if err := os.WriteFile(d.path("users.wasm"), demoPlugin, 0o600); err != nil {
			return err
		}
	}
	if d.certificateGood() {
		return nil
	}
	return d.makeCertificates()
}

// certificateGood reports whether the relay's certificate lives for some more days.
func (d *demo) certificateGood() bool {
	for _, name := range []string{"ca.pem", "relay.key"} {
		if _, err := os.Stat(d.path(name)); err != nil {
			return false
		}
	}
	text, err := os.ReadFile(d.path("relay.pem"))
	if err != nil {
		return false
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && time.Until(cert.NotAfter) > 7*24*time.Hour
}

// makeCertificates makes an authority and one certificate for localhost. The
// authority's key is thrown away: it signs nothing else.
func (d *demo) makeCertificates() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "Parley demo authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(d.path("ca.pem"), "CERTIFICATE", caDER, 0o644),
		writePEM(d.path("relay.key"), "PRIVATE KEY", keyDER, 0o600),
		writePEM(d.path("relay.pem"), "CERTIFICATE", leafDER, 0o644),
	)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// config is the demo relay's configuration. The plain listener is for peers
// that have no relay of their own; AUTH needs TLS, but for WebSockets on loopback,
// as no browser trusts the demo's authority. Their pages are files.
func (d *demo) config() []byte {
	text := fmt.Sprintf(`
listeners:
  msrps:
    uri: %q
    tls: {certificate: %q, key: %q}
    hooks: {authenticate: [{plugin: users}]}
  msrp: {uri: %q}
  web:
    uri: %q
    advertise: msrp
    plain_auth: true
    hooks: {authenticate: [{plugin: users}]}
    websocket: {origins: ["null", "file://"]}
relay: {realm: localhost}
plugins:
  users:
    file: %q
    config: |
`, demoRelay, d.path("relay.pem"), d.path("relay.key"), demoPlain, demoWeb, d.path("users.wasm"))
	for _, user := range demoUsers {
		text += fmt.Sprintf("      %s:%s\n", user, d.password)
	}
	return []byte(text)
}

// hints tells a newcomer what to do while the demo relay runs.
func (d *demo) hints() string {
	return fmt.Sprintf(`
The demo relay listens on loopback:
  %s   for clients, with TLS (authority: %s)
  %s    for peers without a relay of their own
  %s     for browsers, as ws://localhost:2857
Users: %s. Their password: %s

Try it in two other terminals, in this folder:

  bin/parley chat --user alice                # prints alice's path, and waits
  bin/parley chat --user bob --peer 'PATH'    # with the path that alice's terminal shows

or send a file:

  bin/parley recv --user alice                # prints alice's path, and waits
  bin/parley send FILE --user bob --peer 'PATH'

or open examples/web/index.html in a browser, as alice or bob.

Users are answered for by a plugin, %s. To write one:

  bin/parley plugin new --lang go mine        # or rust, c, assemblyscript

Ctrl-C stops the relay.
`, demoRelay, d.path("ca.pem"), demoPlain, demoWeb, strings.Join(demoUsers, ", "), d.password, d.path("users.wasm"))
}
