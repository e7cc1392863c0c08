package host_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestAdmin: operators see what the server does, by HTTP.
func TestAdmin(t *testing.T) {
	w := newSite(t, twoListeners+"admin: {bind: \"127.0.0.1:0\"}\n")
	a, b := w.client("tcp", "alice", false, nil), w.client("tls", "bob", true, nil)
	b.session()
	if err := a.send(a.session(a.use, b.use, b.uri), []byte("hi"), 0); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) string {
		t.Helper()
		resp, err := client.Get("http://" + w.s.AdminAddr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %v", path, resp.StatusCode, err)
		}
		return string(body)
	}
	for path, want := range map[string]string{
		"/metrics": "\nparley_sessions{listener=\"tls\"} 1\n", "/livez": "ok\n", "/readyz?verbose": "[+] serving\n[+] tables\n", "/debug/check": "ok\n",
	} {
		if got := get(path); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}
