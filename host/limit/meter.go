package limit

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// Rates are what a Meter lets through. In each field 0, or less, means no limit.
type Rates struct {
	Messages int64         // a minute
	Bytes    int64         // a second
	Burst    time.Duration // so much of this time's worth may come at once. 0 = 10 s
}

// minBytes is the least that may come at once: what a reader hands on in one
// piece must pass, or nothing ever would.
const minBytes = 64 << 10

// A Meter lets messages and bytes through at a rate, in the manner of a token
// bucket. A nil Meter lets everything through. It never allocates, and is safe
// for use by many goroutines.
type Meter struct {
	messages, bytes *rate.Limiter // nil = no limit
	burst           int           // of bytes
}

// NewMeter returns a Meter, or nil if r limits nothing.
func NewMeter(r Rates) *Meter {
	if r.Messages <= 0 && r.Bytes <= 0 {
		return nil
	}
	burst := r.burst().Seconds()
	m := &Meter{}
	if r.Messages > 0 {
		perSecond := float64(r.Messages) / 60
		m.messages = rate.NewLimiter(rate.Limit(perSecond), count(perSecond*burst, 1))
	}
	if r.Bytes > 0 {
		m.burst = count(float64(r.Bytes)*burst, minBytes)
		m.bytes = rate.NewLimiter(rate.Limit(r.Bytes), m.burst)
	}
	return m
}

func (r *Rates) burst() time.Duration {
	if r.Burst <= 0 {
		return 10 * time.Second
	}
	return r.Burst
}

// Full returns after how long without use a Meter of r is as good as new.
func (r *Rates) Full() time.Duration {
	d := r.burst()
	if r.Bytes > 0 {
		d = max(d, time.Duration(minBytes*float64(time.Second)/float64(r.Bytes)))
	}
	if r.Messages > 0 {
		d = max(d, time.Minute/time.Duration(r.Messages))
	}
	return d
}

func count(n, least float64) int { return int(min(max(n, least), math.MaxInt32)) }

// Message takes one message, if there is one left.
func (m *Meter) Message(now time.Time) bool {
	return m == nil || m.messages == nil || m.messages.AllowN(now, 1)
}

// Bytes takes n bytes, if there are as many left. More than what may come at once
// counts as that.
func (m *Meter) Bytes(now time.Time, n int) bool {
	return m == nil || m.bytes == nil || m.bytes.AllowN(now, min(n, m.burst))
}

// Owe is for when Bytes has none: it takes n bytes that will be there after a
// wait, if that is max at most, and returns how long the wait is.
func (m *Meter) Owe(now time.Time, n int, max time.Duration) (wait time.Duration, ok bool) {
	r := m.bytes.ReserveN(now, min(n, m.burst))
	if wait = r.DelayFrom(now); wait > max {
		r.CancelAt(now)
		return 0, false
	}
	return wait, true
}
