package host_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport says who may import whom inside this module. A package that is not
// listed fails the test, so adding one is always a decision.
var mayImport = map[string][]string{
	"host/msrp":      {},
	"host/watch":     {},
	"host/transport": {"host/watch"},
	"host/auth":      {"host/msrp"},
	"host/hook":      {"host/msrp", "host/watch"},
	"host/wasm":      {"host/hook", "host/watch", "host/wasm/fuel", "sdk/abi"},
	"host/wasm/fuel": {},
	"host/limit":     {},
	"host/trace":     {"host/msrp"},
	"host/relay":     {"host/msrp", "host/transport", "host/auth", "host/hook", "host/limit", "host/trace"},
	"host/admin":     {"host/msrp", "host/relay", "host/trace", "host/wasm"},
	"host/bench":     {"host/msrp", "host/transport", "host/auth"},
	"host/dnstest":   {}, // for tests
	"host/config":    {"host", "host/msrp", "host/transport", "host/auth", "host/hook", "host/relay"},
	"host/msrptest":  {"host/msrp", "host/transport"},
	"host":           {"host/admin", "host/limit", "host/trace", "host/msrp", "host/transport", "host/auth", "host/hook", "host/relay", "host/wasm", "sdk/abi"},
	"sdk/abi":        {},
	"sdk/abi/gen":    {},
	"sdk":            {},

	"sdk/go":                 {"sdk/abi", "sdk/go/internal/host"},
	"sdk/go/internal/host":   {"sdk/abi"},
	"sdk/go/authenticate":    {"sdk/abi", "sdk/go"},
	"sdk/go/selectinterface": {"sdk/abi", "sdk/go"},
	"sdk/go/jsonconfig":      {},
	"sdk/go/parleytest":      {"sdk/abi", "sdk/go", "sdk/go/internal/host"},
	"sdk/go/hello":           {"sdk/go", "sdk/go/authenticate"},
	"a plugin":               {"sdk/abi", "sdk/go", "sdk/go/authenticate", "sdk/go/selectinterface", "sdk/go/jsonconfig"},
	"sdk/go/conform":         {"sdk/abi", "sdk/go", "sdk/go/authenticate", "sdk/go/selectinterface", "sdk/go/internal/host"},

	"examples/echo": {"host/msrp", "host/auth"},
	"cmd/parley":    {"host", "host/bench", "host/watch", "host/msrp", "host/transport", "host/auth", "host/hook", "host/relay", "host/config", "host/wasm", "sdk", "sdk/abi"},
}

// only says which external module only one package may import.
var only = map[string]string{
	"github.com/coder/websocket":     "host/transport",
	"github.com/knadh/koanf":         "host/config",
	"github.com/prometheus/client":   "host/admin",
	"github.com/prometheus/procfs":   "host/bench",
	"github.com/HdrHistogram":        "host/bench",
	"github.com/miekg/dns":           "host/dnstest",
	"github.com/pires/go-proxyproto": "host/transport",
	"github.com/tetratelabs/wazero":  "host/wasm",
}

func TestLayers(t *testing.T) {
	const mod = "github.com/parley-msrp/parley/"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, mod+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		name := strings.TrimPrefix(f[0], mod)
		allowed, ok := mayImport[name]
		if strings.HasPrefix(name, "plugins/") || name == "examples/plugin-go" {
			allowed, ok = mayImport["a plugin"], true
		}
		if !ok {
			t.Errorf("package %s has no place in mayImport", name)
		}
		for _, imp := range f[1:] {
			if dep, ok := strings.CutPrefix(imp, mod); ok && !slices.Contains(allowed, dep) {
				t.Errorf("%s must not import %s", name, dep)
			}
			for ext, owner := range only {
				if strings.HasPrefix(imp, ext) && name != owner {
					t.Errorf("%s must not import %s: only %s does", name, imp, owner)
				}
			}
		}
	}
}
