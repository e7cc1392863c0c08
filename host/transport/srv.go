package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// defaultPort is that of a name without port and SRV record (RFC 4976 §8,
// RELAY-23).
const defaultPort = 2855

// maxTargets bounds how many SRV targets of one name are tried.
const maxTargets = 8

// A hop is a host and port to try.
type hop struct {
	host string
	port uint16
}

// NewResolver returns a resolver that asks the DNS server at address, as
// "192.0.2.1:53", instead of those of the system. Names of the system's file of
// hosts are found still.
func NewResolver(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

// hops returns where to look for t, in order: itself, if it has a port; else
// what its SRV records say (RFC 4976 §8, RELAY-23).
func (d *Dialer) hops(ctx context.Context, t Target) ([]hop, error) {
	if t.Port != 0 {
		return []hop{{t.Host, t.Port}}, nil
	}
	if !t.Secure { // RELAY-24: there is no _msrp._tcp
		return nil, errors.New("host or port is missing")
	}
	if _, err := netip.ParseAddr(t.Host); err == nil {
		return nil, errors.New("an address needs a port (RFC 4976 §8)") // RELAY-21
	}
	name := strings.TrimSuffix(t.Host, ".")
	if s := strings.ToLower(name); s == "localhost" || strings.HasSuffix(s, ".localhost") {
		return []hop{{t.Host, defaultPort}}, nil // RFC 6761 §6.3: DNS is not asked
	}
	// The dot keeps the system's search list out: there, the service of another
	// domain might be found.
	_, found, err := d.resolver().LookupSRV(ctx, "msrps", "tcp", name+".")
	var de *net.DNSError
	switch {
	case len(found) > 0: // an error beside them is of records that were left out
	case err == nil, errors.As(err, &de) && de.IsNotFound:
		return []hop{{t.Host, defaultPort}}, nil
	default:
		// Not "no records": to go on would lead past them, to a host and port
		// that the domain may not have meant.
		return nil, err // says "lookup _msrps._tcp.<name>" itself
	}
	var hops []hop
	for _, r := range orderSRV(found, rand.IntN) {
		// RFC 2782: "A Target of "." means that the service is decidedly not
		// available at this domain."
		if r.Target != "." && r.Target != "" && r.Port != 0 {
			hops = append(hops, hop{r.Target, r.Port})
		}
	}
	if len(hops) == 0 {
		return nil, fmt.Errorf("the SRV records of %s say that there is no relay", name)
	}
	return hops[:min(len(hops), maxTargets)], nil
}

// orderSRV returns records in the order in which RFC 2782 wants them tried: by
// priority, and at random by weight among those of one priority. The resolver
// of package net also does so, but never takes a record of weight 0 first. intN
// is rand.IntN.
func orderSRV(found []*net.SRV, intN func(n int) int) []*net.SRV {
	left := slices.Clone(found)
	// "Arrange all SRV RRs (that have not been ordered yet) in any order, except
	// that all those with weight 0 are placed at the beginning of the list."
	slices.SortStableFunc(left, func(a, b *net.SRV) int {
		if a.Priority != b.Priority {
			return int(a.Priority) - int(b.Priority)
		}
		return min(int(a.Weight), 1) - min(int(b.Weight), 1)
	})
	ordered := make([]*net.SRV, 0, len(left))
	for len(left) > 0 {
		group, sum := 0, 0
		for group < len(left) && left[group].Priority == left[0].Priority {
			sum += int(left[group].Weight)
			group++
		}
		// "Choose a uniform random number between 0 and the sum computed
		// (inclusive), and select the RR whose running sum value is the first […]
		// greater than or equal to the random number selected."
		pick := 0
		if sum == 0 {
			pick = intN(group)
		} else {
			n := intN(sum + 1)
			for running := int(left[0].Weight); running < n; running += int(left[pick].Weight) {
				pick++
			}
		}
		ordered = append(ordered, left[pick])
		left = slices.Delete(left, pick, pick+1)
	}
	return ordered
}
