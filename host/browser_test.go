package host_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestBrowser chats between the page in examples/web, in Chromium, and a client on
// TCP, through WebSockets with and without TLS.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	if missing := lacksBrowser(); missing != "" {
		if os.Getenv("PARLEY_REQUIRE_TOOLS") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	page := httptest.NewServer(http.FileServer(http.Dir("../examples/web")))
	defer page.Close()
	w := newSite(t, strings.ReplaceAll(withWeb, ";ws\"", ";ws\"\n    websocket: {path: /msrp, origins: [\""+page.URL+"\"]}"))
	for _, tt := range []struct{ scheme, tcp string }{{"ws", "tcp"}, {"wss", "tls"}} {
		t.Run(tt.scheme, func(t *testing.T) {
			b := w.client(tt.tcp, "bob", tt.tcp == "tls", nil)
			answer := b.session()
			long := strings.Repeat("0123456789", 10_000)
			relay := fmt.Sprintf("localhost:%d", w.ports[tt.scheme])
			uri := "msrp" + strings.TrimPrefix(tt.scheme, "ws") + "://" + relay + ";ws"
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, "node", "../examples/web/test.mjs", page.URL, tt.scheme+"://"+relay+"/msrp", uri, "alice", "secret", b.use+" "+b.uri)
			done := make(chan struct{})
			var out []byte
			var err error
			go func() {
				defer close(done)
				out, err = cmd.CombinedOutput()
			}()
			select {
			case got := <-b.got:
				if got != "hello from the page, with an ä" {
					t.Errorf("got %q", got)
				}
				if err := b.send(answer, []byte(long), 0); err != nil {
					t.Error(err)
				}
			case <-done:
			}
			<-done
			if want := fmt.Sprintf("errors []\nreceived %d\n", len(long)); err != nil || !strings.HasSuffix(string(out), want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// lacksBrowser says what the test of the page needs and does not find.
func lacksBrowser() string {
	if _, err := exec.LookPath("node"); err != nil {
		return "node is not installed"
	}
	if exec.Command("node", "-e", `require("playwright-core")`).Run() != nil {
		return "playwright-core is not in NODE_PATH"
	}
	for _, path := range []string{os.Getenv("CHROMIUM"), "/usr/bin/chromium"} {
		if _, err := os.Stat(path); err == nil {
			return ""
		}
	}
	return "chromium is not at /usr/bin/chromium or $CHROMIUM"
}
