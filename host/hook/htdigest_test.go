package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A tap hands on each line that is logged.
type tap chan string

func (c tap) Write(line []byte) (int, error) {
	c <- string(line)
	return len(line), nil
}

func newTap() (tap, *slog.Logger) {
	c := make(tap, 100)
	return c, slog.New(slog.NewTextHandler(c, nil))
}

// want waits for the next line, which must have all parts.
func (c tap) want(t *testing.T, parts ...string) {
	t.Helper()
	select {
	case line := <-c:
		for _, part := range parts {
			if !strings.Contains(line, part) {
				t.Errorf("logged %swant %q", line, part)
			}
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing logged; want %q", parts)
	}
}

func (c tap) wantNothing(t *testing.T) {
	t.Helper()
	select {
	case line := <-c:
		t.Errorf("logged %s", line)
	default:
	}
}

func hash(c string) string { return strings.Repeat(c, md5Len) }

// lines is an htdigest file of these users, each with the hash of its first letter.
func lines(users ...string) (text string) {
	for _, u := range users {
		text += u + ":r:" + hash(u[:1]) + "\n"
	}
	return text
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func (h *HTDigest) want(t *testing.T, user, realm, ha1 string) {
	t.Helper()
	a, err := h.Call(t.Context(), &AuthRequest{Username: user, Realm: realm, Algorithm: "MD5"})
	if err != nil || a.HA1 != ha1 || (a.Verdict == Done) != (ha1 != "") {
		t.Errorf("%s:%s: %+v, %v; want %q", user, realm, a, err, ha1)
	}
}

func TestHTDigest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	write(t, file, "# a comment\n\n  \nalice:r:"+hash("a")+"\nalice:with:colon:"+hash("b")+"\r\nbob:r:"+hash("c")) // no last line break
	log, logger := newTap()
	h, err := NewHTDigest(file, logger)
	if err != nil {
		t.Fatal(err)
	}
	log.want(t, "users=3", file)
	log.wantNothing(t)
	h.want(t, "alice", "r", hash("a"))
	h.want(t, "alice", "with:colon", hash("b"))
	h.want(t, "alice:with", "colon", "") // has the same HA1, but is not that user
	h.want(t, "bob", "r", hash("c"))
	h.want(t, "alice", "x", "")
	h.want(t, "carol", "r", "")
	h.want(t, "# a comment", "", "")
	if a, _ := h.Call(t.Context(), &AuthRequest{Username: "alice", Realm: "r", Algorithm: "SHA-256"}); a.Verdict != Next {
		t.Error("knows SHA-256")
	}
	ctx, q := t.Context(), &AuthRequest{Username: strings.Repeat("alice", 20), Realm: "r", Algorithm: "MD5"}
	if n := testing.AllocsPerRun(100, func() { _, _ = h.Call(ctx, q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHTDigestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	write(t, file, lines("alice"))
	log, logger := newTap()
	h, err := NewHTDigest(file, logger)
	if err != nil {
		t.Fatal(err)
	}
	log.want(t, "users=1")
	write(t, file, lines("bob"))
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	h.want(t, "alice", "r", "")
	h.want(t, "bob", "r", hash("b"))
	log.want(t, "users=1")
	log.want(t, "level=WARN", "everybody may read", file)
	write(t, file, "broken\n")
	wantFaults(t, h.Reload(), file+":1: not user:realm:hash; ")
	h.want(t, "bob", "r", hash("b"))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := h.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	h.want(t, "bob", "r", hash("b"))
}

func TestHTDigestFaults(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // behind the path
	}{
		{
			"all at once",
			"alice\nbob:r\nbob:r:zz\n:r:" + hash("a") + "\nx::" + hash("a") + "\ndave:r:" + hash("A") + "\n" + lines("carol", "carol"),
			[]string{
				":1: not user:realm:hash", ":2: not user:realm:hash", ":3: the hash is not 32 lower-case hex digits", ":4: not user",
				":5: not user", ":6: the hash is not", `:8: user "carol" of realm "r" is there twice`,
			},
		},
		{"a long line", lines("a") + strings.Repeat("x", maxLine) + "\n", []string{":2: a line of more than 4095 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "users")
			write(t, file, tt.text)
			_, err := NewHTDigest(file, nil)
			for i := range tt.want {
				tt.want[i] = file + tt.want[i]
			}
			wantFaults(t, err, tt.want...)
			if s := err.Error(); strings.Contains(s, hash("a")) || strings.Contains(s, "zz") {
				t.Errorf("a hash is shown: %s", s)
			}
		})
	}
	t.Run("no end of faults", func(t *testing.T) {
		_, err := parseHTDigest(strings.NewReader(strings.Repeat("x\n", 1000)), "f")
		if got := strings.Split(err.Error(), "\n"); len(got) != maxFaults+1 || got[maxFaults] != "f:20: too many faults to look further" {
			t.Error(err)
		}
	})
	t.Run("too many lines", func(t *testing.T) {
		if _, err := parseHTDigest(strings.NewReader(strings.Repeat("\n", maxLines)), "f"); err != nil {
			t.Error(err)
		}
		_, err := parseHTDigest(strings.NewReader(strings.Repeat("\n", maxLines+1)), "f")
		wantFaults(t, err, fmt.Sprintf("f:%d: more than 1048576 lines", maxLines+1))
	})
	t.Run("too large", func(t *testing.T) {
		line := "#" + strings.Repeat(" ", maxLine-2) + "\n" // fills a file with few lines
		n := maxHTDigest / len(line)
		if _, err := parseHTDigest(strings.NewReader(strings.Repeat(line, n)), "f"); err != nil {
			t.Error(err)
		}
		_, err := parseHTDigest(strings.NewReader(strings.Repeat(line, n)+"\n"), "f")
		wantFaults(t, err, fmt.Sprintf("f:%d: the file has more than 67108864 bytes", n+2))
	})
	t.Run("no file", func(t *testing.T) {
		if _, err := NewHTDigest(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		dir := t.TempDir()
		_, err := NewHTDigest(dir, nil)
		wantFaults(t, err, dir+": not a regular file")
	})
}

// keepWatch runs Watch until the test ends.
func keepWatch(t *testing.T, h *HTDigest) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestHTDigestWatch(t *testing.T) {
	t.Parallel() // waits for changes to settle, in real time
	dir := t.TempDir()
	file := filepath.Join(dir, "users")
	write(t, file, lines("alice"))
	log, logger := newTap()
	h, err := NewHTDigest(file, logger)
	if err != nil {
		t.Fatal(err)
	}
	log.want(t, "users=1")

	// Changed after the load, before the watch.
	write(t, file, lines("bob", "carol"))
	keepWatch(t, h)
	log.want(t, "users=2")
	h.want(t, "bob", "r", hash("b"))

	// In place.
	write(t, file, lines("bob", "carol", "dave"))
	log.want(t, "users=3")

	// A broken file: said once, and the old users stay.
	write(t, file, lines("eve")+"broken\n")
	log.want(t, "level=WARN", file+":2: not user:realm:hash", "old ones stay")
	h.want(t, "bob", "r", hash("b"))
	h.want(t, "eve", "r", "")

	// By renaming, as editors do; the broken one must not have been logged again.
	write(t, filepath.Join(dir, "users~"), lines("frank"))
	rename(t, filepath.Join(dir, "users~"), file)
	log.want(t, "users=1")
	h.want(t, "frank", "r", hash("f"))
	h.want(t, "bob", "r", "")

	// Gone, and back.
	rename(t, file, file+"~")
	log.want(t, "level=WARN", "no such file")
	h.want(t, "frank", "r", hash("f"))
	write(t, file, lines("ada", "bea"))
	log.want(t, "users=2")
}

// TestHTDigestUnchanged: what else happens in the directory costs no reading.
func TestHTDigestUnchanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	write(t, file, lines("alice"))
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	log, logger := newTap()
	h, err := NewHTDigest(file, logger)
	if err != nil {
		t.Fatal(err)
	}
	log.want(t, "users=1")
	if err := h.reloadChanged(); err != nil {
		t.Error(err)
	}
	log.wantNothing(t)
	// One as large and as old, but another.
	write(t, file+"~", lines("bobby"))
	if err := os.Chtimes(file+"~", old, old); err != nil {
		t.Fatal(err)
	}
	rename(t, file+"~", file)
	if err := h.reloadChanged(); err != nil {
		t.Error(err)
	}
	log.want(t, "users=1")
	h.want(t, "bobby", "r", hash("b"))
	// Just written: may be written again within the same tick.
	now := time.Now()
	if err := os.Chtimes(file, now, now); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.reloadChanged(); err != nil {
			t.Error(err)
		}
		log.want(t, "users=1")
	}
}
