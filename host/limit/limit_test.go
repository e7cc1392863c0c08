package limit

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	mallory = netip.MustParseAddr("198.51.100.66")
	alice   = netip.MustParseAddr("192.0.2.1")
)

func newBans(t testing.TB, cfg BansConfig) *Bans {
	t.Helper()
	b, err := NewBans(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// fail fails n times and returns the last verdict.
func (b *Bans) fail(addr netip.Addr, n int) (v Verdict) {
	for range n {
		v = b.Failed(addr, 1)
	}
	return v
}

func TestPeer(t *testing.T) {
	for _, tt := range []struct {
		name string
		a    Addresses
		addr string
		want string // "" = not counted
	}{
		{"IPv4", Addresses{}, "192.0.2.1", "192.0.2.1/32"},
		{"IPv4 in IPv6", Addresses{}, "::ffff:192.0.2.1", "192.0.2.1/32"},
		{"IPv6", Addresses{}, "2001:db8::1:2:3:4", "2001:db8::/64"},
		{"IPv6 with a zone", Addresses{}, "fe80::1%eth0", "fe80::/64"},
		{"wider", Addresses{IPv4: 24, IPv6: 48}, "192.0.2.1", "192.0.2.0/24"},
		{"wider IPv6", Addresses{IPv4: 24, IPv6: 48}, "2001:db8:1:2::3", "2001:db8:1::/48"},
		{"loopback", Addresses{}, "127.1.2.3", ""},
		{"loopback in IPv6", Addresses{}, "::1", ""},
		{"loopback, when nobody is exempt", Addresses{Exempt: []netip.Prefix{}}, "127.0.0.1", "127.0.0.1/32"},
		{"a proxy", Addresses{Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, "10.9.8.7", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := tt.a.Peer(netip.MustParseAddr(tt.addr))
			if ok != (tt.want != "") || ok && p.String() != tt.want {
				t.Errorf("%v %v", p, ok)
			}
		})
	}
	if _, ok := (&Addresses{}).Peer(netip.Addr{}); ok {
		t.Error("no address is one")
	}
}

// TestBan: delays that double, a ban, and bans that double; and who fails now
// and then is never banned.
func TestBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBans(t, BansConfig{After: 8})
		for i, want := range []time.Duration{0, 0, 1, 2, 4, 8, 8} {
			if v := b.Failed(mallory, 1); v != (Verdict{Delay: want * time.Second}) {
				t.Errorf("failure %d: %+v", i, v)
			}
		}
		if b.Banned(mallory) {
			t.Error("banned early")
		}
		if v := b.Failed(mallory, 1); !v.Banned || !v.New || !b.Banned(mallory) {
			t.Errorf("%+v", v)
		}
		if v := b.Failed(mallory, 1); v != (Verdict{Banned: true}) || b.Active() != 1 {
			t.Errorf("%+v", v)
		}
		if b.Banned(alice) || b.Failed(alice, 1).Banned {
			t.Error("another one is banned, too")
		}
		for _, length := range []time.Duration{5, 10, 20, 40, 60, 60} {
			time.Sleep(length*time.Minute - time.Nanosecond)
			if !b.Banned(mallory) {
				t.Fatalf("free before %d min", length)
			}
			time.Sleep(time.Nanosecond)
			if b.Banned(mallory) || b.Active() != 0 {
				t.Fatalf("banned after %d min", length)
			}
			b.fail(mallory, 8)
		}
		time.Sleep(2 * time.Hour) // the last one lasted 1 h, and was forgotten after another
		b.fail(mallory, 8)
		if l := b.List(); len(l) != 1 || time.Until(l[0].Until) != 5*time.Minute || l[0].Times != 1 {
			t.Errorf("%+v", l)
		}

		for range 1000 {
			if v := b.Failed(alice, 1); v.Banned {
				t.Fatal("banned for failing now and then")
			}
			time.Sleep(90 * time.Second)
		}
	})
}

// TestWeight: where many are behind one address, more failures are theirs.
func TestWeight(t *testing.T) {
	b := newBans(t, BansConfig{})
	for range 20*31 - 1 {
		if b.Failed(alice, 1.0/31).Banned {
			t.Fatal("banned")
		}
	}
	b.Failed(alice, 1)
	if !b.Banned(alice) {
		t.Error("not banned")
	}
}

// TestDelays: no setting makes a delay negative or longer than its maximum.
func TestDelays(t *testing.T) {
	for _, cfg := range []BansConfig{
		{}, {Delay: -1}, {Delay: time.Hour}, {Delay: 1, MaxDelay: 1 << 62}, {Delay: time.Minute, MaxDelay: 90 * time.Second},
	} {
		cfg.After = 100
		b := newBans(t, cfg)
		for range 99 {
			if d := b.Failed(mallory, 1).Delay; d < 0 || d > cfg.maxDelay() || cfg.Delay < 0 && d != 0 {
				t.Fatalf("%+v: %v", cfg, d)
			}
		}
	}
}

// TestFlood: memory is bounded, and new addresses push out neither bans nor who
// is about to be banned; new bans do not push out longer ones.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBans(t, BansConfig{After: 10, Entries: 100})
		for range 4 { // 40 min in the end
			b.fail(mallory, 10)
			time.Sleep(time.Until(b.List()[0].Until))
		}
		b.fail(mallory, 10)
		b.fail(alice, 9)
		addr := netip.MustParseAddr("203.0.113.0")
		for range 20_000 {
			addr = addr.Next()
			b.Failed(addr, 1)
		}
		if len(b.suspects) > 100 || len(b.bans) > 100 {
			t.Errorf("%d suspects, %d bans", len(b.suspects), len(b.bans))
		}
		if !b.Banned(mallory) || !b.Failed(alice, 1).Banned {
			t.Error("pushed out by addresses that failed once")
		}
		for range 1000 {
			addr = addr.Next()
			b.fail(addr, 10)
		}
		if len(b.bans) > 100 || !b.Banned(mallory) {
			t.Errorf("%d bans; mallory: %v", len(b.bans), b.Banned(mallory))
		}
		if !b.Banned(addr) {
			t.Error("the newest has no place")
		}
	})
}

func TestLift(t *testing.T) {
	b := newBans(t, BansConfig{})
	b.fail(mallory, 20)
	if l := b.List(); len(l) != 1 || l[0].Address.String() != "198.51.100.66/32" {
		t.Errorf("%+v", l)
	}
	if !b.Lift(mallory) || b.Banned(mallory) || b.Lift(mallory) || len(b.List()) != 0 {
		t.Error("not lifted")
	}
	b.fail(mallory, 19)
	b.Lift(mallory)
	if v := b.Failed(mallory, 1); v != (Verdict{}) {
		t.Errorf("failures were not forgotten: %+v", v)
	}
}

// TestExempt: who is exempt may fail for ever.
func TestExempt(t *testing.T) {
	b := newBans(t, BansConfig{})
	if v := b.fail(netip.MustParseAddr("127.0.0.1"), 1000); v != (Verdict{}) {
		t.Errorf("%+v", v)
	}
}

// TestFile: bans outlive the process, with what is left of them and how often
// they came; the file is written soon after a change, and for us alone.
func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := BansConfig{File: filepath.Join(dir, "bans.json")}
		b := newBans(t, cfg)
		b.fail(mallory, 20)
		b.fail(netip.MustParseAddr("2001:db8::1"), 20)
		if _, err := os.Stat(cfg.File); err == nil {
			t.Error("written for each change")
		}
		time.Sleep(saveDelay)
		synctest.Wait()
		info, err := os.Stat(cfg.File)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", info, err)
		}
		want := b.List()
		// Killed, without Close; then a restart.
		b = newBans(t, cfg)
		if diff := cmp.Diff(want, b.List(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || len(want) != 2 {
			t.Error(diff)
		}
		time.Sleep(6 * time.Minute)
		b.fail(mallory, 20)
		b.Lift(netip.MustParseAddr("2001:db8::2")) // the same /64
		b.Close()
		b.Close()
		b = newBans(t, cfg)
		if l := b.List(); len(l) != 1 || l[0].Times != 2 || time.Until(l[0].Until) != 10*time.Minute {
			t.Errorf("%+v", l)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
			t.Errorf("left over: %v", left)
		}
		// Settings of today count: shorter bans, other prefixes, and exempt ones.
		short := newBans(t, BansConfig{File: cfg.File, Time: time.Second, MaxTime: time.Minute, Addresses: Addresses{IPv4: 24}})
		if l := short.List(); len(l) != 1 || time.Until(l[0].Until) != time.Minute || l[0].Address.String() != "198.51.100.0/24" {
			t.Errorf("%+v", l)
		}
		free := newBans(t, BansConfig{File: cfg.File, Addresses: Addresses{Exempt: []netip.Prefix{netip.PrefixFrom(mallory, 32)}}})
		if l := free.List(); len(l) != 0 {
			t.Errorf("%+v", l)
		}
	})
}

// TestFileDamaged: it is said, put aside, and no reason not to start.
func TestFileDamaged(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "listeners:\n  edge: {}\n", "cut": `{"parley_bans":1,"bans":[{"address":`, "other JSON": `{"users":[]}`,
		"other version": `{"parley_bans":2,"bans":[]}`,
		"no address":    `{"parley_bans":1,"bans":[{"address":"nowhere","until":"2030-01-01T00:00:00Z","times":1,"seconds":1}]}`,
		"no time":       `{"parley_bans":1,"bans":[{"address":"192.0.2.1/32","until":"soon","times":1,"seconds":1}]}`,
		"negative":      `{"parley_bans":1,"bans":[{"address":"192.0.2.1/32","until":"2030-01-01T00:00:00Z","times":1,"seconds":-1}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bans.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			b := newBans(t, BansConfig{File: file, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if len(b.List()) != 0 || !strings.Contains(log.String(), "damaged") {
				t.Errorf("%v\n%s", b.List(), &log)
			}
			if kept, err := os.ReadFile(file + ".damaged"); string(kept) != text {
				t.Errorf("not kept: %q %v", kept, err)
			}
			b.fail(mallory, 20)
			b.Close()
			if b = newBans(t, BansConfig{File: file}); !b.Banned(mallory) {
				t.Error("not saved")
			}
		})
	}
}

// TestFileNotWritten: it is said, and tried again.
func TestFileNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "later")
		var log bytes.Buffer
		b := newBans(t, BansConfig{File: filepath.Join(dir, "bans.json"), Log: slog.New(slog.NewTextHandler(&log, nil))})
		b.fail(mallory, 20)
		time.Sleep(saveDelay)
		synctest.Wait()
		if !strings.Contains(log.String(), "not saved") {
			t.Error(&log)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveAgain)
		synctest.Wait()
		if _, err := os.Stat(b.cfg().File); err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(`{"parley_bans":1,"bans":[{"address":"192.0.2.1/32","until":"2030-01-01T00:00:00Z","times":3,"seconds":300}]}`))
	f.Add([]byte(`{"parley_bans":1,"bans":[{"address":"::ffff:1.2.3.4/120","until":"0000-01-01T00:00:00Z","times":1,"seconds":1}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		saved, err := parseFile(text)
		if err != nil {
			return
		}
		b := newBans(t, BansConfig{Entries: 10})
		b.restore(saved)
		latest := time.Now().Add(time.Hour)
		for _, x := range b.List() {
			if x.Until.After(latest) || !b.Banned(x.Address.Addr()) {
				t.Errorf("%+v", x)
			}
		}
		if len(b.bans) > 10 {
			t.Errorf("%d bans", len(b.bans))
		}
	})
}

func TestValidate(t *testing.T) {
	for want, cfg := range map[string]BansConfig{
		"ipv4: /33":       {Addresses: Addresses{IPv4: 33}},
		"ipv6: /-1":       {Addresses: Addresses{IPv6: -1}},
		"after: must not": {After: -1},
		"window: ":        {Window: -1},
		"max_delay: ":     {Delay: 2, MaxDelay: 1},
		"max_time: ":      {MaxTime: 1},
		"ten years":       {Time: 1 << 62},
		"entries: ":       {Entries: -1},
	} {
		if _, err := NewBans(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter(Rates{Messages: 60, Bytes: 100_000})
		through := func(n int) (messages, bytes int) {
			for range n {
				if m.Message(time.Now()) {
					messages++
				}
				if m.Bytes(time.Now(), 10_000) {
					bytes++
				}
			}
			return messages, bytes
		}
		for _, want := range [][2]int{{10, 100}, {0, 0}} {
			if messages, bytes := through(1000); messages != want[0] || bytes != want[1] {
				t.Errorf("%d messages, %d times 10 kB; want %v", messages, bytes, want)
			}
		}
		time.Sleep(5 * time.Second)
		if messages, bytes := through(1000); messages != 5 || bytes != 50 {
			t.Errorf("after 5 s: %d messages, %d times 10 kB", messages, bytes)
		}
		if wait, ok := m.Owe(time.Now(), 50_000, time.Second); wait != 500*time.Millisecond || !ok {
			t.Errorf("%v %v", wait, ok)
		}
		if wait, ok := m.Owe(time.Now(), 100_000, time.Second); wait != 0 || ok {
			t.Errorf("%v %v", wait, ok)
		}
		// What was not taken is not owed.
		if wait, ok := m.Owe(time.Now(), 50_000, time.Second); wait != time.Second || !ok {
			t.Errorf("%v %v", wait, ok)
		}
		time.Sleep((&Rates{Messages: 60, Bytes: 100_000}).Full() + time.Second) // and what is owed
		if messages, bytes := through(1000); messages != 10 || bytes != 100 {
			t.Errorf("when full: %d messages, %d times 10 kB", messages, bytes)
		}
	})
}

// TestMeterLargePiece: what is larger than a burst still passes, at the rate.
func TestMeterLargePiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter(Rates{Bytes: 1})
		if !m.Bytes(time.Now(), 1<<30) || m.Bytes(time.Now(), 1) {
			t.Error("a burst is not one piece")
		}
		time.Sleep((&Rates{Bytes: 1}).Full())
		if !m.Bytes(time.Now(), minBytes) {
			t.Error("not full")
		}
	})
}

func TestNoMeter(t *testing.T) {
	m := NewMeter(Rates{})
	if m != nil || !m.Message(time.Now()) || !m.Bytes(time.Now(), 1<<40) {
		t.Error("no limit is one")
	}
}

func TestAllocates(t *testing.T) {
	m := NewMeter(Rates{Messages: 60, Bytes: 1000})
	b := newBans(t, BansConfig{})
	b.fail(mallory, 20)
	if n := testing.AllocsPerRun(100, func() {
		m.Message(time.Now())
		m.Bytes(time.Now(), 1000)
		b.Banned(mallory)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMeter(b *testing.B) {
	m := NewMeter(Rates{Messages: 1 << 40, Bytes: 1 << 40})
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		m.Message(now)
		m.Bytes(now, 2048)
	}
}

func ExampleBans() {
	bans, _ := NewBans(BansConfig{After: 4})
	defer bans.Close()
	guesser := netip.MustParseAddr("198.51.100.66")
	for range 4 {
		fmt.Println(bans.Failed(guesser, 1))
	}
	fmt.Println(bans.Banned(guesser))
	// Output:
	// {0s false false}
	// {0s false false}
	// {1s false false}
	// {0s true true}
	// true
}
