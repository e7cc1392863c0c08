package host_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/config"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

// loaded is how many sessions the tests under load have: PARLEY_SESSIONS. It is even.
func loaded(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("PARLEY_SESSIONS")); err == nil {
		return n &^ 1
	}
	if testing.Short() {
		return 20
	}
	return 100
}

func (w *site) reload(text string) (host.Diff, error) {
	w.t.Helper()
	cfg, err := config.Parse([]byte(text), nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.Drain.Timeout = w.cfg.Drain.Timeout
	return w.s.Reload(w.t.Context(), cfg)
}

// load connects n/2 pairs of clients with a session each, and sends from one to
// the other, one message after the other, until stop is closed or a send fails.
func (w *site) load(n int, stop <-chan struct{}) (agents []*agent, sent, failed *atomic.Int64, wait func()) {
	sent, failed = new(atomic.Int64), new(atomic.Int64)
	var senders sync.WaitGroup
	start := make(chan struct{})
	defer close(start) // connecting is slow beside senders
	for i := range n / 2 {
		from, to := "tls", "tcp"
		if i%2 == 0 {
			from, to = to, from
		}
		a, b := w.client(from, "alice", from == "tls", nil), w.client(to, "bob", to == "tls", nil)
		b.session()
		s := a.session(a.use, b.use, b.uri)
		agents = append(agents, a, b)
		senders.Go(func() {
			<-start
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				want := fmt.Sprint("message ", k)
				if err := a.send(s, []byte(want), 0); err != nil {
					failed.Add(1)
					w.t.Errorf("message %d: %v", k, err)
					return
				}
				if got := <-b.got; got != want {
					w.t.Errorf("got %q, want %q", got, want)
				}
				sent.Add(1)
			}
		})
	}
	return agents, sent, failed, senders.Wait
}

// serial connects to a TLS listener and returns the number of the certificate it
// shows.
func (w *site) serial(listener string) string {
	w.t.Helper()
	nc, err := tls.Dial("tcp", w.s.Addr(listener).String(), &tls.Config{RootCAs: w.roots, ServerName: "localhost"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer nc.Close()
	return nc.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestReloadUnderLoad: configuration and certificate change ten times while
// sessions send. Nothing is lost, each handshake after a reload sees the new
// certificate, and no connection ends.
func TestReloadUnderLoad(t *testing.T) {
	ca := msrptest.NewAuthority(t)
	w := newSiteOf(t, ca, twoListeners, nil)
	stop := make(chan struct{})
	agents, sent, failed, wait := w.load(loaded(t), stop)
	serials := map[string]bool{w.serial("tls"): true}
	begin := time.Now()
	var longest time.Duration
	for i := range 10 {
		before := sent.Load()
		ca.Files(w.dir, "good", "localhost")
		text := strings.Replace(w.text, "relay:\n", fmt.Sprintf("relay:\n  expires: {max: %dm}\n  limits: {sessions: %d}\n", 61+i, 1000+i), 1)
		if i%2 == 0 {
			text = strings.Replace(text, "providers:", "  extra: {uri: \"msrp://localhost:PORT3;tcp\", bind: \"127.0.0.1:0\"}\nproviders:", 1)
			text = strings.ReplaceAll(text, "PORT3", "9999")
		}
		at := time.Now()
		diff, err := w.reload(text)
		longest = max(longest, time.Since(at))
		if err != nil || len(diff) < 2 {
			t.Fatal(diff, err)
		}
		if serials[w.serial("tls")] {
			t.Error("the certificate served is an old one")
		}
		serials[w.serial("tls")] = true
		for sent.Load() < before+int64(loaded(t)/2) && failed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	wait()
	t.Logf("%d sessions, 10 reloads in %v, the longest %v: %d messages sent, %d lost", loaded(t), time.Since(begin).Round(time.Millisecond), longest, sent.Load(), failed.Load())
	if failed.Load() > 0 || w.s.Relay().Stats().Sessions != loaded(t) || len(serials) != 11 {
		t.Errorf("%d failed; %d sessions; %d certificates", failed.Load(), w.s.Relay().Stats().Sessions, len(serials))
	}
	for _, a := range agents {
		if err := a.c.Err(); err != nil {
			t.Error("a connection ended:", err)
		}
	}
}

// TestReloadAllOrNothing: what cannot be taken changes nothing.
func TestReloadAllOrNothing(t *testing.T) {
	w := newSite(t, twoListeners)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a := w.client("tls", "alice", true, nil)
	for name, change := range map[string][2]string{
		"cannot bind":     {"providers:", "  extra: {uri: \"msrp://localhost:9999;tcp\", bind: \"" + taken.Addr().String() + "\"}\nproviders:"},
		"bad certificate": {"good.key", "other.key"},
	} {
		text := strings.Replace(w.text, change[0], change[1], 1)
		text = strings.ReplaceAll(text, "alice", "carol")
		if diff, err := w.reload(text); err == nil {
			t.Errorf("%s: %v", name, diff)
		}
	}
	if r := a.auth(fmt.Sprintf("msrps://localhost:%d;tcp", w.ports["tls"]), "alice"); !r.OK() {
		t.Errorf("alice: %d", r.Code)
	}
}

// TestReloadLive: sessions that live on are decided by the new chains; listeners
// come, move and go.
func TestReloadLive(t *testing.T) {
	w := newSite(t, twoListeners)
	a, b := w.client("tls", "alice", true, nil), w.client("tcp", "bob", false, nil)
	b.session()
	s := a.session(a.use, b.use, b.uri)
	old := w.s.Addr("tcp").String()
	text := strings.ReplaceAll(w.text, "alice", "carol")
	text = strings.Replace(text, "uri: \"msrp:", "bind: \"127.0.0.1:0\"\n    uri: \"msrp:", 1)
	diff, err := w.reload(text)
	if err != nil || len(diff) != 3 || diff[0].Key != "listeners.tcp.bind" || diff[1].Key != "providers.users.users.alice" {
		t.Fatal(diff, err)
	}
	if r := a.auth(fmt.Sprintf("msrps://localhost:%d;tcp", w.ports["tls"]), "alice"); r.Code != 401 {
		t.Errorf("alice is gone: %d", r.Code)
	}
	if err := a.send(s, []byte("still here"), 0); err != nil || <-b.got != "still here" {
		t.Error(err)
	}
	if nc, err := net.Dial("tcp", old); err == nil {
		nc.Close()
		t.Error("the old address still accepts")
	}
	if nc, err := net.Dial("tcp", w.s.Addr("tcp").String()); err != nil {
		t.Error(err)
	} else {
		nc.Close()
	}
	// Without the listener tcp, its session goes on, and AUTH there does not.
	gone := text[:strings.Index(text, "  tcp:")] + text[strings.Index(text, "providers:"):]
	if _, err := w.reload(gone); err != nil {
		t.Fatal(err)
	}
	if err := a.send(s, []byte("and here"), 0); err != nil || <-b.got != "and here" {
		t.Error(err)
	}
	if r := b.auth(fmt.Sprintf("msrp://localhost:%d;tcp", w.ports["tcp"]), "bob"); r.Code != 403 {
		t.Errorf("AUTH at a listener that is gone: %d", r.Code)
	}
}

// TestReloadNeedsRestart: what cannot change stays, and is said each time.
func TestReloadNeedsRestart(t *testing.T) {
	w := newSite(t, twoListeners)
	text := strings.Replace(w.text, "msrp://localhost:", "msrp://localhost:1", 1)
	for range 2 {
		diff, err := w.reload(strings.Replace(text, fmt.Sprint("localhost:1", w.ports["tcp"]), "localhost:1", 1))
		if err != nil || len(diff) != 1 || !diff[0].Restart || diff[0].Key != "listeners.tcp.uri" {
			t.Fatal(diff, err)
		}
	}
	w.client("tcp", "alice", false, nil)
}

// TestCompare: keys by their paths, secrets masked.
func TestCompare(t *testing.T) {
	old := host.Config{
		Providers: map[string]host.Provider{"p": {Type: "static", Users: map[string]host.User{"a": {Password: "hidden-1"}}}},
		Plugins:   map[string]host.Plugin{"x": {Config: "hidden-2"}, "y": {}},
		Relay:     host.Relay{Expires: host.Expires{Max: time.Hour}, KeyFile: "one"},
		Listeners: map[string]host.Listener{"l": {Hooks: host.Hooks{Authenticate: []host.Binding{{Provider: "p"}}}}},
	}
	next := host.Config{
		Providers: map[string]host.Provider{"p": {Type: "static", Users: map[string]host.User{"a": {Password: "hidden-3"}}}},
		Plugins:   map[string]host.Plugin{"x": {Config: "hidden-4"}, "z": {}},
		Relay:     host.Relay{Expires: host.Expires{Max: 2 * time.Hour}, KeyFile: "two"},
		Listeners: map[string]host.Listener{"l": {URI: msrp.URI{Host: "h"}, Hooks: host.Hooks{Authenticate: []host.Binding{{Provider: "q"}}}}},
	}
	var got strings.Builder
	for _, c := range host.Compare(&old, &next) {
		fmt.Fprintf(&got, "%s %v", c.Key, c.Restart)
		if c.Key != "listeners.l.uri" {
			fmt.Fprintf(&got, " %s>%s", c.Old, c.New)
		}
		got.WriteByte('\n')
	}
	want := `listeners.l.hooks.authenticate.0.provider false p>q
listeners.l.uri true
plugins.x.config false (not shown)>(not shown)
plugins.y false (removed)>
plugins.z false >(added)
providers.p.users.a.password false (not shown)>(not shown)
relay.expires.max false 1h0m0s>2h0m0s
relay.key_file true one>two
`
	if got.String() != want {
		t.Errorf("got\n%s", got.String())
	}
}

// TestReloadLimits: limits, bans and media types count at once, also for
// connections that are there, and who is banned stays so.
func TestReloadLimits(t *testing.T) {
	text := strings.Replace(twoListeners, "relay:\n", "relay:\n  addresses: {exempt: []}\n  bans: {after: 100}\n", 1)
	w := newSite(t, text)
	a, b := w.client("tls", "alice", true, nil), w.client("tcp", "bob", false, nil)
	b.session()
	s := a.session(a.use, b.use, b.uri)
	try := func(change ...string) error {
		t.Helper()
		w.text = strings.NewReplacer(change...).Replace(w.text)
		if diff, err := w.reload(w.text); err != nil || len(diff) != len(change)/2 || diff[0].Restart {
			t.Fatal(diff, err)
		}
		return a.send(s, []byte("hello"), 0)
	}
	if err := try("after: 100", "after: 1"); err != nil || <-b.got != "hello" {
		t.Error(err)
	}
	for range 3 { // alice and bob share the blame
		if r := w.dial("tcp", "eve", false, nil).auth(fmt.Sprintf("msrp://localhost:%d;tcp", w.ports["tcp"]), "nobody"); r.OK() {
			t.Error("nobody was let in")
		}
	}
	if n := w.s.Relay().Stats().Banned; n != 1 {
		t.Errorf("%d banned", n)
	}
	if err := try("after: 1}", "after: 2}"); err != nil || <-b.got != "hello" {
		t.Error(err)
	}
	if n := w.s.Relay().Stats().Banned; n != 1 {
		t.Errorf("%d banned after a reload", n)
	}
	if err := try("exempt: []", `exempt: ["127.0.0.0/8"]`); err != nil || <-b.got != "hello" {
		t.Error(err)
	}
	w.client("tcp", "bob", false, nil) // is let in again
	if err := try("  tcp:\n", "  tcp:\n    media_types: [image/*]\n"); err == nil || !strings.Contains(err.Error(), "415") {
		t.Errorf("a type that is not allowed any more: %v", err)
	}
}
