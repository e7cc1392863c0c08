package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TrustFile returns a client's TLS configuration that trusts the authorities in
// a PEM file beside the system's. Without a file it is nil, which trusts the
// system's.
func TrustFile(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without authorities
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", file)
	}
	return &tls.Config{RootCAs: roots}, nil
}

// Authorities returns those in a PEM file and no others, or those of the system
// if file is "system". Without a file it is nil.
func Authorities(file string) (*x509.CertPool, error) {
	switch file {
	case "":
		return nil, nil
	case "system":
		return x509.SystemCertPool()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", file)
	}
	return pool, nil
}
