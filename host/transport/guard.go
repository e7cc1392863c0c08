package transport

import (
	"fmt"
	"net/netip"
)

// A Guard decides which addresses a server may connect to on behalf of its
// peers: the next hop of a relay is whatever its client wrote into To-Path, and
// must not become a way into the network the relay stands in (RELAY-123).
//
// The zero Guard permits what is globally routable unicast, and nothing else:
// no loopback, private, shared, link-local, multicast, documentation,
// benchmarking or reserved address.
//
// Among the prefixes of Allow and Deny that contain an address, the longest
// decides; of two equal ones, that of Deny. If there is none, the default does.
// So an Allow of 10.0.0.0/8 opens it, a Deny of 10.0.0.1/32 beside it keeps one
// host shut, and a Deny of 0.0.0.0/0 and ::/0 leaves only what Allow names.
//
// An IPv4-mapped address, and such a prefix, is the IPv4 one it stands for. A
// NAT64 or 6to4 address leads to an IPv4 address: both must be permitted.
type Guard struct {
	// Allow opens ranges. Default: none. 0.0.0.0/0 with ::/0 turns the guard off.
	Allow []netip.Prefix
	// Deny closes ranges. Default: none.
	Deny []netip.Prefix
}

// A GuardError says that a Guard refused a connection.
type GuardError struct {
	Addr netip.Addr // what Host resolved to
	Host string     // as asked for
}

func (e *GuardError) Error() string {
	return fmt.Sprintf("address %s of %q is not permitted", e.Addr, e.Host)
}

// Permits reports whether addr may be connected to; allow adds to g.Allow.
func (g *Guard) Permits(addr netip.Addr, allow ...netip.Prefix) bool {
	if !addr.IsValid() {
		return false
	}
	addr = addr.Unmap().WithZone("") // no prefix contains an address with a zone
	if v4, ok := embedded(addr); ok && !g.Permits(v4, allow...) {
		return false
	}
	opened := max(longest(g.Allow, addr), longest(allow, addr))
	closed := longest(g.Deny, addr)
	if opened < 0 && closed < 0 {
		return global(addr)
	}
	return opened > closed
}

// longest returns the length of the longest of ps that contains addr, or -1.
func longest(ps []netip.Prefix, addr netip.Addr) int {
	best := -1
	for _, p := range ps {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Contains(addr) {
			best = max(best, p.Bits())
		}
	}
	return best
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1
	sixTo4  = netip.MustParsePrefix("2002::/16")    // RFC 3056 §2
	unicast = netip.MustParsePrefix("2000::/3")     // all that IANA gives out of IPv6, RFC 4291 §2.4

	// special is what the IANA special-purpose address registries (RFC 6890)
	// call not globally reachable; of IPv6, only what lies within unicast.
	special = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),       // this network; 0.0.0.0 reaches the host itself
		netip.MustParsePrefix("10.0.0.0/8"),      // private, RFC 1918
		netip.MustParsePrefix("100.64.0.0/10"),   // shared by carrier NATs, RFC 6598
		netip.MustParsePrefix("127.0.0.0/8"),     // loopback
		netip.MustParsePrefix("169.254.0.0/16"),  // link-local; cloud metadata
		netip.MustParsePrefix("172.16.0.0/12"),   // private, RFC 1918
		netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocol assignments
		netip.MustParsePrefix("192.0.2.0/24"),    // documentation, RFC 5737
		netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays, withdrawn by RFC 7526
		netip.MustParsePrefix("192.168.0.0/16"),  // private, RFC 1918
		netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking, RFC 2544
		netip.MustParsePrefix("198.51.100.0/24"), // documentation, RFC 5737
		netip.MustParsePrefix("203.0.113.0/24"),  // documentation, RFC 5737
		netip.MustParsePrefix("224.0.0.0/4"),     // multicast
		netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
		netip.MustParsePrefix("2001::/23"),       // IETF protocol assignments: Teredo, benchmarking, …
		netip.MustParsePrefix("2001:db8::/32"),   // documentation, RFC 3849
		netip.MustParsePrefix("3fff::/20"),       // documentation, RFC 9637
	}
)

// global reports whether addr, unmapped, is globally routable unicast. For
// NAT64 and 6to4 that is only half of the answer; see embedded.
func global(addr netip.Addr) bool {
	if addr.Is6() && !unicast.Contains(addr) && !nat64.Contains(addr) {
		return false
	}
	return longest(special, addr) < 0
}

// embedded returns the IPv4 address that packets to addr end at.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixTo4.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
