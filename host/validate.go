package host

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-msrp/parley/host/auth"
)

// Validate returns all faults of c, joined; each names the key at fault and
// what would mend it. Files that c names must exist.
func (c *Config) Validate() error {
	v := validator{c: c}
	if len(c.Listeners) == 0 {
		v.fault("listeners", "there is none; at least one is needed")
	}
	bound := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Listeners)) {
		v.listener("listeners."+name, c.Listeners[name], bound)
	}
	if c.Admin.Bind != "" {
		v.bind("admin", c.Admin.Bind, bound)
	} else if c.Admin.Pprof {
		v.fault("admin.bind", "is needed for pprof, such as 127.0.0.1:8856")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Interfaces)) {
		i := c.Interfaces[name]
		if _, ok := c.Listeners[i.Listener]; i.Listener != "" && !ok {
			v.fault("interfaces."+name+".listener", "there is no listener %q", i.Listener)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		v.provider("providers."+name, c.Providers[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Plugins)) {
		v.plugin("plugins."+name, name, c.Plugins[name])
	}
	v.relay(&c.Relay)
	if !slices.Contains([]string{"", "auto", "text", "json"}, c.Log.Format) {
		v.fault("log.format", "%q is not auto, text or json", c.Log.Format)
	}
	return errors.Join(v.faults...)
}

type validator struct {
	c      *Config
	faults []error
}

func (v *validator) fault(key, format string, args ...any) {
	v.faults = append(v.faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

func (v *validator) file(key, path string) {
	switch info, err := os.Stat(path); {
	case path == "":
		v.fault(key, "a file is needed")
	case err != nil:
		v.fault(key, "%v", err)
	case !info.Mode().IsRegular():
		v.fault(key, "%s is not a regular file", path)
	}
}

func (v *validator) listener(key string, l Listener, bound map[string]string) {
	switch {
	case l.URI.Host == "":
		v.fault(key+".uri", "is needed, such as msrps://relay.example.com:2855;tcp")
	case l.URI.Port == 0:
		v.fault(key+".uri", "needs a port, such as msrps://%s:2855;tcp", l.URI.Host)
	case l.URI.Session != "":
		v.fault(key+".uri", "must not have a session-id, the part after the host's /")
	case !strings.EqualFold(l.URI.Transport, "tcp"):
		v.fault(key+".uri", "transport %q is not known; write ;tcp", l.URI.Transport)
	}
	v.bind(key, l.bind(), bound)
	pairs := append([]Pair{{l.TLS.Certificate, l.TLS.Key}}, l.TLS.More...)
	switch {
	case l.URI.Secure:
		for i, p := range pairs {
			at := key + ".tls"
			if i > 0 {
				at = fmt.Sprintf("%s.more.%d", at, i-1)
			}
			v.file(at+".certificate", p.Certificate)
			v.file(at+".key", p.Key)
		}
	case l.TLS.Certificate != "" || l.TLS.Key != "" || len(l.TLS.More) > 0:
		v.fault(key+".tls", "the listener's uri is msrp, without TLS; make it msrps or take tls away")
	}
	for i, p := range l.ProxyProtocol {
		if p.Bits() <= 0 {
			v.fault(fmt.Sprintf("%s.proxy_protocol.%d", key, i), "%s lets everybody claim any address; name those of your proxies, such as 10.0.0.7/32", p)
		}
	}
	if _, ok := v.c.Listeners[l.Advertise]; l.Advertise != "" && !ok {
		v.fault(key+".advertise", "there is no listener %q", l.Advertise)
	}
	v.chain(key+".hooks.authenticate", l.Hooks.Authenticate, "static", "htdigest")
	v.chain(key+".hooks.select_interface", l.Hooks.SelectInterface, "table")
	if len(l.Hooks.Authenticate) > 0 && !l.URI.Secure && !l.PlainAuth {
		v.fault(key+".hooks.authenticate", "AUTH needs TLS (RFC 4976 §6.3): make the uri msrps, or set plain_auth: true where the network is closed")
	}
}

// bind checks an address to listen on, which nobody else may have.
func (v *validator) bind(key, bind string, bound map[string]string) {
	if _, port, err := net.SplitHostPort(bind); err != nil {
		v.fault(key+".bind", "%v; write it as 127.0.0.1:2855, [::1]:2855 or :2855", err)
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		v.fault(key+".bind", "%q is no port", port)
	} else if other, ok := bound[bind]; ok && n != 0 {
		v.fault(key+".bind", "%s is the address of %s, too", bind, other)
	}
	bound[bind] = key
}

// bind is where l listens: by default on loopback only.
func (l *Listener) bind() string {
	if l.Bind != "" {
		return l.Bind
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(l.URI.Port)))
}

func (v *validator) chain(key string, chain []Binding, types ...string) {
	for i, b := range chain {
		at := fmt.Sprintf("%s.%d", key, i)
		p, ok := v.c.Providers[b.Provider]
		_, isPlugin := v.c.Plugins[b.Provider]
		_, pluginOK := v.c.Plugins[b.Plugin]
		switch {
		case (b.Provider == "") == (b.Plugin == ""):
			v.fault(at, "needs either provider, one of providers, or plugin, one of plugins")
		case b.Plugin != "" && !pluginOK:
			v.fault(at, "there is no plugin %q; define it under plugins", b.Plugin)
		case b.Plugin != "": // whether it answers this hook shows when it is loaded
		case !ok && isPlugin:
			v.fault(at, "%q is a plugin: write {plugin: %s}", b.Provider, b.Provider)
		case !ok:
			v.fault(at, "there is no provider %q; define it under providers", b.Provider)
		case !slices.Contains(types, p.Type):
			v.fault(at, "provider %q of type %q does not answer this hook; types that do: %s", b.Provider, p.Type, strings.Join(types, ", "))
		}
		if !slices.Contains([]string{"", "deny", "next"}, b.OnError) {
			v.fault(at+".on_error", "%q is not deny or next", b.OnError)
		}
		if b.Timeout < 0 {
			v.fault(at+".timeout", "must not be negative")
		}
	}
}

func (v *validator) plugin(key, name string, p Plugin) {
	v.file(key+".file", p.File)
	s := p.settings(name)
	s.File = "validated"
	if err := s.Validate(); err != nil {
		for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
			v.faults = append(v.faults, fmt.Errorf("%s.%w", key, err))
		}
	}
	if _, _, err := expandConfig(p.Config); err != nil {
		v.fault(key+".config", "%v", err)
	}
}

func (v *validator) provider(key string, p Provider) {
	switch p.Type {
	case "static":
		if len(p.Users) == 0 {
			v.fault(key+".users", "there is none")
		}
		for _, name := range slices.Sorted(maps.Keys(p.Users)) {
			if u := p.Users[name]; (u.Password == "") == (u.HA1 == "") {
				v.fault(key+".users."+name, "needs either password or ha1")
			}
		}
	case "htdigest":
		v.file(key+".file", p.File)
	case "table":
		for i, r := range p.Rules {
			if _, ok := v.c.Interfaces[r.Interface]; r.Interface != "" && !ok {
				v.fault(fmt.Sprintf("%s.rules.%d.interface", key, i), "there is no interface %q", r.Interface)
			}
			if _, ok := v.c.Listeners[r.Listener]; r.Listener != "" && !ok {
				v.fault(fmt.Sprintf("%s.rules.%d.listener", key, i), "there is no listener %q", r.Listener)
			}
		}
	default:
		v.fault(key+".type", "%q is not static, htdigest or table", p.Type)
	}
}

func (v *validator) relay(r *Relay) {
	if len(v.c.Listeners) > 0 && v.c.realm() == "" {
		v.fault("relay.realm", "is needed, since the listeners have different hosts")
	}
	for i, a := range r.Digest.Algorithms {
		if _, err := auth.ParseAlgorithm(a); err != nil {
			v.fault(fmt.Sprintf("relay.digest.algorithms.%d", i), "%v", err)
		}
	}
	if r.Digest.Lifetime < 0 {
		v.fault("relay.digest.lifetime", "must not be negative")
	}
	if r.Dial.CA != "" {
		v.file("relay.dial.ca", r.Dial.CA)
	}
	if ca := r.Relays.CA; ca != "" && ca != "system" {
		v.file("relay.relays.ca", ca)
	} else if ca == "" && len(r.Relays.Allow)+len(r.Relays.Deny) > 0 {
		v.fault("relay.relays.ca", "is needed: without it no peer is a relay; name a PEM file, or system")
	}
	for key, names := range map[string][]string{"allow": r.Relays.Allow, "deny": r.Relays.Deny} {
		for i, name := range names {
			if rest := strings.TrimPrefix(name, "*."); rest == "" || strings.ContainsAny(rest, "*/: ") {
				v.fault(fmt.Sprintf("relay.relays.%s.%d", key, i), "%q is no host name; write relay.example.com or *.example.com", name)
			}
		}
	}
	if e := r.Expires; e.Min < 0 || e.Max < 0 || e.Default < 0 || e.Max > 0 && e.Min > e.Max || e.Default > 0 && (e.Default < e.Min || e.Max > 0 && e.Default > e.Max) {
		v.fault("relay.expires", "must grow from min by default to max")
	}
}

// realm is the realm of Digest: the one that is set, or the host that all
// listeners share.
func (c *Config) realm() string {
	if c.Relay.Realm != "" {
		return c.Relay.Realm
	}
	realm := ""
	for _, l := range c.Listeners {
		if realm != "" && !strings.EqualFold(realm, l.URI.Host) {
			return ""
		}
		realm = l.URI.Host
	}
	return realm
}
