package hook

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	authFunc    = Func[AuthRequest, AuthReply]
	authBinding = Binding[AuthRequest, AuthReply]
)

// TestLogValue: what is logged has no secret, by pointer or by value.
func TestLogValue(t *testing.T) {
	const s = "SECRET"
	secret := map[string]string{s: s}
	auth := AuthRequest{
		Request: Request{Params: map[string]any{s: s}}, Username: "alice", URI: s, Nonce: s, Response: s, CNonce: s,
		FromPath: s, ToPath: s, RemoteAddr: netip.MustParseAddrPort("192.0.2.1:5"),
	}
	iface := InterfaceRequest{Username: "alice", Host: "b.example", Attributes: secret, FromPath: s, ToPath: s}
	reply := AuthReply{Reply: Reply{Verdict: Done, By: "alice"}, Password: s, HA1: s, Attributes: secret}
	user := User{Password: s}
	for _, tt := range []struct {
		v    any
		want string
	}{
		{auth, "alice"},
		{&auth, "alice"},
		{iface, "alice"},
		{&iface, "alice"},
		{reply, "alice"},
		{&reply, "alice"},
		{user, "[secret]"},
		{&user, "[secret]"},
	} {
		var text, json bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", tt.v)
		slog.New(slog.NewJSONHandler(&json, nil)).Info("x", "v", tt.v)
		for _, got := range []string{text.String(), json.String()} {
			if strings.Contains(got, s) || !strings.Contains(got, tt.want) {
				t.Errorf("%T: %s", tt.v, got)
			}
		}
	}
}

func TestVerdictString(t *testing.T) {
	for v, want := range map[Verdict]string{Next: "next", Done: "done", Deny: "deny", 9: "verdict 9"} {
		if v.String() != want {
			t.Errorf("%d: %s", v, v)
		}
	}
}
