package hook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxHTDigest bounds an htdigest file, in bytes.
const maxHTDigest = 64 << 20

// settle is how long after a change the file is read again.
const settle = 200 * time.Millisecond

// HTDigest answers authenticate from a file of user:realm:HA1 lines, as
// Apache's htdigest writes it: hashes, not passwords (RELAY-81). It knows MD5 only.
type HTDigest struct {
	path  string
	log   *slog.Logger
	table atomic.Pointer[map[string]string] // "user:realm" -> HA1
}

// NewHTDigest reads the file at path. It reports all faults, by line.
func NewHTDigest(path string, log *slog.Logger) (*HTDigest, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &HTDigest{path: path, log: log}
	if err := h.Reload(); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("everybody may read the users' hashes; chmod o-rwx it", "file", path)
	}
	return h, nil
}

// Reload reads the file again. With an error the table stays as it was.
func (h *HTDigest) Reload() error {
	f, err := os.Open(h.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxHTDigest {
		return fmt.Errorf("%s: larger than %d bytes", h.path, maxHTDigest)
	}
	table := map[string]string{}
	var errs []error
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ':')
		user, realm, ok := strings.Cut(line[:max(i, 0)], ":")
		switch key := user + ":" + realm; {
		case !ok || user == "" || realm == "":
			errs = append(errs, fmt.Errorf("%s:%d: not user:realm:ha1", h.path, n))
		case !isHex(line[i+1:], 32):
			errs = append(errs, fmt.Errorf("%s:%d: the hash of %q is not 32 lower-case hex digits", h.path, n, user))
		case table[key] != "":
			errs = append(errs, fmt.Errorf("%s:%d: user %q is there twice", h.path, n, user))
		default:
			table[key] = line[i+1:]
		}
		if len(errs) >= 20 {
			break
		}
	}
	if err := in.Err(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", h.path, err))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	h.table.Store(&table)
	return nil
}

// Call implements Provider.
func (h *HTDigest) Call(_ context.Context, q *AuthRequest) (a AuthReply, err error) {
	if q.Algorithm != "MD5" {
		return a, nil
	}
	if ha1 := (*h.table.Load())[q.Username+":"+q.Realm]; ha1 != "" {
		a.Verdict, a.HA1 = Done, ha1
	}
	return a, nil
}

// Watch reloads the file when it changes, until ctx is done. It watches the
// directory, since editors and Kubernetes put a new file in place of the old.
func (h *HTDigest) Watch(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", h.path, err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(h.path)); err != nil {
		return fmt.Errorf("watch %s: %w", h.path, err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	waiting := true // for the timer; not set anew, or a busy directory would put it off for ever
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			h.log.Warn("watching the htdigest file", "file", h.path, "err", err)
		case <-w.Events:
			if !waiting {
				waiting = true
				timer.Reset(settle)
			}
		case <-timer.C:
			waiting = false
			if err := h.Reload(); err != nil {
				h.log.Warn("the htdigest file is faulty; the users stay as they were", "file", h.path, "err", err)
			}
		}
	}
}
