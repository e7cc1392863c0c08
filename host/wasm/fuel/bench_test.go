package fuel

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const goGuest = `package main

import (
	"encoding/json"
	"fmt"
	"sort"
)

//go:wasmexport work
func work(n int32) int32 {
	m := map[string]int{}
	for i := range n {
		m[fmt.Sprint(i)] = int(i)
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	b, _ := json.Marshal(m)
	return int32(len(b) + len(keys))
}

func main() {}
`

// BenchmarkInject rewrites what Go's compiler makes of a small plugin.
func BenchmarkInject(b *testing.B) {
	tool, err := exec.LookPath("go")
	if err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	for name, content := range map[string]string{"main.go": goGuest, "go.mod": "module guest\n\ngo 1.24\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	build := exec.Command(tool, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", "guest.wasm", ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOWORK=off", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		b.Skipf("%v: %s", err, out)
	}
	module, err := os.ReadFile(filepath.Join(dir, "guest.wasm"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(module)))
	var out []byte
	for b.Loop() {
		if out, err = Inject(module, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100*float64(len(out)-len(module))/float64(len(module)), "%growth")
}
