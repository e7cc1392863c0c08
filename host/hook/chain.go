package hook

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// A Provider answers one hook point.
//
//  1. Call runs on the goroutine of the connection that asks, and that
//     connection waits: Call must return as soon as ctx is done. Nobody else
//     ends it.
//  2. Call may run on several goroutines at once.
//  3. q is the call's own copy, but its maps and slices are shared: they must
//     not be changed. Nothing of q may be kept but its strings.
//  4. A reply beside an error, or after ctx is done, is not believed.
type Provider[Q, A any] interface {
	Call(ctx context.Context, q *Q) (A, error)
}

// Func is a Provider.
type Func[Q, A any] func(ctx context.Context, q *Q) (A, error)

// Call calls f.
func (f Func[Q, A]) Call(ctx context.Context, q *Q) (A, error) { return f(ctx, q) }

// Policy says what the failure of a provider means.
type Policy uint8

// The zero Policy keeps the door closed.
const (
	OnErrorDeny Policy = iota // refused with 403
	OnErrorNext               // as if it had no opinion
)

// A Binding puts a provider into a chain.
type Binding[Q, A any] struct {
	// Name is what Reply.By and Failure.Binding say. Default: none.
	Name string
	// Provider is required.
	Provider Provider[Q, A]
	// Timeout bounds one call. Zero = 1 s, negative = no bound but ctx.
	Timeout time.Duration
	// OnError says what a failure means. Default: OnErrorDeny.
	OnError Policy
	// Params are handed to the provider with each request, as Request.Params,
	// and mean something to it only. They must not change once in a chain.
	Params map[string]any
}

func (b *Binding[Q, A]) timeout() time.Duration {
	if b.Timeout == 0 {
		return time.Second
	}
	return b.Timeout
}

// A Kind says how a provider failed; it is fit to be a metric label.
type Kind string

// The kinds of failures.
const (
	KindError    Kind = "error"    // it returned an error
	KindPanic    Kind = "panic"    // it panicked
	KindTimeout  Kind = "timeout"  // it did not answer within Binding.Timeout
	KindReply    Kind = "reply"    // its reply is not one that this hook point allows
	KindCanceled Kind = "canceled" // the caller's ctx was done: no fault of the provider
)

// A Failure is a provider that did not answer as it must.
type Failure struct {
	Point   Point
	Binding string
	Kind    Kind
	Err     error
	Stack   []byte // with KindPanic
}

// A Chain asks its bindings in order. It is immutable: a reload swaps it whole.
//
//  1. The first Done or Deny decides; its Reply.By is the binding's name.
//  2. The end of a chain is a zero reply, whose verdict is Next. Callers take it
//     for a closed door: an unknown user, the default interface.
//  3. A failure is reported once. Then OnErrorDeny answers 403, and OnErrorNext
//     goes on as if the provider had said Next.
//  4. When the caller's ctx is done the answer is Deny, whatever the policy:
//     nobody could be asked any more.
//  5. A Deny has a valid status and reason, and holds nothing else.
type Chain[Q, A any] struct {
	bindings []Binding[Q, A]
	point    Point
	fail     func(Failure)
}

// question and answer are what Chain needs of the pointers to its types.
type question interface {
	point() Point
	request() *Request
}

type answer[Q any] interface {
	reply() *Reply
	check(q *Q) error // of a reply that is Done
}

// NewChain returns a chain; fail, if not nil, is told of each failure, on the
// goroutine of Run. It panics if Q and A do not belong to one hook point.
func NewChain[Q, A any](fail func(Failure), bs ...Binding[Q, A]) *Chain[Q, A] {
	_ = answerOf[Q](new(A)) // now, rather than at the first request
	return &Chain[Q, A]{slices.Clone(bs), questionOf(new(Q)).point(), fail}
}

func questionOf[Q any](q *Q) question { return any(q).(question) }

func answerOf[Q, A any](a *A) answer[Q] { return any(a).(answer[Q]) }

// Has reports whether anyone is to be asked. It may be called on nil.
func (c *Chain[Q, A]) Has() bool { return c != nil && len(c.bindings) > 0 }

// Run asks who is in the chain. It may be called on nil, which is empty.
func (c *Chain[Q, A]) Run(ctx context.Context, q *Q) A {
	if !c.Has() {
		return *new(A)
	}
	for i := range c.bindings {
		b := &c.bindings[i]
		a, f := b.ask(ctx, q)
		if f != nil {
			if c.fail != nil {
				f.Point, f.Binding = c.point, b.Name
				c.fail(*f)
			}
			if b.OnError == OnErrorNext && f.Kind != KindCanceled {
				continue
			}
			a = refusal[Q, A](b.Name, 403, "No decision")
			answerOf[Q](&a).reply().Failed = true
			return a
		}
		switch r := answerOf[Q](&a).reply(); r.Verdict {
		case Done:
			r.By = b.Name
			return a
		case Deny:
			return refusal[Q, A](b.Name, r.Status, r.Reason)
		}
	}
	return *new(A)
}

func refusal[Q, A any](by string, status int, reason string) (a A) {
	if status == 0 {
		status = 403
	}
	*answerOf[Q](&a).reply() = Reply{Verdict: Deny, Status: status, Reason: reason, By: by}
	return a
}

// ask returns a reply that is valid, or how the provider failed.
func (b *Binding[Q, A]) ask(ctx context.Context, q *Q) (A, *Failure) {
	a, f := b.call(ctx, q)
	if f != nil {
		return a, f
	}
	if err := Check(q, &a); err != nil {
		return a, &Failure{Kind: KindReply, Err: fmt.Errorf("invalid reply: %w", err)}
	}
	return a, nil
}

// Check returns what is wrong with a reply to q, as a Chain does before it
// believes one.
func Check[Q, A any](q *Q, a *A) error {
	switch r := answerOf[Q](a).reply(); r.Verdict {
	case Next:
		return nil
	case Done:
		return answerOf[Q](a).check(q)
	case Deny:
		return checkRefusal(r.Status, r.Reason)
	default:
		return fmt.Errorf("verdict %d is none of next (%d), done (%d) and deny (%d)", uint8(r.Verdict), uint8(Next), uint8(Done), uint8(Deny))
	}
}

func (b *Binding[Q, A]) call(caller context.Context, q *Q) (a A, f *Failure) {
	ctx, timeout := caller, b.timeout()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(caller, timeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			f = &Failure{Kind: KindPanic, Err: fmt.Errorf("panic: %v", p), Stack: debug.Stack()}
		}
	}()
	own := *q // so that a provider can change neither what the next one sees nor what its reply is held against
	*questionOf(&own).request() = Request{b.Name, b.Params}
	a, err := b.Provider.Call(ctx, &own)
	done := ctx.Err()
	if done != nil && err == nil {
		err = done
	}
	switch {
	case err == nil:
		return a, nil
	case caller.Err() != nil:
		return a, &Failure{Kind: KindCanceled, Err: fmt.Errorf("the caller does not wait any more: %w", err)}
	case done != nil:
		return a, &Failure{Kind: KindTimeout, Err: fmt.Errorf("no answer within %v: %w", timeout, err)}
	}
	return a, &Failure{Kind: KindError, Err: err}
}
