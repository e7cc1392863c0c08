package host

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/relay"
)

// A Config describes everything that one Parley process runs. In each field the
// zero value is the default. The tags are the keys of the configuration file
// (see package config).
type Config struct {
	Listeners  map[string]Listener  `koanf:"listeners"`
	Interfaces map[string]Interface `koanf:"interfaces"`
	Providers  map[string]Provider  `koanf:"providers"`
	Plugins    map[string]Plugin    `koanf:"plugins"`
	// PluginCache keeps compiled plugins for the next start.
	PluginCache PluginCache `koanf:"plugin_cache"`
	Relay       Relay       `koanf:"relay"`
	Admin       Admin       `koanf:"admin"`
	Trace       Trace       `koanf:"trace"`
	Log         Log         `koanf:"log"`
	Drain       Drain       `koanf:"drain"`
	Reload      Reload      `koanf:"reload"`
}

// A Listener is an address at which clients, peers and relays connect.
type Listener struct {
	// URI is what Use-Path says: scheme, host, port and transport. Required.
	URI msrp.URI `koanf:"uri"`
	// Bind is the address to listen on, as host:port. Default: the URI's port
	// on loopback.
	Bind string `koanf:"bind"`
	// ProxyProtocol are the addresses of proxies in front of the listener, whose
	// connections begin with a PROXY header (version 1 or 2).
	ProxyProtocol []netip.Prefix `koanf:"proxy_protocol"`
	// TLS is required with an msrps URI, unless a proxy does it, and not allowed with msrp.
	TLS TLS `koanf:"tls"`
	// Aliases are further host names by which an AUTH may address this listener.
	Aliases []string `koanf:"aliases"`
	// Advertise names the listener whose URI clients of this one get.
	Advertise string `koanf:"advertise"`
	// PlainAuth allows AUTH without TLS, against RFC 4976 §6.3.
	PlainAuth bool `koanf:"plain_auth"`
	// MediaTypes are what sessions of this listener may send and be sent, such as
	// text/plain, image/* or *. Default: all.
	MediaTypes []string `koanf:"media_types"`
	Hooks      Hooks    `koanf:"hooks"`
	// WebSocket counts for a URI of transport ws only (RFC 7977).
	WebSocket WebSocket `koanf:"websocket"`
}

// WebSocket says how a listener takes WebSockets; 0 stands for the default, which
// the commented configuration file names. See relay.WebSocket for what each means.
type WebSocket struct {
	Path    string        `koanf:"path"`
	Origins []string      `koanf:"origins"`
	Header  Size          `koanf:"header"`
	Message Size          `koanf:"message"`
	Chunk   Size          `koanf:"chunk"`
	Ping    time.Duration `koanf:"ping"`
	// Proxies do TLS for this listener: an msrps URI then needs no certificate.
	Proxies []netip.Prefix `koanf:"proxies"`
}

func (w *WebSocket) relay() relay.WebSocket {
	return relay.WebSocket{
		Path: w.Path, Origins: w.Origins, Header: int(w.Header), Message: int64(w.Message), Chunk: int(w.Chunk),
		Ping: w.Ping, Proxies: w.Proxies,
	}
}

// TLS names the certificates of a listener. The files are watched.
type TLS struct {
	Certificate string `koanf:"certificate"` // PEM file, with its chain
	Key         string `koanf:"key"`         // PEM file
	// More are further pairs, chosen by the name that the client asks for.
	More []Pair `koanf:"more"`
}

// A Pair is a certificate and its key, both PEM files.
type Pair struct {
	Certificate string `koanf:"certificate"`
	Key         string `koanf:"key"`
}

// Hooks are the chains of providers that decide, in order.
type Hooks struct {
	Authenticate    []Binding `koanf:"authenticate"`
	SelectInterface []Binding `koanf:"select_interface"`
}

// A Binding puts a provider or a plugin into a chain. In the file it may be the
// provider's name alone.
type Binding struct {
	Provider string         `koanf:"provider"` // either this
	Plugin   string         `koanf:"plugin"`   // or this
	Timeout  time.Duration  `koanf:"timeout"`  // default 1 s
	OnError  string         `koanf:"on_error"` // "deny" (default) or "next"
	Params   map[string]any `koanf:"params"`   // handed to the provider
}

// A Provider answers hooks. Which further fields count depends on Type.
type Provider struct {
	// Type is "static" (Users), "htdigest" (File) or "table" (Rules).
	Type  string          `koanf:"type"`
	Users map[string]User `koanf:"users"`
	File  string          `koanf:"file"` // lines of user:realm:MD5 HA1; watched
	Rules []Rule          `koanf:"rules"`
}

// A User of a static provider has either a password or a hash of it.
type User struct {
	Password string `koanf:"password"`
	HA1      string `koanf:"ha1"` // lower-case hex MD5 or SHA-256 of user:realm:password
}

// A Rule of a table says by which interface sessions leave. The first that
// matches decides; an empty field matches anything.
type Rule struct {
	To        string `koanf:"to"`        // next hop: example.com, *.example.com, an address or a CIDR
	Scheme    string `koanf:"scheme"`    // msrp or msrps
	From      string `koanf:"from"`      // CIDR of the client's address
	Listener  string `koanf:"listener"`  // where the client authenticated
	Interface string `koanf:"interface"` // leaves by this one
	Deny      bool   `koanf:"deny"`      // or is refused
	Reason    string `koanf:"reason"`
}

// A Plugin is a WebAssembly module that answers hooks; see wasm.Settings for
// what each field means, and for the defaults.
type Plugin struct {
	File   string `koanf:"file"`   // watched
	SHA256 string `koanf:"sha256"` // that the file must have
	// Config is handed to the plugin: a text as it is, all else as JSON. Each
	// ${file:PATH} in it stands for the text of that file, which is watched.
	Config      any           `koanf:"config"`
	Memory      Size          `koanf:"memory"`
	Budget      Count         `koanf:"budget"`
	StartBudget Count         `koanf:"start_budget"`
	Timeout     time.Duration `koanf:"timeout"`
	Message     Size          `koanf:"message"`
	ByDeadline  bool          `koanf:"by_deadline"`
	Instances   Instances     `koanf:"instances"`
	Breaker     Breaker       `koanf:"breaker"`
	Grants      Grants        `koanf:"grants"`
	Store       Store         `koanf:"store"`
	Output      Output        `koanf:"output"`
}

// Instances bounds how many calls of a plugin run at once.
type Instances struct {
	Warm   int           `koanf:"warm"`
	Max    int           `koanf:"max"`
	Idle   time.Duration `koanf:"idle"`
	Calls  Count         `koanf:"calls"`
	Memory int           `koanf:"memory"` // percent
}

// A Breaker says when a plugin that fails is not asked for a while.
type Breaker struct {
	Failures  int           `koanf:"failures"`
	Probation time.Duration `koanf:"probation"`
}

// Grants are what a plugin may use.
type Grants struct {
	KV     bool     `koanf:"kv"`
	Clock  bool     `koanf:"clock"`
	Random bool     `koanf:"random"`
	HTTP   []string `koanf:"http"`
}

// Store bounds what a plugin keeps.
type Store struct {
	Size  Size `koanf:"size"`
	Key   Size `koanf:"key"`
	Value Size `koanf:"value"`
}

// Output bounds what a plugin logs.
type Output struct {
	Rate  float64 `koanf:"rate"` // lines a second
	Burst int     `koanf:"burst"`
}

// PluginCache is where compiled plugins are kept.
type PluginCache struct {
	Dir  string `koanf:"dir"`  // ours alone (mode 0700); default: in memory only
	Size Size   `koanf:"size"` // default 512MiB
}

// Admin is an HTTP listener for operators: metrics, health, profiles. It asks
// nobody who they are.
type Admin struct {
	Bind  string `koanf:"bind"`  // host:port; default: none
	Pprof bool   `koanf:"pprof"` // serve /debug/pprof, by which memory can be read
	Trace bool   `koanf:"trace"` // serve /debug/trace, by which chats can be read
}

// Drain says how the server ends.
type Drain struct {
	// Timeout is how long sessions may go on once it is to end. 0 = not at all.
	// In a file the default is 30 s.
	Timeout time.Duration `koanf:"timeout"`
}

// Reload says when the configuration is read again, beside at SIGHUP.
type Reload struct {
	// Watch reads the file when it has changed. In a file the default is true.
	Watch bool `koanf:"watch"`
}

// An Interface is where sessions leave by.
type Interface struct {
	Address  netip.Addr     `koanf:"address"`  // local address; default: the system's choice
	Listener string         `koanf:"listener"` // whose URI stands for the session on this side
	Allow    []netip.Prefix `koanf:"allow"`    // private ranges that may be dialled from here
}

// Relay configures RFC 4976.
type Relay struct {
	Realm   string  `koanf:"realm"` // of Digest; default: the host of the only listener URI
	Expires Expires `koanf:"expires"`
	Digest  Digest  `koanf:"digest"`
	Dial    Dial    `koanf:"dial"`
	Relays  Relays  `koanf:"relays"`
	// KeyFile lets nonces, and session URIs that were given through other relays,
	// outlive the process (RFC 4976 §6.3). It is made if it is not there.
	KeyFile string `koanf:"key_file"`
	Limits  Limits `koanf:"limits"`
	// Addresses says what counts as one address, for limits and bans.
	Addresses Addresses `koanf:"addresses"`
	Bans      Bans      `koanf:"bans"`
}

// Relays says which peers are relays: by mutual TLS (RFC 4976 §6.1).
type Relays struct {
	// CA is a PEM file of the authorities whose certificates make a peer a
	// relay, or "system" for those of the system. Default: no peer is one.
	CA    string   `koanf:"ca"`
	Allow []string `koanf:"allow"` // relay.example.com, *.example.com; default: all that CA vouches for
	Deny  []string `koanf:"deny"`  // their connections are closed
}

// Expires bounds the lifetime of session URIs.
type Expires struct {
	Default time.Duration `koanf:"default"` // 30m
	Min     time.Duration `koanf:"min"`     // 1m
	Max     time.Duration `koanf:"max"`     // 1h
}

// Digest configures challenges.
type Digest struct {
	Algorithms []string      `koanf:"algorithms"` // MD5, SHA-256; default MD5 only
	Lifetime   time.Duration `koanf:"lifetime"`   // of a nonce; default 2m
}

// Dial says where the relay may connect to on behalf of its clients.
type Dial struct {
	// Allow opens ranges that are closed by default: loopback, link-local,
	// private and the like.
	Allow []netip.Prefix `koanf:"allow"`
	// Deny closes further ranges.
	Deny []netip.Prefix `koanf:"deny"`
	// CA is a PEM file of authorities to trust beside the system's.
	CA string `koanf:"ca"`
	// Resolver is the DNS server to ask, as address:port. Default: the system's.
	Resolver netip.AddrPort `koanf:"resolver"`
}

// Limits bounds what peers can make the relay do; 0 stands for the default,
// which the commented configuration file names. See relay.Limits and
// msrp.Limits for what each means.
type Limits struct {
	Connections   int           `koanf:"connections"`
	Dialled       int           `koanf:"dialled"`
	DialledBy     int           `koanf:"dialled_by"`
	Sessions      int           `koanf:"sessions"`
	RelaySessions int           `koanf:"relay_sessions"`
	Peers         int           `koanf:"peers"`
	Failures      int           `koanf:"failures"`
	AuthFailures  int           `koanf:"auth_failures"`
	Handshake     time.Duration `koanf:"handshake"`
	DialTimeout   time.Duration `koanf:"dial_timeout"`
	DialAgain     time.Duration `koanf:"dial_again"`
	Path          Size          `koanf:"path"`
	Routes        int           `koanf:"routes"`
	Probation     time.Duration `koanf:"probation"`
	Idle          time.Duration `koanf:"idle"`
	Stall         time.Duration `koanf:"stall"`
	SharedStall   time.Duration `koanf:"shared_stall"`
	CloseSlow     bool          `koanf:"close_slow"`

	UserSessions       int           `koanf:"user_sessions"`
	AddressSessions    int           `koanf:"address_sessions"`
	AddressConnections int           `koanf:"address_connections"`
	SessionMessages    Count         `koanf:"session_messages"` // a minute
	SessionBytes       Size          `koanf:"session_bytes"`    // a second
	UserMessages       Count         `koanf:"user_messages"`
	UserBytes          Size          `koanf:"user_bytes"`
	Burst              time.Duration `koanf:"burst"`
	Throttle           time.Duration `koanf:"throttle"`
	Message            Size          `koanf:"message"`
	Chunk              Size          `koanf:"chunk"`

	Head        Size          `koanf:"head"`
	Headers     int           `koanf:"headers"`
	Piece       Size          `koanf:"piece"`
	OtherBody   Size          `koanf:"other_body"`
	Outbox      Size          `koanf:"outbox"`
	Answers     Size          `koanf:"answers"`
	Pending     int           `koanf:"pending"`
	Transaction time.Duration `koanf:"transaction"`
	Write       time.Duration `koanf:"write"`
}

// Addresses says which addresses are one peer, in limits and bans.
type Addresses struct {
	IPv4 int `koanf:"ipv4"` // length of the prefix that is one; default 32
	IPv6 int `koanf:"ipv6"` // default 64
	// Exempt are not counted, and never banned: proxies, and what else many come
	// through. Default: loopback; an empty list is nobody.
	Exempt []netip.Prefix `koanf:"exempt"`
}

// Bans says who is not listened to any more for wrong passwords; see
// limit.BansConfig for what each means.
type Bans struct {
	After    int           `koanf:"after"`     // wrong passwords; default 20, -1 = nobody is banned
	Window   time.Duration `koanf:"window"`    // within which; default 10m
	Delay    time.Duration `koanf:"delay"`     // of the third answer; default 1s, -1s = none
	MaxDelay time.Duration `koanf:"max_delay"` // it doubles up to that; default 8s
	Time     time.Duration `koanf:"time"`      // of the first ban; default 5m
	MaxTime  time.Duration `koanf:"max_time"`  // it doubles up to that; default 1h
	Entries  int           `koanf:"entries"`   // addresses that are remembered; default 10000
	File     string        `koanf:"file"`      // keeps them for the next start; default: none
}

func (r *Relay) addresses() limit.Addresses { return limit.Addresses(r.Addresses) }

func (r *Relay) bans() limit.BansConfig {
	b := &r.Bans
	return limit.BansConfig{
		Addresses: r.addresses(), After: b.After, Window: b.Window, Delay: b.Delay, MaxDelay: b.MaxDelay,
		Time: b.Time, MaxTime: b.MaxTime, Entries: b.Entries, File: b.File,
	}
}

// A Size is a number of bytes, written as 65536, 64KiB or 64KB.
type Size int64

// A Count is a number, written as 20000000, 20M or 20k.
type Count int64

func (l *Limits) relay() relay.Limits {
	return relay.Limits{
		Connections: l.Connections, Dialled: l.Dialled, DialledBy: l.DialledBy, Sessions: l.Sessions, RelaySessions: l.RelaySessions, Peers: l.Peers,
		Failures: l.Failures, AuthFailures: l.AuthFailures, Handshake: l.Handshake, Dial: l.DialTimeout,
		DialAgain: l.DialAgain, Path: int(l.Path), Routes: l.Routes,
		Probation: l.Probation, Idle: l.Idle, Stall: l.Stall, SharedStall: l.SharedStall, CloseSlow: l.CloseSlow,
		UserSessions: l.UserSessions, AddressSessions: l.AddressSessions, AddressConnections: l.AddressConnections,
		SessionMessages: int64(l.SessionMessages), SessionBytes: int64(l.SessionBytes),
		UserMessages: int64(l.UserMessages), UserBytes: int64(l.UserBytes), Burst: l.Burst, Throttle: l.Throttle,
		Message: int64(l.Message), Chunk: int64(l.Chunk),
		Conn: msrp.Limits{
			Head: int(l.Head), Headers: l.Headers, Piece: int(l.Piece), OtherBody: int(l.OtherBody),
			Outbox: int(l.Outbox), Answers: int(l.Answers), Pending: l.Pending,
			Transaction: l.Transaction, Write: l.Write,
		},
	}
}

// Log configures what is logged, to standard error.
type Log struct {
	Level  slog.Level `koanf:"level"`  // debug, info, warn, error; default info
	Format string     `koanf:"format"` // auto, text or json; auto is text on a terminal
	Trace  bool       `koanf:"trace"`  // the frames that trace.filter lets through
}

// Trace says which frames are shown, and where; log.trace shows them in the log.
type Trace struct {
	Filter TraceFilter `koanf:"filter"`
	File   TraceFile   `koanf:"file"`
	HEP    TraceHEP    `koanf:"hep"`
}

// TraceFilter says which frames; what is set must all be true. See [trace.Filter].
type TraceFilter struct {
	Session  string `koanf:"session"`
	User     string `koanf:"user"`
	Listener string `koanf:"listener"`
	Peer     string `koanf:"peer"` // address or prefix
	Bodies   bool   `koanf:"bodies"`
}

// TraceFile is a pcapng file. It is appended to; at Size it becomes PATH.1.
type TraceFile struct {
	Path string `koanf:"path"`
	Size Size   `koanf:"size"` // default 100 MiB
}

// TraceHEP is a Homer collector, which is sent HEPv3 over UDP.
type TraceHEP struct {
	Address  string `koanf:"address"` // host:port
	ID       uint32 `koanf:"id"`      // of this agent; default 2855
	Protocol uint8  `koanf:"protocol"`
	KeyFile  string `koanf:"key_file"` // what authenticates this agent; default: nothing
}
