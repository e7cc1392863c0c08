package hook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-msrp/parley/host/watch"
)

// What an htdigest file may hold: bytes, lines, bytes in a line, and faults
// that are worth telling.
const (
	maxHTDigest = 64 << 20
	maxLines    = 1 << 20
	maxLine     = 4096
	maxFaults   = 20
)

// HTDigest answers authenticate from a file of user:realm:HA1 lines, as
// Apache's htdigest writes it: hashes, not passwords (RELAY-81). It knows MD5
// only. A changed file that is faulty changes nothing.
type HTDigest struct {
	// Set by NewHTDigest, then read-only.
	path string
	log  *slog.Logger

	// Safe from any goroutine. The map is never changed once it is in use.
	users atomic.Pointer[map[userRealm]string] // -> HA1

	// One Reload at a time, so that the last to read is the last to store. It
	// guards what follows, and is held across reading the file.
	reloading sync.Mutex
	info      fs.FileInfo
	read      time.Time
}

// A userRealm is not one string, for user "a" of realm "b:c" is not "a:b" of "c".
type userRealm struct{ user, realm string }

// NewHTDigest reads the file at path. The error joins all faults, by line. log
// may be nil.
func NewHTDigest(path string, log *slog.Logger) (*HTDigest, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &HTDigest{path: path, log: log}
	if err := h.Reload(); err != nil {
		return nil, err
	}
	return h, nil
}

// Call implements Provider.
func (h *HTDigest) Call(_ context.Context, q *AuthRequest) (a AuthReply, err error) {
	if q.Algorithm != algMD5 {
		return a, nil
	}
	if ha1, ok := (*h.users.Load())[userRealm{q.Username, q.Realm}]; ok {
		a.Verdict, a.HA1 = Done, ha1
	}
	return a, nil
}

// Reload reads the file again. With an error the users stay as they were.
func (h *HTDigest) Reload() error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	return h.reload()
}

func (h *HTDigest) reload() error {
	// Before it is opened: to open a pipe is to wait for its writer.
	info, err := os.Stat(h.path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", h.path)
	}
	f, err := os.Open(h.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return err
	}
	read := time.Now()
	users, err := parseHTDigest(f, h.path)
	if err != nil {
		return err
	}
	h.users.Store(&users)
	h.info, h.read = info, read
	h.log.Info("users loaded", "file", h.path, "users", len(users))
	// An HA1 is as good as the password, in its realm.
	if info.Mode().Perm()&0o006 != 0 && runtime.GOOS != "windows" {
		h.log.Warn("everybody may read or write the users' hashes; chmod o-rw the file", "file", h.path, "mode", info.Mode().Perm().String())
	}
	return nil
}

// parseHTDigest reads an htdigest file. Its error shows nothing of a line that
// is not understood: there is no telling where in it the hash is.
func parseHTDigest(f io.Reader, path string) (map[userRealm]string, error) {
	users := map[userRealm]string{}
	var errs []error
	fault := func(n int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: %s", path, n, fmt.Sprintf(format, args...)))
	}
	limited := &io.LimitedReader{R: f, N: maxHTDigest + 1}
	in := bufio.NewScanner(limited)
	in.Buffer(nil, maxLine)
	n := 1
	for ; in.Scan(); n++ {
		if n > maxLines {
			fault(n, "more than %d lines; split the file into two providers", maxLines)
			break
		}
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		// A realm may have colons, a user cannot.
		i := strings.LastIndexByte(line, ':')
		user, realm, ok := strings.Cut(line[:max(i, 0)], ":")
		key, ha1 := userRealm{user, realm}, line[i+1:]
		switch {
		case !ok || user == "" || realm == "":
			fault(n, "not user:realm:hash; write it with htdigest, or put a # in front")
		case !isHex(ha1, md5Len):
			fault(n, "the hash is not %d lower-case hex digits; write it with htdigest", md5Len)
		case users[key] != "":
			fault(n, "user %q of realm %q is there twice; take one away", user, realm)
		default:
			users[key] = ha1
		}
		if len(errs) >= maxFaults {
			fault(n, "too many faults to look further")
			break
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		fault(n, "a line of more than %d bytes", maxLine-1)
	case err != nil:
		fault(n, "%v", err)
	case limited.N <= 0:
		fault(n, "the file has more than %d bytes; split it into two providers", maxHTDigest)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return users, nil
}

// Watch reloads the file when it changes, until ctx is done; then it returns
// nil. What it cannot use it logs, once per fault.
func (h *HTDigest) Watch(ctx context.Context) error {
	return watch.Files(ctx, func() []string { return []string{h.path} }, h.reloadChanged, func(err error) {
		h.log.Warn("users not renewed, the old ones stay in use", "file", h.path, "err", err)
	})
}

// reloadChanged spares the work when something else in the directory changed.
func (h *HTDigest) reloadChanged() error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	info, err := os.Stat(h.path)
	// A file written just before it was read may have been written again since,
	// within the resolution of its time.
	if err == nil && os.SameFile(info, h.info) && info.Size() == h.info.Size() && info.ModTime().Equal(h.info.ModTime()) &&
		h.read.Sub(info.ModTime()) > time.Second {
		return nil
	}
	return h.reload()
}
