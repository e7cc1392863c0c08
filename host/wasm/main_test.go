package wasm

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// goGuests is where Go guests are built to, once each.
var goGuests string

func TestMain(m *testing.M) {
	var err error
	if goGuests, err = os.MkdirTemp("", "parley-guests-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(goGuests)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

var building sync.Map // directory -> func() (file string, err error)

// buildGo builds a Go guest and returns the file.
func buildGo(t testing.TB, dir string) string {
	t.Helper()
	build, _ := building.LoadOrStore(dir, sync.OnceValues(func() (string, error) {
		file := filepath.Join(goGuests, strings.ReplaceAll(strings.TrimLeft(dir, "./"), "/", "-")+".wasm")
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", file, ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("build %s: %w\n%s", dir, err, out)
		}
		return file, err
	}))
	file, err := build.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// A tap collects what plugins log: "level message", as the import log numbers
// levels.
type tap struct {
	mu    sync.Mutex
	lines []string
	all   bytes.Buffer
	text  slog.Handler
	more  chan struct{} // closed by the next record
}

func newTap() (*tap, *slog.Logger) {
	tp := &tap{more: make(chan struct{})}
	tp.text = slog.NewTextHandler(&tp.all, &slog.HandlerOptions{Level: slog.LevelDebug})
	return tp, slog.New(tp)
}

func (tp *tap) Enabled(context.Context, slog.Level) bool { return true }
func (tp *tap) WithGroup(string) slog.Handler            { return tp }
func (tp *tap) WithAttrs([]slog.Attr) slog.Handler       { return tp }

func (tp *tap) Handle(ctx context.Context, r slog.Record) error {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	number := map[slog.Level]int{slog.LevelError: 1, slog.LevelWarn: 2, slog.LevelInfo: 3, slog.LevelDebug: 4}[r.Level]
	tp.lines = append(tp.lines, fmt.Sprintf("%d %s", number, r.Message))
	close(tp.more)
	tp.more = make(chan struct{})
	return tp.text.Handle(ctx, r)
}

// take returns the lines since the last take.
func (tp *tap) take() []string {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	lines := tp.lines
	tp.lines = nil
	return lines
}

// want waits until something has been logged that contains part.
func (tp *tap) want(t *testing.T, part string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		tp.mu.Lock()
		all, more := tp.all.String(), tp.more
		tp.mu.Unlock()
		if strings.Contains(all, part) {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("not logged: %q in\n%s", part, all)
		}
	}
}
