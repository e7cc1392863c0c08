package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// TestFresh: what is generated is what make gen would write now.
func TestFresh(t *testing.T) {
	out := t.TempDir()
	if err := generate(filepath.Join(root, "sdk/abi/registry.json"), out); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		name, _ := filepath.Rel(out, path)
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run make gen (%v)", name, err)
		}
		return nil
	})
	if err != nil || n < len(outputs)+2 {
		t.Errorf("%d files: %v", n, err)
	}
}

// TestAppendOnly: what was released is still there and means the same.
func TestAppendOnly(t *testing.T) {
	files, err := filepath.Glob("../testdata/released/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no released registry: %v", err)
	}
	now := read(t, "../registry.json")
	for _, file := range files {
		for _, fault := range changes(read(t, file), now) {
			t.Errorf("%s: %s", file, fault)
		}
	}
}

func read(t *testing.T, file string) *registry {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(raw)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return r
}

// changes returns what now does not keep of old.
func changes(old, now *registry) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if old.ABI.Major != now.ABI.Major {
		return nil // another contract, beside the old one
	}
	if old.ABI.Module != now.ABI.Module || old.ABI.Minor > now.ABI.Minor {
		fault("abi: %+v became %+v", old.ABI, now.ABI)
	}
	subset := func(what string, old, now []string) {
		for _, name := range old {
			if !slices.Contains(now, name) {
				fault("%s has lost %s", what, name)
			}
		}
	}
	for _, l := range []struct {
		kind     string
		old, now []named
	}{
		{"type", old.Types, now.Types},
		{"source", old.Sources, now.Sources},
		{"sink", old.Sinks, now.Sinks},
		{"level", old.Levels, now.Levels},
		{"verdict", old.Verdicts, now.Verdicts},
		{"errno", old.Errnos, now.Errnos},
	} {
		for _, o := range l.old {
			if !slices.ContainsFunc(l.now, func(n named) bool { return n.Name == o.Name && n.Number == o.Number }) {
				fault("%s %s (%d) is gone or has another number", l.kind, o.Name, o.Number)
			}
		}
	}
	for _, o := range old.Fields {
		i := slices.IndexFunc(now.Fields, func(n field) bool { return n.Name == o.Name })
		if i < 0 || now.Fields[i].Key != o.Key || now.Fields[i].Type != o.Type {
			fault("field %s is gone or has another number or type", o.Name)
			continue
		}
		subset("field "+o.Name, o.Fields, now.Fields[i].Fields)
	}
	for _, o := range old.Hooks {
		i := slices.IndexFunc(now.Hooks, func(n hook) bool { return n.Name == o.Name })
		if i < 0 || now.Hooks[i].Number != o.Number || now.Hooks[i].Export != o.Export {
			fault("hook %s is gone or has another number", o.Name)
			continue
		}
		subset("request of "+o.Name, o.Request, now.Hooks[i].Request)
		subset("reply of "+o.Name, o.Reply, now.Hooks[i].Reply)
		subset("verdicts of "+o.Name, o.Verdicts, now.Hooks[i].Verdicts)
	}
	for _, o := range old.Services {
		i := slices.IndexFunc(now.Services, func(n service) bool { return n.Name == o.Name })
		if i < 0 || now.Services[i].Op != o.Op || now.Services[i].Grant != o.Grant {
			fault("service %s is gone or has another number or grant", o.Name)
			continue
		}
		subset("request of "+o.Name, o.Request, now.Services[i].Request)
		subset("result of "+o.Name, o.Result, now.Services[i].Result)
	}
	return faults
}

// TestChanges: the check above can fail.
func TestChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *registry)
		want   string
	}{
		{"a verdict renumbered", func(r *registry) { r.Verdicts[1].Number = 9 }, "verdict done"},
		{"an errno gone", func(r *registry) { r.Errnos = r.Errnos[1:] }, "errno nosys"},
		{"a field of another type", func(r *registry) { r.Fields[0].Type = "bytes" }, "field listener"},
		{"a field renumbered", func(r *registry) { r.Fields[0].Key = 77 }, "field listener"},
		{"a pair without a part", func(r *registry) {
			i := slices.IndexFunc(r.Fields, func(f field) bool { return f.Name == "param" })
			r.Fields[i].Fields = []string{"name"}
		}, "field param has lost text"},
		{"a hook's field gone", func(r *registry) { r.Hooks[1].Request = r.Hooks[1].Request[1:] }, "request of authenticate has lost hook"},
		{"a hook renamed", func(r *registry) { r.Hooks[1].Name = "auth" }, "hook authenticate"},
		{"a service that needs a grant now", func(r *registry) { r.Services[0].Grant = "kv" }, "service feature"},
		{"a minor version back", func(r *registry) { r.ABI.Minor-- }, "abi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := read(t, "../registry.json")
			tt.change(now)
			got := strings.Join(changes(read(t, "../registry.json"), now), "; ")
			if !strings.Contains(got, tt.want) {
				t.Errorf("faults %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	raw, err := os.ReadFile("../registry.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, now, want string }{
		{"a number twice", `"key": 2, "type": "text"`, `"key": 1, "type": "text"`, "twice"},
		{"an unknown field in a hook", `"request": ["hook", `, `"request": ["hoook", `, `unknown field "hoook"`},
		{"an unknown type", `"key": 1, "type": "text"`, `"key": 1, "type": "string"`, "unknown type"},
		{"an unknown verdict", `"verdicts": ["next", "done", "deny"]`, `"verdicts": ["maybe"]`, "unknown verdict"},
		{"an unknown key", `"doc": "any octets"`, `"docs": "any octets"`, "unknown field"},
		{"a private number", `"key": 1, "type"`, `"key": 32768, "type"`, "not in 1..32767"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(string(raw), tt.old, tt.now, 1)
			if _, err := parse([]byte(changed)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
