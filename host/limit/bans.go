// Package limit bounds what peers do over time: how often an address may fail
// to authenticate before it is not listened to any more ([Bans]), and how many
// messages and bytes may come in a while ([Meter]).
//
//	bans, err := limit.NewBans(limit.BansConfig{File: "bans.json"})
//	…
//	if bans.Banned(addr) { … } // when a connection comes
//	v := bans.Failed(addr, 1)  // after a wrong password: wait v.Delay, then answer
//	…
//	bans.Close()
//
// It knows neither connections nor MSRP: who asks does the waiting and closing.
package limit

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// BansConfig says who is banned, and for how long. The zero value works.
type BansConfig struct {
	Addresses Addresses
	// After so many failures within Window an address is banned. Default 20.
	After int
	// Window is counted from the first failure. Default 10 min.
	Window time.Duration
	// Delay is how long the answer to the third failure within Window is held
	// back; with each further one it doubles, up to MaxDelay. Defaults 1 s and
	// 8 s; negative = never.
	Delay, MaxDelay time.Duration
	// Time is how long the first ban lasts; who is banned again within as long
	// after the end of a ban as that has lasted is so for twice as long, up to
	// MaxTime. Defaults 5 min and 1 h.
	Time, MaxTime time.Duration
	// Entries is how many addresses are remembered as banned, and how many for
	// failures. Default 10000, some 3 MB.
	Entries int
	// File keeps the bans for the next start. It is written a few seconds after
	// a change, and by Close. Default: none.
	File string
	Log  *slog.Logger // nil = none
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (c *BansConfig) after() int              { return or(c.After, 20) }
func (c *BansConfig) window() time.Duration   { return or(c.Window, 10*time.Minute) }
func (c *BansConfig) delay() time.Duration    { return or(c.Delay, time.Second) }
func (c *BansConfig) maxDelay() time.Duration { return or(c.MaxDelay, max(8*time.Second, c.Delay)) }
func (c *BansConfig) time() time.Duration     { return or(c.Time, 5*time.Minute) }
func (c *BansConfig) maxTime() time.Duration  { return or(c.MaxTime, max(time.Hour, c.Time)) }
func (c *BansConfig) entries() int            { return or(c.Entries, 10_000) }

// Validate joins all faults of c; each begins with the field's name in the
// configuration file.
func (c *BansConfig) Validate() error {
	errs := []error{c.Addresses.Validate()}
	for _, f := range []struct {
		name string
		bad  bool
		why  string
	}{
		{"after", c.After < 0, "must not be negative"},
		{"window", c.Window < 0, "must not be negative"},
		{"max_delay", c.MaxDelay < 0 || c.MaxDelay > 0 && c.MaxDelay < c.delay(), "must not be less than delay"},
		{"time", c.Time < 0, "must not be negative"},
		{"max_time", c.MaxTime < 0 || c.MaxTime > 0 && c.MaxTime < c.time(), "must not be less than time"},
		{"max_time", c.MaxTime > maxBan || c.Time > maxBan, "must not be more than ten years"},
		{"entries", c.Entries < 0, "must not be negative"},
	} {
		if f.bad {
			errs = append(errs, fmt.Errorf("%s: %s", f.name, f.why))
		}
	}
	return errors.Join(errs...)
}

const maxBan = 10 * 366 * 24 * time.Hour

// Bans counts failures by address and bans those that have too many.
//
//  1. What it remembers is bounded. When there is no room, the address with few
//     failures gives way to a new one, and the ban that is over first to a new
//     ban: a flood of new addresses does not end a ban, and many short bans do not
//     end long ones.
//  2. Success forgives nothing, or who has one account could guess others' for
//     ever; time does.
//  3. With a file, bans outlive the process. A file that cannot be understood is
//     put aside, said so, and not a reason not to start.
//
// It is safe for use by many goroutines, and has none of its own.
type Bans struct {
	now atomic.Pointer[BansConfig] // swapped whole by Configure
	log *slog.Logger

	writing sync.Mutex // held while the file is written; taken before mu

	mu       sync.Mutex // guards what follows; never held across I/O
	suspects map[netip.Prefix]suspect
	bans     map[netip.Prefix]ban
	save     *time.Timer // set while the file is not up to date
	closed   bool
}

// A suspect is an address with failures, but without a ban.
type suspect struct {
	since  time.Time // its window began
	points float64   // failures, by weight
}

// A ban is kept beyond its end, to know who comes again.
type ban struct {
	until  time.Time
	length time.Duration
	times  int
}

func (b *ban) forgotten(now time.Time) bool { return !now.Before(b.until.Add(b.length)) }

// NewBans returns Bans with those of the file, if there is one. The error is a
// setting that cannot be, or a file that cannot be read. Close must follow.
func NewBans(cfg BansConfig) (*Bans, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bans{log: cfg.Log, suspects: map[netip.Prefix]suspect{}, bans: map[netip.Prefix]ban{}}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.now.Store(&cfg)
	return b, b.load()
}

// Configure makes cfg, which must be valid, count from now on. File and Log stay.
// Bans that are in force stay as they are; with other lengths of
// Addresses.IPv4 or IPv6 they are of no address that is looked up any more.
func (b *Bans) Configure(cfg BansConfig) {
	old := b.cfg()
	cfg.File, cfg.Log = old.File, old.Log
	b.now.Store(&cfg)
}

func (b *Bans) cfg() *BansConfig { return b.now.Load() }

// Banned reports whether addr is banned now.
func (b *Bans) Banned(addr netip.Addr) bool {
	peer, ok := b.cfg().Addresses.Peer(addr)
	if !ok {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.banned(peer, time.Now())
}

// banned needs mu.
func (b *Bans) banned(peer netip.Prefix, now time.Time) bool {
	x, ok := b.bans[peer]
	return ok && now.Before(x.until)
}

// A Verdict is what a failure leads to.
type Verdict struct {
	Delay  time.Duration // to wait before the answer; 0 if banned
	Banned bool
	New    bool // the ban begins with this failure
}

// Failed counts a failure of addr. Weight is 1, or less where others than the one
// who failed would suffer, too.
func (b *Bans) Failed(addr netip.Addr, weight float64) Verdict {
	peer, ok := b.cfg().Addresses.Peer(addr)
	if !ok {
		return Verdict{}
	}
	v, x := b.failed(peer, weight, time.Now())
	if v.New {
		b.log.Info("address banned: too many wrong passwords", "address", peer, "for", x.length.String(), "times", x.times)
	}
	return v
}

func (b *Bans) failed(peer netip.Prefix, weight float64, now time.Time) (v Verdict, x ban) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.banned(peer, now) {
		return Verdict{Banned: true}, x
	}
	s, known := b.suspects[peer]
	if !known && len(b.suspects) >= b.cfg().entries() {
		b.dropSuspect(now)
	}
	if !known || now.Sub(s.since) >= b.cfg().window() {
		s = suspect{since: now}
	}
	s.points += weight
	if s.points < float64(b.cfg().after()) {
		b.suspects[peer] = s
		return Verdict{Delay: b.delayFor(s.points)}, x
	}
	delete(b.suspects, peer)
	return Verdict{Banned: true, New: true}, b.ban(peer, now)
}

// delayFor doubles with each failure from the third on.
func (b *Bans) delayFor(points float64) time.Duration {
	n := int(math.Ceil(points)) - 3
	if n < 0 || b.cfg().delay() < 0 {
		return 0
	}
	if n > 30 {
		return b.cfg().maxDelay()
	}
	d := b.cfg().delay() << n
	if d>>n != b.cfg().delay() || d > b.cfg().maxDelay() {
		return b.cfg().maxDelay()
	}
	return d
}

// dropSuspect forgets the least of a few. The order of a map is random enough
// that nobody can say which. b.mu is held.
func (b *Bans) dropSuspect(now time.Time) {
	const few = 8
	var least netip.Prefix
	points, seen := math.Inf(1), 0
	for peer, s := range b.suspects {
		if now.Sub(s.since) >= b.cfg().window() {
			s.points = 0
		}
		if s.points < points {
			least, points = peer, s.points
		}
		if seen++; seen == few {
			break
		}
	}
	delete(b.suspects, least)
}

// ban bans peer. b.mu is held.
func (b *Bans) ban(peer netip.Prefix, now time.Time) ban {
	x, known := b.bans[peer]
	if !known || x.forgotten(now) {
		x = ban{}
	}
	x.length = min(max(2*x.length, b.cfg().time()), b.cfg().maxTime())
	x.until = now.Add(x.length)
	x.times++
	if !known {
		b.makeRoom()
	}
	b.bans[peer] = x
	b.changed()
	return x
}

// makeRoom drops the ban that ends, or ended, first, if there is no room for one
// more. b.mu is held.
func (b *Bans) makeRoom() {
	if len(b.bans) < b.cfg().entries() {
		return
	}
	var first netip.Prefix
	var end time.Time
	for peer, x := range b.bans {
		if !first.IsValid() || x.until.Before(end) {
			first, end = peer, x.until
		}
	}
	delete(b.bans, first)
}

// A Ban is one for operators to see.
type Ban struct {
	Address netip.Prefix `json:"address"`
	Until   time.Time    `json:"until"`
	Times   int          `json:"times"` // that it was banned, with this one
}

// Active returns how many addresses are banned now.
func (b *Bans) Active() int {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, x := range b.bans {
		if now.Before(x.until) {
			n++
		}
	}
	return n
}

// List returns who is banned now, longest first.
func (b *Bans) List() []Ban {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	bans := []Ban{}
	for peer, x := range b.bans {
		if now.Before(x.until) {
			bans = append(bans, Ban{peer, x.until.UTC(), x.times})
		}
	}
	slices.SortFunc(bans, func(x, y Ban) int {
		return cmp.Or(y.Until.Compare(x.Until), x.Address.Addr().Compare(y.Address.Addr()))
	})
	return bans
}

// Lift ends the ban of addr and forgets its failures. It reports whether there
// was a ban.
func (b *Bans) Lift(addr netip.Addr) bool {
	peer, ok := b.cfg().Addresses.Peer(addr)
	if !ok {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.banned(peer, time.Now())
	if _, ok := b.bans[peer]; ok {
		delete(b.bans, peer)
		b.changed()
	}
	delete(b.suspects, peer)
	return was
}
