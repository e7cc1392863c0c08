package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/wasm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRelay(t *testing.T) *relay.Relay {
	t.Helper()
	digest, err := auth.NewServer(auth.ServerConfig{Realm: "example"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := msrp.ParseURI("msrp://relay.example:2855;tcp")
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Config{Auth: digest, Listeners: []relay.Listener{{Name: "edge", URI: u}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestMetrics(t *testing.T) {
	h, err := wasm.New(wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	file := filepath.Join("../../testdata/guests/conform-c.wasm")
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	p, err := h.Load(t.Context(), wasm.Settings{Name: "my-users", File: file, Grants: wasm.Grants{KV: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"metric", "metric", "trap", "deny"} {
		_, _ = p.Authenticate(nil).Call(t.Context(), &hook.AuthRequest{Username: user}) // one of them is to fail
	}
	s := New(Config{Relay: newRelay(t), Plugins: h.Plugins, Version: "v1", Checks: map[string]func() error{
		"sky": func() error { return errors.New("fault") }, "earth": func() error { return nil },
	}})
	code, body := get(t, s, "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, line := range []string{
		`parley_connections{listener="edge"} 0`,
		`parley_sessions{listener="edge"} 0`,
		"parley_users 0",
		"parley_bans 0",
		`parley_relay_events_total{listener="dialled",reason="syntax"} 0`,
		`parley_build_info{go_version="` + runtime.Version() + `",version="v1"} 1`,
		`parley_ready{check="earth"} 1`,
		`parley_ready{check="sky"} 0`,
		`parley_plugin_calls_total{hook="on_authenticate",plugin="my-users",verdict="deny"} 1`,
		`parley_plugin_failures_total{kind="trap",plugin="my-users"} 1`,
		`parley_plugin_call_seconds_count{plugin="my-users"} 4`,
		`parley_plugin_generation{plugin="my-users"} 1`,
		`parley_plugin_breaker_open{plugin="my-users"} 0`,
		`parley_plugin_reloads_total{plugin="my-users",result="done"} 1`,
		`parley_custom_conform_total{color="blue",plugin="my-users"} 4`,
		"go_goroutines ",
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no %s in\n%s", line, body)
		}
	}
}

func TestHealth(t *testing.T) {
	fault := errors.New("the sky is falling")
	s := New(Config{Relay: newRelay(t), Checks: map[string]func() error{
		"sky": func() error { return fault }, "earth": func() error { return nil },
	}})
	for path, want := range map[string]string{
		"/livez":          "200 ok\n",
		"/readyz":         "503 not ready\n",
		"/readyz?verbose": "503 [+] earth\n[-] sky: the sky is falling\n",
		"/debug/check":    "200 ok\n",
		"/debug/pprof/":   "404 404 page not found\n",
		"/nothing":        "404 404 page not found\n",
	} {
		if code, body := get(t, s, path); strings.TrimSpace(http.StatusText(code)) == "" || body != want[4:] || want[:3] != map[int]string{200: "200", 503: "503", 404: "404"}[code] {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	fault = nil
	if code, body := get(t, s, "/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := get(t, New(Config{Relay: newRelay(t), Profiles: true}), "/debug/pprof/heap"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
}

func TestServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(Config{Relay: newRelay(t)}).Serve(ctx, ln) }()
	resp, err := http.Get("http://" + ln.Addr().String() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != "ok\n" {
		t.Errorf("%q %v", body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}
