package wasm

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestReplace: what was prepared runs beside what there is, and becomes one of the
// plugins, or ends, without a trace for the others.
func TestReplace(t *testing.T) {
	h := newHost(t, Options{})
	file, _ := plugin(t, "conform-c")
	set := func(name, config string) Settings {
		return Settings{Name: name, File: file, Grants: Grants{KV: true}, Config: func() ([]byte, []string, error) { return []byte(config), nil, nil }}
	}
	prepare := func(config string) *Plugin {
		t.Helper()
		p, err := h.Prepare(t.Context(), set("p", config))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	old, other := load(t, h, set("p", "old")), load(t, h, set("q", "other"))
	next := prepare("next")
	if got := h.Plugins(); !slices.Equal(got, []*Plugin{old, other}) {
		t.Errorf("plugins after Prepare: %v", got)
	}
	wantReason(t, old, "config", "old")
	wantReason(t, next, "config", "next")

	// Discarded: it ends, and the others do not.
	h.Discard(next)
	_, err := ask(t, next, "config", nil)
	wantKind(t, err, KindClosed)
	if err := next.Reload(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a discarded plugin came back: %v", err)
	}
	wantReason(t, old, "config", "old")

	// Replaced: those that stay keep their store, those that go end.
	if err := other.Set("k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	next = prepare("next")
	if !h.Replace([]*Plugin{next, other}) {
		t.Error("not replaced")
	}
	if got := h.Plugins(); !slices.Equal(got, []*Plugin{next, other}) {
		t.Errorf("plugins after Replace: %v", got)
	}
	wantReason(t, next, "config", "next")
	wantReason(t, other, "config", "other")
	_, err = ask(t, old, "config", nil)
	wantKind(t, err, KindClosed)
	if n := other.Stats().StoreEntries; n != 1 {
		t.Errorf("%d entries in the store of one that stayed", n)
	}

	// What cannot be loaded leaves nothing to discard.
	if p, err := h.Prepare(t.Context(), set("p", "refuse: not today")); err == nil {
		h.Discard(p)
		t.Error("it was prepared")
	}

	// After Close nothing becomes one of the plugins.
	h.Close()
	if h.Replace([]*Plugin{next}) || len(h.Plugins()) > 0 {
		t.Error("replaced after Close")
	}
}

// TestReplaceInCall: a call that runs when its plugin goes ends well.
func TestReplaceInCall(t *testing.T) {
	h := newHost(t, Options{})
	url, began, release := slowWeb(t)
	p := load(t, h, Settings{File: guest(t, "conform-c"), Timeout: 20 * time.Second, Grants: Grants{HTTP: []string{url}}})
	done := make(chan error, 1)
	go func() {
		_, err := ask(t, p, "http", map[string]any{"url": url})
		done <- err
	}()
	<-began
	h.Replace(nil)
	release()
	if err := <-done; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
}
