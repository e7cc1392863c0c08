package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// says answers the same to everybody.
func says(a AuthReply) authFunc {
	return func(context.Context, *AuthRequest) (AuthReply, error) { return a, nil }
}

var (
	knows  = AuthReply{Reply: Reply{Verdict: Done}, Password: "x"}
	denies = AuthReply{Reply: Reply{Verdict: Deny}}
)

// TestChainOrder: the first that has an opinion decides; the end of the chain
// is a closed door.
func TestChainOrder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		chain []authFunc // named a, b, …
		want  AuthReply
	}{
		{"empty", nil, AuthReply{}},
		{"none knows", []authFunc{says(AuthReply{}), says(AuthReply{Password: "y"})}, AuthReply{}},
		{"the second knows", []authFunc{says(AuthReply{}), says(knows)}, AuthReply{Reply: Reply{Verdict: Done, By: "b"}, Password: "x"}},
		{"the first denies", []authFunc{says(denies), says(knows)}, AuthReply{Reply: Reply{Verdict: Deny, Status: 403, By: "a"}}},
		{
			"a refusal holds nothing else",
			[]authFunc{says(AuthReply{Reply: Reply{Verdict: Deny, Status: 481, Reason: "no", By: "z"}, Password: "x", Authenticated: true})},
			AuthReply{Reply: Reply{Verdict: Deny, Status: 481, Reason: "no", By: "a"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var bs []authBinding
			for i, f := range tt.chain {
				bs = append(bs, authBinding{Name: string(rune('a' + i)), Provider: f})
			}
			c := NewChain(func(f Failure) { t.Errorf("%+v", f) }, bs...)
			if c.Has() != (len(bs) > 0) {
				t.Error("Has")
			}
			clear(bs) // the chain has its own
			if diff := cmp.Diff(tt.want, c.Run(t.Context(), &AuthRequest{Algorithm: "MD5"})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestChainFailure: a provider that fails is reported once, and what that means
// is the binding's policy. Nothing that it said is believed.
func TestChainFailure(t *testing.T) {
	done := func(a AuthReply) authFunc { a.Verdict = Done; return says(a) }
	denied := func(status int, reason string) authFunc {
		return says(AuthReply{Reply: Reply{Verdict: Deny, Status: status, Reason: reason}})
	}
	for _, tt := range []struct {
		name      string
		f         authFunc
		algorithm string // "" = MD5
		kind      Kind
		err       string
	}{
		{"error", func(context.Context, *AuthRequest) (AuthReply, error) { return knows, errors.New("no database") }, "", KindError, "no database"},
		{"panic", func(context.Context, *AuthRequest) (AuthReply, error) { panic("a bug") }, "", KindPanic, "panic: a bug"},
		{"panic with nil", func(context.Context, *AuthRequest) (AuthReply, error) { panic(nil) }, "", KindPanic, "panic: "},
		{"no provider", nil, "", KindPanic, "nil pointer"},
		{"too slow, answers", func(ctx context.Context, _ *AuthRequest) (AuthReply, error) { <-ctx.Done(); return knows, nil }, "", KindTimeout, "no answer within 3s: context deadline"},
		{"too slow, error", func(ctx context.Context, _ *AuthRequest) (AuthReply, error) {
			<-ctx.Done()
			return AuthReply{}, fmt.Errorf("ask: %w", ctx.Err())
		}, "", KindTimeout, "no answer within 3s: ask: context deadline"},
		{"nothing said", done(AuthReply{}), "", KindReply, "exactly one of password, ha1"},
		{"too much said", done(AuthReply{Password: "x", Authenticated: true}), "", KindReply, "exactly one of password, ha1"},
		{"short ha1", done(AuthReply{HA1: "abc"}), "", KindReply, "not 32 lower-case hex digits, as MD5"},
		{"upper-case ha1", done(AuthReply{HA1: strings.Repeat("A", 32)}), "", KindReply, "not 32 lower-case hex"},
		{"ha1 of the other algorithm", done(AuthReply{HA1: strings.Repeat("a", 32)}), "SHA-256", KindReply, "not 64 lower-case hex digits, as SHA-256"},
		{"negative time", done(AuthReply{Password: "x", MaxExpires: -1}), "", KindReply, "max_expires -1ns is less than a second"},
		{"username in the reply to an AUTH", done(AuthReply{Password: "x", Username: "bob"}), "", KindReply, "username does not belong into the reply to an AUTH"},
		{"time of no second", done(AuthReply{Password: "x", MaxExpires: 999 * time.Millisecond}), "", KindReply, "max_expires 999ms is less than a second"},
		{"unknown verdict", says(AuthReply{Reply: Reply{Verdict: 9}, Password: "x"}), "", KindReply, "verdict 9 is none of"},
		{"status that is no refusal", denied(200, ""), "", KindReply, "status 200 is not one of"},
		{"status that needs a challenge", denied(401, ""), "", KindReply, "status 401"},
		{"status of another protocol", denied(500, ""), "", KindReply, "status 500"},
		{"reason with a header", denied(403, "no\r\nTo-Path: x"), "", KindReply, "control characters"},
		{"reason too long", denied(403, strings.Repeat("x", 129)), "", KindReply, "reason of 129 bytes"},
	} {
		for _, policy := range []Policy{OnErrorDeny, OnErrorNext} {
			t.Run(fmt.Sprint(tt.name, policy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var failures []Failure
					c := NewChain(func(f Failure) { failures = append(failures, f) },
						authBinding{Name: "f", Provider: tt.f, OnError: policy, Timeout: 3 * time.Second},
						authBinding{Name: "g", Provider: says(AuthReply{Reply: Reply{Verdict: Done}, Password: "y"})})
					start := time.Now()
					q := AuthRequest{Algorithm: tt.algorithm}
					if q.Algorithm == "" {
						q.Algorithm = "MD5"
					}
					got := c.Run(t.Context(), &q)
					want := AuthReply{Reply: Reply{Verdict: Deny, Status: 403, Reason: "No decision", By: "f", Failed: true}}
					if policy == OnErrorNext {
						want = AuthReply{Reply: Reply{Verdict: Done, By: "g"}, Password: "y"}
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Error(diff)
					}
					if len(failures) != 1 {
						t.Fatalf("%d failures: %+v", len(failures), failures)
					}
					f := failures[0]
					if f.Point != Authenticate || f.Binding != "f" || f.Kind != tt.kind || !strings.Contains(f.Err.Error(), tt.err) {
						t.Errorf("%+v", f)
					}
					if (len(f.Stack) > 0) != (f.Kind == KindPanic) {
						t.Errorf("stack: %s", f.Stack)
					}
					if d := time.Since(start); tt.kind == KindTimeout && d != 3*time.Second || tt.kind != KindTimeout && d != 0 {
						t.Errorf("took %v", d)
					}
				})
			})
		}
	}
}

// TestPanicStack: the stack says where the bug is.
func TestPanicStack(t *testing.T) {
	var stack []byte
	c := NewChain(func(f Failure) { stack = f.Stack }, authBinding{Provider: authFunc(buggy)})
	c.Run(t.Context(), &AuthRequest{})
	if !bytes.Contains(stack, []byte("hook.buggy")) {
		t.Errorf("%s", stack)
	}
}

func buggy(context.Context, *AuthRequest) (AuthReply, error) { panic("a bug") }

// TestTimeout: each provider has its own deadline.
func TestTimeout(t *testing.T) {
	hangs := authFunc(func(ctx context.Context, _ *AuthRequest) (AuthReply, error) {
		<-ctx.Done()
		return AuthReply{}, ctx.Err()
	})
	for _, tt := range []struct {
		name  string
		chain []time.Duration
		kinds []Kind
		took  time.Duration
		want  Verdict
	}{
		{"default", []time.Duration{0}, []Kind{KindTimeout}, time.Second, Next},
		{"each its own", []time.Duration{0, 50 * time.Millisecond}, []Kind{KindTimeout, KindTimeout}, 1050 * time.Millisecond, Next},
		{"none but the caller's", []time.Duration{-1}, []Kind{KindCanceled}, time.Minute, Deny},
		{"the caller's is sooner", []time.Duration{time.Hour, time.Hour}, []Kind{KindCanceled}, time.Minute, Deny},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bs []authBinding
				for _, d := range tt.chain {
					bs = append(bs, authBinding{Provider: hangs, Timeout: d, OnError: OnErrorNext})
				}
				var kinds []Kind
				c := NewChain(func(f Failure) { kinds = append(kinds, f.Kind) }, bs...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				a := c.Run(ctx, &AuthRequest{})
				if a.Verdict != tt.want || time.Since(start) != tt.took || !reflect.DeepEqual(kinds, tt.kinds) {
					t.Errorf("%v in %v with %v", a.Verdict, time.Since(start), kinds)
				}
			})
		})
	}
}

// TestCanceled: who gave up is refused, whatever the policy, and later
// providers are not asked.
func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var kinds []Kind
	c := NewChain(func(f Failure) { kinds = append(kinds, f.Kind) },
		authBinding{Provider: authFunc(func(context.Context, *AuthRequest) (AuthReply, error) { cancel(); return knows, nil }), OnError: OnErrorNext},
		authBinding{Provider: authFunc(func(context.Context, *AuthRequest) (AuthReply, error) { t.Error("asked"); return knows, nil })})
	if a := c.Run(ctx, &AuthRequest{}); a.Verdict != Deny || !reflect.DeepEqual(kinds, []Kind{KindCanceled}) {
		t.Errorf("%+v %v", a, kinds)
	}
}

// TestRequestOfBinding: a provider sees its binding's name and parameters, and
// what it does to the request nobody else sees.
func TestRequestOfBinding(t *testing.T) {
	var seen []Request
	f := authFunc(func(_ context.Context, q *AuthRequest) (AuthReply, error) {
		seen = append(seen, q.Request)
		if q.Username != "alice" {
			t.Errorf("user %q", q.Username)
		}
		*q = AuthRequest{Algorithm: "SHA-256"}
		return AuthReply{}, nil
	})
	params := map[string]any{"group": "eu"}
	last := authFunc(func(_ context.Context, q *AuthRequest) (AuthReply, error) {
		q.Algorithm = "SHA-256" // does not make its HA1 valid
		return AuthReply{Reply: Reply{Verdict: Done}, HA1: strings.Repeat("a", 64)}, nil
	})
	c := NewChain(nil, authBinding{Name: "a", Provider: f, Params: params}, authBinding{Name: "b", Provider: f}, authBinding{Name: "c", Provider: last})
	q := AuthRequest{Username: "alice", Algorithm: "MD5"}
	want := q
	if a := c.Run(t.Context(), &q); a.Verdict != Deny || a.By != "c" {
		t.Errorf("%+v", a)
	}
	if diff := cmp.Diff([]Request{{"a", params}, {"b", nil}}, seen); diff != "" {
		t.Error(diff)
	}
	if !reflect.DeepEqual(q, want) {
		t.Errorf("the caller's request is changed: %+v", q)
	}
}

// TestInterfaceReply: a provider can only name what was offered.
func TestInterfaceReply(t *testing.T) {
	for name, want := range map[string]Verdict{"core": Done, "other": Deny, "": Deny} {
		f := Func[InterfaceRequest, InterfaceReply](func(context.Context, *InterfaceRequest) (InterfaceReply, error) {
			return InterfaceReply{Reply: Reply{Verdict: Done}, Interface: name}, nil
		})
		var failed Failure
		c := NewChain(func(f Failure) { failed = f }, Binding[InterfaceRequest, InterfaceReply]{Name: "f", Provider: f})
		r := c.Run(t.Context(), &InterfaceRequest{Offers: []Interface{{Name: "core"}}})
		if r.Verdict != want || want == Deny && (failed.Point != SelectInterface || failed.Kind != KindReply) {
			t.Errorf("%q: %+v %+v", name, r, failed)
		}
	}
}

// TestNewChainTypes: a request with another hook point's reply is found out at once.
func TestNewChainTypes(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewChain[AuthRequest, InterfaceReply](nil)
}

// TestEmptyChainAllocs: who has no hooks pays nothing for them.
func TestEmptyChainAllocs(t *testing.T) {
	ctx := t.Context()
	q := &InterfaceRequest{}
	for _, c := range []*Chain[InterfaceRequest, InterfaceReply]{nil, NewChain[InterfaceRequest, InterfaceReply](nil)} {
		if n := testing.AllocsPerRun(100, func() {
			if c.Has() || c.Run(ctx, q).Verdict != Next {
				t.Error("an empty chain decides")
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
