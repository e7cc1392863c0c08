package host_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestRFC keeps RFC.md, the code and the tests together: each row that is done
// names code and tests that exist, and is cited by its number somewhere in the
// sources; each number that the sources cite has a row.
func TestRFC(t *testing.T) {
	text, err := os.ReadFile("RFC.md")
	if err != nil {
		t.Fatal(err)
	}
	src := readSources(t)
	var (
		row    = regexp.MustCompile(`^\| ((?:CORE|RELAY|WS)-\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$`)
		cited  = regexp.MustCompile(`\b(CORE|RELAY|WS)-(\d+)(?:\.\.(\d+))?`)
		tested = regexp.MustCompile("`(Test|Fuzz)[A-Za-z0-9_]+`")
		coded  = regexp.MustCompile("`([a-z]+)\\.([A-Za-z.]+)`")
	)
	citations := map[string]bool{}
	for _, s := range src {
		for _, m := range cited.FindAllStringSubmatch(s.text, -1) {
			first, _ := strconv.Atoi(m[2])
			last, err := strconv.Atoi(m[3])
			if err != nil {
				last = first
			}
			for n := first; n <= last; n++ {
				citations[m[1]+"-"+strconv.Itoa(n)] = true
			}
		}
	}
	rows := map[string]string{}
	for n, line := range strings.Split(string(text), "\n") {
		m := row.FindStringSubmatch(line)
		if m == nil {
			if strings.HasPrefix(line, "| CORE") || strings.HasPrefix(line, "| RELAY") || strings.HasPrefix(line, "| WS-") {
				t.Errorf("RFC.md:%d: not a row of five cells: %s", n+1, line)
			}
			continue
		}
		id, status, code, tests := m[1], strings.TrimSpace(m[3]), m[4], m[5]
		if rows[id] != "" {
			t.Errorf("RFC.md:%d: %s is there twice", n+1, id)
		}
		rows[id] = status
		switch {
		case status == "done":
			if !citations[id] {
				t.Errorf("RFC.md:%d: no source cites %s", n+1, id)
			}
			if !coded.MatchString(code) {
				t.Errorf("RFC.md:%d: %s is done, but names no code", n+1, id)
			}
			if !tested.MatchString(tests) {
				t.Errorf("RFC.md:%d: %s is done, but names no test", n+1, id)
			}
		case strings.HasPrefix(status, "later"), strings.HasPrefix(status, "n/a"), status == "advice":
		default:
			t.Errorf("RFC.md:%d: %s: status %q is not done, later, n/a or advice", n+1, id, status)
		}
		for _, name := range tested.FindAllString(tests, -1) {
			if !declares(src, "", strings.Trim(name, "`"), true) {
				t.Errorf("RFC.md:%d: %s names %s, which is no test", n+1, id, name)
			}
		}
		for _, m := range coded.FindAllStringSubmatch(code, -1) {
			parts := strings.Split(m[2], ".")
			if !declares(src, m[1], parts[len(parts)-1], false) {
				t.Errorf("RFC.md:%d: %s names %s.%s, which does not exist", n+1, id, m[1], m[2])
			}
		}
	}
	for id := range citations {
		if rows[id] == "" {
			t.Errorf("%s is cited in the sources, but RFC.md has no row for it", id)
		}
	}
	if len(rows) < 330 {
		t.Errorf("RFC.md has %d rows", len(rows))
	}
}

type source struct {
	pkg, text string
	test      bool
	names     map[string]bool // declared in it
}

// readSources returns the Go files of the module but this one.
func readSources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "rfc_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		names := map[string]bool{}
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		all = append(all, source{filepath.Base(filepath.Dir(path)), string(text), strings.HasSuffix(path, "_test.go"), names})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// declared finds the names that a line declares: a function or method, a type,
// a constant, a variable, or a field.
var declared = regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|type |const |var |\t+)([A-Za-z_][A-Za-z0-9_]*)`)

// declares reports whether a source of pkg ("" = any) declares name.
func declares(src []source, pkg, name string, test bool) bool {
	for _, s := range src {
		if s.test == test && (pkg == "" || s.pkg == pkg) && s.names[name] {
			return true
		}
	}
	return false
}
