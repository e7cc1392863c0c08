package bench

import "time"

// A cpu is processor time. User and System are told apart by the system's clock
// ticks, 10 ms as a rule; Total is exact.
type cpu struct{ total, user, system time.Duration }

func (c cpu) sub(d cpu) cpu { return cpu{c.total - d.total, c.user - d.user, c.system - d.system} }

// A peak is the most memory that was seen.
type peak struct {
	watched []*process
	max     int64
}

func newPeak(watched []*process) *peak {
	p := &peak{watched: watched}
	p.look()
	return p
}

func (p *peak) look()      { p.max = max(p.max, resident(p.watched)) }
func (p *peak) get() int64 { p.look(); return p.max }
