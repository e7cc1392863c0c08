package limit

import (
	"errors"
	"fmt"
	"net/netip"
)

// Addresses says which addresses count as one peer. The zero value works.
type Addresses struct {
	// IPv4 is the length of the prefix that is one peer, from 1 to 32. 0 = 32.
	IPv4 int
	// IPv6 is the same for IPv6, from 1 to 128. 0 = 64, the least that a site gets.
	IPv6 int
	// Exempt are not counted at all: proxies and relays, which many clients are
	// behind. nil = loopback; an empty list exempts nobody.
	Exempt []netip.Prefix
}

// loopback is exempt by default: who comes from there came through something
// that runs on this machine.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// Validate joins all faults of a.
func (a *Addresses) Validate() error {
	var errs []error
	if a.IPv4 < 0 || a.IPv4 > 32 {
		errs = append(errs, fmt.Errorf("ipv4: /%d is no prefix length; 32 is one address", a.IPv4))
	}
	if a.IPv6 < 0 || a.IPv6 > 128 {
		errs = append(errs, fmt.Errorf("ipv6: /%d is no prefix length; 64 is one site", a.IPv6))
	}
	return errors.Join(errs...)
}

// Peer returns the prefix that addr is counted under. It is not ok for one that
// is not counted: exempt, or no address.
func (a *Addresses) Peer(addr netip.Addr) (peer netip.Prefix, ok bool) {
	addr = addr.Unmap().WithZone("")
	exempt := a.Exempt
	if exempt == nil {
		exempt = loopback
	}
	for _, p := range exempt {
		if p.Contains(addr) {
			return peer, false
		}
	}
	peer, err := addr.Prefix(a.bits(addr))
	return peer, err == nil && peer.IsValid()
}

func (a *Addresses) bits(addr netip.Addr) int {
	switch {
	case !addr.Is4() && a.IPv6 > 0:
		return a.IPv6
	case !addr.Is4():
		return 64
	case a.IPv4 > 0:
		return a.IPv4
	}
	return 32
}
