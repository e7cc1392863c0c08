package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/sdk/abi"
)

// request is what authenticate is asked about a user, with parameters.
func request(user string, params map[string]any) []byte {
	return appendAuth(Params(params), &hook.AuthRequest{
		Request: hook.Request{Binding: "b"}, Listener: "edge", Transport: "tls", Realm: "example.com", Username: user,
		URI: "msrps://relay.example.com:2855;tcp", Method: "AUTH", Algorithm: "MD5", Nonce: strings.Repeat("n", 32), Response: strings.Repeat("e", 32),
		CNonce: "abcdef", NC: "00000001", QOP: "auth", FromPath: "msrps://alice.example.com:7777/iau39soe2843z;tcp", ToPath: "msrps://relay.example.com:2855;tcp",
	})
}

func ask(t testing.TB, p *Plugin, user string, params map[string]any) (Call, error) {
	t.Helper()
	c := Call{Hook: abi.ExportAuthenticate, Request: request(user, params)}
	err := p.Call(t.Context(), &c)
	return c, err
}

// wantReason asks and wants a refusal with this reason.
func wantReason(t testing.TB, p *Plugin, user, want string) {
	t.Helper()
	c, err := ask(t, p, user, nil)
	var a hook.AuthReply
	if err == nil {
		err = readAuth(&a, c.Verdict, c.Reply)
	}
	if err != nil || a.Reason != want {
		t.Errorf("%s: %q %v, want %q", user, a.Reason, err, want)
	}
}

func wantKind(t testing.TB, err error, want Kind) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != want {
		t.Fatalf("error %v, want kind %s", err, want)
	}
	return e
}

func load(t testing.TB, h *Host, s Settings) *Plugin {
	t.Helper()
	if s.Name == "" {
		s.Name = "p"
	}
	p, err := h.Load(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// slowWeb answers when released; began tells of each request.
func slowWeb(t *testing.T) (url string, began chan struct{}, release func()) {
	began, done := make(chan struct{}, 100), make(chan struct{})
	release = sync.OnceFunc(func() { close(done) })
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		release()
		s.Close()
	})
	return s.URL, began, release
}

// TestPool: there are never more instances than may be; who comes later waits,
// and is served in turn, or fails when its time is up.
func TestPool(t *testing.T) {
	h := newHost(t, Options{})
	url, began, release := slowWeb(t)
	p := load(t, h, Settings{
		File: guest(t, "conform-c"), Instances: Instances{Max: 2}, Timeout: 20 * time.Second, Grants: Grants{HTTP: []string{url}},
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := ask(t, p, "http", map[string]any{"url": url}); err != nil {
				t.Error(err)
			}
		})
		<-began
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c := Call{Hook: abi.ExportAuthenticate, Request: request("next", nil)}
	err := p.Call(ctx, &c)
	if e, ok := errors.AsType[*Error](err); !errors.Is(err, context.DeadlineExceeded) && (!ok || e.Kind != KindBusy) {
		t.Errorf("the third: %v", err)
	}
	gone, cancelGone := context.WithCancel(t.Context())
	wg.Go(func() {
		c := Call{Hook: abi.ExportAuthenticate, Request: request("next", nil)}
		if err := p.Call(gone, &c); !errors.Is(err, context.Canceled) {
			t.Errorf("who has left: %v", err)
		}
	})
	for range 5 {
		wg.Go(func() {
			if _, err := ask(t, p, "next", nil); err != nil {
				t.Error(err)
			}
		})
	}
	cancelGone()
	if n := p.Stats().Instances; n != 2 {
		t.Errorf("%d instances", n)
	}
	release()
	wg.Wait()
	if n := p.Stats().Instances; n != 2 {
		t.Errorf("%d instances at the end", n)
	}
}

// TestOwnership: under load, with instances that trap and are recycled, no two
// calls ever share one: each counts its own calls, and the counts add up.
func TestOwnership(t *testing.T) {
	h := newHost(t, Options{})
	p := load(t, h, Settings{File: guest(t, "conform-c"), Instances: Instances{Max: 3, Calls: 50}, Timeout: time.Minute, Breaker: Breaker{Failures: -1}})
	var ones atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				if (g+i)%20 == 0 {
					_, err := ask(t, p, "trap", nil)
					if e, ok := errors.AsType[*Error](err); !ok || e.Kind != KindTrap {
						t.Errorf("trap: %v", err)
					}
					continue
				}
				c, err := ask(t, p, "count", nil)
				var a hook.AuthReply
				if err == nil {
					err = readAuth(&a, c.Verdict, c.Reply)
				}
				if n, _ := strconv.Atoi(a.Reason); err != nil || n < 1 || n > 50 {
					t.Errorf("count %q %v", a.Reason, err)
				} else if n == 1 {
					ones.Add(1)
				}
			}
		})
	}
	wg.Wait()
	st := p.Stats()
	if st.Failures[KindTrap] != 120 || st.Recycled < 120 || ones.Load() > int64(st.Recycled)+3 || st.Instances > 3 {
		t.Errorf("%d traps, %d recycled, %d first calls, %d instances", st.Failures[KindTrap], st.Recycled, ones.Load(), st.Instances)
	}
}

func TestIdleInstances(t *testing.T) {
	h := newHost(t, Options{})
	url, began, release := slowWeb(t)
	p := load(t, h, Settings{File: guest(t, "conform-c"), Instances: Instances{Idle: time.Millisecond}, Timeout: time.Minute, Grants: Grants{HTTP: []string{url}}})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { ask(t, p, "http", map[string]any{"url": url}) })
		<-began
	}
	release()
	wg.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for p.Stats().Instances != 1 {
		if time.Now().After(deadline) {
			t.Fatalf("%d instances stay", p.Stats().Instances)
		}
		runtime.Gosched()
	}
	wantReason(t, p, "count", "1")
	wantReason(t, p, "count", "2") // one and the same
}

// TestTimeout: a service that does not answer costs no more than the call's time.
func TestTimeout(t *testing.T) {
	h := newHost(t, Options{})
	url, _, _ := slowWeb(t)
	p := load(t, h, Settings{File: guest(t, "conform-c"), Timeout: 50 * time.Millisecond, Grants: Grants{HTTP: []string{url}}})
	begin := time.Now()
	c, err := ask(t, p, "http", map[string]any{"url": url})
	var a hook.AuthReply
	if err == nil {
		err = readAuth(&a, c.Verdict, c.Reply)
	}
	if err != nil || a.Reason != "-6" || time.Since(begin) > 10*time.Second {
		t.Errorf("%q %v after %v", a.Reason, err, time.Since(begin))
	}
}

// TestByDeadline: without a rewritten module the clock ends a call.
func TestByDeadline(t *testing.T) {
	h := newHost(t, Options{})
	p := load(t, h, Settings{File: guest(t, "bad/spin"), ByDeadline: true, Timeout: 50 * time.Millisecond})
	_, err := ask(t, p, "x", nil)
	wantKind(t, err, KindTimeout)
	q := load(t, h, Settings{Name: "q", File: guest(t, "conform-c"), ByDeadline: true})
	wantReason(t, q, "count", "1")
	wantReason(t, q, "count", "2")
}

// TestBreakerOpens: a plugin that fails again and again is left alone, which
// is said once.
func TestBreakerOpens(t *testing.T) {
	log, logger := newTap()
	h := newHost(t, Options{Log: logger})
	p := load(t, h, Settings{File: guest(t, "conform-c")})
	for range 5 {
		_, err := ask(t, p, "trap", nil)
		wantKind(t, err, KindTrap)
	}
	for range 3 {
		_, err := ask(t, p, "next", nil)
		wantKind(t, err, KindOpen)
	}
	if st := p.Stats(); st.Breaker != "open" || st.Failures[KindOpen] != 3 || st.Failures[KindTrap] != 5 {
		t.Errorf("%s %v", st.Breaker, st.Failures)
	}
	if n := strings.Count(strings.Join(log.take(), "\n"), "not asked for a while"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// TestInnocent: what callers do wrong is no failure of the plugin.
func TestInnocent(t *testing.T) {
	h := newHost(t, Options{})
	url, began, release := slowWeb(t)
	p := load(t, h, Settings{File: guest(t, "conform-c"), Message: 4096, Instances: Instances{Max: 1}, Timeout: 20 * time.Second, Grants: Grants{HTTP: []string{url}}})
	for range 10 {
		_, err := ask(t, p, strings.Repeat("x", 5000), nil)
		wantKind(t, err, KindRequest)
		err = p.Call(t.Context(), &Call{Hook: "on_nothing"})
		wantKind(t, err, KindRequest)
	}
	var wg sync.WaitGroup
	wg.Go(func() { ask(t, p, "http", map[string]any{"url": url}) })
	<-began
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := p.Call(ctx, &Call{Hook: abi.ExportAuthenticate, Request: request("next", nil)})
		cancel()
		wantKind(t, err, KindBusy)
	}
	release()
	wg.Wait()
	if st := p.Stats(); st.Breaker != "closed" || st.Recycled != 0 {
		t.Errorf("breaker %s, %d recycled", st.Breaker, st.Recycled)
	}
}

// TestRefusedReplies: a plugin whose replies nobody can use has failed.
func TestRefusedReplies(t *testing.T) {
	for _, name := range []string{"wrongtype", "both", "status"} {
		h := newHost(t, Options{})
		p := load(t, h, Settings{File: guest(t, "bad/"+name)})
		for range 5 {
			_, err := p.Authenticate(nil).Call(t.Context(), &hook.AuthRequest{Username: "alice", Algorithm: "MD5"})
			wantKind(t, err, KindReply)
		}
		if st := p.Stats(); st.Breaker != "open" || st.Recycled != 5 || st.Failures[KindReply] != 5 || len(st.Calls) != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// TestLargeAtStart: an instance that is large from the beginning is not made
// anew for each call.
func TestLargeAtStart(t *testing.T) {
	p := load(t, newHost(t, Options{}), Settings{File: guest(t, "conform-wat"), Memory: 1 << 20})
	for i := range 3 {
		wantReason(t, p, "count", strconv.Itoa(i+1))
	}
}

// TestPrintable: what plugins write can neither forge lines nor drive a terminal.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, zürich 🔑":        "plain, zürich 🔑",
		"a\nERR forged":          `a\nERR forged`,
		"\x1b[31mred\x7f":        `\x1b[31mred\x7f`,
		"c1 \u0085 \xff":         "c1 \\u0085 \uFFFD",
		strings.Repeat("x", 600): strings.Repeat("x", 512) + "…",
	} {
		if got := printable(in, 512); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// TestOwnHeaders: a request has the header fields that the client gives it,
// however a plugin writes its own.
func TestOwnHeaders(t *testing.T) {
	i := &instance{call: &Call{}, gen: &generation{}}
	i.gen.grants = []*url.URL{{Scheme: "https", Host: "h.example", Path: "/"}}
	req := func(headers ...string) abi.Errno {
		b := abi.AppendText(nil, abi.FieldURI, "https://h.example/x")
		for n := 0; n < len(headers); n += 2 {
			b = abi.AppendPair(b, abi.FieldHeader, headers[n], headers[n+1])
		}
		_, e := i.httpRequest(abi.Read(b))
		return e
	}
	if e := req("X-Any", "a", "x-any", "b"); e != 0 {
		t.Error(e)
	}
	for _, name := range ownHeaders {
		if e := req(strings.ToLower(name), "", name, "evil"); e != abi.ErrInval {
			t.Errorf("%s: %v", name, e)
		}
	}
	if e := req(strings.Split(strings.Repeat("X-A,a,", 40), ",")[:80]...); e != abi.ErrTooBig {
		t.Error("40 fields:", e)
	}
}

// TestChargedOutput: writing octet by octet costs the plugin what it costs us.
func TestChargedOutput(t *testing.T) {
	var tl tail
	begin := time.Now()
	for range 1_000_000 {
		tl.write([]byte("x"))
	}
	t.Logf("a million octets, one by one: %v", time.Since(begin))
	if got := len(tl.bytes()); got != maxOutput || cap(tl.b) > 4*maxOutput {
		t.Errorf("%d octets kept, in %d", got, cap(tl.b))
	}
}

// plugin puts a module where it can be replaced.
func plugin(t testing.TB, name string) (file string, replace func(name string)) {
	file = filepath.Join(t.TempDir(), "p.wasm")
	replace = func(name string) {
		t.Helper()
		b, err := os.ReadFile(guest(t, name))
		if err == nil {
			err = os.WriteFile(file+"~", b, 0o600)
		}
		if err == nil {
			err = os.Rename(file+"~", file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	replace(name)
	return file, replace
}

// TestRollback: a generation that fails soon after a reload makes room for the
// one before, and does not come back by itself.
func TestRollback(t *testing.T) {
	log, logger := newTap()
	h := newHost(t, Options{Log: logger})
	file, replace := plugin(t, "example-wat")
	p := load(t, h, Settings{File: file})
	if err := p.Require(abi.ExportAuthenticate); err != nil {
		t.Fatal(err)
	}
	good, err := ask(t, p, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	replace("bad/trap")
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_, err := ask(t, p, "x", nil)
		wantKind(t, err, KindTrap)
	}
	log.want(t, "the generation before is back")
	if c, err := ask(t, p, "x", nil); err != nil || c.Verdict != good.Verdict || c.Generation != 3 {
		t.Errorf("%+v %v", c, err)
	}
	if err := p.Reload(t.Context()); !errors.Is(err, errRolledBack) || p.Stats().Generation != 3 {
		t.Errorf("the bad one came back, or nobody says that it has not: generation %d, %v", p.Stats().Generation, err)
	}
	// Another module is welcome, even the same that ran first is no reload.
	replace("conform-c")
	if err := p.Reload(t.Context()); err != nil || p.Stats().Generation != 4 {
		t.Errorf("generation %d, %v", p.Stats().Generation, err)
	}
	if r := p.Stats().Reloads; r[reloadRolledBack] != 1 || r[reloadFailed] != 0 {
		t.Errorf("%v", r)
	}
}

// TestReloadFails: the generation that runs goes on, and the error says why.
func TestReloadFails(t *testing.T) {
	h := newHost(t, Options{})
	file, replace := plugin(t, "conform-c")
	config := "one"
	p := load(t, h, Settings{File: file, Config: func() ([]byte, []string, error) { return []byte(config), nil, nil }})
	if err := p.Require("on_nothing"); err == nil || !strings.Contains(err.Error(), "does not export on_nothing") {
		t.Error(err)
	}
	if err := p.Require(abi.ExportAuthenticate); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		guest, config, want string
	}{
		{"bad/garbage", "one", ""},
		{"bad/component", "one", "component"},
		{"conform-c", "refuse: not today", "not today"},
		{"example-rust", "one", "does not export on_authenticate any more"},
		{"bad/loadtrap", "one", "unreachable"},
	} {
		replace(tt.guest)
		config = tt.config
		if err := p.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.guest, err)
		}
		wantReason(t, p, "config", "one")
	}
	// What has not changed is not loaded again.
	replace("conform-c")
	config = "one"
	if err := p.Reload(t.Context()); err != nil || p.Stats().Generation != 1 {
		t.Errorf("generation %d, %v", p.Stats().Generation, err)
	}
	config = "two"
	if err := p.Reload(t.Context()); err != nil || p.Stats().Generation != 2 {
		t.Errorf("generation %d, %v", p.Stats().Generation, err)
	}
	wantReason(t, p, "config", "two")
}

// TestSwapGarbage: reloads under load lose no call and keep no memory.
// PARLEY_SWAPS sets how many.
func TestSwapGarbage(t *testing.T) {
	for _, tt := range []struct {
		guest string
		swaps int
	}{{"conform-c", 100}, {"conform-go", 20}} {
		t.Run(tt.guest, func(t *testing.T) {
			if raceEnabled && tt.guest == "conform-go" {
				t.Skip("the compiler takes half a minute under the race detector; conform-c shows the same")
			}
			swaps := tt.swaps
			if n, err := strconv.Atoi(os.Getenv("PARLEY_SWAPS")); err == nil {
				swaps = n
			} else if raceEnabled {
				swaps = max(5, swaps/10)
			}
			h := newHost(t, Options{CacheDir: filepath.Join(t.TempDir(), "cache")})
			var version atomic.Int64
			p := load(t, h, Settings{
				File: guest(t, tt.guest), Timeout: time.Minute, Grants: Grants{KV: true},
				Config: func() ([]byte, []string, error) { return fmt.Append(nil, version.Load()), nil, nil },
			})
			var calls atomic.Int64
			call := func(stop <-chan struct{}) {
				for {
					select {
					case <-stop:
						return
					default:
					}
					before := version.Load()
					c, err := ask(t, p, "config", nil)
					var a hook.AuthReply
					if err == nil {
						err = readAuth(&a, c.Verdict, c.Reply)
					}
					if n, _ := strconv.ParseInt(a.Reason, 10, 64); err != nil || n < before-1 {
						t.Errorf("configuration %q after %d: %v", a.Reason, before, err)
						return
					}
					calls.Add(1)
				}
			}
			reload := func() {
				version.Add(1)
				if err := p.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			// swap reloads under load, and returns the memory at rest, with one fresh
			// instance: how many there are under load varies.
			swap := func(n int) int64 {
				stop := make(chan struct{})
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() { call(stop) })
				}
				for range n {
					reload()
				}
				close(stop)
				wg.Wait()
				reload()
				return resident(t)
			}
			before := swap(5)
			after := swap(swaps)
			t.Logf("%d swaps, %d calls, none failed; resident %d MiB, then %d MiB", swaps, calls.Load(), before>>20, after>>20)
			if st := p.Stats(); len(st.Failures) > 0 || st.Generation != uint64(swaps)+8 {
				t.Errorf("generation %d, failures %v", st.Generation, st.Failures)
			}
			// A process moves by some MiB. One page of a guest is 64 KiB, its code is more:
			// in CI's 500 swaps, half a page kept of each is seen.
			if after > before+16<<20 && !raceEnabled {
				t.Errorf("resident memory has grown from %d to %d MiB", before>>20, after>>20)
			}
		})
	}
}

// resident is the memory that the process has, once what is free has been
// given back.
func resident(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc/self/statm to read the resident memory from")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestCacheHelps: compiled modules survive in the directory, and are not taken
// for another's.
func TestCacheHelps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	for range 2 {
		h := newHost(t, Options{CacheDir: dir})
		p := load(t, h, Settings{File: guest(t, "conform-c")})
		wantReason(t, p, "count", "1")
		d := load(t, h, Settings{Name: "d", File: guest(t, "conform-c"), ByDeadline: true})
		wantReason(t, d, "count", "1")
		h.Close()
	}
	n := 0
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil || n < 2 {
		t.Errorf("%d files: %v", n, err)
	}
}

// TestAllocs: the host's side of a call makes no garbage.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	h := newHost(t, Options{})
	p := load(t, h, Settings{File: guest(t, "conform-c")})
	c := Call{Hook: abi.ExportAuthenticate, Request: request("ha1", map[string]any{"ha1": strings.Repeat("a", 32)})}
	n := testing.AllocsPerRun(200, func() {
		c.Reply = c.Reply[:0]
		if err := p.Call(t.Context(), &c); err != nil || c.Verdict != abi.VerdictDone {
			t.Fatal(err, c.Verdict)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// TestBad: each bad plugin fails as it must, with a record that says how, and
// its neighbour does not notice.
func TestBad(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/guests/bad/expect.json")
	if err != nil {
		t.Fatal(err)
	}
	var expect map[string]struct{ Stage, Kind, Contains, Chain string }
	if err := json.Unmarshal(raw, &expect); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../testdata/guests/bad/*.wasm")
	if err != nil || len(files) != len(expect) {
		t.Errorf("%d files and %d expectations: %v", len(files), len(expect), err)
	}
	log, logger := newTap()
	h := newHost(t, Options{Log: logger})
	neighbour := load(t, h, Settings{Name: "neighbour", File: guest(t, "conform-c")})
	for name, want := range expect {
		t.Run(name, func(t *testing.T) {
			log.take()
			p, err := h.Load(t.Context(), Settings{
				Name: name, File: guest(t, "bad/"+name), Memory: 8 << 20, Budget: 5_000_000, Breaker: Breaker{Failures: -1}, Timeout: 20 * time.Second,
			})
			if want.Stage == "load" {
				if err == nil || !strings.Contains(err.Error(), want.Contains) {
					t.Fatalf("loaded: %v, want %q", err, want.Contains)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second by another instance
				var err error
				chain := hook.NewChain(func(f hook.Failure) { err = f.Err }, hook.Binding[hook.AuthRequest, hook.AuthReply]{
					Provider: p.Authenticate(nil), Timeout: time.Minute,
				})
				if a := chain.Run(t.Context(), &hook.AuthRequest{Username: "alice", Algorithm: "MD5"}); a.Verdict != hook.Deny || a.Status != 403 {
					t.Errorf("the door is open: %+v", a)
				}
				if want.Kind == "" { // the plugin is well formed, its answer is not
					if err == nil || !strings.Contains(err.Error(), want.Chain) {
						t.Fatalf("chain: %v, want %q", err, want.Chain)
					}
					continue
				}
				e := wantKind(t, err, Kind(want.Kind))
				if !strings.Contains(e.Message, want.Contains) {
					t.Errorf("message %q, want %q", e.Message, want.Contains)
				}
				if e.Kind != KindDeclared && e.Kind != KindReply && e.Stack == "" {
					t.Error("no stack")
				}
			}
			if n := len(log.take()); n > 300 {
				t.Errorf("%d lines logged", n)
			}
		})
	}
	wantReason(t, neighbour, "count", "1")
}

// BenchmarkCall is one call end to end, for each language, bounded by
// instructions and by the clock; and, as chains do it, by way of a provider.
func BenchmarkCall(b *testing.B) {
	for _, lang := range []string{"wat", "c", "rust", "assemblyscript", "go"} {
		for _, mode := range []string{"budget", "deadline"} {
			b.Run(lang+"/"+mode, func(b *testing.B) {
				p := load(b, newHost(b, Options{}), Settings{File: guest(b, "conform-"+lang), ByDeadline: mode == "deadline", Timeout: time.Minute})
				c := Call{Hook: abi.ExportAuthenticate, Request: request("ha1", map[string]any{"ha1": strings.Repeat("a", 32)})}
				ctx := b.Context()
				b.ReportAllocs()
				for b.Loop() {
					c.Reply = c.Reply[:0]
					if err := p.Call(ctx, &c); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(c.Instructions), "instructions/op")
			})
		}
		b.Run(lang+"/provider", func(b *testing.B) {
			p := load(b, newHost(b, Options{}), Settings{File: guest(b, "conform-"+lang), Timeout: time.Minute})
			chain := hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{Provider: p.Authenticate(map[string]any{"ha1": strings.Repeat("a", 32)})})
			q := &hook.AuthRequest{Username: "ha1", Realm: "example.com", Algorithm: "MD5"}
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if a := chain.Run(ctx, q); a.Verdict != hook.Done {
					b.Fatal(a.Verdict)
				}
			}
		})
	}
}
