package admin

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/wasm"
)

var update = flag.Bool("update", false, "write METRICS.md")

// TestTable: METRICS.md has every metric as it is.
func TestTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	for _, f := range families {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, strings.Join(f.labels, ", "), f.help)
	}
	fmt.Fprintf(&b, "| `%s*` | any | plugin, and the plugin's | Made by plugins. |\n", customName)
	old, err := os.ReadFile("METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(old), "<!-- table -->\n")
	_, tail, ok2 := strings.Cut(rest, "<!-- end -->\n")
	if !ok1 || !ok2 {
		t.Fatal("METRICS.md has no place for the table")
	}
	want := head + "<!-- table -->\n" + b.String() + "<!-- end -->\n" + tail
	if want == string(old) {
		return
	}
	if !*update {
		t.Fatal("METRICS.md is not up to date: go test ./host/admin -run Table -update")
	}
	if err := os.WriteFile("METRICS.md", []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFamilies: what is described is served, with these labels and this type,
// and nothing else is; names are as Prometheus wants them.
func TestFamilies(t *testing.T) {
	h, err := wasm.New(wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.Load(t.Context(), wasm.Settings{Name: "my-users", File: "../../testdata/guests/conform-c.wasm", Grants: wasm.Grants{KV: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"metric", "trap"} {
		_, _ = p.Authenticate(nil).Call(t.Context(), &hook.AuthRequest{Username: user}) // one of them is to fail
	}
	s := New(Config{Relay: newRelay(t), Plugins: h.Plugins, Checks: map[string]func() error{"earth": func() error { return nil }}})
	_, body := get(t, s, "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	types := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (parley_\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		types[m[1]] = m[2]
	}
	for _, f := range families {
		if types[f.name] != f.kind {
			t.Errorf("%s is %q, not %q", f.name, types[f.name], f.kind)
		}
		delete(types, f.name)
		labels := slices.Sorted(slices.Values(f.labels))
		suffix := map[string]string{histogram: "_count"}[f.kind]
		sample := regexp.MustCompile(`(?m)^` + f.name + suffix + `(\{.*\})? `).FindStringSubmatch(body)
		if sample == nil {
			t.Errorf("no sample of %s", f.name)
			continue
		}
		var got []string
		for _, m := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(sample[1], -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, labels) {
			t.Errorf("%s has labels %v, not %v", f.name, got, labels)
		}
	}
	for name := range types {
		if !strings.HasPrefix(name, customName) {
			t.Errorf("%s is not described", name)
		}
	}
}

// TestCustomInvalid: what a plugin may not call its labels, or makes of two kinds,
// is left out, and all else is served.
func TestCustomInvalid(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collect(func(out sink) {
		out.custom("p", []wasm.Series{
			{Name: "a", Kind: "histogram", Labels: [][2]string{{"plugin", "x"}}},
			{Name: "b", Kind: "counter", Labels: [][2]string{{"plugin", "x"}}},
			{Name: "c", Kind: "histogram", Labels: [][2]string{{"le", "x"}}},
			{Name: "d", Kind: "gauge", Labels: [][2]string{{"__name__", "x"}}},
			{Name: "e", Kind: "gauge", Value: 1, Labels: [][2]string{{"good", "x"}}},
			{Name: "e", Kind: "gauge", Value: 2, Labels: [][2]string{{"other", "x"}}},
			{Name: "f_count", Kind: "gauge"},
			{Name: "f", Kind: "histogram"},
		}, map[string]string{})
		out.durations(dialSeconds, (&msrp.Durations{}).Snapshot(), "ok")
	}))
	code, body := get(t, handler(reg, slog.New(slog.DiscardHandler)), "/metrics")
	if code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	for _, line := range []string{`parley_custom_e{good="x",plugin="p"} 1`, "parley_dial_seconds_count"} {
		if !strings.Contains(body, line) {
			t.Errorf("no %s in\n%s", line, body)
		}
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if strings.Contains(body, "parley_custom_"+name) {
			t.Errorf("%s is there:\n%s", name, body)
		}
	}
}

type collect func(out sink)

func (f collect) Describe(chan<- *prometheus.Desc)     {}
func (f collect) Collect(out chan<- prometheus.Metric) { f(out) }
