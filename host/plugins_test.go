package host_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/config"
	"github.com/parley-msrp/parley/host/msrptest"
)

// A logBuffer is where a server logs to, and what can be waited for.
type logBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed by the next line
}

func newLog() (*logBuffer, *slog.Logger) {
	l := &logBuffer{more: make(chan struct{})}
	return l, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// want waits for the n-th line that contains all parts, and returns it.
func (l *logBuffer) want(t *testing.T, n int, parts ...string) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		text, more := l.b.String(), l.more
		l.mu.Unlock()
		found := 0
	lines:
		for line := range strings.Lines(text) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue lines
				}
			}
			if found++; found == n {
				return line
			}
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("%d lines with %q, want %d, in\n%s", found, parts, n, text)
		}
	}
}

// guest copies a plugin module to a new file.
func guest(t *testing.T, name, file string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../testdata/guests", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, string(b))
}

// write replaces a file as editors do.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+"~", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+"~", file); err != nil {
		t.Fatal(err)
	}
}

// pluginSite is a relay with listeners one and two, whose hooks are given, and
// these plugins: users (alice and carol by password), trap (which traps) and
// closed (which refuses everybody).
func pluginSite(t *testing.T, one, two string) (*site, *logBuffer) {
	t.Helper()
	dir := t.TempDir()
	guest(t, "example-c", filepath.Join(dir, "users.wasm"))
	guest(t, "bad/trap", filepath.Join(dir, "trap.wasm"))
	guest(t, "example-wat", filepath.Join(dir, "closed.wasm"))
	guest(t, "example-rust", filepath.Join(dir, "prefix.wasm"))
	write(t, filepath.Join(dir, "users"), "alice:secret\ncarol:secret\n")
	log, logger := newLog()
	return newSiteOf(t, msrptest.NewAuthority(t), fmt.Sprintf(`
listeners:
  one: {uri: "msrp://localhost:PORT1;tcp", plain_auth: true, hooks: %s}
  two: {uri: "msrp://localhost:PORT2;tcp", plain_auth: true, hooks: %s}
interfaces:
  core: {listener: two}
providers:
  static: {type: static, users: {bob: {password: secret}}}
  table: {type: table, rules: [{deny: true, reason: "by the table"}]}
plugins:
  users: {file: %[3]q, config: "${file:%[4]s/users}"}
  trap: {file: "%[4]s/trap.wasm", breaker: {failures: -1}}
  closed: {file: "%[4]s/closed.wasm"}
  prefix: {file: "%[4]s/prefix.wasm"}
relay: {realm: example, dial: {allow: [127.0.0.0/8, "::1/128"]}}
`, one, two, filepath.Join(dir, "users.wasm"), dir), logger), log
}

// TestPluginChains: two listeners ask different chains, of plugins and built-in
// providers; what a failure means is the binding's to say.
func TestPluginChains(t *testing.T) {
	w, log := pluginSite(t,
		`{authenticate: [{plugin: trap, on_error: next}, {plugin: users}, static]}`,
		`{authenticate: [{plugin: users}, {plugin: trap, on_error: deny}, static]}`)
	for _, tt := range []struct {
		listener, user string
		code           int
	}{
		{"one", "alice", 200}, // after a failure that means next
		{"one", "bob", 200},   // by the third
		{"one", "dave", 401},  // nobody knows
		{"two", "alice", 200}, // the first decides
		{"two", "bob", 403},   // the second fails, which means deny
		{"two", "dave", 403},
	} {
		a := w.dial(tt.listener, tt.user, false, nil)
		r := a.auth(fmt.Sprintf("msrp://localhost:%d;tcp", w.ports[tt.listener]), tt.user)
		if r.Code != tt.code {
			t.Errorf("%s at %s: %d %s, want %d", tt.user, tt.listener, r.Code, r.Comment, tt.code)
		}
	}
	// One record each, with all that is known.
	line := log.want(t, 5, "a provider failed")
	for _, part := range []string{"listener=two", "failure.plugin=trap", "failure.kind=trap", "failure.hook=on_authenticate", "unreachable", "failure.stack="} {
		if !strings.Contains(line, part) {
			t.Errorf("%q lacks %q", line, part)
		}
	}
	if n := strings.Count(log.String(), "a provider failed"); n != 5 {
		t.Errorf("%d records", n)
	}
	for _, secret := range []string{"secret", "Authorization"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// TestPluginInterface: a plugin chooses by the parameters of its binding; where
// it has no opinion the next provider decides.
func TestPluginInterface(t *testing.T) {
	hooks := `{authenticate: [static, {plugin: users}], select_interface: [{plugin: prefix, params: {prefix: %q, interface: core}}, table]}`
	w, _ := pluginSite(t, fmt.Sprintf(hooks, "127."), fmt.Sprintf(hooks, "10."))
	ln, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	b, stop := listen(t, ln, "msrp")
	defer stop()
	for _, tt := range []struct{ listener, want string }{{"one", "<nil>"}, {"two", "by the table"}} {
		a := w.client(tt.listener, "alice", false, nil)
		err := a.send(a.session(a.use, b.uri), []byte("hi"), 0)
		if !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: %v, want %s", tt.listener, err, tt.want)
		}
	}
}

// TestPluginReload: users and modules change while a chat goes on.
func TestPluginReload(t *testing.T) {
	w, log := pluginSite(t, `{authenticate: [{plugin: users}]}`, `{authenticate: [static]}`)
	dir := filepath.Dir(w.s.Plugins()[0].Info().File)
	a, b := w.client("one", "alice", false, nil), w.client("two", "bob", false, nil)
	b.session()
	s := a.session(a.use, b.use, b.uri)
	chat := func() {
		t.Helper()
		if err := a.send(s, []byte("hi"), 0); err != nil || <-b.got != "hi" {
			t.Error("the chat is disturbed", err)
		}
	}
	is := func(user string, code int) {
		t.Helper()
		chat()
		if r := w.dial("one", user, false, nil).auth(fmt.Sprintf("msrp://localhost:%d;tcp", w.ports["one"]), user); r.Code != code {
			t.Errorf("%s: %d %s, want %d", user, r.Code, r.Comment, code)
		}
	}
	is("carol", 200)
	is("dave", 401)
	// By the file that the configuration takes in.
	write(t, filepath.Join(dir, "users"), "dave:secret\n")
	log.want(t, 2, "plugin loaded", "plugin=users")
	is("carol", 401)
	is("dave", 200)
	// A configuration that the plugin refuses changes nothing, and says why.
	write(t, filepath.Join(dir, "users"), "erin:secret\nnonsense\n")
	log.want(t, 1, "plugin not reloaded", "plugin=users", "line 2")
	is("erin", 401)
	is("dave", 200)
	// Neither does a module without the function that the listener needs, or
	// none at all.
	guest(t, "example-rust", filepath.Join(dir, "users.wasm"))
	write(t, filepath.Join(dir, "users"), "erin:secret\n")
	log.want(t, 1, "plugin not reloaded", "on_authenticate")
	write(t, filepath.Join(dir, "users.wasm"), "garbage")
	log.want(t, 1, "plugin not reloaded", "not a WebAssembly module")
	is("dave", 200)
	// Another module.
	guest(t, "example-wat", filepath.Join(dir, "users.wasm"))
	log.want(t, 3, "plugin loaded", "plugin=users")
	is("dave", 403)
	// On request, without waiting for the watch.
	guest(t, "example-c", filepath.Join(dir, "users.wasm"))
	if diff, err := w.s.Reload(t.Context(), w.cfg); err != nil || len(diff) > 0 {
		t.Error(diff, err)
	}
	is("erin", 200)
	chat()
}

// TestPluginFaults: what is wrong with plugins shows before anything listens.
func TestPluginFaults(t *testing.T) {
	dir := t.TempDir()
	guest(t, "example-c", filepath.Join(dir, "users.wasm"))
	guest(t, "example-rust", filepath.Join(dir, "prefix.wasm"))
	guest(t, "bad/component", filepath.Join(dir, "component.wasm"))
	for _, tt := range []struct{ name, plugins, hooks, want string }{
		{
			"another hook", `{p: {file: "DIR/prefix.wasm"}}`, `{authenticate: [{plugin: p}]}`,
			"listeners.one.hooks.authenticate.0: plugin p does not export on_authenticate; it exports [on_select_interface]",
		},
		{"no plugin", `{p: {file: "DIR/component.wasm"}}`, `{}`, "plugins.p: plugin p: it is a component"},
		{"refused", `{p: {file: "DIR/users.wasm", config: "nonsense"}}`, `{}`, "plugins.p: plugin p: on_load"},
		{"another file", `{p: {file: "DIR/users.wasm", sha256: "` + strings.Repeat("00", 32) + `"}}`, `{}`, "has SHA-256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := fmt.Sprintf("listeners: {one: {uri: \"msrp://localhost:1;tcp\", plain_auth: true, hooks: %s}}\nplugins: %s\n", tt.hooks, tt.plugins)
			cfg, err := config.Parse([]byte(strings.ReplaceAll(text, "DIR", dir)), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := host.New(cfg, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestBadPlugins: whatever a plugin does, a chat beside it loses nothing, and
// waits no longer than the log says.
func TestBadPlugins(t *testing.T) {
	dir := t.TempDir()
	var names []string
	plugins, listeners := "", ""
	for _, name := range []string{"trap", "spin", "recurse", "calls", "alloc", "table", "hugereply", "badptr-read", "malformed", "wrongtype", "printing", "logflood", "sleep", "exit"} {
		guest(t, "bad/"+name, filepath.Join(dir, name+".wasm"))
		names = append(names, name)
		plugins += fmt.Sprintf("  %s: {file: %q, breaker: {failures: -1}}\n", name, filepath.Join(dir, name+".wasm"))
		listeners += fmt.Sprintf("  %[1]s: {uri: \"msrp://localhost:1;tcp\", bind: \"localhost:0\", plain_auth: true, hooks: {authenticate: [{plugin: %[1]s}]}}\n", name)
	}
	log, logger := newLog()
	w := newSiteOf(t, msrptest.NewAuthority(t), "listeners:\n  good: {uri: \"msrp://localhost:PORT1;tcp\", plain_auth: true, hooks: {authenticate: [static]}}\n"+listeners+
		"plugins:\n"+plugins+"providers: {static: {type: static, users: {alice: {password: secret}, bob: {password: secret}}}}\nrelay: {realm: example}\n", logger)
	a, b := w.client("good", "alice", false, nil), w.client("good", "bob", false, nil)
	b.session()
	s := a.session(a.use, b.use, b.uri)
	round := func() time.Duration {
		begin := time.Now()
		if err := a.send(s, []byte("hi"), 0); err != nil || <-b.got != "hi" {
			t.Error("the chat is disturbed", err)
		}
		return time.Since(begin)
	}
	var quiet time.Duration
	for range 100 {
		quiet = max(quiet, round())
	}
	t.Logf("worst round of the chat, with no plugin at work: %v", quiet)
	for _, name := range names {
		c := w.dial(name, "mallory", false, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 3 {
				if r := c.auth("msrp://localhost:1;tcp", "mallory"); r.Code != 403 {
					t.Errorf("%s: %d %s", name, r.Code, r.Comment)
				}
			}
		}()
		var worst time.Duration
		for n := 0; ; n++ {
			select {
			case <-done:
			default:
				worst = max(worst, round())
				continue
			}
			break
		}
		t.Logf("worst round of the chat beside %-12s %v", name+":", worst)
		log.want(t, 3, "a provider failed", "listener="+name)
	}
}

// TestFailureFlood: however often a provider fails, the log is bounded, and says
// how much it has left out.
func TestFailureFlood(t *testing.T) {
	w, log := pluginSite(t, `{authenticate: [{plugin: trap, on_error: next}, {plugin: users}]}`, `{authenticate: [static]}`)
	a := w.dial("one", "alice", false, nil)
	tries := 0
	for ; !strings.Contains(log.String(), "records_dropped=") && tries < 5000; tries++ {
		if r := a.auth(fmt.Sprintf("msrp://localhost:%d;tcp", w.ports["one"]), "alice"); !r.OK() {
			t.Fatalf("%d %s", r.Code, r.Comment)
		}
	}
	if n := strings.Count(log.String(), "a provider failed"); n < 100 || n >= tries {
		t.Errorf("%d records of %d failures", n, tries)
	}
}
