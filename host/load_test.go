//go:build unix

package host_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-msrp/parley/host/admin"
	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/msrp"
)

// These tests print what a deployment wants to know before it has users: what one
// bad peer costs the others, and what an idle session costs. They are short, and
// fail on gross faults only, since machines are shared; with PARLEY_LOAD=1 they run
// at full scale, and the figures mean something.

// full reports whether to measure at full scale.
func full() bool { return os.Getenv("PARLEY_LOAD") != "" }

// scale chooses between the short and the full size of something.
func scale[T any](short, long T) T {
	if full() {
		return long
	}
	return short
}

// A loadClient is a connection with a session, and no more than that.
type loadClient struct {
	c    *msrp.Conn
	uri  string
	use  string
	got  chan struct{} // one for each SEND
	echo string        // if set, each SEND is sent back by this To-Path
	done chan struct{}
}

func (l *loadClient) ServePiece(c *msrp.Conn, p *msrp.Piece) {
	if !p.Last || !p.Head.Is("SEND") {
		return
	}
	_ = c.Respond(p.Head, 200, "", nil) // a closed connection needs no answer
	c.Touch(c)
	if l.echo != "" {
		_ = l.send(l.echo, p.Body)
		return
	}
	select {
	case l.got <- struct{}{}:
	default: // nobody waits for it
	}
}

// send sends a SEND and does not wait for the answer.
func (l *loadClient) send(to string, body []byte) error {
	rq := &msrp.Request{
		Method: []byte("SEND"), Paths: msrp.AppendPaths(nil, []byte(to), []byte(l.uri), nil), Before: []byte("Message-ID: m123\r\n"),
		Range: msrp.ByteRange{Start: 1, Total: int64(len(body))}, After: []byte("Content-Type: text/plain\r\n"), Body: body, HasBody: true, Flag: msrp.Complete,
	}
	err := l.c.Send(rq, nil)
	l.c.Flush()
	return err
}

// newLoadClient connects and authenticates. The connection is closed by stop.
func newLoadClient(ctx context.Context, nc net.Conn, relay, user, password string) (*loadClient, error) {
	scheme, _, _ := strings.Cut(relay, ":")
	l := &loadClient{uri: scheme + "://" + user + ".invalid:9/" + msrp.NewID(16) + ";tcp", got: make(chan struct{}, 1), done: make(chan struct{})}
	l.c = msrp.NewConn(msrp.ConnConfig{Handler: l})
	go func() {
		defer close(l.done)
		_ = l.c.Serve(nc)
	}()
	r, err := l.auth(ctx, relay, user, password)
	if err == nil && !r.OK() {
		err = &msrp.StatusError{Code: r.Code, Comment: r.Comment}
	}
	if err != nil {
		l.stop()
		return nil, err
	}
	l.use, _ = r.Header("Use-Path")
	return l, nil
}

// auth does the two rounds of an AUTH and returns the last response.
func (l *loadClient) auth(ctx context.Context, relay, user, password string) (*msrp.Reply, error) {
	rq := &msrp.Request{Method: []byte("AUTH"), Paths: msrp.AppendPaths(nil, []byte(relay), []byte(l.uri), nil)}
	digest := auth.Client{Username: user, Password: password}
	r, err := l.c.RoundTrip(ctx, rq)
	if err != nil || r.Code != 401 {
		return r, err
	}
	answer, err := digest.Answer(r.Headers("WWW-Authenticate"), "AUTH", relay)
	if err != nil {
		return nil, err
	}
	rq.After = []byte("Authorization: " + answer + "\r\n")
	return l.c.RoundTrip(ctx, rq)
}

func (l *loadClient) stop() {
	l.c.Close(nil)
	<-l.done
}

// dialer connects to a listener of a site.
type dialer struct {
	addr  string
	relay string      // URI
	tls   *tls.Config // nil = TCP
}

func (w *site) dialer(listener string) dialer {
	d := dialer{addr: fmt.Sprintf("localhost:%d", w.ports[listener])}
	d.relay = "msrp://" + d.addr + ";tcp"
	if listener == "tls" {
		d.relay, d.tls = "msrps://"+d.addr+";tcp", &tls.Config{RootCAs: w.roots, ServerName: "localhost"}
	}
	return d
}

func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
	if err != nil || d.tls == nil {
		return nc, err
	}
	tc := tls.Client(nc, d.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

func (d *dialer) client(ctx context.Context, user string) (*loadClient, error) {
	nc, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	return newLoadClient(ctx, nc, d.relay, user, "secret")
}

// samples are durations.
type samples []time.Duration

func (s samples) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	slices.Sort(s)
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func (s samples) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v of %d", s.quantile(0.5), s.quantile(0.99), s.quantile(0.999), len(s))
}

// compare prints what is measured without and with a bad peer, and fails beyond a
// factor and a slack that no shared machine explains.
func compare(t *testing.T, what string, without, with samples, factor float64, slack time.Duration) {
	t.Helper()
	t.Logf("%s, without: %v", what, without)
	t.Logf("%s, with:    %v", what, with)
	a, b := without.quantile(0.99), with.quantile(0.99)
	t.Logf("%s: p99 changes by %+.1f %%", what, 100*(float64(b)/float64(a)-1))
	if len(without) == 0 || len(with) == 0 {
		t.Errorf("%s: no samples", what)
	}
	if float64(b) > factor*float64(a)+float64(slack) {
		t.Errorf("%s: others suffer: p99 %v, then %v", what, a, b)
	}
}

// pings measures round trips from one client over the relay to another and back,
// over all pairs at once, for d.
func pings(ctx context.Context, pairs [][2]*loadClient, d time.Duration) (samples, error) {
	var mu sync.Mutex
	var all samples
	g, ctx := errgroup.WithContext(ctx)
	body := []byte(strings.Repeat("x", 200))
	for i, p := range pairs {
		g.Go(func() error {
			var mine samples
			const pace = 5 * time.Millisecond // the machine is not to be busy with this
			tick := time.NewTicker(pace)
			defer tick.Stop()
			time.Sleep(pace * time.Duration(i) / time.Duration(len(pairs)))
			for end := time.Now().Add(d); time.Now().Before(end); {
				start := time.Now()
				if err := p[0].send(p[0].use+" "+p[1].use+" "+p[1].uri, body); err != nil {
					return err
				}
				select {
				case <-p[0].got:
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(10 * time.Second):
					return errors.New("a SEND did not come back")
				}
				mine = append(mine, time.Since(start))
				<-tick.C
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			return nil
		})
	}
	err := g.Wait()
	return all, err
}

// A gate is a connection whose reads can be stopped.
type gate struct {
	net.Conn
	mu sync.Mutex // held while nothing is to be read
}

func (g *gate) Read(b []byte) (int, error) {
	g.mu.Lock()
	//lint:ignore SA2001 it is passed, not held
	g.mu.Unlock()
	return g.Conn.Read(b)
}

// TestLoadSlowReceiver: a peer that stops reading, while another goes on sending
// to it, does not slow the others down.
func TestLoadSlowReceiver(t *testing.T) {
	w := newSite(t, strings.Replace(twoListeners, "relay:\n", "relay:\n  limits: {stall: 1s}\n", 1))
	d := w.dialer("tcp")
	clients := func(n int) (all []*loadClient) {
		for range n {
			c, err := d.client(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.stop)
			all = append(all, c)
		}
		return all
	}
	var pairs [][2]*loadClient
	for range scale(5, 40) {
		c := clients(2)
		c[1].echo = c[1].use + " " + c[0].use + " " + c[0].uri
		pairs = append(pairs, [2]*loadClient{c[0], c[1]})
	}
	nc, err := d.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.(*net.TCPConn).SetReadBuffer(256 << 10) // what it does not read is to reach the relay soon
	slow := &gate{Conn: nc}
	victim, err := newLoadClient(t.Context(), slow, d.relay, "bob", "secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(victim.stop)
	sender := clients(1)[0]

	// The sender sends in either case at the same pace, and fills in between what
	// the systems on both sides hold.
	var burst atomic.Int32
	burst.Store(1)
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		to, body := sender.use+" "+victim.use+" "+victim.uri, make([]byte, 2000)
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			for range burst.Load() {
				_ = sender.send(to, body) // its own queue may be full
			}
			select {
			case <-stop:
				tick.Stop()
				return
			default:
			}
		}
	})
	defer sending.Wait()
	defer close(stop)
	queued := func() int {
		for _, l := range w.s.Relay().Snapshot().Listeners {
			if l.Name == "tcp" {
				return l.OutboxMax
			}
		}
		return 0
	}
	var without, with samples
	round := scale(250*time.Millisecond, 3*time.Second)
	for range scale(2, 5) {
		s, err := pings(t.Context(), pairs, round)
		if err != nil {
			t.Fatal(err)
		}
		without = append(without, s...)
		slow.mu.Lock()
		burst.Store(20)
		for deadline := time.Now().Add(20 * time.Second); queued() < 100<<10; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				slow.mu.Unlock()
				t.Fatal("nothing waits for the peer that does not read")
			}
		}
		burst.Store(1)
		s, err = pings(t.Context(), pairs, round)
		slow.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		with = append(with, s...)
		for queued() > 16<<10 { // until it has caught up
			time.Sleep(time.Millisecond)
		}
	}
	compare(t, "round trip beside a receiver that does not read", without, with, 5, 50*time.Millisecond)
}

// TestLoadIdle: what an idle session takes. Its clients are in a process of their
// own, for memory and file descriptors to be the relay's.
func TestLoadIdle(t *testing.T) {
	n := scale(200, 10_000)
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err == nil && n > int(lim.Cur)-500 {
		n = int(lim.Cur) - 500
		t.Logf("only %d sessions: the limit of descriptors is %d", n, lim.Cur)
	}
	for _, listener := range []string{"tcp", "tls"} {
		t.Run(listener, func(t *testing.T) {
			w := newSite(t, twoListeners)
			d := w.dialer(listener)
			empty := func() {
				for w.s.Relay().Stats().Connections > 0 {
					time.Sleep(time.Millisecond)
				}
			}
			warm := idleSessions(t, w, d, min(n, 50)) // what the first ones need is no session's cost
			warm()
			empty()
			before, goroutines := memory(), runtime.NumGoroutine()
			release := idleSessions(t, w, d, n)
			for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines+n && time.Now().Before(end); {
				time.Sleep(time.Millisecond) // until all have come to rest
			}
			after := memory()
			per := func(a, b uint64) float64 { return float64(int64(b)-int64(a)) / 1024 / float64(n) }
			t.Logf("%d idle sessions over %s: %.1f KiB each resident, of that %.1f KiB heap and %.1f KiB stacks; %d goroutines", n, listener,
				per(before.resident, after.resident), per(before.heap, after.heap), per(before.stacks, after.stacks), runtime.NumGoroutine())
			begun := time.Now()
			if err := w.s.Relay().Check(); err != nil {
				t.Error(err)
			}
			check := time.Since(begun)
			begun = time.Now()
			w.s.Relay().Snapshot()
			snapshot := time.Since(begun)
			rec := httptest.NewRecorder()
			begun = time.Now()
			admin.New(admin.Config{Relay: w.s.Relay()}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
			t.Logf("with them, a scrape takes %v, of that %v with the relay, and the check of the tables %v", time.Since(begun), snapshot, check)
			if want := fmt.Sprintf("parley_sessions{listener=%q} %d\n", listener, n); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), want) {
				t.Errorf("%d, no %s", rec.Code, want)
			}
			if heap := per(before.heap, after.heap); heap > 32 { // of 200, much is not of them
				t.Errorf("%.1f KiB of heap for an idle session", heap)
			}
			if stacks := per(before.stacks, after.stacks); stacks > 4 && n >= 1000 && runtime.GOOS == "linux" { // of few, those that have ended are more
				t.Errorf("%.1f KiB of stack for an idle session: the smallest one is 2 KiB, and must be enough to wait", stacks)
			}
			release()
			empty()
		})
	}
}

type usage struct{ resident, heap, stacks uint64 }

// memory is what this process uses, garbage taken out.
func memory() (u usage) {
	runtime.GC() // what pools keep goes in two
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap, u.stacks = m.HeapAlloc, m.StackInuse
	if text, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux only
		fields := strings.Fields(string(text))
		pages, _ := strconv.ParseUint(fields[1], 10, 64)
		u.resident = pages * uint64(os.Getpagesize())
	}
	return u
}

// idleSessions runs a process that holds n sessions until release is called, or
// else to the end of the test.
func idleSessions(t *testing.T, w *site, d dialer, n int) (release func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestLoadHold$", "-test.count=1")
	ca := ""
	if d.tls != nil {
		ca = filepath.Join(w.dir, "ca.pem")
	}
	cmd.Env = append(os.Environ(), fmt.Sprintf("PARLEY_LOAD_HOLD=%d %s %s %s", n, d.addr, d.relay, ca))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "holding" {
		if lines.Text() != "" {
			t.Log(lines.Text())
		}
	}
	release = sync.OnceFunc(func() {
		in.Close()
		for lines.Scan() { // or it could not end
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(release)
	if got := w.s.Relay().Stats().Sessions; got < n {
		release()
		t.Fatalf("%d sessions instead of %d", got, n)
	}
	return release
}

// TestLoadHold is the process of idleSessions.
func TestLoadHold(t *testing.T) {
	var n int
	var d dialer
	args := os.Getenv("PARLEY_LOAD_HOLD")
	if args == "" {
		t.Skip("runs in a process of its own, for TestLoadIdle")
	}
	var ca string
	if k, _ := fmt.Sscan(args, &n, &d.addr, &d.relay, &ca); k < 3 {
		t.Fatalf("arguments: %s", args)
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			t.Fatal(err)
		}
		d.tls = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
		d.tls.RootCAs.AppendCertsFromPEM(pem)
	}
	clients := make([]*loadClient, n)
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(16)
	for i := range clients {
		g.Go(func() (err error) {
			clients[i], err = d.client(ctx, "alice")
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	fmt.Println("\nholding")
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, c := range clients {
		if c != nil {
			c.stop()
		}
	}
}

// TestLoadAuthFlood: many connections from one address that guess passwords, or
// only ask for challenges, do not keep others from authenticating.
func TestLoadAuthFlood(t *testing.T) {
	w := newSite(t, twoListeners)
	d := w.dialer("tcp")
	login := func(dur time.Duration) (s samples) {
		for end := time.Now().Add(dur); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			begun := time.Now()
			c, err := d.client(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			s = append(s, time.Since(begun))
			c.stop()
		}
		return s
	}
	for _, pace := range []time.Duration{20 * time.Millisecond, 0} {
		var without, with samples
		var tries atomic.Uint64
		var flooded time.Duration
		for range scale(2, 5) {
			without = append(without, login(scale(100*time.Millisecond, time.Second))...)
			ctx, cancel := context.WithCancel(t.Context())
			var flood sync.WaitGroup
			for i := range scale(8, 64) {
				flood.Go(func() {
					for ctx.Err() == nil {
						tries.Add(guess(ctx, &d, i%2 == 0, pace))
					}
				})
			}
			begun := time.Now()
			with = append(with, login(scale(200*time.Millisecond, 3*time.Second))...)
			flooded += time.Since(begun)
			cancel()
			flood.Wait()
		}
		what := "connecting and AUTH beside a flood of as many AUTHs as this machine can send"
		if pace > 0 {
			what = "connecting and AUTH beside a flood that leaves CPU to others"
		}
		t.Logf("the flood: %.0f AUTHs a second", float64(tries.Load())/flooded.Seconds())
		compare(t, what, without, with, 100, time.Second)
	}
}

// guess is one connection of an attacker. It returns how many AUTHs it sent.
func guess(ctx context.Context, d *dialer, wrong bool, pace time.Duration) (n uint64) {
	nc, err := d.dial(ctx)
	if err != nil {
		return 0
	}
	time.Sleep(pace)
	if wrong {
		c, err := newLoadClient(ctx, nc, d.relay, "alice", "guess")
		if err == nil {
			c.stop()
		}
		return 2
	}
	l := &loadClient{uri: "msrp://mallory.invalid:9/m;tcp", done: make(chan struct{})}
	l.c = msrp.NewConn(msrp.ConnConfig{Handler: l})
	go func() {
		defer close(l.done)
		_ = l.c.Serve(nc)
	}()
	defer l.stop()
	rq := &msrp.Request{Method: []byte("AUTH"), Paths: msrp.AppendPaths(nil, []byte(d.relay), []byte(l.uri), nil)}
	for range 50 {
		if _, err := l.c.RoundTrip(ctx, rq); err != nil {
			return n
		}
		n++
		time.Sleep(pace)
	}
	return n
}
