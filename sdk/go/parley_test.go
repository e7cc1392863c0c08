package parley_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/parleytest"
)

var loadedWith []string

func init() {
	parley.OnLoad(func(config string) error {
		loadedWith = append(loadedWith, config)
		if why, refuse := strings.CutPrefix(config, "refuse:"); refuse {
			return errors.New(why)
		}
		return nil
	})
	parley.OnLoad(func(config string) error {
		loadedWith = append(loadedWith, "again "+config)
		return nil
	})
}

func TestOnLoad(t *testing.T) {
	h := parleytest.New(t)
	loadedWith = nil
	if err := h.Load("abc"); err != nil {
		t.Fatal(err)
	}
	if err := h.Load("refuse:no users"); err == nil || err.Error() != "no users" {
		t.Errorf("error %v", err)
	}
	if want := []string{"abc", "again abc", "refuse:no users"}; !slices.Equal(loadedWith, want) {
		t.Errorf("loaded with %q, want %q", loadedWith, want)
	}
	if got := parley.Config(); got != "refuse:no users" {
		t.Errorf("configuration %q", got)
	}
}

func TestServe(t *testing.T) {
	h := parleytest.New(t)
	for _, tt := range []struct {
		name   string
		answer func(parley.Message) parley.Reply
		want   string
	}{
		{"next", func(parley.Message) parley.Reply { return parley.NewReply(abi.VerdictNext) }, "next"},
		{"done", func(m parley.Message) parley.Reply {
			return parley.NewReply(abi.VerdictDone).Text(abi.FieldPassword, m.Text(abi.FieldUsername)).Uint(abi.FieldMaxExpiresMS, 5)
		}, "done password=alice max_expires_ms=5"},
		{"deny", func(parley.Message) parley.Reply { return parley.Deny(404, "no such user") }, "deny status=404 reason=no such user"},
		{"deny without a word", func(parley.Message) parley.Reply { return parley.Deny(0, "") }, "deny"},
		{"fail", func(parley.Message) parley.Reply { return parley.Fail("database is down") }, "fail reason=database is down"},
		{"too big", func(parley.Message) parley.Reply {
			return parley.NewReply(abi.VerdictDone).Text(abi.FieldPassword, strings.Repeat("x", 1<<20))
		}, "fail reason=the host does not take the reply: errno -5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := h.Ask(tt.answer, parleytest.Fields{"username": "alice"}).String(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// in runs f within a call.
func in(t *testing.T, h *parleytest.Host, request parleytest.Fields, f func()) parleytest.Reply {
	t.Helper()
	return h.Ask(func(parley.Message) parley.Reply { f(); return parley.NewReply(abi.VerdictDone) }, request)
}

func TestStore(t *testing.T) {
	h := parleytest.New(t)
	in(t, h, nil, func() {
		if _, err := parley.KVGet("k"); err != abi.ErrNoEnt || !errors.Is(err, abi.ErrNoEnt) {
			t.Errorf("get: %v", err)
		}
		if err := parley.KVDel("k"); err != abi.ErrNoEnt {
			t.Errorf("del: %v", err)
		}
		if err := parley.KVSet("k", []byte("v"), time.Minute); err != nil {
			t.Errorf("set: %v", err)
		}
		if err := parley.KVSet("k", []byte("v"), -1); err != abi.ErrInval {
			t.Errorf("set for less than no time: %v", err)
		}
		e, err := parley.KVGet("k")
		if err != nil || string(e.Value) != "v" || e.Version == 0 {
			t.Errorf("get: %+v, %v", e, err)
		}
		if _, err := parley.KVCAS("k", []byte("w"), e.Version+1, 0); err != abi.ErrConflict {
			t.Errorf("cas: %v", err)
		}
		now, err := parley.KVCAS("k", []byte("w"), e.Version, time.Microsecond)
		if err != nil || now == e.Version {
			t.Errorf("cas: %d, %v", now, err)
		}
		if n, err := parley.KVIncr("n", 5, time.Minute); n != 5 || err != nil {
			t.Errorf("incr: %d, %v", n, err)
		}
		if n, err := parley.KVIncr("n", -7, 0); n != -2 || err != nil {
			t.Errorf("incr: %d, %v", n, err)
		}
		if _, err := parley.KVIncr("k", 1, 0); err != abi.ErrInval {
			t.Errorf("incr of what is no counter: %v", err)
		}
		if err := parley.KVSet(strings.Repeat("k", 513), nil, 0); err != abi.ErrTooBig {
			t.Errorf("a long key: %v", err)
		}
		if err := parley.KVSet("", nil, 0); err != abi.ErrInval {
			t.Errorf("no key: %v", err)
		}
	})
	if v, ok := h.Get("k"); !ok || v != "w" {
		t.Errorf("k is %q", v)
	}
	h.Now = h.Now.Add(time.Millisecond)
	if _, ok := h.Get("k"); ok {
		t.Error("k has outlived its time")
	}
	h.Now = h.Now.Add(time.Minute)
	if keys := h.Keys(); len(keys) != 0 {
		t.Errorf("keys %q are left", keys)
	}
	h.Errors[abi.ServiceKVGet] = abi.ErrPerm
	in(t, h, nil, func() {
		if _, err := parley.KVGet("k"); err != abi.ErrPerm {
			t.Errorf("get: %v", err)
		}
		if parley.Feature(abi.ServiceKVGet) || !parley.Feature(abi.ServiceKVSet) || parley.Feature(4711) {
			t.Error("feature")
		}
	})
}

func TestServices(t *testing.T) {
	h := parleytest.New(t)
	h.Now = time.Date(2031, 2, 3, 4, 5, 6, 7, time.UTC)
	r := in(t, h, parleytest.Fields{"attribute.color": "blue"}, func() {
		if now, err := parley.Time(); err != nil || !now.Equal(h.Now) {
			t.Errorf("time %v, %v", now, err)
		}
		if b, err := parley.Random(16); len(b) != 16 || err != nil {
			t.Errorf("random %x, %v", b, err)
		}
		if _, err := parley.Random(-1); err != abi.ErrInval {
			t.Errorf("random: %v", err)
		}
		if _, err := parley.Call(9999, nil); err != abi.ErrNoSys {
			t.Errorf("an unknown service: %v", err)
		}
		if color, err := parley.SessionGet("color"); color != "blue" || err != nil {
			t.Errorf("color %q, %v", color, err)
		}
		if err := parley.SessionSet("color", "red"); err != nil {
			t.Error(err)
		}
		if color, err := parley.SessionGet("color"); color != "red" || err != nil {
			t.Errorf("color %q, %v", color, err)
		}
		if _, err := parley.SessionGet("shape"); err != abi.ErrNoEnt {
			t.Errorf("shape: %v", err)
		}
		if sum, err := parley.Hash(parley.SHA1, []byte("abc")); fmt.Sprintf("%x", sum) != "a9993e364706816aba3e25717850c26c9cd0d89d" || err != nil {
			t.Errorf("hash %x, %v", sum, err)
		}
		if sum, err := parley.HMAC(parley.SHA256, []byte("Jefe"), []byte("what do ya want for nothing?")); fmt.Sprintf("%x", sum[:4]) != "5bdcc146" || err != nil {
			t.Errorf("hmac %x, %v", sum, err)
		}
		if _, err := parley.Hash("md4", nil); err != abi.ErrInval {
			t.Errorf("md4: %v", err)
		}
		if err := errors.Join(parley.Count("c_total", 2, "b", "2", "a", "1"), parley.Count("c_total", 3, "a", "1", "b", "2"), parley.Gauge("g", 4), parley.Gauge("g", 1), parley.Observe("o", 9)); err != nil {
			t.Error(err)
		}
		if err := parley.Count("c_total", 1, "a"); err != abi.ErrInval {
			t.Errorf("a label without a value: %v", err)
		}
		parley.Warn("four")
		log.New(parley.LevelInfo, "", 0).Println("five")
	})
	if got := r.String(); got != "done attribute.color=red" {
		t.Errorf("reply %s", got)
	}
	if h.Metric("c_total", "a", "1", "b", "2") != 5 || h.Metric("g") != 1 || h.Metric("o") != 9 {
		t.Error("metrics are wrong")
	}
	if want := []string{"warn four", "info five"}; !slices.Equal(h.Lines, want) {
		t.Errorf("lines %q, want %q", h.Lines, want)
	}
}

func TestHTTP(t *testing.T) {
	h := parleytest.New(t)
	in(t, h, nil, func() {
		if _, err := parley.HTTP(parley.HTTPRequest{URL: "https://hr.example/"}); err != abi.ErrPerm {
			t.Errorf("not granted: %v", err)
		}
	})
	h.HTTP = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", r.Header.Get("X-Ask"))
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, body)
	})
	in(t, h, nil, func() {
		a, err := parley.HTTP(parley.HTTPRequest{Method: "POST", URL: "https://hr.example/a?b", Header: []parley.Pair{{Name: "X-Ask", Text: "q"}}, Body: []byte("hi")})
		if err != nil || a.Status != 418 || string(a.Body) != "POST https://hr.example/a?b hi" || !slices.Contains(a.Header, parley.Pair{Name: "X-Answer", Text: "q"}) {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]uint64{-1: 1, 0: 1, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Minute: 60000, 1<<63 - 1: 9223372036855} {
		if got := parley.Millis(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}
