// Package bench loads an MSRP relay, or a byte forwarder in its place, with pairs
// of endpoints, and says what that cost.
//
//	cfg := bench.Config{Relay: "msrp://relay.example.com:2855;tcp", User: "alice", Password: "…",
//		Pairs: 10, Size: 2048, Time: 5 * time.Second, PIDs: []int{relay}}
//	r, err := bench.Run(ctx, cfg)
//	if err != nil { … } // a *Fault if something was lost, changed or out of order
//	fmt.Println(r.Messages, r.CPUPerMessage())
//
// A pair is a sender and a receiver, each on a connection of its own, both here: so
// latency is read from one clock, and the receiver knows each octet that must come.
// Through a relay a SEND is one hop in, one hop out, and a response each way.
// Through a forwarder it is the same: the sender connects to the forwarder, the forwarder
// to a listener of Run, and frames have paths as long as a relay's.
//
// What Run itself costs is in the Result beside the rest. It reads with the Reader of
// host/msrp, writes frames by itself, and allocates nothing for a message. It knows
// only relays that keep the order of a session, as RFC 4976 §6.4.1 has it.
package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-msrp/parley/host/msrp"
)

// A Config says what to do. Relay or Through must be set; all else has a default.
type Config struct {
	// Relay is the URI of the relay to AUTH at: msrp or msrps, ;tcp or ;ws.
	Relay string
	// Addr is host:port to connect to instead of what Relay says.
	Addr string
	// User and Password are of all sessions.
	User, Password string
	// OneSession: senders do not AUTH, and send to the session URI of their receiver,
	// as peers without a relay do. Else a SEND goes by a session of either.
	OneSession bool

	// Through is host:port of a forwarder to use instead of a relay; it must
	// connect to Listener, where the receivers are.
	Through  string
	Listener net.Listener
	// Secure asks for TLS to Through, and Listener must be one of TLS.
	Secure bool

	// TLS is what connections start from. Default: the system's authorities.
	TLS *tls.Config

	// Pairs of a sender and a receiver. Zero = 10, negative = none.
	Pairs int
	// Size of a message and Chunk of its body in one SEND, in bytes. Zero = 2048,
	// and all of the message.
	Size, Chunk int64
	// Window is how many SENDs of a pair may be under way: sent, and not arrived,
	// or without a response or REPORT that is due. Zero = 32.
	Window int
	// Rate is how many messages are sent in a second, by all pairs. Zero = as many as the windows let.
	Rate float64
	// Failure is the Failure-Report of all SENDs. Default: absent, which means yes.
	Failure msrp.ReportWish
	// Success asks for a REPORT on each message.
	Success bool

	// Time is how long is measured, after Warmup. Zero = 5 s.
	Time, Warmup time.Duration
	// Messages, if not 0, is how many each pair sends; then Time and Warmup do not count.
	Messages int64
	// Stall is how long nothing may arrive while something is under way. Zero = 30 s.
	Stall time.Duration

	// Idle is how many sessions stand beside, with nothing to do.
	Idle int

	// AuthWorkers do AUTHs beside the pairs, each after the other, at AuthRate a second
	// altogether (zero = as many as they can), AuthsPerConn of them on one connection
	// (zero = 1: each on a new one).
	AuthWorkers  int
	AuthRate     float64
	AuthsPerConn int

	// PIDs are processes to watch; only on Linux.
	PIDs []int
}

func (c *Config) pairs() int           { return max(0, cmp.Or(c.Pairs, 10)) }
func (c *Config) size() int64          { return cmp.Or(c.Size, 2048) }
func (c *Config) chunk() int64         { return min(cmp.Or(c.Chunk, c.size()), c.size()) }
func (c *Config) window() int          { return cmp.Or(c.Window, 32) }
func (c *Config) stall() time.Duration { return cmp.Or(c.Stall, 30*time.Second) }
func (c *Config) authsPerConn() int    { return cmp.Or(c.AuthsPerConn, 1) }
func (c *Config) failure() bool        { return c.Failure == msrp.Absent || c.Failure == msrp.Yes }

func (c *Config) time() time.Duration { return cmp.Or(c.Time, 5*time.Second) }

// Validate joins all faults of the Config.
func (c *Config) Validate() error {
	var errs []error
	bad := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad((c.Relay == "") == (c.Through == ""), "one of relay and forwarder must be named")
	if c.Relay != "" {
		_, err := msrp.ParseURI(c.Relay)
		bad(err != nil, "relay %s: %w; write it as msrp://relay.example.com:2855;tcp", c.Relay, err)
	}
	bad(c.Through != "" && c.Listener == nil, "a forwarder needs a listener that it connects to")
	bad(c.Through != "" && c.AuthWorkers > 0, "a forwarder takes no AUTHs")
	bad(c.Pairs > 10_000, "%d pairs: at most 10000", c.Pairs)
	bad(c.Size < 0 || c.Size > 1<<40, "size %d: 1 byte to 1 TiB", c.Size)
	bad(c.Chunk < 0 || c.Chunk > maxChunk, "chunk %d: 1 byte to %d MiB", c.Chunk, maxChunk>>20)
	bad(c.Chunk == 0 && c.Size > maxChunk, "size %d needs chunks of at most %d MiB", c.Size, maxChunk>>20)
	bad(c.Window < 0 || c.Window > maxWindow, "window %d: 1 to %d", c.Window, maxWindow)
	bad(c.Rate < 0 || c.AuthRate < 0, "a rate is not negative")
	bad(c.Messages < 0 || c.Idle < 0 || c.AuthWorkers < 0 || c.AuthsPerConn < 0, "a number is not negative")
	bad(c.Time < 0 || c.Warmup < 0 || c.Stall < 0, "a time is not negative")
	bad(c.Messages > 0 && c.pairs() == 0, "a number of messages needs pairs")
	return errors.Join(errs...)
}

const (
	maxChunk  = 64 << 20 // it is built in memory
	maxWindow = 1 << 16
)

// A Fault is what the relay did wrong: an octet changed, a frame lost, doubled or
// out of order, a response or REPORT that is wrong, missing or too many.
type Fault struct {
	Pair int
	What string
}

func (f *Fault) Error() string { return fmt.Sprintf("pair %d: %s", f.Pair, f.What) }

// A load is one Run.
type load struct {
	cfg    Config
	dialer *dialer
	stop   atomic.Bool // senders are to begin no further message
	begin  time.Time   // stamps are nanoseconds since
	tally  tally
	pairs  []*pair
	auths  []*authWorker
}

func (l *load) now() int64 { return int64(time.Since(l.begin)) }

// Run connects, sends, and returns what it has measured. It ends early with a *Fault
// once something is wrong, or when ctx is done; then the Result is nil.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &load{cfg: cfg, begin: time.Now()}
	var err error
	if l.dialer, err = newDialer(&l.cfg); err != nil {
		return nil, err
	}
	watched := make([]*process, len(cfg.PIDs))
	for i, pid := range cfg.PIDs {
		if watched[i], err = openProcess(pid); err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	defer l.close()
	r := &Result{Config: summary(&cfg)}
	r.Memory.Before = resident(watched)
	begun := time.Now()
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	r.Memory.Pairs = resident(watched)
	idle, err := l.standIdle(ctx)
	if err != nil {
		return nil, err
	}
	defer idle.close()
	r.Setup = time.Since(begun).Seconds()
	r.Memory.Idle = resident(watched)
	if err := l.run(ctx, r, watched); err != nil {
		return nil, err
	}
	r.Memory.End = resident(watched)
	if err := idle.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// connect makes the pairs. Through a forwarder one after the other, to know whose
// connection arrives.
func (l *load) connect(ctx context.Context) error {
	l.pairs = make([]*pair, l.cfg.pairs())
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	if l.cfg.Through != "" {
		g.SetLimit(1)
	}
	for i := range l.pairs {
		g.Go(func() error {
			p, err := newPair(ctx, l, i)
			if err != nil {
				return fmt.Errorf("pair %d: %w", i, err)
			}
			l.pairs[i] = p
			return nil
		})
	}
	return g.Wait()
}

func (l *load) close() {
	for _, p := range l.pairs {
		if p != nil {
			p.close()
		}
	}
}

// run starts everybody, takes the figures at both ends of the time that is
// measured, and waits until all that was sent has arrived.
func (l *load) run(ctx context.Context, r *Result, watched []*process) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var senders, auths, others sync.WaitGroup
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	// Who reads is not to wait for ever when something has failed.
	unblock := context.AfterFunc(ctx, l.close)
	defer unblock()
	if l.cfg.Messages > 0 {
		l.tally.start(l)
	}
	first := l.measure(watched)
	for _, p := range l.pairs {
		others.Go(func() { fail(p.receive()) })
		others.Go(func() { fail(p.listen()) })
		senders.Go(func() { fail(p.send(ctx)) })
	}
	for i := range l.cfg.AuthWorkers {
		w := &authWorker{load: l, n: i}
		l.auths = append(l.auths, w)
		auths.Go(func() { fail(w.run(ctx)) })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		senders.Wait()
	}()
	peak := newPeak(watched)
	watch := func(d time.Duration) { l.watch(ctx, d, done, peak, fail) }
	if l.cfg.Messages > 0 {
		watch(-1)
	} else {
		watch(l.cfg.Warmup)
		first = l.measure(watched)
		l.tally.start(l)
		watch(l.cfg.time())
	}
	l.tally.end(l)
	last := l.measure(watched)
	r.Memory.Peak = peak.get()
	l.stop.Store(true)
	for _, p := range l.pairs {
		p.kick()
	}
	watch(-1) // what is under way
	auths.Wait()
	err := context.Cause(ctx)
	l.close()
	<-done
	others.Wait()
	if err != nil {
		return err
	}
	r.fill(l, first, last)
	return r.watched(watched, first, last)
}

// watch returns after d, or once done is closed; of a negative d, only then. It
// fails the run when a pair waits for something that does not come.
func (l *load) watch(ctx context.Context, d time.Duration, done <-chan struct{}, peak *peak, fail func(error)) {
	var end <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		end = timer.C
	}
	if len(l.pairs) == 0 {
		done = nil
		if d < 0 {
			return
		}
	}
	tick := time.NewTicker(min(100*time.Millisecond, l.cfg.stall()/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-done:
			return
		case now := <-tick.C:
			peak.look()
			for _, p := range l.pairs {
				fail(p.stalled(now, l.cfg.stall()))
			}
		}
	}
}

// A snapshot is what the counters say at one moment.
type snapshot struct {
	at     time.Time
	octets int64
	auths  int64
	own    cpu
	used   []cpu
}

func (l *load) measure(watched []*process) (s snapshot) {
	for _, w := range watched {
		s.used = append(s.used, w.cpu())
	}
	s.own, s.at = ownCPU(), time.Now()
	for _, p := range l.pairs {
		s.octets += p.arrived.Load()
	}
	s.auths = l.tally.auths.Load()
	return s
}

// A tally says which of the stamps count: those of messages that were sent, and
// arrived, while it was measured.
type tally struct {
	from, to atomic.Int64 // 0 = not yet
	auths    atomic.Int64
}

func (t *tally) start(l *load) { t.from.Store(max(1, l.now())) }
func (t *tally) end(l *load)   { t.to.Store(l.now()) }

func (t *tally) counts(stamp int64) bool {
	from := t.from.Load()
	return from != 0 && stamp >= from && t.to.Load() == 0
}

// ring is how many slots a window needs: a response may be late by three windows
// before it is taken for lost.
func ring(window int) int { return 1 << bits.Len(uint(4*window-1)) }
