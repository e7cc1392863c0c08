package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
)

// A ProxyError says that a trusted proxy did not begin a connection with a
// good PROXY header. It wraps io.EOF if the connection ended before its first
// octet, as that of a health check may.
type ProxyError struct{ Err error }

func (e *ProxyError) Error() string { return "PROXY header: " + e.Err.Error() }

func (e *ProxyError) Unwrap() error { return e.Err }

// trusts reports whether a peer that connected from a is one of proxies.
func trusts(proxies []netip.Prefix, a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && longest(proxies, t.AddrPort().Addr().Unmap().WithZone("")) >= 0
}

// acceptProxied reads the PROXY header of c, if one is due, before ctx ends.
// From then on c has the addresses that the header names.
func (c *tcpConn) acceptProxied(ctx context.Context) error {
	if !c.proxied {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	remote, local, err := readProxyHeader(c.TCPConn)
	if !stop() { // the deadline is set, or about to be
		return &ProxyError{fmt.Errorf("not whole: %w", ctx.Err())}
	}
	if err != nil {
		return &ProxyError{err}
	}
	c.proxied = false
	if remote != nil {
		c.remote, c.local = remote, local
	}
	return nil
}

// Sizes of a header, by the PROXY protocol's specification, sections 2.1 and 2.2.
const (
	proxyV1Max  = 107 // with CRLF
	proxyV2Head = 16
	// proxyV2More is our bound on addresses and TLVs. The largest in use carries
	// a client certificate, of 2 KiB at most.
	proxyV2More = 4 << 10
)

// readProxyHeader reads a header of either version, and no octet beyond it.
// The addresses are nil if the header says that they are those of the connection.
func readProxyHeader(r io.Reader) (remote, local *net.TCPAddr, err error) {
	// 12 octets are the signature of version 2, and less than any line of version 1.
	b := make([]byte, 12, proxyV1Max)
	if n, err := io.ReadFull(r, b); err != nil {
		return nil, nil, cutHeader(b[:n], err)
	}
	switch {
	case bytes.Equal(b, proxyproto.SIGV2):
		b, err = readProxyV2(r, b)
	case bytes.HasPrefix(b, []byte("PROXY ")):
		b, err = readProxyV1(r, b)
	default:
		err = fmt.Errorf("there is none, but %q", b)
	}
	if err != nil {
		return nil, nil, err
	}
	// "The connection is forwarded for an unknown […] protocol. […] The receiver
	// is free to accept the connection anyway and use the real endpoint addresses"
	// (section 2.2); the library refuses it.
	if b[0] != 'P' && b[12] == byte(proxyproto.PROXY) && b[13] == byte(proxyproto.UNSPEC) {
		return nil, nil, nil
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), len(b)))
	if err != nil {
		return nil, nil, fmt.Errorf("%q: %s", b[:min(len(b), proxyV1Max)], strings.TrimPrefix(err.Error(), "proxyproto: "))
	}
	src, ok1 := h.SourceAddr.(*net.TCPAddr)
	dst, ok2 := h.DestinationAddr.(*net.TCPAddr)
	if h.Command.IsLocal() || !ok1 || !ok2 {
		// "It automatically falls back to the UNSPEC mode for the valid
		// combinations above that it does not support": datagrams, UNIX sockets.
		return nil, nil, nil
	}
	return src, dst, nil
}

// readProxyV1 reads the rest of a line, octet by octet, so that what follows
// stays in the socket.
func readProxyV1(r io.Reader, b []byte) ([]byte, error) {
	for !bytes.HasSuffix(b, []byte("\r\n")) {
		if len(b) == proxyV1Max {
			return nil, fmt.Errorf("the line %q… has no end after %d octets", b, proxyV1Max)
		}
		n := len(b)
		b = b[:n+1]
		if _, err := io.ReadFull(r, b[n:]); err != nil {
			return nil, cutHeader(b[:n], err)
		}
	}
	return b, nil
}

func readProxyV2(r io.Reader, b []byte) ([]byte, error) {
	n := len(b)
	b = b[:proxyV2Head]
	if k, err := io.ReadFull(r, b[n:]); err != nil {
		return nil, cutHeader(b[:n+k], err)
	}
	more := int(binary.BigEndian.Uint16(b[14:]))
	if more > proxyV2More {
		return nil, fmt.Errorf("it has %d octets, more than %d", more, proxyV2More)
	}
	b = append(b, make([]byte, more)...)
	if k, err := io.ReadFull(r, b[proxyV2Head:]); err != nil {
		return nil, cutHeader(b[:proxyV2Head+k], err)
	}
	return b, nil
}

// cutHeader is the error for a header of which only b came.
func cutHeader(b []byte, err error) error {
	if len(b) == 0 {
		return fmt.Errorf("none came: %w", err)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not whole, only %q: %w", b[:min(len(b), proxyV1Max)], err)
}
