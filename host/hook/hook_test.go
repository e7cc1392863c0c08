package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	authFunc    = Func[AuthRequest, AuthReply]
	authBinding = Binding[AuthRequest, AuthReply]
)

func says(v Verdict, password string) authFunc {
	return func(context.Context, *AuthRequest) (AuthReply, error) {
		return AuthReply{Reply: Reply{Verdict: v}, Password: password}, nil
	}
}

// TestChainOrder: the first that has an opinion decides; the end of the chain
// is a closed door.
func TestChainOrder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		chain []authBinding
		want  Verdict
		by    string
	}{
		{"empty", nil, Next, ""},
		{"none knows", []authBinding{{Name: "a", Provider: says(Next, "")}, {Name: "b", Provider: says(Next, "")}}, Next, ""},
		{"the second knows", []authBinding{{Name: "a", Provider: says(Next, "")}, {Name: "b", Provider: says(Done, "x")}}, Done, "b"},
		{"the first denies", []authBinding{{Name: "a", Provider: says(Deny, "")}, {Name: "b", Provider: says(Done, "x")}}, Deny, "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewChain(func(f Failure) { t.Errorf("%+v", f) }, tt.chain...)
			r := c.Run(t.Context(), &AuthRequest{Algorithm: "MD5"})
			if r.Verdict != tt.want || r.By != tt.by || r.Verdict == Deny && r.Status != 403 {
				t.Errorf("%+v", r)
			}
			if c.Has() != (len(tt.chain) > 0) {
				t.Error("Has")
			}
		})
	}
	var none *Chain[AuthRequest, AuthReply]
	if none.Has() || none.Run(t.Context(), &AuthRequest{}).Verdict != Next {
		t.Error("a nil chain decides")
	}
}

// TestChainFailure: a provider that fails is reported once, and what that means
// is the binding's policy.
func TestChainFailure(t *testing.T) {
	reply := func(a AuthReply) authFunc {
		return func(context.Context, *AuthRequest) (AuthReply, error) { return a, nil }
	}
	done := Reply{Verdict: Done}
	for _, tt := range []struct {
		name string
		f    authFunc
		kind string
	}{
		{"error", func(context.Context, *AuthRequest) (AuthReply, error) {
			return AuthReply{Reply: done, Password: "x"}, errors.New("no database")
		}, "error"},
		{"panic", func(context.Context, *AuthRequest) (AuthReply, error) { panic("a bug") }, "panic"},
		{"too slow", func(ctx context.Context, _ *AuthRequest) (AuthReply, error) {
			<-ctx.Done()
			return AuthReply{Reply: done, Password: "x"}, nil
		}, "timeout"},
		{"nothing said", reply(AuthReply{Reply: done}), "reply"},
		{"too much said", reply(AuthReply{Reply: done, Password: "x", Authenticated: true}), "reply"},
		{"short ha1", reply(AuthReply{Reply: done, HA1: "abc"}), "reply"},
		{"upper-case ha1", reply(AuthReply{Reply: done, HA1: strings.Repeat("A", 32)}), "reply"},
		{"negative time", reply(AuthReply{Reply: done, Password: "x", MaxExpires: -1}), "reply"},
		{"unknown verdict", reply(AuthReply{Reply: Reply{Verdict: 9}}), "reply"},
		{"unregistered status", reply(AuthReply{Reply: Reply{Verdict: Deny, Status: 500}}), "reply"},
	} {
		for _, policy := range []Policy{OnErrorDeny, OnErrorNext} {
			t.Run(fmt.Sprint(tt.name, policy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var failures []Failure
					c := NewChain(func(f Failure) { failures = append(failures, f) },
						authBinding{Name: "f", Provider: tt.f, OnError: policy, Timeout: 3 * time.Second},
						authBinding{Name: "g", Provider: says(Done, "y")})
					start := time.Now()
					r := c.Run(t.Context(), &AuthRequest{Algorithm: "MD5"})
					if policy == OnErrorDeny && (r.Verdict != Deny || r.Status != 403 || r.Password != "") ||
						policy == OnErrorNext && (r.Verdict != Done || r.By != "g") {
						t.Errorf("%+v", r)
					}
					if len(failures) != 1 || failures[0].Kind != tt.kind || failures[0].Binding != "f" || failures[0].Err == nil {
						t.Errorf("%+v", failures)
					}
					if d := time.Since(start); tt.kind == "timeout" && d != 3*time.Second {
						t.Errorf("took %v", d)
					}
				})
			})
		}
	}
}

func TestStatic(t *testing.T) {
	ha1 := strings.Repeat("0f", 16)
	s, err := NewStatic(map[string]User{"alice": {Password: "x"}, "bob": {HA1: ha1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		user, algorithm string
		want            AuthReply
	}{
		{"alice", "MD5", AuthReply{Reply: Reply{Verdict: Done}, Password: "x"}},
		{"alice", "SHA-256", AuthReply{Reply: Reply{Verdict: Done}, Password: "x"}},
		{"bob", "MD5", AuthReply{Reply: Reply{Verdict: Done}, HA1: ha1}},
		{"bob", "SHA-256", AuthReply{}},
		{"carol", "MD5", AuthReply{}},
		{"", "MD5", AuthReply{}},
	} {
		got, err := s.Call(t.Context(), &AuthRequest{Username: tt.user, Algorithm: tt.algorithm})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %+v %v", tt.user, got, err)
		}
	}
	_, err = NewStatic(map[string]User{"": {Password: "x"}, "a": {}, "b": {Password: "x", HA1: ha1}, "c": {HA1: "z"}})
	for _, want := range []string{"a user has no name", `"a" needs`, `"b" needs`, `ha1 of user "c"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

func TestTable(t *testing.T) {
	known := func(name string) bool { return name == "core" || name == "edge" }
	table, err := NewTable([]Rule{
		{To: "blocked.example", Deny: true, Reason: "no"},
		{To: "*.example", Scheme: "msrps", Interface: "core"},
		{To: "10.0.0.0/8", From: "192.0.2.0/24", Interface: "core"},
		{To: "2001:db8::1", Interface: "core"},
		{Listener: "web", Interface: "edge"},
	}, known)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		q    InterfaceRequest
		want string // "" = no opinion, "no" = refused
	}{
		{InterfaceRequest{Host: "BLOCKED.example"}, "no"},
		{InterfaceRequest{Host: "a.B.Example", Secure: true}, "core"},
		{InterfaceRequest{Host: "a.example"}, ""},
		{InterfaceRequest{Host: "example", Secure: true}, ""},
		{InterfaceRequest{Host: "badexample", Secure: true}, ""},
		{InterfaceRequest{Host: "10.1.2.3", RemoteAddr: netip.MustParseAddrPort("192.0.2.9:1")}, "core"},
		{InterfaceRequest{Host: "::ffff:10.1.2.3", RemoteAddr: netip.MustParseAddrPort("[::ffff:192.0.2.9]:1")}, "core"},
		{InterfaceRequest{Host: "10.1.2.3", RemoteAddr: netip.MustParseAddrPort("192.0.3.9:1")}, ""},
		{InterfaceRequest{Host: "2001:DB8:0::1"}, "core"},
		{InterfaceRequest{Host: "2001:db8::2"}, ""},
		{InterfaceRequest{Host: "anything", Listener: "web"}, "edge"},
		{InterfaceRequest{Host: "anything", Listener: "other"}, ""},
	} {
		a, err := table.Call(t.Context(), &tt.q)
		got := a.Interface
		if a.Verdict == Deny {
			got = a.Reason
		}
		if err != nil || got != tt.want || (a.Verdict == Done) != (tt.want != "" && tt.want != "no") {
			t.Errorf("%+v: %+v %v", tt.q, a, err)
		}
	}
	_, err = NewTable([]Rule{
		{To: "a/b", Interface: "core"},
		{From: "x", Interface: "core"},
		{Scheme: "sip", Interface: "core"},
		{},
		{Interface: "none"},
		{Interface: "core", Deny: true},
		{Deny: true, Status: 500},
	}, known)
	for i, want := range []string{"to:", "from:", "scheme:", "neither", `no interface "none"`, "both", "status:"} {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rule %d: ", i)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks rule %d: %s", err, i, want)
		}
	}
	q := InterfaceRequest{Host: "2001:db8::1"}
	if n := testing.AllocsPerRun(100, func() { _, _ = table.Call(t.Context(), &q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestInterfaceReply: a provider can only name what was offered.
func TestInterfaceReply(t *testing.T) {
	for name, want := range map[string]Verdict{"core": Done, "other": Deny, "": Deny} {
		f := Func[InterfaceRequest, InterfaceReply](func(context.Context, *InterfaceRequest) (InterfaceReply, error) {
			return InterfaceReply{Reply: Reply{Verdict: Done}, Interface: name}, nil
		})
		c := NewChain(nil, Binding[InterfaceRequest, InterfaceReply]{Name: "f", Provider: f})
		if r := c.Run(t.Context(), &InterfaceRequest{Offers: []Interface{{Name: "core"}}}); r.Verdict != want {
			t.Errorf("%q: %+v", name, r)
		}
	}
}

func TestHTDigest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	hash := func(c string) string { return strings.Repeat(c, 32) }
	put := func(text string) {
		t.Helper()
		// In place of the old, as editors do.
		if err := os.WriteFile(file+"~", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+"~", file); err != nil {
			t.Fatal(err)
		}
	}
	put("# a comment\n\nalice:r:" + hash("a") + "\nalice:with:colon:" + hash("b") + "\r\n")
	var log strings.Builder
	h, err := NewHTDigest(file, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ha1 := func(user, realm string) string {
		a, err := h.Call(t.Context(), &AuthRequest{Username: user, Realm: realm, Algorithm: "MD5"})
		if err != nil {
			t.Error(err)
		}
		return a.HA1
	}
	if ha1("alice", "r") != hash("a") || ha1("alice", "with:colon") != hash("b") || ha1("alice", "x")+ha1("bob", "r") != "" {
		t.Error("wrong table")
	}
	if a, _ := h.Call(t.Context(), &AuthRequest{Username: "alice", Realm: "r", Algorithm: "SHA-256"}); a.Verdict != Next {
		t.Error("knows SHA-256")
	}
	put("alice:r:" + hash("c") + "\n")
	if err := h.Reload(); err != nil || ha1("alice", "r") != hash("c") {
		t.Error("not reloaded", err)
	}
	put("alice\nbob:r\nbob:r:zz\n:r:" + hash("a") + "\ncarol:r:" + hash("a") + "\ncarol:r:" + hash("b") + "\n")
	err = h.Reload()
	for _, want := range []string{":1: not user", ":2: not user", ":3: the hash of", ":4: not user", `:6: user "carol" is there twice`} {
		if err == nil || !strings.Contains(err.Error(), file+want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
	if ha1("alice", "r") != hash("c") {
		t.Error("a broken file replaced the table")
	}
	if _, err := NewHTDigest(file+"none", nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestHTDigestWatch waits for real file events.
func TestHTDigestWatch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("alice:r:"+strings.Repeat("a", 32)+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	h, err := NewHTDigest(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Watch(ctx) }()
	deadline := time.Now().Add(20 * time.Second)
	for n := 0; (*h.table.Load())["bob:r"] == ""; n++ {
		if time.Now().After(deadline) {
			t.Fatal("the change was not seen")
		}
		if n == 0 {
			if err := os.WriteFile(file, []byte("bob:r:"+strings.Repeat("b", 32)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestLogValue: what is logged of a request has no secret.
func TestLogValue(t *testing.T) {
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, nil))
	log.Info("x", "q", &AuthRequest{Username: "alice", Response: "SECRET", Nonce: "SECRET", FromPath: "SECRET", ToPath: "SECRET", URI: "SECRET"})
	log.Info("x", "q", &InterfaceRequest{Username: "alice", FromPath: "SECRET", ToPath: "SECRET"})
	if strings.Contains(b.String(), "SECRET") || strings.Count(b.String(), "alice") != 2 {
		t.Error(b.String())
	}
}
