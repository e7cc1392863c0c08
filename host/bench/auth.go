package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// An authWorker does AUTHs, one after the other.
type authWorker struct {
	// Set by run's caller, then read-only.
	load *load
	n    int

	// Owned by run.
	latency *hdrhistogram.Histogram
}

func (w *authWorker) run(ctx context.Context) error {
	cfg := &w.load.cfg
	w.latency = hdrhistogram.New(1, int64(100*time.Second), 2)
	var every, due time.Duration
	if cfg.AuthRate > 0 {
		every = time.Duration(float64(time.Second) * float64(cfg.AuthWorkers) / cfg.AuthRate)
		due = time.Since(w.load.begin) + every*time.Duration(w.n)/time.Duration(cfg.AuthWorkers)
	}
	var k *link
	defer func() {
		if k != nil {
			k.close()
		}
	}()
	for used := 0; !w.load.stop.Load() && ctx.Err() == nil; {
		if every > 0 {
			select {
			case <-time.After(time.Until(w.load.begin.Add(due))):
			case <-ctx.Done():
				return nil
			}
			due += every
		}
		begun := w.load.now()
		var err error
		if k == nil {
			k, err = w.load.dialer.dial(ctx)
		}
		if err == nil {
			_, err = w.load.dialer.login(k, time.Now().Add(30*time.Second))
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if w.load.tally.counts(begun) {
			_ = w.latency.RecordValue(min(w.load.now()-begun, int64(100*time.Second))) // it is in range
		}
		w.load.tally.auths.Add(1)
		if used++; used >= cfg.authsPerConn() {
			k.close()
			k, used = nil, 0
		}
	}
	return nil
}

// Sessions that stand idle.
type idle struct {
	links   []*link
	closing atomic.Bool
	reading sync.WaitGroup
	failed  atomic.Int64
}

// standIdle opens what is to stand beside: sessions at a relay, connections through
// a forwarder.
func (l *load) standIdle(ctx context.Context) (*idle, error) {
	all := &idle{links: make([]*link, l.cfg.Idle)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	if l.cfg.Through != "" {
		g.SetLimit(1)
		all.links = make([]*link, 2*l.cfg.Idle)
	}
	for i := range l.cfg.Idle {
		g.Go(func() error {
			var err error
			if l.cfg.Through == "" {
				all.links[i], _, err = l.dialer.open(gctx)
			} else if all.links[i], err = l.dialer.dial(gctx); err == nil {
				there, err := accept(gctx, l.cfg.Listener)
				if err != nil {
					return err
				}
				all.links[l.cfg.Idle+i] = newLink(there)
			}
			if err != nil {
				return fmt.Errorf("idle session %d: %w", i, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		all.close()
		return nil, err
	}
	for _, k := range all.links {
		if k.msgs != nil { // somebody has to read, for pings to be answered
			all.reading.Go(func() {
				if _, err := k.rd.Next(); !all.closing.Load() && err != nil {
					all.failed.Add(1)
				}
			})
		}
	}
	return all, nil
}

// check returns a Fault if one of them has ended.
func (a *idle) check() error {
	var g errgroup.Group
	g.SetLimit(1000)
	for _, k := range a.links {
		if k.msgs != nil {
			continue
		}
		g.Go(func() error {
			_ = k.nc.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // a closed connection says so below
			var b [1]byte
			if _, err := k.nc.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
				a.failed.Add(1)
			}
			return nil
		})
	}
	_ = g.Wait() // nobody returns one
	if n := a.failed.Load(); n > 0 {
		return &Fault{-1, fmt.Sprintf("%d of %d idle connections were closed or sent something", n, len(a.links))}
	}
	return nil
}

func (a *idle) close() {
	a.closing.Store(true)
	for _, k := range a.links {
		if k != nil {
			k.close()
		}
	}
	a.reading.Wait()
}
