package wasm

import (
	"math/bits"
	"sync"
	"time"
)

// window is how many calls a breaker looks back on.
const window = 20

// How long an open breaker stays so, first and at most.
const (
	openFirst = time.Second
	openMax   = time.Minute
)

// A breaker stops calls to what fails again and again.
type breaker struct {
	limit int // failures of the last window calls; negative = never opens

	mu      sync.Mutex
	past    uint32 // one bit per call, the last one lowest: set if it failed
	until   time.Time
	wait    time.Duration // of the last opening; 0 = it is closed
	probing bool          // one call tries whether it is well again
}

// An outcome is what a call says about a plugin.
type outcome uint8

const (
	neither outcome = iota // nothing: it was not asked, or the caller left
	well
	failed
)

// allow reports whether a call may go on, and whether it is the one that tries.
// If it may, done must follow.
func (b *breaker) allow(now time.Time) (ok, probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.wait == 0:
		return true, false
	case b.probing || now.Before(b.until):
		return false, false
	}
	b.probing = true
	return true, true
}

// done tells how a call ended, and returns for how long the breaker has opened,
// and whether it has closed.
func (b *breaker) done(probe bool, o outcome, now time.Time) (opened time.Duration, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	if o == neither || b.limit < 0 {
		return 0, false
	}
	b.past = b.past << 1 & (1<<window - 1)
	if o == failed {
		b.past |= 1
	}
	switch {
	case b.wait > 0 && !probe: // it began before the breaker opened
		return 0, false
	case probe && o == well:
		b.wait, b.past = 0, 0
		return 0, true
	case probe:
		b.wait = min(2*b.wait, openMax)
	case bits.OnesCount32(b.past) >= b.limit:
		b.wait = openFirst
	default:
		return 0, false
	}
	b.until = now.Add(b.wait)
	return b.wait, false
}

// state is closed, open or half-open.
func (b *breaker) state(now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.wait == 0:
		return "closed"
	case now.Before(b.until):
		return "open"
	}
	return "half-open"
}
