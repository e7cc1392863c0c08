package bench

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

// webPath is what is asked for by WebSocket; no URI of MSRP says it.
const webPath = "/msrp"

// A dialer makes links to what is measured.
type dialer struct {
	cfg    *Config
	dialer transport.Dialer
	uri    msrp.URI // of the relay
	target transport.Target
	web    bool
}

func newDialer(cfg *Config) (*dialer, error) {
	// Who runs this chose where to connect: nothing is closed.
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	d := &dialer{cfg: cfg, dialer: transport.Dialer{Guard: transport.Guard{Allow: everywhere}}}
	addr := cfg.Through
	d.target.Secure = cfg.Secure
	if cfg.Relay != "" {
		var err error
		if d.uri, err = msrp.ParseURI(cfg.Relay); err != nil {
			return nil, err
		}
		d.web = strings.EqualFold(d.uri.Transport, "ws")
		d.target.Host, d.target.Port, d.target.Secure = d.uri.Host, d.uri.Port, d.uri.Secure
		addr = cfg.Addr
		switch {
		case d.target.Port != 0:
		case d.web:
			d.target.Port = 443
		case !d.target.Secure:
			d.target.Port = 2855
		}
	}
	tlsConfig := &tls.Config{}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	if addr != "" {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s: %q is no port", addr, port)
		}
		if tlsConfig.ServerName == "" {
			tlsConfig.ServerName = d.target.Host // the certificate is for the URI
		}
		d.target.Host, d.target.Port = host, uint16(n)
	}
	d.target.TLS = tlsConfig
	return d, nil
}

// dial connects, and no more.
func (d *dialer) dial(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	nc, err := d.dialer.Dial(ctx, d.target)
	if err != nil {
		return nil, err
	}
	if d.web {
		host := net.JoinHostPort(d.uri.Host, fmt.Sprint(d.target.Port))
		ws, err := transport.ConnectWebSocket(ctx, nc, host, webPath, nil, transport.WebSocketConfig{Protocol: "msrp", Message: maxChunk + 1<<16})
		if err != nil {
			nc.Close()
			return nil, err
		}
		nc = ws
	}
	return newLink(nc), nil
}

// A link is one connection: frames in, octets out. One goroutine reads, one writes;
// they may be the same.
type link struct {
	// Set by newLink, then read-only.
	nc   net.Conn
	msgs msrp.MessageConn // nc, if it carries messages

	// Owned by who reads.
	rd     *msrp.Reader
	before func() error // called before each read, which may wait
	after  func()       // and after it

	// Owned by who writes.
	out   []byte
	sizes []int // of the messages in out
}

func newLink(nc net.Conn) *link {
	k := &link{nc: nc, before: func() error { return nil }, after: func() {}}
	k.msgs, _ = nc.(msrp.MessageConn)
	limits := msrp.Limits{Piece: 32 << 10}
	if k.msgs != nil {
		k.rd = msrp.NewReader(messageSource{source{k}}, limits)
	} else {
		k.rd = msrp.NewReader(source{k}, limits)
	}
	return k
}

// A source is what the Reader reads from.
type source struct{ *link }

func (s source) Read(b []byte) (int, error) {
	if err := s.before(); err != nil {
		return 0, err
	}
	n, err := s.nc.Read(b)
	s.after()
	return n, err
}

// ReadNow, which waits, lets the Reader read as much as there is at once: memory is no
// matter here.
func (s source) ReadNow(b []byte) (int, error) { return s.Read(b) }

func (source) WaitReadable() error { return nil }

// A messageSource has a method that makes the Reader ask for messages.
type messageSource struct{ source }

func (s messageSource) NextMessage() error {
	if err := s.before(); err != nil {
		return err
	}
	err := s.msgs.NextMessage()
	s.after()
	return err
}

// end marks the end of a frame in out that began at from.
func (k *link) end(from int) {
	if k.msgs != nil {
		k.sizes = append(k.sizes, len(k.out)-from)
	}
}

// flush writes what is in out.
func (k *link) flush() error {
	if len(k.out) == 0 {
		return nil
	}
	if k.msgs != nil {
		k.msgs.Messages(k.sizes)
		k.sizes = k.sizes[:0]
	}
	_, err := k.nc.Write(k.out)
	k.out = k.out[:0]
	return err
}

func (k *link) close() { k.nc.Close() }

// appendFrame appends a request or response without a body.
func appendFrame(b []byte, tid []byte, start string, to, from []byte, headers ...string) []byte {
	b = append(append(append(b, "MSRP "...), tid...), ' ')
	b = append(append(b, start...), "\r\nTo-Path: "...)
	b = append(append(b, to...), "\r\nFrom-Path: "...)
	b = append(append(b, from...), "\r\n"...)
	for _, h := range headers {
		b = append(b, h...)
	}
	return append(append(append(b, "-------"...), tid...), "$\r\n"...)
}

// A session is what a relay gave in return for an AUTH.
type session struct {
	uri string   // our own
	use []string // the relay's, as Use-Path has it
}

// localURI makes a URI that nobody can connect to: all goes by the relay.
func (d *dialer) localURI() string {
	host := hex.EncodeToString([]byte(msrp.NewID(6))) + ".invalid"
	u := msrp.URI{Secure: d.target.Secure, Host: host, Port: 2855, Session: msrp.NewID(22), Transport: "tcp"}
	if d.web {
		u.Transport = "ws"
	}
	return u.String()
}

// login does an AUTH on a link that nobody else uses: the challenge, and the answer
// (RFC 4976 §5.1, RELAY-6, RELAY-7).
func (d *dialer) login(k *link, deadline time.Time) (session, error) {
	s := session{uri: d.localURI()}
	digest := auth.Client{Username: d.cfg.User, Password: d.cfg.Password}
	_ = k.nc.SetDeadline(deadline) // a connection that is closed says so below
	defer k.nc.SetDeadline(time.Time{})
	header := ""
	for {
		r, err := d.authOnce(k, s.uri, header)
		if err != nil {
			return s, fmt.Errorf("AUTH: %w", err)
		}
		switch {
		case r.Code == 401:
			answer, err := digest.Answer(r.Headers("WWW-Authenticate"), "AUTH", d.cfg.Relay)
			if err != nil {
				return s, fmt.Errorf("AUTH: %w", err)
			}
			header = "Authorization: " + answer + "\r\n"
		case !r.OK():
			return s, fmt.Errorf("AUTH: %d %s", r.Code, r.Comment)
		default:
			// A relay that proves nothing can be measured like another.
			info, _ := r.Header("Authentication-Info")
			if err := digest.Success(info); err != nil && !errors.Is(err, auth.ErrNoRspAuth) {
				return s, fmt.Errorf("AUTH: %w", err)
			}
			use, _ := r.Header("Use-Path")
			if _, err := msrp.Path(use).URIs(); err != nil {
				return s, fmt.Errorf("AUTH: Use-Path: %w", err)
			}
			s.use = strings.Fields(use)
			return s, nil
		}
	}
}

func (d *dialer) authOnce(k *link, from, header string) (*msrp.Reply, error) {
	tid := []byte(msrp.NewID(16))
	k.out = appendFrame(k.out[:0], tid, "AUTH", []byte(d.cfg.Relay), []byte(from), header)
	k.end(0)
	if err := k.flush(); err != nil {
		return nil, err
	}
	p, err := k.rd.Next()
	if err != nil {
		return nil, err
	}
	if h := p.Head; !h.IsResponse() || string(h.TID) != string(tid) || !p.Last {
		return nil, fmt.Errorf("%q came instead of the response", h.Raw[:min(len(h.Raw), 60)])
	}
	return &msrp.Reply{Code: p.Head.Code, Comment: string(p.Head.Comment), Head: slices.Clone(p.Head.Raw)}, nil
}

// open connects and does an AUTH.
func (d *dialer) open(ctx context.Context) (*link, session, error) {
	k, err := d.dial(ctx)
	if err != nil {
		return nil, session{}, err
	}
	s, err := d.login(k, time.Now().Add(30*time.Second))
	if err != nil {
		k.close()
		return nil, s, err
	}
	return k, s, nil
}
