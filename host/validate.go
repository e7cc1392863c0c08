package host

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/trace"
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
	} else if c.Admin.Pprof || c.Admin.Trace {
		v.fault("admin.bind", "is needed for pprof and trace, such as 127.0.0.1:8856")
	}
	v.trace(&c.Trace)
	for _, name := range slices.Sorted(maps.Keys(c.Interfaces)) {
		i := c.Interfaces[name]
		if l, ok := c.Listeners[i.Listener]; i.Listener != "" && !ok {
			v.fault("interfaces."+name+".listener", "there is no listener %q", i.Listener)
		} else if l.isWebSocket() {
			v.fault("interfaces."+name+".listener", "nobody can be reached at a listener for WebSockets; name one whose uri is ;tcp")
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
	if c.Drain.Timeout < 0 {
		v.fault("drain.timeout", "must not be negative; 0 ends sessions at once")
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
	if key == "listeners."+relay.Dialled {
		v.fault(key, "stands for connections to next hops in metrics; choose another name")
	}
	switch {
	case l.URI.Host == "":
		v.fault(key+".uri", "is needed, such as msrps://relay.example.com:2855;tcp")
	case l.URI.Port == 0:
		v.fault(key+".uri", "needs a port, such as msrps://%s:2855;tcp", l.URI.Host)
	case l.URI.Session != "":
		v.fault(key+".uri", "must not have a session-id, the part after the host's /")
	case !strings.EqualFold(l.URI.Transport, "tcp") && !l.isWebSocket():
		v.fault(key+".uri", "transport %q is not known; write ;tcp, or ;ws for WebSockets (with msrps if they are wss)", l.URI.Transport)
	}
	v.websocket(key, &l)
	v.bind(key, l.bind(), bound)
	pairs := append([]Pair{{l.TLS.Certificate, l.TLS.Key}}, l.TLS.More...)
	noTLS := l.TLS.Certificate == "" && l.TLS.Key == "" && len(l.TLS.More) == 0
	switch {
	case len(l.WebSocket.Proxies) > 0 && !noTLS:
		v.fault(key+".tls", "websocket.proxies do the TLS; take tls or them away")
	case len(l.WebSocket.Proxies) > 0:
	case l.URI.Secure:
		for i, p := range pairs {
			at := key + ".tls"
			if i > 0 {
				at = fmt.Sprintf("%s.more.%d", at, i-1)
			}
			v.file(at+".certificate", p.Certificate)
			v.file(at+".key", p.Key)
		}
	case !noTLS:
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
	for i, mt := range l.MediaTypes {
		if !mediaType.MatchString(mt) {
			v.fault(fmt.Sprintf("%s.media_types.%d", key, i), "%q is no media type; write it as text/plain, image/* or *", mt)
		}
	}
	v.chain(key+".hooks.authenticate", l.Hooks.Authenticate, "static", "htdigest")
	v.chain(key+".hooks.select_interface", l.Hooks.SelectInterface, "table")
	if len(l.Hooks.Authenticate) > 0 && !l.URI.Secure && !l.PlainAuth {
		v.fault(key+".hooks.authenticate", "AUTH needs TLS (RFC 4976 §6.3): make the uri msrps, or set plain_auth: true where the network is closed")
	}
}

// mediaType is an entry of accept-types (RFC 4975 §8.6), without parameters.
var mediaType = regexp.MustCompile(`^(\*|[A-Za-z0-9!#$%&'+.^_|~-]+/(\*|[A-Za-z0-9!#$%&'+.^_|~-]+))$`)

func (l *Listener) isWebSocket() bool { return strings.EqualFold(l.URI.Transport, "ws") }

func (v *validator) trace(t *Trace) {
	if t.Filter.Peer != "" {
		if _, err := trace.ParsePeer(t.Filter.Peer); err != nil {
			v.fault("trace.filter.peer", "%q is neither an address nor a prefix, such as 192.0.2.0/24", t.Filter.Peer)
		}
	}
	if l := t.Filter.Listener; l != "" && l != relay.Dialled && !has(v.c.Listeners, l) {
		v.fault("trace.filter.listener", "there is no listener %q", l)
	}
	if t.File.Size < 0 {
		v.fault("trace.file.size", "must not be negative")
	}
	if t.File.Path == "" && t.File.Size != 0 {
		v.fault("trace.file.path", "is needed for size")
	}
	if t.HEP.Address == "" && t.HEP != (TraceHEP{}) {
		v.fault("trace.hep.address", "is needed, such as homer.example.com:9060")
	}
	if _, port, err := net.SplitHostPort(t.HEP.Address); t.HEP.Address != "" && (err != nil || port == "") {
		v.fault("trace.hep.address", "%q is not HOST:PORT", t.HEP.Address)
	}
}

// doesTLS reports whether the listener itself does, and needs a certificate.
func (l *Listener) doesTLS() bool { return l.URI.Secure && len(l.WebSocket.Proxies) == 0 }

// websocket checks what concerns WebSockets.
func (v *validator) websocket(key string, l *Listener) {
	w := &l.WebSocket
	if !l.isWebSocket() {
		if w.Path != "" || w.Origins != nil || w.Header != 0 || w.Message != 0 || w.Chunk != 0 || w.Ping != 0 || w.Proxies != nil {
			v.fault(key+".websocket", "the uri is not one for WebSockets; make its transport ;ws or take websocket away")
		}
		return
	}
	// RFC 7977 §5.2.2 (WS-24): nobody can connect to a ;ws URI from outside.
	switch shown, ok := v.c.Listeners[l.Advertise]; {
	case l.Advertise == "":
		v.fault(key+".advertise", "is needed: the listener with a ;tcp uri at which others reach the clients of this one")
	case ok && shown.isWebSocket():
		v.fault(key+".advertise", "%q is for WebSockets, too; name one whose uri is ;tcp", l.Advertise)
	case ok && shown.URI.Secure && !l.URI.Secure:
		v.fault(key+".advertise", "the uri of %q is msrps, which clients without TLS cannot use; name one with msrp, or make this uri msrps", l.Advertise)
	}
	// RFC 7977 §5.1 (WS-5): what leaves the machine is WSS.
	switch {
	case !l.URI.Secure && len(w.Proxies) > 0:
		v.fault(key+".uri", "browsers come to the proxy with wss: make it msrps")
	case !l.URI.Secure && !isLoopback(l.bind()):
		v.fault(key+".bind", "WebSockets without TLS are for loopback only (RFC 7977 §5.1): bind to 127.0.0.1, make the uri msrps, or name the proxies that do TLS in websocket.proxies")
	}
	if w.Path != "" && !strings.HasPrefix(w.Path, "/") {
		v.fault(key+".websocket.path", "%q does not begin with /", w.Path)
	}
	for i, o := range w.Origins {
		if u, err := url.Parse(o); !slices.Contains([]string{"*", "null", "file://"}, o) && (err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "") {
			v.fault(fmt.Sprintf("%s.websocket.origins.%d", key, i), "%q is not an origin, such as https://app.example.com or https://*.example.com", o)
		}
	}
	for _, s := range []struct {
		name string
		n    Size
	}{{"header", w.Header}, {"message", w.Message}, {"chunk", w.Chunk}} {
		if s.n < 0 {
			v.fault(key+".websocket."+s.name, "must not be negative")
		}
	}
}

func isLoopback(bind string) bool {
	host, _, _ := net.SplitHostPort(bind)
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
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
	v.bans(r)
	for key, n := range map[string]int64{
		"user_sessions": int64(r.Limits.UserSessions), "address_sessions": int64(r.Limits.AddressSessions),
		"session_messages": int64(r.Limits.SessionMessages), "session_bytes": int64(r.Limits.SessionBytes),
		"user_messages": int64(r.Limits.UserMessages), "user_bytes": int64(r.Limits.UserBytes),
		"burst": int64(r.Limits.Burst), "message": int64(r.Limits.Message), "chunk": int64(r.Limits.Chunk),
	} {
		if n < 0 {
			v.fault("relay.limits."+key, "must not be negative")
		}
	}
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

func (v *validator) bans(r *Relay) {
	a := r.addresses()
	v.joined("relay.addresses", a.Validate())
	for i, p := range r.Addresses.Exempt {
		if p.Addr().Is4In6() {
			v.fault(fmt.Sprintf("relay.addresses.exempt.%d", i), "write %v as an IPv4 prefix", p)
		}
	}
	if r.Bans.After < 0 {
		return
	}
	b := r.bans()
	b.Addresses = limit.Addresses{} // told above
	v.joined("relay.bans", b.Validate())
	if b.File == "" {
		return
	}
	if info, err := os.Stat(filepath.Dir(b.File)); err != nil {
		v.fault("relay.bans.file", "%v", err)
	} else if !info.IsDir() {
		v.fault("relay.bans.file", "%s is no directory", filepath.Dir(b.File))
	}
}

// joined takes the faults of a part, each of which begins with the key below key.
func (v *validator) joined(key string, err error) {
	if err == nil {
		return
	}
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		v.faults = append(v.faults, fmt.Errorf("%s.%w", key, err))
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
