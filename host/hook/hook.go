// Package hook is where a deployment decides what the code cannot know: whose
// password is this, by which interface does this session leave.
//
//	chain := hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{
//		Name: "static", Provider: users, OnError: hook.OnErrorDeny,
//	})
//	reply, err := chain.Run(ctx, &hook.AuthRequest{Username: "alice", …})
//
// Each listener has one chain of providers per hook point. It knows no
// WebAssembly: a plugin is one more provider.
package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// A Verdict is what a provider makes of a request.
type Verdict uint8

// The zero Verdict passes to the next provider.
const (
	Next Verdict = iota // no opinion
	Done                // the reply answers
	Deny                // refused, with Status and Reason
)

// A Reply is what the replies of all hook points have in common.
type Reply struct {
	Verdict Verdict
	Status  int    // with Deny: an MSRP status; 0 = 403
	Reason  string // with Deny: comment of the answer
	By      string // set by Chain.Run: the binding that decided
}

// An AuthRequest is an AUTH that carries credentials.
type AuthRequest struct {
	Listener   string
	Transport  string // "tcp" or "tls"
	LocalAddr  netip.AddrPort
	RemoteAddr netip.AddrPort
	SNI        string
	ClientCN   string // of a TLS client certificate that nobody has verified
	Realm      string
	Username   string
	URI        string // that the digest is over
	Method     string // "AUTH"
	Algorithm  string // "MD5" or "SHA-256"
	Nonce      string
	Response   string
	CNonce     string
	NC         string
	QOP        string
	FromPath   string
	ToPath     string
}

// LogValue leaves out what is secret: digests and session URIs.
func (q *AuthRequest) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("listener", q.Listener), slog.String("remote", q.RemoteAddr.String()),
		slog.String("realm", q.Realm), slog.String("user", q.Username),
	)
}

// An AuthReply says whose password it is: who may use the relay is policy
// (RFC 4976 §6.3, RELAY-67). With Done, exactly one of Password,
// HA1 and Authenticated is set.
type AuthReply struct {
	Reply
	Password      string
	HA1           string            // hex, of user:realm:password under the request's algorithm
	Authenticated bool              // the provider has checked the digest itself
	MaxExpires    time.Duration     // of this session; 0 = the relay's
	Attributes    map[string]string // labels of the session, for later hooks
}

func (a *AuthReply) reply() *Reply { return &a.Reply }

func (a *AuthReply) valid(q *AuthRequest) error {
	set := 0
	for _, ok := range []bool{a.Password != "", a.HA1 != "", a.Authenticated} {
		if ok {
			set++
		}
	}
	digits := 32
	if q.Algorithm == "SHA-256" {
		digits = 64
	}
	switch {
	case set != 1:
		return errors.New("the reply must have exactly one of password, ha1 and authenticated")
	case a.HA1 != "" && !isHex(a.HA1, digits):
		return fmt.Errorf("ha1 must be %d lower-case hex digits for %s", digits, q.Algorithm)
	case a.MaxExpires < 0:
		return errors.New("max_expires is negative")
	}
	return nil
}

func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// An Interface is one that a session may leave by.
type Interface struct {
	Name     string
	Address  netip.Addr // local address; zero = the system's choice
	Listener string     // whose URI stands for the session there
}

// An InterfaceRequest is a session that sends to a next hop for the first time.
type InterfaceRequest struct {
	Listener   string
	RemoteAddr netip.AddrPort // of the client
	Username   string
	Attributes map[string]string // of the session
	Host       string            // of the next hop; IPv6 without brackets
	Port       uint16
	Secure     bool
	Transport  string
	FromPath   string
	ToPath     string
	Offers     []Interface
}

// LogValue leaves out session URIs, which are secret.
func (q *InterfaceRequest) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("listener", q.Listener), slog.String("remote", q.RemoteAddr.String()),
		slog.String("user", q.Username), slog.String("next_hop", q.Host), slog.Int("port", int(q.Port)),
	)
}

// An InterfaceReply names one of the offers.
type InterfaceReply struct {
	Reply
	Interface string
	Address   netip.Addr // local address instead of the interface's
}

func (a *InterfaceReply) reply() *Reply { return &a.Reply }

func (a *InterfaceReply) valid(q *InterfaceRequest) error {
	if !slices.ContainsFunc(q.Offers, func(i Interface) bool { return i.Name == a.Interface }) {
		return fmt.Errorf("interface %q is not among the offers", a.Interface)
	}
	return nil
}

// A Provider answers one hook point. It is called on the goroutine of the
// connection that asks, and must return soon after ctx is done. It must not keep q.
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
	Name     string
	Provider Provider[Q, A]
	Timeout  time.Duration // 0 = 1 s
	OnError  Policy
}

// A Failure is a provider that did not answer as it must.
type Failure struct {
	Binding string
	Kind    string // error, panic, timeout or reply: a metric label
	Err     error
}

// A Chain asks its bindings in order. It is immutable: a reload swaps it whole.
type Chain[Q, A any] struct {
	bindings []Binding[Q, A]
	fail     func(Failure)
}

// NewChain returns a chain; fail, if not nil, is told of each failure once.
func NewChain[Q, A any](fail func(Failure), bs ...Binding[Q, A]) *Chain[Q, A] {
	return &Chain[Q, A]{bs, fail}
}

// Has reports whether anyone is to be asked. It may be called on nil.
func (c *Chain[Q, A]) Has() bool { return c != nil && len(c.bindings) > 0 }

// answer is what Chain needs of a reply type's pointer.
type answer[Q any] interface {
	reply() *Reply
	valid(q *Q) error
}

// Run returns the first reply that is Done or Deny, or a zero one: the end of
// a chain is a closed door, an unknown user or the default interface.
func (c *Chain[Q, A]) Run(ctx context.Context, q *Q) A {
	if c == nil {
		return *new(A)
	}
	for _, b := range c.bindings {
		a, kind, err := call(ctx, &b, q)
		r := any(&a).(answer[Q]).reply()
		if err == nil && r.Verdict == Done {
			if err = any(&a).(answer[Q]).valid(q); err != nil {
				kind = "reply"
			}
		}
		if err == nil && (r.Verdict > Deny || r.Verdict == Deny && !validStatus(r.Status)) {
			kind, err = "reply", fmt.Errorf("verdict %d with status %d", r.Verdict, r.Status)
		}
		if err != nil {
			if c.fail != nil {
				c.fail(Failure{b.Name, kind, err})
			}
			if b.OnError == OnErrorNext {
				continue
			}
			a = *new(A) // a verdict beside an error is not believed
			r = any(&a).(answer[Q]).reply()
			r.Verdict = Deny
		}
		if r.Verdict == Next {
			continue
		}
		if r.Verdict == Deny && r.Status == 0 {
			r.Status = 403
		}
		r.By = b.Name
		return a
	}
	return *new(A)
}

// validStatus: only registered MSRP codes go out.
func validStatus(code int) bool {
	return slices.Contains([]int{0, 400, 403, 404, 413, 415, 423, 481, 501, 506}, code)
}

func call[Q, A any](ctx context.Context, b *Binding[Q, A], q *Q) (a A, kind string, err error) {
	timeout := b.Timeout
	if timeout == 0 {
		timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			kind, err = "panic", fmt.Errorf("panic: %v", p)
		}
	}()
	a, err = b.Provider.Call(ctx, q)
	switch {
	case ctx.Err() != nil:
		return a, "timeout", fmt.Errorf("no answer in %v: %w", timeout, ctx.Err())
	case err != nil:
		return a, "error", err
	}
	return a, "", nil
}
