package wasm

import (
	"context"
	"errors"
	"slices"
	"time"
)

// get checks an instance out: one that is idle, or a new one, or, when there are
// as many as there may be, the first that becomes free until the deadline. The
// error is an *Error but for ctx's.
//
//  1. An instance is owned by the one call that has got it, until put.
//  2. There are never more instances than Settings.Instances.Max.
//  3. Who waits longest is served first.
func (g *generation) get(ctx context.Context, c *Call, deadline time.Time) (*instance, error) {
	g.mu.Lock()
	if n := len(g.idle); n > 0 { // the one used last is the warmest
		i := g.idle[n-1]
		g.idle = g.idle[:n-1]
		g.mu.Unlock()
		return i, nil
	}
	if g.total < g.set.Instances.Max {
		g.total++
		g.mu.Unlock()
		return g.make(ctx)
	}
	turn := make(chan *instance, 1)
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()

	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case i := <-turn:
		return g.take(ctx, i)
	case <-timer.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	n := slices.Index(g.waiting, turn)
	if n >= 0 {
		g.waiting = slices.Delete(g.waiting, n, n+1)
	}
	g.mu.Unlock()
	if n < 0 { // it came in the same moment
		return g.take(ctx, <-turn)
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, err
	}
	return nil, g.fail(c, KindBusy, "no instance became free in time; instances.max bounds them")
}

// take is what a waiter does with what put has handed over: an instance, or nil,
// which is the right to make one.
func (g *generation) take(ctx context.Context, i *instance) (*instance, error) {
	if i != nil {
		return i, nil
	}
	return g.make(ctx)
}

// make makes an instance that has been counted already.
func (g *generation) make(ctx context.Context) (*instance, error) {
	var made *instance
	defer func() {
		if made == nil {
			g.put(nil) // also after a panic
		}
	}()
	made, err := g.newInstance(ctx)
	if e, ok := err.(*Error); ok {
		e.Message = string(e.Kind) + ": " + e.Message
		e.Kind = KindStart
	}
	return made, err
}

// put gives an instance back, or, with nil, the place of one that is no more.
func (g *generation) put(i *instance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) > 0 {
		g.waiting[0] <- i // has room
		g.waiting = slices.Delete(g.waiting, 0, 1)
		return
	}
	if i == nil {
		g.total--
		return
	}
	i.free = time.Now()
	g.idle = append(g.idle, i)
	if len(g.idle) > g.set.Instances.Warm && g.shrink == nil {
		g.shrink = time.AfterFunc(g.set.Instances.Idle, g.drop)
	}
}

// drop closes instances beyond Warm that have been idle too long.
func (g *generation) drop() {
	if !g.enter() {
		return
	}
	defer g.leave()
	g.mu.Lock()
	var old []*instance
	now := time.Now()
	g.shrink = nil
	// The longest idle are first.
	for len(g.idle) > g.set.Instances.Warm {
		if rest := g.set.Instances.Idle - now.Sub(g.idle[0].free); rest > 0 {
			g.shrink = time.AfterFunc(rest, g.drop)
			break
		}
		old = append(old, g.idle[0])
		g.idle = slices.Delete(g.idle, 0, 1)
		g.total--
	}
	g.mu.Unlock()
	for _, i := range old {
		i.close()
	}
}
