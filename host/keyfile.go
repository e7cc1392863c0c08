package host

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// keyLen is how many octets a key file has, and each key made from it.
const keyLen = 32

// keys are what must be the same after a restart.
type keys struct {
	nonce, uri []byte
}

// loadKeys reads a key file, which is base64 on one line, or makes one that only
// its owner can read.
func loadKeys(file string, log *slog.Logger) (k keys, err error) {
	secret, err := readKey(file, log)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(file); err == nil || errors.Is(err, fs.ErrExist) { // another relay may have been faster
			secret, err = readKey(file, log)
		}
	}
	if err != nil {
		return k, err
	}
	if k.nonce, err = hkdf.Key(sha256.New, secret, nil, "parley nonce", keyLen); err != nil {
		return k, err
	}
	k.uri, err = hkdf.Key(sha256.New, secret, nil, "parley session URI", keyLen)
	return k, err
}

func readKey(file string, log *slog.Logger) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > 1<<10 {
		return nil, fmt.Errorf("%s: %d bytes are no key of %d octets in base64", file, info.Size(), keyLen)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		log.Warn("others can read the key file; make it mode 0600", "file", file, "mode", mode.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	secret, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(secret) != keyLen {
		// The fault of the decoder would quote the key.
		return nil, fmt.Errorf("%s: not a key of %d octets in base64; remove it to have one made", file, keyLen)
	}
	return secret, nil
}

// makeKey writes a new key, whole or not at all. It overwrites nothing.
func makeKey(file string) error {
	secret := make([]byte, keyLen)
	rand.Read(secret)                                            // never fails
	f, err := os.CreateTemp(filepath.Dir(file), ".parley-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(secret))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), file)
}
