package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

// relayFlags say by which relay a client is reached, and as whom.
type relayFlags struct {
	Relay    []string `help:"The relay, such as msrps://relay.example.com:2855;tcp, or with ;ws by WebSocket. Give it again for each relay behind that one, the outermost last. Default: the demo relay of 'parley serve'." placeholder:"URI" sep:"none"`
	User     string   `help:"User name at the relay." required:""`
	Password string   `help:"Password; better in the environment, where 'ps' does not show it. Default: the demo's, or asked for." env:"PARLEY_PASSWORD" placeholder:"PASSWORD"`
	CA       string   `help:"PEM file of authorities to trust beside the system's." type:"existingfile" placeholder:"FILE"`
	Expires  int      `help:"Seconds that the session is to last. 0: as long as the relay likes." default:"0"`
}

// A client is a session with a relay: a connection, a URI of its own, and the
// path by which the relay lets others reach it.
type client struct {
	endpoint *msrp.Endpoint
	conn     *msrp.Conn
	local    string
	usePath  []string // the relays, in the order of use (RFC 4976 §4.2)
	expires  time.Duration
	ended    chan error // why the connection ended
}

// path is what a peer needs to know: what the SDP path would be (RFC 4976 §5.1,
// RELAY-12).
func (c *client) path() string {
	hops := slices.Clone(c.usePath)
	slices.Reverse(hops)
	return strings.Join(append(hops, c.local), " ")
}

// to is the To-Path to a peer whose path is known.
func (c *client) to(peer string) ([]string, error) {
	peer = strings.TrimSpace(peer)
	if _, err := msrp.Path(peer).URIs(); err != nil {
		return nil, usageError{fmt.Errorf("--peer: %w; give the whole path line of the peer, in quotes", err)}
	}
	return append(slices.Clone(c.usePath), strings.Fields(peer)...), nil
}

func (c *client) close() {
	c.conn.Finish(nil)
	<-c.ended
}

// dial connects to the relay and authenticates.
func (f *relayFlags) dial(e *env, limits msrp.Limits) (*client, error) {
	ca := f.CA
	if len(f.Relay) == 0 {
		d, err := openDemo(false)
		if err != nil {
			return nil, err
		}
		f.Relay, ca = []string{demoRelay}, d.path("ca.pem")
		if f.Password == "" {
			f.Password = d.password
		}
	}
	var u msrp.URI // of the first, where to connect
	for i, relay := range slices.Backward(f.Relay) {
		var err error
		if u, err = msrp.ParseURI(relay); err != nil {
			return nil, usageError{fmt.Errorf("--relay %s: %w; write it as msrps://relay.example.com:2855;tcp", f.Relay[i], err)}
		}
	}
	web := strings.EqualFold(u.Transport, "ws")
	switch {
	case u.Port != 0:
	case web:
		u.Port = 443 // as in RFC 7977 §8
	case !u.Secure:
		u.Port = 2855 // RFC 4976 §8 (RELAY-24): SRV records are for TLS only
	}
	var err error
	if f.Password == "" {
		if f.Password, err = askPassword(e, f.User); err != nil {
			return nil, err
		}
	}
	tlsConfig, err := transport.TrustFile(ca)
	if err != nil {
		return nil, usageError{err}
	}
	// The user chose where to connect: nothing is closed.
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	dialer := transport.Dialer{Guard: transport.Guard{Allow: everywhere}}
	ctx, cancel := context.WithTimeout(e.ctx, 30*time.Second)
	defer cancel()
	nc, err := dialer.Dial(ctx, transport.Target{Host: u.Host, Port: u.Port, Secure: u.Secure, TLS: tlsConfig})
	if err != nil {
		return nil, fmt.Errorf("%w (is the relay running?)", err)
	}
	cfg := msrp.EndpointConfig{Limits: limits, Linger: -1}
	if web {
		cfg.Chunk = 16 << 10
		nc, err = transport.ConnectWebSocket(ctx, nc, net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port))), webPath, nil, transport.WebSocketConfig{Protocol: "msrp"})
		if err != nil {
			return nil, err
		}
	}
	c := &client{endpoint: msrp.NewEndpoint(cfg), local: localURI(u.Secure, u.Transport, f.User), ended: make(chan error, 1)}
	c.conn = c.endpoint.NewConn(nil)
	go c.serve(nc)
	for i, relay := range f.Relay {
		// Of the relays behind the first, no certificate is seen here.
		if err := c.auth(ctx, f, relay, u.Secure && i == 0); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *client) serve(nc net.Conn) {
	c.ended <- c.endpoint.Serve(c.conn, nc)
	close(c.ended)
}

// webPath is what a client by WebSocket asks for; no URI of MSRP says it.
const webPath = "/msrp"

// localURI makes a URI that nobody can connect to: all goes by the relay.
func localURI(secure bool, over, user string) string {
	var host [6]byte
	rand.Read(host[:]) // never fails
	u := msrp.URI{
		Secure: secure, Host: hex.EncodeToString(host[:]) + ".invalid", Port: 2855,
		Session: msrp.NewID(22), Transport: over,
	}
	if strings.IndexFunc(user, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0 {
		u.User = user // so that people see in a path whose it is
	}
	return u.String()
}

func askPassword(e *env, user string) (string, error) {
	in, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", usageError{errors.New("no password: set PARLEY_PASSWORD")}
	}
	fmt.Fprintf(e.stderr, "Password of %s: ", user)
	password, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(e.stderr)
	return string(password), err
}

// auth gets a session URI of a relay, by way of those that have given one (RFC
// 4976 §5.1, RELAY-6, RELAY-7). secure tells that its certificate was checked.
func (c *client) auth(ctx context.Context, f *relayFlags, relay string, secure bool) error {
	to := strings.Join(append(slices.Clone(c.usePath), relay), " ")
	digest := auth.Client{Username: f.User, Password: f.Password}
	headers := ""
	if f.Expires > 0 {
		headers = fmt.Sprintf("Expires: %d\r\n", f.Expires)
	}
	authorization := ""
	for {
		r, err := c.conn.RoundTrip(ctx, &msrp.Request{
			Method: []byte("AUTH"), Paths: msrp.AppendPaths(nil, []byte(to), []byte(c.local), nil),
			After: []byte(headers + authorization), Flag: msrp.Complete,
		})
		switch {
		case err != nil:
			return fmt.Errorf("AUTH at %s: %w", relay, err)
		case r.Code == 401:
			answer, err := digest.Answer(r.Headers("WWW-Authenticate"), "AUTH", relay)
			if err != nil {
				return fmt.Errorf("AUTH at %s as %s: %w", relay, f.User, err)
			}
			authorization = "Authorization: " + answer + "\r\n"
		case r.Code == 423:
			low, _ := r.Header("Min-Expires")
			high, _ := r.Header("Max-Expires")
			return usageError{fmt.Errorf("--expires %d: the relay wants between %s and %s seconds", f.Expires, cmp.Or(low, "any"), cmp.Or(high, "any"))}
		case !r.OK():
			return fmt.Errorf("AUTH: %s answers %d %s", relay, r.Code, r.Comment)
		default:
			return c.welcome(&digest, r, relay, secure)
		}
	}
}

// welcome reads the 200 to an AUTH.
func (c *client) welcome(digest *auth.Client, r *msrp.Reply, relay string, secure bool) error {
	info, _ := r.Header("Authentication-Info")
	// A relay whose plugin checked the digest has no secret to prove; then its
	// certificate has to do (RELAY-75).
	if err := digest.Success(info); err != nil && (!errors.Is(err, auth.ErrNoRspAuth) || !secure) {
		return fmt.Errorf("AUTH at %s: %w", relay, err)
	}
	use, _ := r.Header("Use-Path")
	if _, err := msrp.Path(use).URIs(); err != nil {
		return fmt.Errorf("AUTH at %s: Use-Path: %w", relay, err)
	}
	c.usePath = strings.Fields(use)
	if s, ok := r.Header("Expires"); ok {
		// RELAY-9: the shortest of all counts. It is informative only.
		if d, err := time.ParseDuration(s + "s"); err == nil && (c.expires == 0 || d < c.expires) {
			c.expires = d
		}
	}
	return nil
}
