package transport

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTrustFile(t *testing.T) {
	if cfg, err := TrustFile(""); cfg != nil || err != nil {
		t.Error(cfg, err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := TrustFile(file); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := TrustFile(file); err == nil || !strings.Contains(err.Error(), "no certificate in "+file) {
		t.Error(err)
	}
}
