package host

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "parley.key")
	var logged strings.Builder
	log := slog.New(slog.NewTextHandler(&logged, nil))
	first, err := loadKeys(file, log)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	again, err := loadKeys(file, log)
	if err != nil || !bytes.Equal(first.nonce, again.nonce) || !bytes.Equal(first.uri, again.uri) || logged.Len() > 0 {
		t.Errorf("%v, other keys, or logged %q", err, logged.String())
	}
	if bytes.Equal(first.nonce, first.uri) || len(first.uri) != 32 || len(first.nonce) != 32 {
		t.Error("the keys are not two of 32 octets")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKeys(file, log); err != nil || !strings.Contains(logged.String(), "others can read") {
		t.Errorf("%v, logged %q", err, logged.String())
	}
	for _, bad := range []string{"", "c2hvcnQ=\n", "no base64 at all!", string(text[:20]), strings.Repeat(string(text), 50)} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadKeys(file, log); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := loadKeys(filepath.Join(t.TempDir(), "none", "key"), log); err == nil {
		t.Error("made a key in a directory that is not there")
	}
}
