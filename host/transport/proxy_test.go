package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// proxyV2 is a header of version 2 with these octets for addresses and TLVs.
func proxyV2(command, family byte, more ...[]byte) string {
	rest := bytes.Join(more, nil)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...))
}

var (
	inet4 = []byte{192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x0b, 0x27} // 192.0.2.1:12345 to 198.51.100.2:2855
	inet6 = append(append(append([]byte{0x20, 1, 0xd, 0xb8, 15: 1}, 0x20, 1, 0xd, 0xb8), make([]byte, 11)...), 2, 0x30, 0x39, 0x0b, 0x27)
)

// headers are good and bad ones. Where a good one names no address, those of
// the connection count.
var headers = []struct {
	name, header  string
	remote, local string
	err           string // part of it; "" = none
}{
	{name: "v1 TCP4", header: "PROXY TCP4 192.0.2.1 198.51.100.2 12345 2855\r\n", remote: "192.0.2.1:12345", local: "198.51.100.2:2855"},
	{name: "v1 TCP6", header: "PROXY TCP6 2001:db8::1 2001:db8::2 12345 2855\r\n", remote: "[2001:db8::1]:12345", local: "[2001:db8::2]:2855"},
	{name: "v1 UNKNOWN", header: "PROXY UNKNOWN\r\n"},
	{name: "v1 UNKNOWN with the longest addresses", header: "PROXY UNKNOWN " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n"},
	{name: "v2 TCP4", header: proxyV2(0x21, 0x11, inet4), remote: "192.0.2.1:12345", local: "198.51.100.2:2855"},
	{name: "v2 TCP6", header: proxyV2(0x21, 0x21, inet6), remote: "[2001:db8::1]:12345", local: "[2001:db8::2]:2855"},
	{name: "v2 TLV", header: proxyV2(0x21, 0x11, inet4, []byte{4, 0, 3, 'x', 'y', 'z'}), remote: "192.0.2.1:12345", local: "198.51.100.2:2855"},
	{name: "v2 LOCAL", header: proxyV2(0x20, 0)},
	{name: "v2 LOCAL with addresses", header: proxyV2(0x20, 0x11, inet4)},
	{name: "v2 UNSPEC", header: proxyV2(0x21, 0, []byte{4, 0, 0})},
	{name: "v2 UDP", header: proxyV2(0x21, 0x12, inet4)},
	{name: "v2 UNIX", header: proxyV2(0x21, 0x31, make([]byte, 216))},

	{name: "none", header: "MSRP a786 AUTH\r\n", err: `there is none, but "MSRP a786 AU"`},
	{name: "end", header: "", err: "none came: EOF"},
	{name: "v1 cut", header: "PROXY TCP4 192.0.2.1 19", err: `not whole, only "PROXY TCP4 192.0.2.1 19": unexpected EOF`},
	{name: "v2 cut", header: proxyV2(0x21, 0x11, inet4)[:20], err: "unexpected EOF"},
	{name: "v2 cut in its head", header: proxyV2(0x21, 0x11, inet4)[:14], err: "unexpected EOF"},
	{name: "signature cut", header: "PROXY", err: `only "PROXY": unexpected EOF`},
	{name: "v1 without end", header: "PROXY UNKNOWN " + strings.Repeat("x", 200), err: "has no end after 107 octets"},
	{name: "v1 bad address", header: "PROXY TCP4 2001:db8::1 198.51.100.2 12345 2855\r\n", err: "address"},
	{name: "v1 bad port", header: "PROXY TCP4 192.0.2.1 198.51.100.2 123456 2855\r\n", err: "port"},
	{name: "v1 bad family", header: "PROXY UDP4 192.0.2.1 198.51.100.2 12345 2855\r\n", err: "family"},
	{name: "v2 bad version", header: proxyV2(0x31, 0x11, inet4), err: "version"},
	{name: "v2 bad family", header: proxyV2(0x21, 0x13, inet4), err: "family"},
	{name: "v2 too short", header: proxyV2(0x21, 0x21, inet4), err: "length"},
	{name: "v2 too long", header: proxyV2(0x21, 0x11, make([]byte, 5000)), err: "it has 5000 octets, more than 4096"},
}

// TestProxyHeader: good headers tell the addresses, bad ones end the connection
// with what is wrong; whatever their pace, over TCP and TLS.
func TestProxyHeader(t *testing.T) {
	ca := newAuthority(t)
	server := ca.server(t, "relay.example.com")
	for _, secure := range []bool{false, true} {
		for _, tt := range headers {
			for _, slow := range []bool{false, true} {
				if slow && len(tt.header) > 200 {
					continue
				}
				name := tt.name
				cfg := ListenConfig{Bind: "127.0.0.1:0", ProxyFrom: prefixes("10.0.0.0/8", "127.0.0.0/8")}
				if secure {
					name, cfg.TLS = name+" TLS", server
				}
				if slow {
					name += " slow"
				}
				t.Run(name, func(t *testing.T) {
					ln := must[net.Listener](t)(Listen(t.Context(), cfg))
					type result struct {
						remote, local, read string
						err                 error
					}
					got := make(chan result, 1)
					serve(t, ln, func(nc net.Conn) {
						var r result
						if r.err = Handshake(context.Background(), nc, patience); r.err == nil {
							r.remote, r.local = nc.RemoteAddr().String(), nc.LocalAddr().String()
							b := make([]byte, 5)
							_, r.err = io.ReadFull(nc, b)
							r.read = string(b)
						}
						got <- r
					})
					nc := must[net.Conn](t)(net.Dial("tcp", ln.Addr().String()))
					defer nc.Close()
					_ = nc.(*net.TCPConn).SetNoDelay(true)
					w := io.Writer(nc)
					if slow {
						w = oneByOne{nc}
					}
					// An error of writing is the listener's end, which has the result.
					_, _ = io.WriteString(w, tt.header)
					if tt.err == "" {
						if secure {
							nc = tls.Client(nc, &tls.Config{RootCAs: ca.pool, ServerName: "relay.example.com"})
						}
						if _, err := io.WriteString(nc, "hello"); err != nil {
							t.Fatal(err)
						}
					} else {
						_ = nc.(*net.TCPConn).CloseWrite()
					}
					r := want(t, got)
					if tt.err != "" {
						var pe *ProxyError
						if !errors.As(r.err, &pe) || !strings.Contains(r.err.Error(), tt.err) {
							t.Fatalf("got %v, want a ProxyError with %q", r.err, tt.err)
						}
						return
					}
					remote, local := tt.remote, tt.local
					if remote == "" {
						remote, local = nc.LocalAddr().String(), nc.RemoteAddr().String()
					}
					if r != (result{remote, local, "hello", nil}) {
						t.Errorf("got %+v, want %s at %s", r, remote, local)
					}
				})
			}
		}
	}
}

// oneByOne writes octet by octet.
type oneByOne struct{ io.Writer }

func (w oneByOne) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := w.Writer.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// TestProxyUntrusted: from anywhere else a header is what the peer sends, and
// changes no address.
func TestProxyUntrusted(t *testing.T) {
	header := headers[0].header
	for _, from := range [][]netip.Prefix{nil, prefixes("127.0.0.2/32", "::/0")} {
		ln := must[net.Listener](t)(Listen(t.Context(), ListenConfig{Bind: "127.0.0.1:0", ProxyFrom: from}))
		nc := must[net.Conn](t)(net.Dial("tcp", ln.Addr().String()))
		accepted := must[net.Conn](t)(ln.Accept())
		_, _ = io.WriteString(nc, header)
		if err := Handshake(t.Context(), accepted, 0); err != nil {
			t.Error(err)
		}
		b := make([]byte, len(header))
		if _, err := io.ReadFull(accepted, b); string(b) != header || accepted.RemoteAddr().String() != nc.LocalAddr().String() {
			t.Errorf("read %q, %v, from %s", b, err, accepted.RemoteAddr())
		}
		_, _, _ = nc.Close(), accepted.Close(), ln.Close()
	}
}

// TestProxyTrusts: an IPv4 peer of a listener for both families is matched by
// IPv4 prefixes.
func TestProxyTrusts(t *testing.T) {
	for addr, ok := range map[string]bool{
		"10.1.2.3:4": true, "[::ffff:10.1.2.3]:4": true, "[fe80::1%eth0]:4": true, "11.1.2.3:4": false, "[2001:db8::1]:4": false,
	} {
		a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
		if got := trusts(prefixes("10.0.0.0/8", "fe80::/10"), a); got != ok {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// TestProxySilent: a header that does not come is not waited for longer than
// the handshake may take.
func TestProxySilent(t *testing.T) {
	ln := must[net.Listener](t)(Listen(t.Context(), ListenConfig{Bind: "127.0.0.1:0", ProxyFrom: prefixes("127.0.0.0/8")}))
	defer ln.Close()
	nc := must[net.Conn](t)(net.Dial("tcp", ln.Addr().String()))
	defer nc.Close()
	_, _ = io.WriteString(nc, "PROXY TCP4")
	accepted := must[net.Conn](t)(ln.Accept())
	defer accepted.Close()
	err := Handshake(t.Context(), accepted, 10*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, new(*ProxyError)) {
		t.Error(err)
	}
}

// TestProxyConn: behind a proxy, a plain connection can all that another can.
func TestProxyConn(t *testing.T) {
	ln := must[net.Listener](t)(Listen(t.Context(), ListenConfig{Bind: "127.0.0.1:0", ProxyFrom: prefixes("127.0.0.0/8")}))
	defer ln.Close()
	nc := must[net.Conn](t)(net.Dial("tcp", ln.Addr().String()))
	defer nc.Close()
	_, _ = io.WriteString(nc, headers[0].header)
	accepted := must[net.Conn](t)(ln.Accept())
	defer accepted.Close()
	if err := Handshake(t.Context(), accepted, 0); err != nil {
		t.Fatal(err)
	}
	read := quiet(t, accepted)
	c := accepted.(interface {
		WriteBuffers(*net.Buffers) (int64, error)
		CloseWrite() error
	})
	waited := make(chan error, 1)
	go func() { waited <- read.WaitReadable() }()
	b := net.Buffers{[]byte("one"), []byte("two")}
	if n, err := c.WriteBuffers(&b); n != 6 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(nc); string(got) != "onetwo" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	select {
	case err := <-waited:
		t.Errorf("WaitReadable returned while nothing had come: %v", err)
	default:
	}
	_ = nc.Close()
	if err := want(t, waited); err != nil {
		t.Error(err)
	}
}

// FuzzProxyHeader: how the octets arrive does not matter, and none is read
// beyond the header.
func FuzzProxyHeader(f *testing.F) {
	for _, tt := range headers {
		f.Add([]byte(tt.header + "hello"))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a := bytes.NewReader(in)
		remote, local, err := readProxyHeader(a)
		b := bytes.NewReader(in)
		remote2, local2, err2 := readProxyHeader(iotest.OneByteReader(b))
		if remote.String() != remote2.String() || local.String() != local2.String() || (err == nil) != (err2 == nil) || a.Len() != b.Len() {
			t.Fatalf("%v %v %v, octet by octet %v %v %v", remote, local, err, remote2, local2, err2)
		}
		if (remote == nil) != (local == nil) || err != nil && remote != nil {
			t.Fatalf("%v %v %v", remote, local, err)
		}
		read := in[:len(in)-a.Len()]
		if err == nil && in[0] == 'P' && bytes.Index(in, []byte("\r\n"))+2 != len(read) {
			t.Fatalf("read %q", read)
		}
		if err == nil && in[0] != 'P' && 16+int(binary.BigEndian.Uint16(in[14:])) != len(read) {
			t.Fatalf("read %q", read)
		}
	})
}
