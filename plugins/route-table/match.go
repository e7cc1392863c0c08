package main

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/parley-msrp/parley/sdk/go/jsonconfig"
	"github.com/parley-msrp/parley/sdk/go/selectinterface"
)

// A query is a request whose next hop has been looked at.
type query struct {
	selectinterface.Request
	host string     // in small letters, without the final dot
	addr netip.Addr // if host is one
}

func (r *rule) matches(q *query) bool {
	if len(r.to) > 0 && !slices.ContainsFunc(r.to, func(t target) bool { return t.matches(q) }) {
		return false
	}
	if len(r.from) > 0 {
		client, err := netip.ParseAddrPort(q.RemoteAddr())
		if err != nil || !slices.ContainsFunc(r.from, func(p netip.Prefix) bool { return p.Contains(plain(client.Addr())) }) {
			return false
		}
	}
	scheme := "msrp"
	if q.Secure() {
		scheme = "msrps"
	}
	for name, list := range r.Attribute {
		if !slices.Contains(list, q.Attribute(name)) {
			return false
		}
	}
	return among(r.Scheme, scheme) && among(r.Listener, q.Listener()) && among(r.User, q.Username())
}

func among(list jsonconfig.List, text string) bool {
	return len(list) == 0 || slices.Contains(list, text)
}

// A target is a next hop: a network, or a domain; one with a leading dot is what
// is below it.
type target struct {
	network netip.Prefix
	domain  string
}

// matches compares a network with next hops that are addresses: a name is not
// looked up, so a rule keeps nobody from a network. What may be dialled is
// decided by the relay.
func (t target) matches(q *query) bool {
	switch {
	case t.network.IsValid():
		return q.addr.IsValid() && t.network.Contains(q.addr)
	case strings.HasPrefix(t.domain, "."):
		return strings.HasSuffix(q.host, t.domain)
	}
	return q.host == t.domain
}

func parseTarget(s string) (t target, ok bool) {
	if t.network, ok = parsePrefix(s); ok {
		return t, true
	}
	t.network = netip.Prefix{}
	t.domain, ok = parseDomain(s)
	return t, ok
}

// parsePrefix reads an address or a CIDR. IPv4 may be written as IPv6.
func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = plain(a)
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), err == nil
}

// plain makes addresses comparable: a prefix contains no address that has a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// parseDomain returns what target.domain says. A name that ends in a number is
// an address with a typing error.
func parseDomain(s string) (string, bool) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	name, below := strings.CutPrefix(s, "*.")
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", false
	}
	if below {
		name = "." + name
	}
	return name, true
}
