package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A Resolver finds the addresses and services of a name; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// A Dialer connects to targets that peers chose. Its zero value works. It must
// not be copied or changed once used.
type Dialer struct {
	// Guard decides which addresses may be connected to. Default: global unicast.
	Guard Guard
	// Resolver looks names up. Default: net.DefaultResolver.
	Resolver Resolver
	// Timeout is what one address gets to connect and shake hands before the
	// next is tried. Zero = 10 s, negative = no bound but ctx. Where others are
	// still to be tried, it is also its share of what ctx leaves, 2 s at least.
	Timeout time.Duration
	// MaxDials bounds the dials under way, look-ups included, so that peers
	// cannot use up our descriptors; more have to wait. Zero = 256, negative =
	// no bound.
	MaxDials int

	once  sync.Once
	slots chan struct{} // set by once; nil = no bound
}

// A Target is where to connect, and how.
type Target struct {
	// Host is a name, an IPv4 address, or an IPv6 address without brackets. It
	// has no default.
	Host string
	// Port, if zero, is looked up with Secure: by the SRV records _msrps._tcp of
	// Host (RFC 2782), else it is 2855 (RFC 4976 §8). Else zero is an error. A
	// look-up that fails, as opposed to one that finds no record, is an error, too.
	Port uint16
	// Secure asks for TLS. Default: plain TCP.
	Secure bool
	// Source is the local address to leave from. Default: any.
	Source netip.Addr
	// Allow adds to Guard.Allow for this target. Default: none.
	Allow []netip.Prefix
	// TLS is what a secure connection starts from: RootCAs, Certificates. It is
	// not changed. Versions below 1.2 are never offered. If ServerName is set,
	// the certificate is verified against it instead of Host; it never is against
	// the host that an SRV record gave. Default: the system's roots, no client certificate.
	TLS *tls.Config
}

// maxAddrs bounds how many addresses are tried for one target: their number is
// up to whoever runs the name's zone.
const maxAddrs = 8

// Dial connects to t, and to its further SRV targets and addresses in order
// until one succeeds; with Secure it also shakes hands. The error joins those of all addresses:
// errors.As finds a *GuardError if the guard refused any of them.
func (d *Dialer) Dial(ctx context.Context, t Target) (net.Conn, error) {
	nc, err := d.dial(ctx, t)
	if err != nil {
		where := t.Host
		if t.Port != 0 {
			where = net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
		}
		return nil, fmt.Errorf("connect to %s: %w", where, err)
	}
	return nc, nil
}

func (d *Dialer) dial(ctx context.Context, t Target) (net.Conn, error) {
	if t.Host == "" {
		return nil, errors.New("host or port is missing")
	}
	if err := d.acquire(ctx); err != nil {
		return nil, fmt.Errorf("wait for other dials: %w", err)
	}
	defer d.release()
	hops, err := d.hops(ctx, t)
	if err != nil {
		return nil, err
	}
	var faults error
	fault := func(err error) {
		if faults == nil {
			faults = err
		} else {
			faults = fmt.Errorf("%w; %w", faults, err) // errors.Join, on one line
		}
	}
	tried := 0
	for i, h := range hops {
		addrs, err := d.resolve(ctx, h.host, t.Source)
		if err != nil {
			fault(err)
		}
		// RFC 4975 §6.2 (CORE-20), RFC 4976 §8 (RELAY-25): the further addresses
		// are tried in the order returned.
		addrs = addrs[:min(len(addrs), maxAddrs-tried)]
		for k, addr := range addrs {
			nc, err := d.connect(ctx, t, netip.AddrPortFrom(addr, h.port), len(addrs)-k+len(hops)-i-1)
			if err == nil {
				return nc, nil
			}
			fault(err)
			if tried++; ctx.Err() != nil {
				return nil, faults
			}
		}
		if tried == maxAddrs || ctx.Err() != nil {
			break
		}
	}
	return nil, faults
}

func (d *Dialer) acquire(ctx context.Context) error {
	d.once.Do(func() {
		if n := orDefault(d.MaxDials, 256); n > 0 {
			d.slots = make(chan struct{}, n)
		}
	})
	if d.slots == nil {
		return ctx.Err()
	}
	select {
	case d.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Dialer) release() {
	if d.slots != nil {
		<-d.slots
	}
}

// resolve returns the addresses of host that can be reached from source, unmapped.
func (d *Dialer) resolve(ctx context.Context, host string, source netip.Addr) ([]netip.Addr, error) {
	// RFC 4975 §6.2 (CORE-18): a numeric address is used as it is.
	found := make([]netip.Addr, 1)
	var err error
	if found[0], err = netip.ParseAddr(host); err != nil {
		// RFC 4975 §6.2 (CORE-19), RFC 4976 §8 (RELAY-22): name and port mean A
		// and AAAA records, no SRV.
		if found, err = d.resolver().LookupNetIP(ctx, "ip", host); err != nil {
			return nil, err // says "lookup <host>" itself
		}
	}
	var addrs []netip.Addr
	for _, a := range found {
		// Both families are looked up whatever Source is, so that the error
		// below can say what is wrong.
		if a = a.Unmap(); !source.IsValid() || a.Is4() == source.Unmap().Is4() {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	if len(found) == 0 {
		return nil, errors.New("the name has no address")
	}
	family := "IPv6"
	if source.Unmap().Is4() {
		family = "IPv4"
	}
	return nil, fmt.Errorf("no %s address to reach from source %s", family, source)
}

func (d *Dialer) resolver() Resolver {
	if d.Resolver != nil {
		return d.Resolver
	}
	return net.DefaultResolver
}

// minShare is what an address gets although too many others are to be tried.
const minShare = 2 * time.Second

// share returns what one address may take: timeout, and of the rest of ctx a
// fair part, if others are left. One that does not answer must not cost
// those their turn.
func share(ctx context.Context, timeout time.Duration, left int) time.Duration {
	if end, ok := ctx.Deadline(); ok && left > 1 {
		part := max(time.Until(end)/time.Duration(left), minShare)
		if timeout <= 0 || part < timeout {
			return part
		}
	}
	return timeout
}

// connect connects to one address of t; left counts those still to be tried, it
// included.
func (d *Dialer) connect(ctx context.Context, t Target, to netip.AddrPort, left int) (net.Conn, error) {
	if timeout := share(ctx, orDefault(d.Timeout, 10*time.Second), left); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	nd := net.Dialer{
		KeepAliveConfig: keepAlive,
		// The guard sees the very address the socket is about to connect to:
		// whatever a name resolved to before, or will next, is of no use.
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !d.Guard.Permits(ap.Addr(), t.Allow...) {
				return &GuardError{Addr: ap.Addr(), Host: t.Host}
			}
			return nil
		},
	}
	if t.Source.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.Source.Unmap(), 0))
	}
	nc, err := nd.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err // says "dial tcp <address>" itself
	}
	nc = newConn(nc, false)
	if !t.Secure {
		return nc, nil
	}
	tc := newTLS(nc, tls.Client, clientTLS(t)).(Secure)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // the handshake's error says it better
		return nil, fmt.Errorf("tls handshake with %s: %w", to.Addr(), err)
	}
	return tc, nil
}

func clientTLS(t Target) *tls.Config {
	cfg := t.TLS.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	// RFC 8996 (RELAY-35): TLS 1.0 and 1.1 must not be used.
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	// RFC 4976 §9.2, RFC 4975 §5.4 (RELAY-28, CORE-123, CORE-124): the
	// certificate must be valid for the host of the URI, not for the address it
	// led to. crypto/tls sends the same name as SNI, unless it is an address.
	if cfg.ServerName == "" {
		cfg.ServerName = t.Host
		if addr, err := netip.ParseAddr(t.Host); err == nil {
			cfg.ServerName = addr.WithZone("").String()
		}
	}
	return cfg
}
