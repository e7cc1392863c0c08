package hook

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHandshakes: who knows passwords has no opinion on a handshake, which has
// none, whatever else it says.
func TestHandshakes(t *testing.T) {
	static, err := NewStatic(map[string]User{"alice": {Password: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("alice:example:0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest, err := NewHTDigest(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Provider[AuthRequest, AuthReply]{"static": static, "htdigest": digest} {
		q := &AuthRequest{Method: "GET", Cookie: "user=alice", Bearer: "secret", URI: "/"}
		if a, err := p.Call(t.Context(), q); err != nil || a.Verdict != Next {
			t.Errorf("%s: %v, %v", name, a.Verdict, err)
		}
	}
}
