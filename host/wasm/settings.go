package wasm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"
)

// pageSize is that of WebAssembly's memories.
const pageSize = 64 << 10

// Settings are one plugin's. In each number zero stands for the default.
type Settings struct {
	// Name is what logs, errors and metrics call it. Required.
	Name string
	// File is the module. Required.
	File string
	// SHA256 is what the file must be, in hex. Default: anything.
	SHA256 string
	// Config returns the configuration, which the plugin gets octet for octet,
	// and the files that it was read from. It is called at every load. Nil = none.
	Config func() (text []byte, files []string, err error)
	// Memory bounds an instance's memory, in bytes. Default 32 MiB; a Go plugin
	// needs 8. Beside it the runtime keeps a stack for calls, which recursion can
	// make as large as 100 MB.
	Memory int64
	// Budget is how many WebAssembly instructions a call may take. Default 20
	// million, some 5 ms.
	Budget int64
	// StartBudget bounds the making of an instance likewise: _initialize and
	// on_load. Default 50 times Budget.
	StartBudget int64
	// Timeout bounds what a call waits for: an instance that is free, and
	// services. Default 100 ms.
	Timeout time.Duration
	// Message bounds requests, replies and results of services, in bytes.
	// Default 64 KiB.
	Message int
	// ByDeadline ends calls by the clock, Timeout after they began, and not by
	// Budget. The module is then not rewritten: stacks keep their lines, every
	// loop is several times slower, and code that calls itself without a loop
	// cannot be ended before its stack is full. For finding faults, and in case
	// a module cannot be rewritten.
	ByDeadline bool

	Instances Instances
	Breaker   Breaker
	Grants    Grants
	Store     Store
	Output    Output
}

// Instances bounds how many calls run at once.
type Instances struct {
	Warm int // made at load and kept. Default 1
	Max  int // calls at once; more wait. Default 8
	// Idle is how long an instance beyond Warm waits for work. Default 1 min.
	Idle time.Duration
	// Calls is after how many an instance is replaced. Default: never.
	Calls int64
	// Memory is the part of Settings.Memory, in percent, beyond which an instance is
	// replaced after a call, since memories never shrink. Default 75.
	Memory int
}

// A Breaker stops asking a plugin that fails again and again: it fails at once,
// for one second, twice as long each time, up to a minute; then one call tries.
type Breaker struct {
	// Failures of the last 20 calls open it. Default 5, negative = never.
	Failures int
	// Probation is how long after a reload an open breaker brings the
	// generation before back. Default 1 min, negative = never.
	Probation time.Duration
}

// Grants are what a plugin may use beside its own head.
type Grants struct {
	KV     bool     // the plugin's store
	Clock  bool     // the time
	Random bool     // random octets
	HTTP   []string // URLs that requests may begin with, such as https://hr.example/auth/
}

// Store bounds the plugin's store.
type Store struct {
	Size  int64 // bytes of keys and values. Default 16 MiB
	Key   int   // bytes of a key. Default 512
	Value int   // bytes of a value. Default 64 KiB
}

// Output bounds what a plugin can log.
type Output struct {
	Rate  float64 // lines a second. Default 100
	Burst int     // lines at once. Default 200
}

// withDefaults returns s with every zero resolved.
func (s Settings) withDefaults() Settings {
	def(&s.Memory, 32<<20)
	def(&s.Budget, 20_000_000)
	def(&s.StartBudget, 50*s.Budget)
	def(&s.Timeout, 100*time.Millisecond)
	def(&s.Message, 64<<10)
	def(&s.Instances.Warm, 1)
	def(&s.Instances.Max, 8)
	def(&s.Instances.Idle, time.Minute)
	def(&s.Instances.Memory, 75)
	def(&s.Breaker.Failures, 5)
	def(&s.Breaker.Probation, time.Minute)
	def(&s.Store.Size, 16<<20)
	def(&s.Store.Key, 512)
	def(&s.Store.Value, 64<<10)
	def(&s.Output.Rate, 100)
	def(&s.Output.Burst, 200)
	return s
}

func def[T int | int64 | float64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Validate returns all that is wrong with s, joined. It looks at no file.
func (s *Settings) Validate() error {
	var errs []error
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if s.File == "" {
		fault("file", "is needed: a WebAssembly module")
	}
	if b, err := hex.DecodeString(s.SHA256); err != nil || s.SHA256 != "" && len(b) != 32 {
		fault("sha256", "is not 64 hex digits")
	}
	for _, n := range []struct {
		key   string
		value int64
		max   int64
	}{
		{"memory", s.Memory, 2 << 30},
		{"budget", s.Budget, 1 << 50},
		{"start_budget", s.StartBudget, 1 << 50},
		{"timeout", int64(s.Timeout), int64(time.Hour)},
		{"message", int64(s.Message), 16 << 20},
		{"instances.warm", int64(s.Instances.Warm), 1024},
		{"instances.max", int64(s.Instances.Max), 1024},
		{"instances.idle", int64(s.Instances.Idle), int64(24 * time.Hour)},
		{"instances.calls", s.Instances.Calls, 1 << 50},
		{"instances.memory", int64(s.Instances.Memory), 100},
		{"breaker.failures", max(0, int64(s.Breaker.Failures)), window},
		{"store.size", s.Store.Size, 1 << 40},
		{"store.key", int64(s.Store.Key), 64 << 10},
		{"store.value", int64(s.Store.Value), 16 << 20},
		{"output.burst", int64(s.Output.Burst), 1 << 30},
	} {
		if n.value < 0 || n.value > n.max {
			fault(n.key, "%d is not from 0 to %d", n.value, n.max)
		}
	}
	if r := s.Output.Rate; !(r >= 0 && r <= 1<<30) { // nor NaN
		fault("output.rate", "%v is not from 0 to %d", r, 1<<30)
	}
	if s.Memory > 0 && s.Memory < pageSize {
		fault("memory", "%d bytes are less than a page, which is 64 KiB", s.Memory)
	}
	if d := s.withDefaults(); d.Instances.Warm > d.Instances.Max {
		fault("instances.warm", "%d is more than max, which is %d", d.Instances.Warm, d.Instances.Max)
	}
	for i, u := range s.Grants.HTTP {
		if _, err := parseGrant(u); err != nil {
			fault(fmt.Sprintf("grants.http.%d", i), "%v", err)
		}
	}
	return errors.Join(errs...)
}

// parseGrant reads a URL that requests may begin with.
func parseGrant(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, fmt.Errorf("%q is not a URL such as https://hr.example/auth/", text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q must be scheme, host and path only", text)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// allowed reports whether a request to u is granted: same scheme and host, and a
// path that is a granted one or below it. Whatever servers might read as another
// path than the one compared is refused.
func allowed(grants []*url.URL, u *url.URL) bool {
	if u.User != nil || u.Opaque != "" || u.RawPath != "" || strings.ContainsAny(u.Path, `\;%`) || strings.ContainsFunc(u.Path, unicode.IsControl) {
		return false
	}
	p := u.Path
	if p == "" {
		p = "/"
	}
	if clean := path.Clean(p); clean != p && clean+"/" != p {
		return false
	}
	for _, g := range grants {
		if g.Scheme == u.Scheme && strings.EqualFold(g.Host, u.Host) &&
			(p == g.Path || strings.HasPrefix(p, strings.TrimSuffix(g.Path, "/")+"/")) {
			return true
		}
	}
	return false
}
