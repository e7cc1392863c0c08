package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fixture watches one file; what each reload reads comes by seen, and what
// failed by failed.
type fixture struct {
	file   string
	seen   chan string
	failed chan string
}

func start(t *testing.T, file string) *fixture {
	t.Parallel() // waits for changes to settle, in real time
	f := &fixture{file, make(chan string, 1000), make(chan string, 10)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Files(ctx, func() []string { return []string{file} }, func() error {
			b, err := os.ReadFile(file)
			if err == nil && strings.HasPrefix(string(b), "broken") {
				err = errors.New("broken")
			}
			if err == nil {
				f.seen <- string(b)
			}
			return err
		}, func(err error) { f.failed <- err.Error() })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

// want waits until a reload has read text; earlier ones may have seen less.
func (f *fixture) want(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-f.seen:
			if got == text {
				return
			}
		case <-deadline:
			t.Fatalf("no reload has read %q", text)
		}
	}
}

func (f *fixture) wantFailure(t *testing.T, part string) {
	t.Helper()
	select {
	case got := <-f.failed:
		if !strings.Contains(got, part) {
			t.Fatalf("failed with %q, want %q", got, part)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no failure, want %q", part)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, link string) {
	t.Helper()
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	write(t, file, "0")
	f := start(t, file)
	f.want(t, "0") // what changed before the watch began

	write(t, file, "1") // in place
	f.want(t, "1")

	write(t, file, "broken")
	f.wantFailure(t, "broken")
	write(t, file, "broken again") // as the error is the same, it is not told again
	write(t, filepath.Join(dir, "new"), "2")
	rename(t, filepath.Join(dir, "new"), file) // as editors do
	f.want(t, "2")

	rename(t, file, file+"~")
	f.wantFailure(t, "no such file")
	write(t, file, "3")
	f.want(t, "3")
}

func TestLinks(t *testing.T) {
	for _, tt := range []struct {
		name string
		file func(t *testing.T, root string) string
	}{
		// As Kubernetes mounts a secret: f -> ..data/f, ..data -> a directory.
		{"kubernetes", func(t *testing.T, root string) string {
			file := filepath.Join(root, "f")
			symlink(t, filepath.Join("..data", "f"), file)
			return file
		}},
		{"linked directory", func(_ *testing.T, root string) string { return filepath.Join(root, "..data", "f") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "v1", "f"), "v1")
			symlink(t, "v1", filepath.Join(root, "..data"))
			f := start(t, tt.file(t, root))
			f.want(t, "v1")
			for _, v := range []string{"v2", "v3", "v4"} {
				write(t, filepath.Join(root, v, "f"), v)
				symlink(t, v, filepath.Join(root, "..new"))
				rename(t, filepath.Join(root, "..new"), filepath.Join(root, "..data"))
				f.want(t, v)
			}
		})
	}

	// A link to a file elsewhere, which is written in place.
	t.Run("target", func(t *testing.T) {
		root := t.TempDir()
		target, file := filepath.Join(root, "real", "f"), filepath.Join(root, "f")
		write(t, target, "v1")
		symlink(t, target, file)
		f := start(t, file)
		f.want(t, "v1")
		for i := range 3 {
			write(t, target, fmt.Sprint(i))
			f.want(t, fmt.Sprint(i))
		}
	})
}

func TestNeedsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	err := Files(t.Context(), func() []string { return []string{filepath.Join(dir, "f")} }, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "watch "+dir) {
		t.Error(err)
	}
}

// TestBusy: a directory that never rests puts no reload off.
func TestBusy(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	write(t, file, "0")
	f := start(t, file)
	f.want(t, "0")
	write(t, file, "1")
	for deadline := time.Now().Add(20 * time.Second); len(f.seen) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("not reloaded while the directory is busy")
		}
		write(t, filepath.Join(dir, "other"), "")
	}
	f.want(t, "1")
}
