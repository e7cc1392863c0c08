package wasm

import (
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parley-msrp/parley/sdk/abi"
)

// A conformCase is one row of testdata/abi/conformance.json.
type conformCase struct {
	Name       string
	Hook       string
	User       string
	Calls      []string
	Request    map[string]any
	Params     map[string]any
	Attributes map[string]string
	Offers     []map[string]string
	Unknown    bool
	Config     string
	Grants     []string
	KV         map[string]string
	Want       struct {
		Verdict string
		Reply   map[string]any
		Failure string
		Log     []string
		KV      map[string]string
		Metrics map[string]uint64
	}
}

// TestConformance runs every case against the conformance guest of every SDK.
func TestConformance(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/abi/conformance.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		Doc   []string
		Cases []conformCase
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&table); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hello" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "gone")
			return
		}
		fmt.Fprintf(w, "hello %s", r.Header.Get("X-Conform"))
	}))
	t.Cleanup(web.Close)
	for _, lang := range []string{"go", "rust", "c", "assemblyscript", "wat"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			g := newConformGuest(t, guest(t, "conform-"+lang), web.URL)
			for _, c := range table.Cases {
				t.Run(c.Name, func(t *testing.T) { c.run(t, g) })
			}
		})
	}
}

// TestConformanceCovers: each field of on_authenticate's request is read by some case,
// and each of its reply is set by one.
func TestConformanceCovers(t *testing.T) {
	var registry struct {
		Hooks []struct {
			Name           string
			Request, Reply []string
		}
	}
	var table struct{ Cases []conformCase }
	for file, v := range map[string]any{"../../sdk/abi/registry.json": &registry, "../../testdata/abi/conformance.json": &table} {
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read, set := map[string]bool{"deadline_us": true, "param": true}, map[string]bool{} // which have cases of their own
	for _, c := range table.Cases {
		if f, ok := c.Params["field"].(string); ok && c.hook() == "authenticate" {
			read[f] = true
		}
		for f := range c.Want.Reply {
			set[f] = true
		}
	}
	for _, h := range registry.Hooks {
		if h.Name != "authenticate" {
			continue
		}
		for _, f := range h.Request {
			if f = strings.TrimSuffix(f, "*"); !read[f] {
				t.Errorf("no case reads %s", f)
			}
		}
		for _, f := range h.Reply {
			if f = strings.TrimSuffix(f, "*"); !set[f] {
				t.Errorf("no case sets %s", f)
			}
		}
	}
	if len(read) < 20 {
		t.Error("the registry or the table was not read")
	}
}

// A conformGuest is one guest, loaded once for each configuration: a Go module
// takes a while.
type conformGuest struct {
	host    *Host
	log     *tap
	file    string
	web     string
	plugins map[string]*Plugin
}

func newConformGuest(t *testing.T, file, web string) *conformGuest {
	log, logger := newTap()
	return &conformGuest{newHost(t, Options{Log: logger}), log, file, web, map[string]*Plugin{}}
}

// load returns the plugin for a case, by itself if the case looks at its state.
func (g *conformGuest) load(t *testing.T, c *conformCase) (*Plugin, error) {
	key := fmt.Sprint(c.Config, c.Grants)
	if c.Calls != nil {
		key = c.Name
	}
	if p := g.plugins[key]; p != nil {
		return p, nil
	}
	set := Settings{
		Name: "conform", File: g.file, Timeout: 10 * time.Second,
		Config:    func() ([]byte, []string, error) { return []byte(c.Config), nil, nil },
		Instances: Instances{Max: 1},
		Breaker:   Breaker{Failures: -1},
	}
	for _, grant := range c.Grants {
		switch grant {
		case "kv":
			set.Grants.KV = true
		case "clock":
			set.Grants.Clock = true
		case "random":
			set.Grants.Random = true
		case "http":
			set.Grants.HTTP = []string{g.web}
		default:
			t.Fatalf("grant %q", grant)
		}
	}
	p, err := g.host.Load(t.Context(), set)
	if err == nil {
		g.plugins[key] = p
	}
	return p, err
}

func (c *conformCase) run(t *testing.T, g *conformGuest) {
	p, err := g.load(t, c)
	if c.Want.Verdict == "load" {
		if err == nil || !strings.Contains(err.Error(), c.Want.Failure) {
			t.Fatalf("loaded: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.store != nil {
		p.store.cache.InvalidateAll()
	}
	for k, v := range c.KV {
		p.store.set(k, []byte(v), 0)
	}
	g.log.take()
	calls := c.Calls
	if calls == nil {
		calls = []string{c.User}
	}
	var call Call
	for _, user := range calls {
		call = Call{Hook: "on_" + c.hook(), Request: c.encode(t, user, g.web)}
		err = p.Call(t.Context(), &call)
	}
	var e *Error
	verdict := call.Verdict.String()
	switch {
	case err == nil:
	case errors.As(err, &e) && e.Kind == KindDeclared:
		verdict = "failure"
	case errors.As(err, &e) && e.Kind == KindTrap:
		verdict = "trap"
	default:
		t.Fatal(err)
	}
	if verdict != c.Want.Verdict || err != nil && !strings.Contains(err.Error(), c.Want.Failure) {
		t.Fatalf("verdict %s, error %v; want %s %q", verdict, err, c.Want.Verdict, c.Want.Failure)
	}
	if c.Want.Reply != nil {
		want := map[string]any{}
		for name, v := range c.Want.Reply {
			switch v := v.(type) {
			case float64:
				want[name] = uint64(v)
			case map[string]any:
				pairs := map[string]string{}
				for n, text := range v {
					pairs[n] = text.(string)
				}
				want[name] = pairs
			case string:
				if in, ok := strings.CutPrefix(v, "$MD5("); ok {
					v = fmt.Sprintf("%x", md5.Sum([]byte(strings.TrimSuffix(in, ")"))))
				}
				if v != "" { // an empty text and none are the same
					want[name] = v
				}
			}
		}
		if diff := cmp.Diff(want, decode(t, call.Reply)); diff != "" {
			t.Errorf("reply (-want +got):\n%s", diff)
		}
	}
	if c.Want.Log != nil {
		if diff := cmp.Diff(c.Want.Log, g.log.take()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	}
	for k, v := range c.Want.KV {
		if e, ok := p.store.get(k); !ok || string(e.value) != v {
			t.Errorf("entry %s is %q", k, e.value)
		}
	}
	if c.Want.KV != nil && p.store.cache.EstimatedSize() != len(c.Want.KV) {
		t.Errorf("%d entries, want %d", p.store.cache.EstimatedSize(), len(c.Want.KV))
	}
	if c.Want.Metrics != nil {
		got := map[string]uint64{}
		for _, s := range p.Stats().Series {
			var labels []string
			for _, l := range s.Labels {
				labels = append(labels, fmt.Sprintf("%s=%q", l[0], l[1]))
			}
			got[s.Name+"{"+strings.Join(labels, ",")+"}"] = s.Value
		}
		if diff := cmp.Diff(c.Want.Metrics, got); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	}
}

func (c *conformCase) hook() string {
	if c.Hook == "" {
		return "authenticate"
	}
	return c.Hook
}

func (c *conformCase) encode(t *testing.T, user, web string) []byte {
	var b []byte
	if c.Unknown {
		b = abi.AppendBytes(b, 0x8abc, []byte{1, 2, 3})
		b = abi.AppendText(b, 31999, "from a later version")
		b = append(b, 0x01, 0x7d, 0x99, 0x00, 2, 0, 0, 0, 'x', 'y') // a type nobody knows
	}
	b = append(b, Params(resolve(c.Params, web))...)
	b = abi.AppendUint(b, abi.FieldDeadlineUS, 10_000_000)
	b = abi.AppendText(b, abi.FieldHook, c.hook())
	if user != "" {
		b = abi.AppendText(b, abi.FieldUsername, user)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Request)) {
		f := fieldOf(t, name)
		switch v := c.Request[name].(type) {
		case string:
			b = abi.AppendText(b, f, v)
		case float64:
			b = abi.AppendUint(b, f, uint64(v))
		}
	}
	b = appendAttributes(b, c.Attributes)
	for _, o := range c.Offers {
		var mark int
		b, mark = abi.Begin(b, abi.FieldOffer)
		for _, name := range slices.Sorted(maps.Keys(o)) {
			b = abi.AppendText(b, fieldOf(t, name), o[name])
		}
		b = abi.End(b, mark)
	}
	return b
}

func resolve(params map[string]any, web string) map[string]any {
	out := map[string]any{}
	for k, v := range params {
		if s, ok := v.(string); ok {
			v = strings.ReplaceAll(s, "$HTTP", web)
		}
		out[k] = v
	}
	return out
}

// fieldOf returns a field by its name.
func fieldOf(t *testing.T, name string) abi.Field {
	t.Helper()
	f, _, ok := abi.Lookup(name)
	if !ok {
		t.Fatalf("no field %q", name)
	}
	return f
}

// decode returns the fields of a message by name.
func decode(t *testing.T, m []byte) map[string]any {
	out := map[string]any{}
	r := abi.Read(m)
	for r.Next() {
		name := r.Field.String()
		switch r.Type {
		case abi.TypeText:
			if v := string(r.Text()); v != "" {
				out[name] = v
			}
		case abi.TypeUint:
			out[name] = r.Uint()
		case abi.TypeMessage:
			pairs, _ := out[name].(map[string]string)
			if pairs == nil {
				pairs = map[string]string{}
			}
			n, text := r.Pair()
			pairs[string(n)] = string(text)
			out[name] = pairs
		default:
			out[name] = string(r.Raw())
		}
	}
	if r.Err() != nil {
		t.Errorf("reply: %v", r.Err())
	}
	return out
}

// guest returns the file of a guest in testdata/guests, or of one in Go, which
// is built from source.
func guest(t testing.TB, name string) string {
	t.Helper()
	if name == "conform-go" {
		return buildGo(t, "../../sdk/go/conform")
	}
	file := filepath.Join("../../testdata/guests", name+".wasm")
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%v: make guests builds it", err)
	}
	return file
}

func newHost(t testing.TB, opts Options) *Host {
	t.Helper()
	h, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}
