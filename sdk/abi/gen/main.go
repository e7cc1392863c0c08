// Command gen writes from registry.json what depends on it: the constants of
// the host and of every SDK, ABI.md and parley.wit. It is run by make gen, in
// the root of the repository.
package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

// outputs are the files to write, with the template of each.
var outputs = []struct{ file, template string }{
	{"sdk/abi/registry.go", "registry.go.tmpl"},
	{"sdk/abi/ABI.md", "ABI.md.tmpl"},
	{"sdk/abi/parley.wit", "parley.wit.tmpl"},
	{"sdk/c/parley_registry.h", "parley_registry.h.tmpl"},
	{"sdk/rust/src/registry.rs", "registry.rs.tmpl"},
	{"sdk/assemblyscript/registry.ts", "registry.ts.tmpl"},
}

// hookTemplate writes one Go package per hook, so that importing it is what
// exports the hook's function.
const hookTemplate = "hook.go.tmpl"

type named struct {
	Name   string
	Number int
	Doc    string
}

type field struct {
	Name   string
	Key    int
	Type   string
	Fields []string
	Doc    string
}

type hook struct {
	Name     string
	Number   int
	Export   string
	Verdicts []string
	Request  []string
	Reply    []string
	Doc      string
}

type service struct {
	Name    string
	Op      int
	Grant   string
	Request []string
	Result  []string
	Doc     string
}

type registry struct {
	ABI struct {
		Major, Minor int
		Module       string
	}
	Types, Sources, Sinks, Levels, Verdicts, Errnos []named
	Fields                                          []field
	Hooks                                           []hook
	Services                                        []service
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("gen: ")
	in := flag.String("registry", "sdk/abi/registry.json", "the registry")
	out := flag.String("out", ".", "the root that files are written below")
	flag.Parse()
	if err := generate(*in, *out); err != nil {
		log.Fatal(err)
	}
}

// generate writes all outputs below out.
func generate(in, out string) error {
	raw, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	reg, err := parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	t, err := template.New("").Funcs(reg.funcs()).ParseFS(templates, "templates/*")
	if err != nil {
		return err
	}
	for _, o := range outputs {
		if err := write(t, o.template, filepath.Join(out, o.file), reg); err != nil {
			return err
		}
	}
	for _, h := range reg.Hooks {
		if len(h.Verdicts) == 0 {
			continue // on_load
		}
		file := filepath.Join(out, "sdk/go", strings.ReplaceAll(h.Name, "_", ""), "hook.go")
		if err := write(t, hookTemplate, file, h); err != nil {
			return err
		}
	}
	return nil
}

func parse(raw []byte) (*registry, error) {
	var reg registry
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&reg); err != nil {
		return nil, err
	}
	return &reg, reg.check()
}

func write(t *template.Template, name, file string, data any) error {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	text := b.Bytes()
	if strings.HasSuffix(file, ".go") {
		formatted, err := format.Source(text)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", file, err, text)
		}
		text = formatted
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// check finds what a reviewer would overlook: numbers used twice and names that
// nobody defines.
func (r *registry) check() error {
	for kind, list := range map[string][]named{
		"types": r.Types, "sources": r.Sources, "sinks": r.Sinks, "levels": r.Levels, "verdicts": r.Verdicts, "errnos": r.Errnos,
	} {
		if err := unique(kind, list); err != nil {
			return err
		}
	}
	var fields, hooks, services []named
	types := map[string]bool{}
	for _, t := range r.Types {
		types[t.Name] = true
	}
	verdicts := map[string]bool{}
	for _, v := range r.Verdicts {
		verdicts[v.Name] = true
	}
	known := map[string]bool{}
	for _, f := range r.Fields {
		known[f.Name] = true
		fields = append(fields, named{Name: f.Name, Number: f.Key})
		if !types[f.Type] {
			return fmt.Errorf("field %s has unknown type %q", f.Name, f.Type)
		}
		if f.Key <= 0 || f.Key >= 0x8000 {
			return fmt.Errorf("field %s: %d is not in 1..32767", f.Name, f.Key)
		}
		if (f.Type == "message") != (len(f.Fields) > 0) {
			return fmt.Errorf("field %s: a message, and nothing else, has fields", f.Name)
		}
	}
	refer := func(where string, names []string) error {
		for _, n := range names {
			if !known[strings.TrimSuffix(n, "*")] {
				return fmt.Errorf("%s: unknown field %q", where, n)
			}
		}
		return nil
	}
	for _, f := range r.Fields {
		if err := refer("field "+f.Name, f.Fields); err != nil {
			return err
		}
	}
	for _, h := range r.Hooks {
		hooks = append(hooks, named{Name: h.Name, Number: h.Number})
		if err := refer("hook "+h.Name, append(h.Request, h.Reply...)); err != nil {
			return err
		}
		if h.Export != "on_"+h.Name {
			return fmt.Errorf("hook %s: export must be on_%s", h.Name, h.Name)
		}
		for _, v := range h.Verdicts {
			if !verdicts[v] {
				return fmt.Errorf("hook %s: unknown verdict %q", h.Name, v)
			}
		}
	}
	for _, s := range r.Services {
		services = append(services, named{Name: s.Name, Number: s.Op})
		if err := refer("service "+s.Name, append(s.Request, s.Result...)); err != nil {
			return err
		}
	}
	for kind, list := range map[string][]named{"fields": fields, "hooks": hooks, "services": services} {
		if err := unique(kind, list); err != nil {
			return err
		}
	}
	return nil
}

func unique(kind string, list []named) error {
	names, numbers := map[string]bool{}, map[int]bool{}
	for _, n := range list {
		if n.Name == "" || names[n.Name] || numbers[n.Number] {
			return fmt.Errorf("%s: %q (%d) is there twice, or has no name", kind, n.Name, n.Number)
		}
		names[n.Name], numbers[n.Number] = true, true
	}
	return nil
}

// initialisms are spelt in capitals in Go.
var initialisms = map[string]string{
	"uri": "URI", "id": "ID", "tls": "TLS", "sni": "SNI", "cn": "CN", "ha1": "HA1", "nc": "NC", "qop": "QOP",
	"ttl": "TTL", "kv": "KV", "http": "HTTP", "us": "US", "ms": "MS", "ns": "NS", "cas": "CAS", "cnonce": "CNonce",
	"toobig": "TooBig", "timedout": "TimedOut", "nosys": "NoSys", "noent": "NoEnt", "io": "IO",
}

func goName(s string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(s, "_") {
		if up, ok := initialisms[part]; ok {
			b.WriteString(up)
		} else {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

func (r *registry) funcs() template.FuncMap {
	lookup := func(name string) (field, error) {
		name = strings.TrimSuffix(name, "*")
		for _, f := range r.Fields {
			if f.Name == name {
				return f, nil
			}
		}
		return field{}, fmt.Errorf("unknown field %q", name)
	}
	return template.FuncMap{
		"go":     goName,
		"upper":  strings.ToUpper,
		"kebab":  func(s string) string { return strings.ReplaceAll(s, "_", "-") },
		"pkg":    func(s string) string { return strings.ReplaceAll(s, "_", "") },
		"field":  lookup,
		"isList": func(s string) bool { return strings.HasSuffix(s, "*") },
		"isPair": func(f field) bool { return len(f.Fields) == 2 && f.Fields[0] == "name" && f.Fields[1] == "text" },
		"cell":   func(s string) string { return strings.ReplaceAll(s, "|", "\\|") },
		"sub":    func(a, b int) int { return a - b },
		"names": func(names []string) string {
			var out []string
			for _, n := range names {
				if base, ok := strings.CutSuffix(n, "*"); ok {
					n = base + "…"
				}
				out = append(out, n)
			}
			return strings.Join(out, ", ")
		},
	}
}
