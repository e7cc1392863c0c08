package wasm

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
)

func testStore(t *testing.T, b Store) *store {
	s := Settings{Store: b}.withDefaults()
	st := newStore(s.Store)
	t.Cleanup(st.close)
	return st
}

func TestStoreTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testStore(t, Store{})
		s.set("short", []byte("a"), time.Minute)
		s.set("long", []byte("b"), 0)
		s.incr("n", 1, time.Minute)
		time.Sleep(59 * time.Second)
		s.incr("n", 1, time.Hour) // keeps its end
		s.set("again", []byte("c"), time.Minute)
		if _, ok := s.get("short"); !ok {
			t.Error("gone too early")
		}
		time.Sleep(2 * time.Second)
		for key, want := range map[string]bool{"short": false, "long": true, "n": false, "again": true} {
			if _, ok := s.get(key); ok != want {
				t.Errorf("%s: %v, want %v", key, ok, want)
			}
		}
		s.set("again", []byte("d"), time.Minute) // a write begins anew
		time.Sleep(59 * time.Second)
		if _, ok := s.get("again"); !ok {
			t.Error("a write has not moved the end")
		}
		// A TTL beyond all reason does not wrap around.
		s.set("ever", []byte("e"), 1<<62)
		time.Sleep(10 * time.Hour)
		if _, ok := s.get("ever"); !ok {
			t.Error("an entry for ever is gone")
		}
	})
}

func TestStoreCAS(t *testing.T) {
	s := testStore(t, Store{})
	v1, e := s.cas("k", []byte("a"), 0, 0)
	if e != 0 {
		t.Fatal(e)
	}
	if _, e := s.cas("k", []byte("b"), 0, 0); e != abi.ErrConflict {
		t.Error("made an entry that is there", e)
	}
	v2, e := s.cas("k", []byte("b"), v1, 0)
	if e != 0 || v2 == v1 {
		t.Error(v1, v2, e)
	}
	if _, e := s.cas("k", []byte("c"), v1, 0); e != abi.ErrConflict {
		t.Error("an old version was good", e)
	}
	if got, _ := s.get("k"); string(got.value) != "b" || got.version != v2 {
		t.Errorf("%q", got.value)
	}
	if e := s.delete("k"); e != 0 {
		t.Error(e)
	}
	if e := s.delete("k"); e != abi.ErrNoEnt {
		t.Error(e)
	}
	if _, e := s.cas("k", []byte("d"), v2, 0); e != abi.ErrConflict {
		t.Error("a version of what is gone was good", e)
	}
}

// TestStoreIncr: no addition is lost among callers.
func TestStoreIncr(t *testing.T) {
	s := testStore(t, Store{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				s.incr("n", 1, 0)
			}
		})
	}
	wg.Wait()
	minus := int64(-1)
	n, _, e := s.incr("n", uint64(minus), 0)
	if n != 7999 || e != 0 {
		t.Error(n, e)
	}
	if got, _ := s.get("n"); binary.LittleEndian.Uint64(got.value) != 7999 {
		t.Errorf("%x", got.value)
	}
	s.set("text", []byte("abc"), 0)
	if _, _, e := s.incr("text", 1, 0); e != abi.ErrInval {
		t.Error(e)
	}
}

func TestStoreBounds(t *testing.T) {
	s := testStore(t, Store{Size: 100_000, Key: 10, Value: 1000})
	for _, tt := range []struct {
		key, value string
		want       abi.Errno
	}{
		{"", "x", abi.ErrInval},
		{strings.Repeat("k", 11), "x", abi.ErrTooBig},
		{"k", strings.Repeat("v", 1001), abi.ErrTooBig},
		{strings.Repeat("k", 10), strings.Repeat("v", 1000), 0},
	} {
		if _, e := s.set(tt.key, []byte(tt.value), 0); e != tt.want {
			t.Errorf("%.12q: %v, want %v", tt.key, e, tt.want)
		}
	}
	for i := range 10_000 {
		s.set(fmt.Sprint(i), make([]byte, 1000), 0)
	}
	s.cache.CleanUp()
	if n := s.cache.EstimatedSize(); n > 100 || n < 50 {
		t.Errorf("%d entries of about 1130 bytes in a store of 100000", n)
	}
	small := testStore(t, Store{Size: 100})
	if _, e := small.set("k", nil, 0); e != abi.ErrTooBig {
		t.Error("an entry larger than the store", e)
	}
}
