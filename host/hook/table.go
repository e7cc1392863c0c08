package hook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Rule of a Table. An empty field matches anything.
type Rule struct {
	To        string // next hop: a domain, *.domain, an address or a CIDR
	Scheme    string // "msrp" or "msrps"
	From      string // CIDR or address of the client
	Listener  string // where the client authenticated
	Interface string // what the session leaves by
	Deny      bool   // or: it is refused
	Status    int    // with Deny; 0 = 403
	Reason    string // with Deny
}

// A Table answers select_interface: the first rule that matches decides.
type Table struct{ rules []rule }

type rule struct {
	Rule
	domain string // lower case; with a leading dot for subdomains
	to     netip.Prefix
	from   netip.Prefix
}

// NewTable returns a provider of rules, whose interfaces must be known. It
// reports all faults, by the number of the rule, counted from 0.
func NewTable(rules []Rule, known func(name string) bool) (*Table, error) {
	t := &Table{}
	var errs []error
	for i, in := range rules {
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("rule %d: %s", i, fmt.Sprintf(format, args...)))
		}
		r := rule{Rule: in}
		if p, ok := parsePrefix(in.To); ok {
			r.to = p
		} else if strings.ContainsAny(in.To, "/: ") {
			fault("to: %q is no domain, address or CIDR", in.To)
		} else {
			r.domain = strings.ToLower(strings.TrimPrefix(in.To, "*"))
		}
		if in.From != "" {
			p, ok := parsePrefix(in.From)
			if r.from = p; !ok {
				fault("from: %q is no address or CIDR", in.From)
			}
		}
		if !slices.Contains([]string{"", "msrp", "msrps"}, in.Scheme) {
			fault("scheme: %q is not msrp or msrps", in.Scheme)
		}
		switch {
		case in.Deny && in.Interface != "":
			fault("has both interface and deny; take one away")
		case !in.Deny && in.Interface == "":
			fault("has neither interface nor deny")
		case !in.Deny && !known(in.Interface):
			fault("interface: there is no interface %q", in.Interface)
		case !validStatus(in.Status):
			fault("status: %d is no MSRP error", in.Status)
		}
		t.rules = append(t.rules, r)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// parsePrefix reads an address or a CIDR.
func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil
}

// Call implements Provider.
func (t *Table) Call(_ context.Context, q *InterfaceRequest) (a InterfaceReply, err error) {
	addr, _ := netip.ParseAddr(q.Host)
	addr = addr.Unmap()
	for i := range t.rules {
		r := &t.rules[i]
		if !r.matches(q, addr) {
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

func (r *rule) matches(q *InterfaceRequest, addr netip.Addr) bool {
	scheme := "msrp"
	if q.Secure {
		scheme = "msrps"
	}
	switch {
	case r.Scheme != "" && r.Scheme != scheme,
		r.Listener != "" && r.Listener != q.Listener,
		r.from.IsValid() && !r.from.Contains(q.RemoteAddr.Addr().Unmap()),
		r.to.IsValid() && !r.to.Contains(addr):
		return false
	case strings.HasPrefix(r.domain, "."):
		return len(q.Host) > len(r.domain) && strings.EqualFold(q.Host[len(q.Host)-len(r.domain):], r.domain)
	}
	return r.domain == "" || strings.EqualFold(q.Host, r.domain)
}
