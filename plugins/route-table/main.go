// Command route-table is a plugin that answers select_interface from a table of
// rules in its configuration: the first that matches decides.
package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/jsonconfig"
	"github.com/parley-msrp/parley/sdk/go/selectinterface"
)

type config struct {
	Rules   []rule  `json:"rules"`
	Default *action `json:"default"`
}

// A rule matches if each of its conditions does; a condition is a list of which
// one must match, or nothing, which matches anything.
type rule struct {
	To        jsonconfig.List            `json:"to"`
	From      jsonconfig.List            `json:"from"`
	Scheme    jsonconfig.List            `json:"scheme"`
	Listener  jsonconfig.List            `json:"listener"`
	User      jsonconfig.List            `json:"user"`
	Attribute map[string]jsonconfig.List `json:"attribute"`
	action

	to   []target
	from []netip.Prefix
}

// An action names an interface, or refuses.
type action struct {
	Interface string            `json:"interface"`
	Address   string            `json:"address"`
	Set       map[string]string `json:"set"`
	Deny      *refusal          `json:"deny"`
}

type refusal struct {
	Status int    `json:"status"`
	Reason string `json:"reason"`
}

var table config

func init() {
	parley.OnLoad(load)
	selectinterface.Handle(answer)
}

func main() {}

func load(text string) error {
	var c config
	if err := jsonconfig.Decode(text, &c); err != nil {
		return err
	}
	var errs []error
	for i := range c.Rules {
		if err := c.Rules[i].prepare(); err != nil {
			errs = append(errs, fmt.Errorf("rules.%d: %w", i, err))
		}
	}
	if c.Default != nil {
		if err := c.Default.check(); err != nil {
			errs = append(errs, fmt.Errorf("default: %w", err))
		}
	}
	if len(c.Rules) == 0 && c.Default == nil {
		errs = append(errs, errors.New("there are neither rules nor a default"))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	table = c
	return nil
}

func (r *rule) prepare() error {
	for _, text := range r.To {
		t, ok := parseTarget(text)
		if !ok {
			return fmt.Errorf("to: %q is neither a domain nor an address: write it as example.com, *.example.com, 192.0.2.1 or 2001:db8::/32", text)
		}
		r.to = append(r.to, t)
	}
	for _, text := range r.From {
		p, ok := parsePrefix(text)
		if !ok {
			return fmt.Errorf("from: %q is no address: write it as 192.0.2.0/24 or 2001:db8::1", text)
		}
		r.from = append(r.from, p)
	}
	for _, s := range r.Scheme {
		if s != "msrp" && s != "msrps" {
			return fmt.Errorf("scheme: %q is not msrp or msrps", s)
		}
	}
	for name, list := range map[string]jsonconfig.List{"to": r.To, "from": r.From, "scheme": r.Scheme, "listener": r.Listener, "user": r.User} {
		if list != nil && len(list) == 0 {
			return fmt.Errorf("%s: is a list of nothing, which nothing could match", name)
		}
	}
	for name, list := range r.Attribute {
		if len(list) == 0 {
			return fmt.Errorf("attribute.%s: is a list of nothing, which nothing could match", name)
		}
	}
	return r.check()
}

// statuses are those that a request can be refused with.
var statuses = []int{0, 400, 403, 404, 413, 415, 423, 481, 501, 506}

func (a *action) check() error {
	switch {
	case a.Deny != nil && (a.Interface != "" || a.Address != "" || len(a.Set) > 0):
		return errors.New("has both deny and interface, address or set")
	case a.Deny == nil && a.Interface == "":
		return errors.New("has neither interface nor deny")
	case a.Deny != nil:
		if !slices.Contains(statuses, a.Deny.Status) {
			return fmt.Errorf("deny.status: %d is not one of %v", a.Deny.Status, statuses[1:])
		}
		if len(a.Deny.Reason) > 128 || strings.ContainsFunc(a.Deny.Reason, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return errors.New("deny.reason: is not one line of up to 128 bytes")
		}
	case a.Address != "":
		if _, err := netip.ParseAddr(a.Address); err != nil {
			return fmt.Errorf("address: %q is no address", a.Address)
		}
	}
	return nil
}

func answer(r selectinterface.Request) selectinterface.Reply {
	// "example.com." is the same host: it must not slip past a rule.
	q := query{r, strings.ToLower(strings.TrimSuffix(r.Host(), ".")), netip.Addr{}}
	if a, err := netip.ParseAddr(q.host); err == nil {
		q.addr = plain(a)
	}
	for i := range table.Rules {
		if table.Rules[i].matches(&q) {
			return table.Rules[i].reply(&q)
		}
	}
	if table.Default != nil {
		return table.Default.reply(&q)
	}
	return selectinterface.Next()
}

func (a *action) reply(q *query) selectinterface.Reply {
	if a.Deny != nil {
		return selectinterface.Deny(a.Deny.Status, a.Deny.Reason)
	}
	var names []string
	for _, o := range q.Offers() {
		names = append(names, o.Name())
	}
	if !slices.Contains(names, a.Interface) {
		return selectinterface.Fail(fmt.Sprintf("interface %q is not one of %q", a.Interface, names))
	}
	reply := selectinterface.Done().Interface(a.Interface)
	if a.Address != "" {
		reply = reply.Address(a.Address)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Set)) {
		reply = reply.Attribute(name, a.Set[name])
	}
	return reply
}
