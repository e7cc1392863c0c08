package hook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A Rule of a Table. An empty field matches anything.
type Rule struct {
	// To is the next hop: a domain, *.domain for all below it, an address or a
	// CIDR. The latter two match a next hop that is an address; a name is not
	// looked up, so they do not keep anyone from a network: what may be dialled
	// is decided elsewhere.
	To        string
	Scheme    string // of the next hop: "msrp" or "msrps"
	From      string // address or CIDR of the client
	Listener  string // where the client authenticated
	Interface string // what the session leaves by
	Deny      bool   // or: it is refused
	Status    int    // with Deny; 0 = 403
	Reason    string // with Deny
}

// A Table answers select_interface: the first rule that matches decides, and
// without one it has no opinion.
type Table struct{ rules []rule }

type rule struct {
	Rule
	domain string // without the final dot; with a leading one it means what is below
	to     netip.Prefix
	from   netip.Prefix
}

// NewTable returns a provider of rules, whose interfaces must be known; known
// may be nil, for which all are. The error joins all faults, each with the
// number of its rule, counted from 0.
func NewTable(rules []Rule, known func(name string) bool) (*Table, error) {
	t := &Table{rules: make([]rule, len(rules))}
	var errs []error
	for i, in := range rules {
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("rule %d: %s", i, fmt.Sprintf(format, args...)))
		}
		r := &t.rules[i]
		r.Rule = in
		var ok bool
		if r.to, ok = parsePrefix(in.To); !ok && in.To != "" {
			if r.domain, ok = parseDomain(in.To); !ok {
				fault("to: %q is neither a domain nor an address; write it as example.com, *.example.com, 192.0.2.1, 2001:db8::/32, or leave it empty for any", in.To)
			}
		}
		if r.from, ok = parsePrefix(in.From); !ok && in.From != "" {
			fault("from: %q is no address; write it as 192.0.2.0/24 or 2001:db8::1, or leave it empty for any", in.From)
		}
		if in.Scheme != "" && in.Scheme != "msrp" && in.Scheme != "msrps" {
			fault("scheme: %q is not msrp or msrps; leave it empty for any", in.Scheme)
		}
		switch {
		case in.Deny && in.Interface != "":
			fault("has both interface and deny; take one away")
		case in.Deny:
			if err := checkRefusal(in.Status, in.Reason); err != nil {
				fault("%v", err)
			}
		case in.Interface == "":
			fault("has neither interface nor deny; add one")
		case in.Status != 0 || in.Reason != "":
			fault("has a status or a reason, but no deny; take them away")
		case known != nil && !known(in.Interface):
			fault("interface: there is no %q; define it or name another", in.Interface)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// parsePrefix reads an address or a CIDR. IPv4 may be written as IPv6.
func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = plain(a)
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), err == nil
}

// plain makes addresses comparable: a prefix contains no address that has a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// parseDomain returns what rule.domain says. Names that end in a number are
// addresses with a typing error.
func parseDomain(s string) (domain string, ok bool) {
	s = strings.TrimSuffix(s, ".")
	name, below := strings.CutPrefix(s, "*.")
	var last string
	for last = range strings.SplitSeq(name, ".") {
		if last == "" {
			return "", false
		}
		for _, c := range []byte(last) {
			if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", false
			}
		}
	}
	if strings.Trim(last, "0123456789") == "" {
		return "", false
	}
	if below {
		name = "." + name
	}
	return name, true
}

// Call implements Provider.
func (t *Table) Call(_ context.Context, q *InterfaceRequest) (a InterfaceReply, err error) {
	// "example.com." is the same host: it must not slip past a rule.
	host := strings.TrimSuffix(q.Host, ".")
	addr := literal(host)
	for i := range t.rules {
		r := &t.rules[i]
		if !r.matches(q, host, addr) {
			continue
		}
		if r.Deny {
			a.Verdict, a.Status, a.Reason = Deny, r.Status, r.Reason
		} else {
			a.Verdict, a.Interface = Done, r.Interface
		}
		break
	}
	return a, nil
}

// literal returns the address that host is, or the zero one. Names are told
// apart beforehand, since the error of ParseAddr costs an allocation.
func literal(host string) netip.Addr {
	if host == "" || strings.IndexByte(host, ':') < 0 && (host[len(host)-1] < '0' || host[len(host)-1] > '9') {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(host)
	return plain(addr)
}

func (r *rule) matches(q *InterfaceRequest, host string, addr netip.Addr) bool {
	switch {
	case r.Scheme != "" && (r.Scheme == "msrps") != q.Secure,
		r.Listener != "" && r.Listener != q.Listener,
		r.from.IsValid() && !r.from.Contains(plain(q.RemoteAddr.Addr())),
		r.to.IsValid() && !r.to.Contains(addr):
		return false
	case strings.HasPrefix(r.domain, "."):
		below := len(host) - len(r.domain)
		return below > 0 && strings.EqualFold(host[below:], r.domain)
	}
	return r.domain == "" || strings.EqualFold(host, r.domain)
}
