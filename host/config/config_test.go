package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parley-msrp/parley/host"
)

const minimal = `
listeners:
  edge: {uri: "msrp://relay.example.com:2855;tcp"}
`

func TestParse(t *testing.T) {
	text := minimal + `
  two:
    uri: "msrp://[2001:db8::1]:2856;tcp"
    plain_auth: true
    hooks:
      authenticate: [u, {provider: u, timeout: 50ms, on_error: next, params: {group: eu, deep: {er: 1}}}]
providers:
  u: {type: static, users: {"alice@example.com": {password: 1234}}}
interfaces:
  core: {address: 10.0.0.1, allow: [10.0.0.0/8, "fd00::/8"]}
relay:
  realm: example.com
  expires: {max: 2h}
  limits: {outbox: 1MiB, head: 8000, answers: 2kB, close_slow: true}
log: {level: debug}
`
	cfg, err := Parse([]byte(text), []string{"PARLEY_RELAY__EXPIRES__MIN=2m", "PARLEY_PASSWORD=x", "PARLEY_RELAY__DIAL__ALLOW=10.0.0.0/8,192.168.0.0/16", "HOME=/"},
		map[string]string{"log.format": "json", "relay.realm": "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	two := cfg.Listeners["two"]
	for i, ok := range []bool{
		two.URI.Host == "2001:db8::1", two.PlainAuth, len(two.Hooks.Authenticate) == 2,
		two.Hooks.Authenticate[0].Provider == "u",
		two.Hooks.Authenticate[1].Timeout == 50*time.Millisecond && two.Hooks.Authenticate[1].OnError == "next",
		two.Hooks.Authenticate[1].Params["group"] == "eu",
		cfg.Providers["u"].Users["alice@example.com"].Password == "1234",
		cfg.Interfaces["core"].Address.String() == "10.0.0.1" && len(cfg.Interfaces["core"].Allow) == 2,
		cfg.Relay.Realm == "example.org", cfg.Relay.Expires == host.Expires{Min: 2 * time.Minute, Max: 2 * time.Hour},
		cfg.Relay.Limits.Outbox == 1<<20 && cfg.Relay.Limits.Head == 8000 && cfg.Relay.Limits.Answers == 2000 && cfg.Relay.Limits.CloseSlow,
		len(cfg.Relay.Dial.Allow) == 2, cfg.Log.Level == -4 && cfg.Log.Format == "json",
	} {
		if !ok {
			t.Errorf("check %d: %+v", i, cfg)
		}
	}
}

// webMinimal has a listener for WebSockets beside those with and without TLS.
func webMinimal(scheme, keys string) string {
	return "listeners:\n  edge: {uri: \"msrp://h.example:1;tcp\"}\n  tls: {uri: \"msrps://h.example:2;tcp\"}\n" +
		"  web: {uri: \"" + scheme + "://h.example:3;ws\", " + keys + "}\n"
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "listeners: there is none"},
		{"not YAML", "a: [", "not YAML"},
		{"a key twice", "log: {}\nlog: {}\n", "not YAML"},
		{"unknown key", minimal + "relais: {}\n", "relais: unknown key; known here: admin, drain, interfaces, listeners, log, plugin_cache, plugins, providers, relay, reload"},
		{"nearly a key", strings.Replace(minimal, "}", ", plainauth: true}", 1), "listeners.edge.plainauth: unknown key; did you mean plain_auth?"},
		{"unknown nested", minimal + "relay: {limits: {heads: 1}}\n", "relay.limits.heads: unknown key"},
		{"in a list", minimal + "providers: {t: {type: table, rules: [{too: x}]}}\n", "providers.t.rules.0.too: unknown key"},
		{"wrong type", minimal + "relay: {limits: {headers: many}}\n", "relay.limits.headers: "},
		{"a number for a map", minimal + "relay: 5\n", "relay: "},
		{"duration without unit", minimal + "relay: {limits: {idle: 30}}\n", "relay.limits.idle: 30 is no duration"},
		{"no size", minimal + "relay: {limits: {head: lots}}\n", `relay.limits.head: "lots" is no size`},
		{"negative size", minimal + "relay: {limits: {head: \"-5\"}}\n", `is no size`},
		{"no level", minimal + "log: {level: loud}\n", "log.level: "},
		{"no format", minimal + "log: {format: xml}\n", `log.format: "xml" is not auto, text or json`},
		{"no URI", "listeners: {a: {uri: nonsense}}\n", "listeners.a.uri: "},
		{"URI without port", "listeners: {a: {uri: \"msrp://h.example;tcp\"}}\n", "listeners.a.uri: needs a port, such as msrps://h.example:2855;tcp"},
		{"URI with session", "listeners: {a: {uri: \"msrp://h.example:1/secret;tcp\"}}\n", "listeners.a.uri: must not have a session-id"},
		{"wss", "listeners: {a: {uri: \"msrps://h.example:1;wss\"}}\n", `transport "wss" is not known; write ;tcp, or ;ws`},
		{"websocket without a way back", webMinimal("msrp", ""), "listeners.web.advertise: is needed"},
		{"websocket to a websocket", webMinimal("msrp", "advertise: web"), `listeners.web.advertise: "web" is for WebSockets, too`},
		{"websocket without TLS to TLS", webMinimal("msrp", "advertise: tls"), `listeners.web.advertise: the uri of "tls" is msrps`},
		{"websocket without TLS", webMinimal("msrp", "advertise: edge, bind: \":8080\""), "listeners.web.bind: WebSockets without TLS are for loopback only"},
		{"websocket without a certificate", webMinimal("msrps", "advertise: edge"), "listeners.web.tls.certificate: a file is needed"},
		{"websocket with a proxy and TLS", webMinimal("msrps", "advertise: edge, tls: {key: x}, websocket: {proxies: [10.0.0.0/8]}"), "listeners.web.tls: websocket.proxies do the TLS"},
		{"websocket without TLS behind a proxy", webMinimal("msrp", "advertise: edge, websocket: {proxies: [10.0.0.0/8]}"), "listeners.web.uri: browsers come to the proxy with wss"},
		{"websocket origin", webMinimal("msrp", "advertise: edge, websocket: {origins: [\"*\", app.example]}"), `listeners.web.websocket.origins.1: "app.example" is not an origin`},
		{"websocket path", webMinimal("msrp", "advertise: edge, websocket: {path: msrp}"), `listeners.web.websocket.path: "msrp" does not begin with /`},
		{"websocket of a tcp listener", strings.Replace(minimal, "}", ", websocket: {ping: 1s}}", 1), "listeners.edge.websocket: the uri is not one for WebSockets"},
		{"websocket as an interface", webMinimal("msrp", "advertise: edge") + "interfaces: {i: {listener: web}}\n", "interfaces.i.listener: nobody can be reached"},
		{"no uri at all", "listeners: {a: {bind: \":1\"}}\n", "listeners.a.uri: is needed"},
		{"bind", strings.Replace(minimal, "}", ", bind: nonsense}", 1), "listeners.edge.bind: "},
		{"bind port", strings.Replace(minimal, "}", ", bind: \":x\"}", 1), `listeners.edge.bind: "x" is no port`},
		{"TLS missing", "listeners: {a: {uri: \"msrps://h.example:1;tcp\"}}\n", "listeners.a.tls.certificate: a file is needed"},
		{"TLS too much", strings.Replace(minimal, "}", ", tls: {key: x}}", 1), "listeners.edge.tls: the listener's uri is msrp"},
		{"any proxy", strings.Replace(minimal, "}", ", proxy_protocol: [10.0.0.7/32, \"::/0\"]}", 1), "listeners.edge.proxy_protocol.1: ::/0 lets everybody claim any address"},
		{"proxy", strings.Replace(minimal, "}", ", proxy_protocol: [10.0.0.7]}", 1), "listeners.edge.proxy_protocol"},
		{"advertise", strings.Replace(minimal, "}", ", advertise: x}", 1), `listeners.edge.advertise: there is no listener "x"`},
		{
			"wrong provider", strings.Replace(minimal, "}", ", plain_auth: true, hooks: {authenticate: [t]}}", 1) + "providers: {t: {type: table}}\n",
			`listeners.edge.hooks.authenticate.0: provider "t" of type "table" does not answer this hook; types that do: static, htdigest`,
		},
		{
			"on_error", strings.Replace(minimal, "}", ", plain_auth: true, hooks: {authenticate: [{provider: t, on_error: allow}]}}", 1) + "providers: {t: {type: static, users: {a: {ha1: x}}}}\n",
			`listeners.edge.hooks.authenticate.0.on_error: "allow" is not deny or next`,
		},
		{"user", minimal + "providers: {t: {type: static, users: {a: {}}}}\n", "providers.t.users.a: needs either password or ha1"},
		{"neither provider nor plugin", strings.Replace(minimal, "}", ", plain_auth: true, hooks: {authenticate: [{timeout: 1s}]}}", 1), "listeners.edge.hooks.authenticate.0: needs either provider"},
		{"unknown plugin", strings.Replace(minimal, "}", ", plain_auth: true, hooks: {authenticate: [{plugin: p}]}}", 1), `authenticate.0: there is no plugin "p"; define it under plugins`},
		{
			"a plugin for a provider", strings.Replace(minimal, "}", ", plain_auth: true, hooks: {authenticate: [p]}}", 1) + "plugins: {p: {file: config.go}}\n",
			`authenticate.0: "p" is a plugin: write {plugin: p}`,
		},
		{"plugin without a file", minimal + "plugins: {p: {file: nowhere.wasm}}\n", "plugins.p.file: stat nowhere.wasm"},
		{"settings of a plugin", minimal + "plugins: {p: {file: config.go, memory: 1KiB, instances: {warm: 9}}}\n", "plugins.p.memory: 1024 bytes are less than a page"},
		{"grant of a plugin", minimal + "plugins: {p: {file: config.go, grants: {http: [nowhere]}}}\n", `plugins.p.grants.http.0: "nowhere" is not a URL`},
		{"unknown grant", minimal + "plugins: {p: {file: config.go, grants: {files: true}}}\n", "plugins.p.grants.files: unknown key; known here: clock, http, kv, random"},
		{"no count", minimal + "plugins: {p: {file: config.go, budget: much}}\n", `plugins.p.budget: "much" is no number; write it as 20000000, 20M or 20k`},
		{"file of a plugin's configuration", minimal + "plugins: {p: {file: config.go, config: {users: \"${file:nowhere.csv}\"}}}\n", "plugins.p.config: stat nowhere.csv"},
		{"admin bind", minimal + "admin: {bind: nowhere}\n", "admin.bind: "},
		{"admin on a listener's port", minimal + "admin: {bind: \"127.0.0.1:2855\"}\n", "admin.bind: 127.0.0.1:2855 is the address of listeners.edge, too"},
		{"a name taken", strings.Replace(minimal, "edge", "dialled", 1), "listeners.dialled: stands for connections to next hops"},
		{"pprof without a listener", minimal + "admin: {pprof: true}\n", "admin.bind: is needed for pprof"},
		{"interface of a rule", minimal + "providers: {t: {type: table, rules: [{interface: x}]}}\n", `providers.t.rules.0.interface: there is no interface "x"`},
		{"interface's listener", minimal + "interfaces: {i: {listener: x}}\n", `interfaces.i.listener: there is no listener "x"`},
		{"media type", strings.Replace(minimal, "}", ", media_types: [text/plain, text, \"image/*\"]}", 1), `listeners.edge.media_types.1: "text" is no media type`},
		{"media type with a parameter", strings.Replace(minimal, "}", ", media_types: [text/plain;charset=utf-8]}", 1), "listeners.edge.media_types.0: "},
		{"negative limit", minimal + "relay: {limits: {user_sessions: -1}}\n", "relay.limits.user_sessions: must not be negative"},
		{"prefix length", minimal + "relay: {addresses: {ipv4: 33}}\n", "relay.addresses.ipv4: /33 is no prefix length"},
		{"exempt", minimal + "relay: {addresses: {exempt: [\"::ffff:10.0.0.0/104\"]}}\n", "relay.addresses.exempt.0: write "},
		{"bans", minimal + "relay: {bans: {time: 2h, max_time: 1h}}\n", "relay.bans.max_time: must not be less than time"},
		{"directory of bans", minimal + "relay: {bans: {file: nowhere/bans.json}}\n", "relay.bans.file: stat nowhere"},
		{"algorithm", minimal + "relay: {digest: {algorithms: [SHA1]}}\n", "relay.digest.algorithms.0: "},
		{"expires", minimal + "relay: {expires: {min: 2h, max: 1h}}\n", "relay.expires: must grow"},
		{"resolver", minimal + "relay: {dial: {resolver: dns.example}}\n", "relay.dial.resolver"},
		{"prefix", minimal + "relay: {dial: {allow: [ten]}}\n", "relay.dial.allow"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text), nil, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestPlugins(t *testing.T) {
	text := strings.Replace(minimal, "}", ", plain_auth: true, hooks: {authenticate: [{plugin: p, params: {group: eu}, on_error: next}]}}", 1) + `
plugins:
  p:
    file: config.go
    config: {users: {"a.b@example.com": {n: 1}}, list: [1, "x"]}
    memory: 16MiB
    budget: 20M
    start_budget: 500k
    timeout: 50ms
    instances: {warm: 2, max: 4, idle: 5m, calls: 1000, memory: 50}
    breaker: {failures: -1, probation: 10s}
    grants: {kv: true, clock: true, http: ["https://h.example/"]}
    store: {size: 1MiB, key: 100, value: 1KiB}
    output: {rate: 0.5, burst: 3}
plugin_cache: {dir: cache, size: 1GiB}
`
	cfg, err := Parse([]byte(text), []string{"PARLEY_PLUGINS__P__CONFIG__SECRET=s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := host.Plugin{
		File: "config.go", Memory: 16 << 20, Budget: 20e6, StartBudget: 500e3, Timeout: 50 * time.Millisecond,
		Config: map[string]any{
			"users": map[string]any{"a.b@example.com": map[string]any{"n": 1}}, "list": []any{1, "x"}, "secret": "s",
		},
		Instances: host.Instances{Warm: 2, Max: 4, Idle: 5 * time.Minute, Calls: 1000, Memory: 50},
		Breaker:   host.Breaker{Failures: -1, Probation: 10 * time.Second},
		Grants:    host.Grants{KV: true, Clock: true, HTTP: []string{"https://h.example/"}},
		Store:     host.Store{Size: 1 << 20, Key: 100, Value: 1 << 10},
		Output:    host.Output{Rate: 0.5, Burst: 3},
	}
	if diff := cmp.Diff(want, cfg.Plugins["p"]); diff != "" {
		t.Error(diff)
	}
	b := cfg.Listeners["edge"].Hooks.Authenticate[0]
	if b.Plugin != "p" || b.Provider != "" || b.Params["group"] != "eu" || b.OnError != "next" {
		t.Errorf("%+v", b)
	}
	if cfg.PluginCache != (host.PluginCache{Dir: "cache", Size: 1 << 30}) {
		t.Errorf("%+v", cfg.PluginCache)
	}
}

// TestAllAtOnce: one run reports every fault.
func TestAllAtOnce(t *testing.T) {
	_, err := Parse([]byte("listeners: {a: {uri: \"msrps://h:1;tcp\", x: 1, bind: z}}\nlog: {format: q, y: 2}\n"), nil, nil)
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 6 {
		t.Errorf("%d faults: %v", len(faults), err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(Sources{File: filepath.Join(dir, "none.yaml")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Sources{File: file}); err == nil || !strings.HasPrefix(err.Error(), file+": 2 faults\n") {
		t.Errorf("%v", err)
	}
}

// FuzzConfig: whatever the file holds, there is an error or a configuration
// that has a listener; never a panic.
func FuzzConfig(f *testing.F) {
	f.Add(minimal)
	f.Add("listeners: {a: {uri: \"msrps://h:1;tcp\", hooks: {authenticate: [x, {provider: y}]}}}\n")
	f.Add("relay: {limits: {head: 64KiB, idle: -1s}, dial: {allow: [10.0.0.0/8]}}\n")
	f.Add("a: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := Parse([]byte(text), nil, nil)
		if err == nil && len(cfg.Listeners) == 0 {
			t.Errorf("accepted without a listener: %q", text)
		}
	})
}

func TestLimits(t *testing.T) {
	text := strings.Replace(minimal, "}", ", media_types: [text/plain, image/*, \"*\"]}", 1) + `
relay:
  limits: {user_sessions: 5, address_sessions: 6, address_connections: -1, session_messages: 1k, session_bytes: 1MB, user_messages: 7, user_bytes: 8, burst: 2s, throttle: -1s, message: 10MB, chunk: 64KiB}
  addresses: {ipv4: 24, ipv6: 56, exempt: []}
  bans: {after: 5, window: 1m, delay: 2s, max_delay: 4s, time: 1m, max_time: 2m, entries: 100, file: bans.json}
`
	cfg, err := Parse([]byte(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(host.Limits{
		UserSessions: 5, AddressSessions: 6, AddressConnections: -1, SessionMessages: 1000, SessionBytes: 1e6, UserMessages: 7, UserBytes: 8,
		Burst: 2 * time.Second, Throttle: -time.Second, Message: 10e6, Chunk: 64 << 10,
	}, cfg.Relay.Limits); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(host.Bans{
		After: 5, Window: time.Minute, Delay: 2 * time.Second, MaxDelay: 4 * time.Second, Time: time.Minute, MaxTime: 2 * time.Minute, Entries: 100, File: "bans.json",
	}, cfg.Relay.Bans); diff != "" {
		t.Error(diff)
	}
	if a := cfg.Relay.Addresses; a.IPv4 != 24 || a.IPv6 != 56 || a.Exempt == nil || len(a.Exempt) != 0 {
		t.Errorf("%+v", a) // an empty list is not the default
	}
	if len(cfg.Listeners["edge"].MediaTypes) != 3 {
		t.Errorf("%v", cfg.Listeners["edge"].MediaTypes)
	}
}
