package wasm

import (
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	now := time.Unix(0, 0)
	b := breaker{limit: 5}
	step := func(o outcome, allowed bool, opened time.Duration, closed bool) {
		t.Helper()
		got, probe := b.allow(now)
		if got != allowed {
			t.Fatalf("allow: %v", got)
		}
		if !allowed {
			return
		}
		if gotOpened, gotClosed := b.done(probe, o, now); gotOpened != opened || gotClosed != closed {
			t.Fatalf("done: %v %v, want %v %v", gotOpened, gotClosed, opened, closed)
		}
	}
	// Four of 20 are not enough, and old ones are forgotten.
	for range 3 {
		for range 4 {
			step(failed, true, 0, false)
		}
		for range 20 {
			step(well, true, 0, false)
		}
	}
	// Scattered ones count too; what says nothing does not.
	for range 4 {
		step(failed, true, 0, false)
		step(well, true, 0, false)
		step(neither, true, 0, false)
	}
	step(failed, true, time.Second, false)
	step(well, false, 0, false)
	now = now.Add(time.Second - 1)
	step(well, false, 0, false)
	// Then one call tries, and only one.
	now = now.Add(1)
	state := b.state(now)
	first, probe := b.allow(now)
	second, _ := b.allow(now)
	if state != "half-open" || !first || !probe || second {
		t.Fatal("not one call alone")
	}
	b.done(false, failed, now) // one from before, which says nothing any more
	if opened, _ := b.done(true, failed, now); opened != 2*time.Second {
		t.Fatalf("opened for %v", opened)
	}
	// A probe that says nothing lets the next one try.
	now = now.Add(2 * time.Second)
	step(neither, true, 0, false)
	// Twice as long each time, up to a minute.
	for _, want := range []time.Duration{4, 8, 16, 32, 60, 60} {
		step(failed, true, want*time.Second, false)
		if b.state(now) != "open" {
			t.Fatal(b.state(now))
		}
		now = now.Add(want * time.Second)
	}
	step(well, true, 0, true)
	if b.state(now) != "closed" {
		t.Error(b.state(now))
	}
	// The past is forgotten.
	for range 4 {
		step(failed, true, 0, false)
	}
	step(failed, true, time.Second, false)
}

// TestBreakerLate: calls that began before it opened do not open it further.
func TestBreakerLate(t *testing.T) {
	now := time.Unix(0, 0)
	b := breaker{limit: 2}
	for range 5 {
		b.allow(now)
	}
	for i, want := range []time.Duration{0, time.Second, 0, 0, 0} {
		if opened, _ := b.done(false, failed, now); opened != want {
			t.Errorf("call %d: opened for %v, want %v", i, opened, want)
		}
	}
}

func TestBreakerOff(t *testing.T) {
	b := breaker{limit: -1}
	for range 100 {
		if ok, _ := b.allow(time.Time{}); !ok {
			t.Fatal("not allowed")
		}
		b.done(false, failed, time.Time{})
	}
}
