// Package hook is where a deployment decides what the code cannot know: whose
// password is this, by which interface does this session leave.
//
//	users, err := hook.NewHTDigest("users.htdigest", log)
//	…
//	chain := hook.NewChain(failed, hook.Binding[hook.AuthRequest, hook.AuthReply]{
//		Name: "users", Provider: users,
//	})
//	reply := chain.Run(ctx, &hook.AuthRequest{Username: "alice", …})
//	switch reply.Verdict { … }
//
// Each listener has one [Chain] of providers per hook point. Built in are
// [Static], [HTDigest] and [Table]; a plugin is one more [Provider], and this
// package knows nothing of how it runs. It neither checks a digest nor routes:
// callers do that with what a chain answers.
package hook

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// A Point is a hook point, by its name in the configuration.
type Point string

// The hook points.
const (
	Authenticate    Point = "authenticate"     // AuthRequest, AuthReply
	SelectInterface Point = "select_interface" // InterfaceRequest, InterfaceReply
)

// A Verdict is what a provider makes of a request.
type Verdict uint8

// The zero Verdict passes to the next provider.
const (
	Next Verdict = iota // no opinion
	Done                // the reply answers
	Deny                // refused, with Status and Reason
)

// String returns the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Next:
		return "next"
	case Done:
		return "done"
	case Deny:
		return "deny"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// A Request is what the requests of all hook points have in common. Chain.Run
// sets it, from the binding whose provider it asks.
type Request struct {
	Binding string
	Params  map[string]any
}

func (q *Request) request() *Request { return q }

// A Reply is what the replies of all hook points have in common.
type Reply struct {
	Verdict Verdict
	Status  int    // with Deny: an MSRP status; 0 = 403
	Reason  string // with Deny: comment of the answer, one line of up to 128 bytes
	By      string // set by Chain.Run: the binding that decided
	Failed  bool   // set by Chain.Run: it is a Deny because By failed
}

func (a *Reply) reply() *Reply { return a }

func (a *Reply) attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("verdict", a.Verdict.String()), slog.String("by", a.By),
		slog.Int("status", a.Status), slog.String("reason", a.Reason),
	}
}

// statuses are the registered MSRP status codes that may go out as they are:
// 401 needs a challenge, and 408 is what relays say in a REPORT.
var statuses = []int{400, 403, 404, 413, 415, 423, 481, 501, 506}

// maxReason bounds what a peer has to read in a start-line.
const maxReason = 128

// checkRefusal returns what is wrong with the status and reason of a Deny.
func checkRefusal(status int, reason string) error {
	if status != 0 && !slices.Contains(statuses, status) {
		return fmt.Errorf("status %d is not one of %v", status, statuses)
	}
	if len(reason) > maxReason {
		return fmt.Errorf("reason of %d bytes is longer than %d", len(reason), maxReason)
	}
	// It goes into a start-line, where a line break would begin a header.
	for _, c := range []byte(reason) {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("reason %q has control characters", reason)
		}
	}
	return nil
}

// An AuthRequest is an AUTH that carries credentials, or a WebSocket handshake
// that does (RFC 7977 §5.3): then Method is "GET" and Username is empty.
type AuthRequest struct {
	Request
	Listener   string
	Transport  string // "tcp", "tls", "ws" or "wss"
	LocalAddr  netip.AddrPort
	RemoteAddr netip.AddrPort
	SNI        string
	ClientCN   string // of a TLS client certificate that nobody has verified
	Realm      string
	Username   string
	URI        string // that the digest is over
	Method     string // "AUTH" or "GET"
	Algorithm  string // "MD5" or "SHA-256"
	Nonce      string
	Response   string
	CNonce     string
	NC         string
	QOP        string
	FromPath   string // session URIs: bearer secrets
	ToPath     string // likewise
	Cookie     string // of a WebSocket handshake: a bearer secret
	Bearer     string // likewise
	Origin     string // of a WebSocket handshake
	Relay      string // the relay that the AUTH came through, as its certificate proves; "" = none
}

func (*AuthRequest) point() Point { return Authenticate }

// LogValue leaves out what is secret: digests and session URIs. It is on the
// value, since a request logged by value would else be shown whole.
func (q AuthRequest) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("listener", q.Listener), slog.String("transport", q.Transport),
		slog.String("remote", q.RemoteAddr.String()), slog.String("sni", q.SNI),
		slog.String("realm", q.Realm), slog.String("user", q.Username), slog.String("algorithm", q.Algorithm),
		slog.String("origin", q.Origin), slog.String("relay", q.Relay),
	)
}

// An AuthReply says whose password it is: who may use the relay is policy
// (RFC 4976 §6.3, RELAY-67). With Done, exactly one of Password,
// HA1 and Authenticated is set.
type AuthReply struct {
	Reply
	Password      string
	HA1           string            // lower-case hex, of user:realm:password under the request's algorithm
	Authenticated bool              // the provider has checked the digest itself
	MaxExpires    time.Duration     // of this session; 0 = the relay's
	Attributes    map[string]string // labels of the session, for later hooks
	Username      string            // whose handshake it is; "" in the reply to an AUTH
	Limits        Limits
}

// Limits are what one user or session may do. In each field 0 leaves it to the relay.
type Limits struct {
	Sessions              int64 // of the user at once
	MessagesPerMinute     int64 // SENDs of the session
	BytesPerSecond        int64 // of bodies that the session sends
	UserMessagesPerMinute int64 // the same for all sessions of the user together
	UserBytesPerSecond    int64
	Message               int64 // bytes of the largest message
}

// LogValue leaves out what is secret: Password, HA1 and Attributes.
func (a AuthReply) LogValue() slog.Value {
	return slog.GroupValue(append(a.attrs(),
		slog.Bool("authenticated", a.Authenticated), slog.Duration("max_expires", a.MaxExpires))...)
}

func (a *AuthReply) check(q *AuthRequest) error {
	set := 0
	for _, ok := range []bool{a.Password != "", a.HA1 != "", a.Authenticated} {
		if ok {
			set++
		}
	}
	switch n := ha1Len(q.Algorithm); {
	case q.Method == "GET" && (!a.Authenticated || a.Username == ""):
		return errors.New("a handshake that is done needs authenticated and username")
	case q.Method != "GET" && a.Username != "":
		return errors.New("username does not belong into the reply to an AUTH")
	case set != 1:
		return errors.New("a reply that is done needs exactly one of password, ha1 and authenticated")
	case a.HA1 != "" && !isHex(a.HA1, n):
		return fmt.Errorf("ha1 is not %d lower-case hex digits, as %s needs", n, q.Algorithm)
	case a.MaxExpires < 0 || a.MaxExpires > 0 && a.MaxExpires < time.Second: // Expires has whole seconds
		return fmt.Errorf("max_expires %v is less than a second; 0 leaves it to the relay", a.MaxExpires)
	}
	return nil
}

// The names of the algorithms, and the hex digits of their HA1.
const (
	algMD5, md5Len       = "MD5", 32
	algSHA256, sha256Len = "SHA-256", 64
)

func ha1Len(algorithm string) int {
	if algorithm == algSHA256 {
		return sha256Len
	}
	return md5Len
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
	Request
	Listener   string
	RemoteAddr netip.AddrPort // of the client
	Username   string
	SessionID  string            // in logs; no secret
	Attributes map[string]string // of the session
	Host       string            // of the next hop; IPv6 without brackets
	Port       uint16            // 0 = by SRV records, in an AUTH (RFC 4976 §8)
	Secure     bool
	Transport  string
	FromPath   string // session URIs: bearer secrets
	ToPath     string // likewise
	Offers     []Interface
}

func (*InterfaceRequest) point() Point { return SelectInterface }

// LogValue leaves out what is secret: session URIs, and Attributes, since
// nobody knows what is in them.
func (q InterfaceRequest) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("listener", q.Listener), slog.String("remote", q.RemoteAddr.String()),
		slog.String("user", q.Username), slog.String("next_hop", q.Host), slog.Int("port", int(q.Port)),
		slog.Bool("secure", q.Secure), slog.String("transport", q.Transport),
	)
}

// An InterfaceReply names one of the offers.
type InterfaceReply struct {
	Reply
	Interface  string
	Address    netip.Addr        // local address instead of the interface's
	Attributes map[string]string // set in the session, for later hooks
}

func (a *InterfaceReply) check(q *InterfaceRequest) error {
	if !slices.ContainsFunc(q.Offers, func(i Interface) bool { return i.Name == a.Interface }) {
		return fmt.Errorf("interface %q is not among the offers", a.Interface)
	}
	return nil
}
