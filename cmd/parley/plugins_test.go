package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/config"
	"github.com/parley-msrp/parley/host/wasm"
)

// TestGoPluginsShipped: each shipped plugin builds, its example configuration
// loads it, and it answers.
func TestGoPluginsShipped(t *testing.T) {
	if raceEnabled {
		t.Skip("compiling a Go plugin takes ten seconds under the race detector; make test runs this without it, too")
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hr-token" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"password": "secret"}`)
	}))
	defer web.Close()
	plugins, err := filepath.Abs("../../plugins")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		question
		want string // a field of the reply
	}{
		"auth-file":   {question{"authenticate", []string{"username=alice", "realm=example.com", "param.group=eu"}}, "password"},
		"auth-http":   {question{"authenticate", []string{"username=alice", "realm=example.com", "param.group=eu"}}, "ha1"},
		"auth-token":  {question{"authenticate", []string{fmt.Sprintf("username=%d:alice", time.Now().Add(time.Hour).Unix()), "realm=example.com"}}, "attribute"},
		"route-table": {question{"select_interface", []string{"host=a.core.example.com", "attribute.group=staff", "offer=inside", "offer=outside"}}, "interface"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			build := exec.Command("go", "build", "-buildmode=c-shared", "-o", filepath.Join(dir, "bin/plugins", name+".wasm"), ".")
			build.Dir = filepath.Join(plugins, name)
			build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			text, err := os.ReadFile(filepath.Join(plugins, name, "plugin.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(dir)
			t.Setenv("XDG_STATE_HOME", dir)
			d, err := openDemo(true) // for its certificate
			if err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{
				"users.csv": "user,realm,password,group\nalice,example.com,secret,eu\n", "users.htdigest": "", "hr.token": "hr-token\n",
				"token.secret": "a secret of thirty-two octets ...\n",
			} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			yaml := strings.NewReplacer("relay.crt", d.path("relay.pem"), "relay.key", d.path("relay.key"), "https://hr.example.com", web.URL).Replace(string(text))
			cfg, err := config.Parse([]byte(yaml), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := host.New(cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			request, err := tt.encode(3 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			call := wasm.Call{Hook: tt.export(), Request: request}
			if err := s.Plugins()[0].Call(t.Context(), &call); err != nil {
				t.Fatal(err)
			}
			reply := asMap(fields(call.Reply))
			if call.Verdict.String() != "done" || reply[tt.want] == nil {
				t.Errorf("%v %v, want %s", call.Verdict, reply, tt.want)
			}
		})
	}
}
