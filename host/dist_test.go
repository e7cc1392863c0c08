package host_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"go.yaml.in/yaml/v3"
)

// A series is a metric with the values of each of its labels.
type series map[string]map[string]bool

// parseScrape returns what a scrape has, by name.
func parseScrape(t *testing.T, body string) map[string]series {
	t.Helper()
	all := map[string]series{}
	sample := regexp.MustCompile(`^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$`)
	pair := regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sample.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("not a sample: %s", line)
		}
		s := all[m[1]]
		if s == nil {
			// What Prometheus adds.
			s = series{"job": {"parley": true}, "instance": {"x": true}}
			all[m[1]] = s
		}
		for _, p := range pair.FindAllStringSubmatch(m[2], -1) {
			if s[p[1]] == nil {
				s[p[1]] = map[string]bool{}
			}
			s[p[1]][p[2]] = true
		}
	}
	return all
}

// scraped runs a chat, with a plugin, a next hop, failures, and returns what
// /metrics has then.
func scraped(t *testing.T) map[string]series {
	t.Helper()
	guest, err := filepath.Abs("../testdata/guests/conform-c.wasm")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(twoListeners, "authenticate: [users]", "authenticate: [{plugin: mine, on_error: next}, users]", 1)
	w := newSite(t, text+"plugins: {mine: {file: "+guest+", grants: {kv: true}}}\nadmin: {bind: \"127.0.0.1:0\"}\n")
	a, b := w.client("tcp", "alice", false, nil), w.client("tcp", "bob", false, nil)
	b.session()
	if err := a.send(a.session(a.use, b.use, b.uri), []byte("hi"), 0); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"trap", "deny"} { // what the plugin does about it
		c := w.dial("tls", user, true, nil)
		if r := c.auth(fmt.Sprintf("msrps://localhost:%d;tcp", w.ports["tls"]), user); r.OK() {
			t.Errorf("%s: %d", user, r.Code)
		}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + w.s.AdminAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", resp.StatusCode, err)
	}
	all := parseScrape(t, string(body))
	all["up"] = series{"job": {"parley": true}, "instance": {"x": true}}
	return all
}

// checkQuery holds each selector and grouping of a query against what there is. It
// returns the labels that the result can have, and adds to used what it asks for.
func checkQuery(t *testing.T, where, query string, all map[string]series, used map[string]bool) (labels map[string]bool) {
	t.Helper()
	e, err := metricsql.Parse(query)
	if err != nil {
		t.Errorf("%s: %v in %s", where, err, query)
		return nil
	}
	known := map[string]bool{} // labels of the metrics in this query
	var groupings []string
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		switch e := e.(type) {
		case *metricsql.AggrFuncExpr:
			groupings = append(groupings, e.Modifier.Args...)
		case *metricsql.BinaryOpExpr:
			groupings = append(append(groupings, e.GroupModifier.Args...), e.JoinModifier.Args...)
		case *metricsql.MetricExpr:
			for _, filters := range e.LabelFilterss {
				checkSelector(t, where, filters, all, used, known)
			}
		}
	})
	for _, label := range groupings {
		if !known[label] {
			t.Errorf("%s: no metric has a label %s in %s", where, label, query)
		}
	}
	if len(groupings) == 0 {
		return known
	}
	labels = map[string]bool{}
	for _, label := range groupings {
		labels[label] = true
	}
	return labels
}

func checkSelector(t *testing.T, where string, filters []metricsql.LabelFilter, all map[string]series, used, known map[string]bool) {
	t.Helper()
	if len(filters) == 0 || filters[0].Label != "__name__" {
		t.Errorf("%s: a selector without a name", where)
		return
	}
	name := filters[0].Value
	s := all[name]
	if s == nil {
		t.Errorf("%s: there is no metric %s", where, name)
		return
	}
	used[name] = true
	for label := range s {
		known[label] = true
	}
	for _, f := range filters[1:] {
		values := s[f.Label]
		if values == nil {
			t.Errorf("%s: %s has no label %s", where, name, f.Label)
			continue
		}
		// Each alternative must be a value that occurs, so that none is misspelt.
		alternatives := []string{f.Value}
		if f.IsRegexp {
			alternatives = strings.Split(f.Value, "|")
		}
		for _, v := range alternatives {
			match := regexp.MustCompile("^(?:" + v + ")$")
			if !f.IsRegexp {
				match = regexp.MustCompile("^" + regexp.QuoteMeta(v) + "$")
			}
			if v == "" || v == ".*ban.*" || slices.ContainsFunc(slices.Collect(maps.Keys(values)), match.MatchString) {
				continue
			}
			t.Errorf("%s: %s has no %s=%q, but %v", where, name, f.Label, v, slices.Sorted(maps.Keys(values)))
		}
	}
}

// TestDist: the dashboard and the alerts use metrics, labels and values that a
// server has, and every metric of ours is on the dashboard.
func TestDist(t *testing.T) {
	all := scraped(t)
	used := map[string]bool{}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Record, Alert, Expr, For string
				Labels, Annotations      map[string]string
			}
		}
	}
	text, err := os.ReadFile("../cmd/parley/dist/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	alerts := 0
	placeholder := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			labels := checkQuery(t, "alerts.yml, "+r.Record+r.Alert, r.Expr, all, used)
			if r.Record != "" {
				// By the conventions its name begins with its labels.
				s := series{}
				for label := range strings.SplitSeq(strings.Split(r.Record, ":")[0], "_") {
					s[label] = map[string]bool{"parley": true}
				}
				all[r.Record] = s
				continue
			}
			alerts++
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("%s has no severity or no summary", r.Alert)
			}
			for _, m := range placeholder.FindAllStringSubmatch(fmt.Sprint(r.Annotations), -1) {
				if !labels[m[1]] {
					t.Errorf("%s: its result has no label %s", r.Alert, m[1])
				}
			}
		}
	}
	if alerts < 10 {
		t.Errorf("%d alerts", alerts)
	}

	var board struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if text, err = os.ReadFile("../cmd/parley/dist/grafana/parley.json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	// Grafana replaces the variables before Prometheus sees the query.
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*", "$listener", ".*")
	clear(used)
	for _, v := range board.Templating.List {
		if v.Definition == "" {
			continue
		}
		query, label, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), ", ")
		if !ok {
			t.Errorf("variable %s: %s", v.Name, v.Definition)
		}
		checkQuery(t, "variable "+v.Name, "sum by ("+label+") ("+variables.Replace(query)+")", all, map[string]bool{})
	}
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			labels := checkQuery(t, "panel "+p.Title, variables.Replace(target.Expr), all, used)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !labels[m[1]] {
					t.Errorf("panel %q: its result has no label %s", p.Title, m[1])
				}
			}
		}
	}
	for name := range all {
		family := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "parley_") && !strings.HasPrefix(name, "parley_custom_") && !used[name] && !used[family+"_bucket"] && !used[family+"_count"] {
			if name != "parley_connections_limit" && name != "parley_dialled_connections_limit" {
				t.Errorf("%s is on no panel", name)
			}
		}
	}
}
