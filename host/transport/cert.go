package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/host/watch"
)

// A CertPair names two PEM files: a certificate with its chain, leaf first, and
// its private key. Neither has a default.
type CertPair struct {
	Certificate, Key string
}

// Certificates are a server's certificates, read from files and read again when
// the files change. A changed file that cannot be used changes nothing.
type Certificates struct {
	// Set by LoadCertificates, then read-only.
	log   *slog.Logger
	pairs []CertPair

	// Safe from any goroutine.
	now atomic.Pointer[certTable]

	reloading sync.Mutex // one Reload at a time; no other lock is taken with it
}

// A certTable is never changed once it is in use.
type certTable struct {
	certs  []*tls.Certificate // as Certificates.pairs; nil = never loaded
	byName map[string][]*tls.Certificate
}

// LoadCertificates reads all pairs; the error joins all faults. The first pair
// is for clients that ask for no name, or for one that no certificate has.
// log may be nil.
func LoadCertificates(log *slog.Logger, pairs ...CertPair) (*Certificates, error) {
	if len(pairs) == 0 {
		return nil, errors.New("no certificate given")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Certificates{log: log, pairs: slices.Clone(pairs)}
	c.now.Store(&certTable{certs: make([]*tls.Certificate, len(pairs))})
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// GetCertificate is for tls.Config. It prefers a certificate for the very name
// to one with a wildcard, and among several one that the client can verify.
func (c *Certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	found := c.now.Load().find(hello.ServerName)
	for _, cert := range found {
		if hello.SupportsCertificate(cert) == nil {
			return cert, nil
		}
	}
	return found[0], nil
}

// ForClient returns a function for tls.Config.GetClientCertificate, which shows
// the certificate for this name to servers that ask, as relays do each other
// (RFC 4976 §6.1, RELAY-29).
func (c *Certificates) ForClient(name string) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(q *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		for _, cert := range c.now.Load().find(name) {
			if q.SupportsCertificate(cert) == nil {
				return cert, nil
			}
		}
		return new(tls.Certificate), nil // none that the server could verify
	}
}

// find returns the certificates for name; where there is none, the first pair's.
func (t *certTable) find(name string) []*tls.Certificate {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	found := t.byName[name]
	if _, parent, ok := strings.Cut(name, "."); ok && found == nil {
		found = t.byName["*."+parent]
	}
	if found == nil {
		found = t.certs[:1]
	}
	return found
}

// Reload reads all files again. A pair that cannot be used keeps its old
// certificate, and is part of the error.
func (c *Certificates) Reload() error { return errors.Join(c.reload()...) }

func (c *Certificates) reload() (faults []error) {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	old := c.now.Load()
	t := &certTable{certs: slices.Clone(old.certs), byName: make(map[string][]*tls.Certificate)}
	for i, p := range c.pairs {
		if cert, err := p.load(); err != nil {
			faults = append(faults, err)
		} else if !sameChain(old.certs[i], cert) {
			t.certs[i] = cert
		}
	}
	for _, cert := range t.certs {
		if cert == nil {
			return faults // the first load failed: nothing to serve
		}
		for _, name := range cert.Leaf.DNSNames {
			name = strings.ToLower(name)
			t.byName[name] = append(t.byName[name], cert)
		}
	}
	c.now.Store(t)
	for i, cert := range t.certs {
		if cert == old.certs[i] {
			continue
		}
		c.log.Info("certificate loaded", "file", c.pairs[i].Certificate,
			"names", cert.Leaf.DNSNames, "not_after", cert.Leaf.NotAfter)
		if time.Now().After(cert.Leaf.NotAfter) {
			c.log.Warn("certificate has expired", "file", c.pairs[i].Certificate, "not_after", cert.Leaf.NotAfter)
		}
	}
	return faults
}

// load reads p. Its error names both files, and holds nothing that is in them:
// crypto/tls says what kind of PEM block it saw, never its content.
func (p CertPair) load() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w", p.Certificate, p.Key, err)
	}
	return &cert, nil
}

func sameChain(a, b *tls.Certificate) bool {
	return a != nil && slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// Watch reloads when the files change, until ctx is done; then it returns nil.
// What it cannot use it logs, once per fault.
func (c *Certificates) Watch(ctx context.Context) error {
	var files []string
	for _, p := range c.pairs {
		files = append(files, p.Certificate, p.Key)
	}
	return watch.Files(ctx, func() []string { return files }, func() error { return errors.Join(c.reload()...) }, func(err error) {
		c.log.Warn("certificate not renewed, the old one stays in use", "err", err)
	})
}

// ServerTLS returns the TLS configuration of a listener that uses certs: TLS 1.2
// at least, with the ciphers that Go holds safe (RFC 4975 §14.2 by today's
// standards, CORE-125), and the certificate for the name asked for (RFC 4976
// §6.1, RELAY-27).
func ServerTLS(certs *Certificates) *tls.Config {
	return &tls.Config{
		GetCertificate: certs.GetCertificate,
		MinVersion:     tls.VersionTLS12, // RFC 8996 (RELAY-35)
		// RFC 4976 §6.1, §9.2 (RELAY-32, RELAY-33): ask for a certificate, for
		// it makes the peer a relay, but verify it only then: one that is not
		// trusted makes the peer an endpoint, and must not end the handshake.
		ClientAuth: tls.RequestClientCert,
	}
}
