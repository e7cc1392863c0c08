// Package config reads a configuration from a YAML file, the environment and
// flags, each overriding the one before, into a [host.Config].
//
//	cfg, err := config.Load(config.Sources{File: "parley.yaml", Environ: os.Environ()})
//
// Errors are complete: every fault is there, each with its key path and what
// would mend it. Nothing else in the module reads files of settings, or the
// environment for them.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/msrp"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 16 << 20

// Sources says where settings come from, the stronger ones last.
type Sources struct {
	File string // YAML; "" = none
	// Environ is what os.Environ returns. A variable such as
	// PARLEY_RELAY__EXPIRES__MAX=2h sets relay.expires.max; variables without
	// "__" have other uses and are left alone.
	Environ []string
	// Set is settings by key path, such as "log.level": "debug".
	Set map[string]string
}

// Load reads and checks a configuration.
func Load(src Sources) (host.Config, error) {
	var text []byte
	if src.File != "" {
		info, err := os.Stat(src.File)
		if err != nil {
			return host.Config{}, fmt.Errorf("read the configuration: %w", err)
		}
		if info.Size() > maxFile {
			return host.Config{}, fmt.Errorf("%s: larger than %d bytes", src.File, maxFile)
		}
		if text, err = os.ReadFile(src.File); err != nil {
			return host.Config{}, fmt.Errorf("read the configuration: %w", err)
		}
	}
	cfg, err := Parse(text, src.Environ, src.Set)
	if err != nil {
		return cfg, fmt.Errorf("%s: %w", cmp.Or(src.File, "settings"), err)
	}
	return cfg, nil
}

// Parse is Load for the text of a file.
func Parse(text []byte, environ []string, set map[string]string) (host.Config, error) {
	cfg := host.Config{Drain: host.Drain{Timeout: 30 * time.Second}, Reload: host.Reload{Watch: true}}
	k := koanf.New(".")
	if err := k.Load(rawbytes.Provider(text), yaml.Parser()); err != nil {
		return cfg, fmt.Errorf("not YAML: %w", err)
	}
	over := fromEnviron(environ)
	for key, v := range set {
		over[key] = v
	}
	if err := k.Load(confmap.Provider(over, "."), nil); err != nil {
		return cfg, err
	}
	var meta mapstructure.Metadata
	err := k.UnmarshalWithConf("", &cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Metadata: &meta, WeaklyTypedInput: true, // the environment has only strings
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			bindingHook, sizeHook, countHook, uriHook, durationHook,
			mapstructure.TextUnmarshallerHookFunc(),
			mapstructure.StringToWeakSliceHookFunc(","),
		),
	}})
	var faults Faults
	slices.Sort(meta.Unused)
	for _, name := range meta.Unused {
		faults.addUnknown(keyPath(name))
	}
	faults.add(err)
	faults.add(cfg.Validate())
	if len(faults) > 0 {
		return cfg, faults
	}
	return cfg, nil
}

// fromEnviron picks the settings out of environ, by key path.
func fromEnviron(environ []string) map[string]any {
	set := map[string]any{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		key, ok := strings.CutPrefix(name, "PARLEY_")
		if ok && strings.Contains(key, "__") {
			set[strings.ToLower(strings.ReplaceAll(key, "__", "."))] = value
		}
	}
	return set
}

// Faults is all that is wrong with a configuration.
type Faults []error

func (fs Faults) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d fault", len(fs))
	if len(fs) > 1 {
		b.WriteByte('s')
	}
	for _, f := range fs {
		b.WriteString("\n  " + f.Error())
	}
	return b.String()
}

// Unwrap lets errors.Is and errors.As look at each fault.
func (fs Faults) Unwrap() []error { return fs }

// add takes err apart into single faults.
func (fs *Faults) add(err error) {
	var many interface{ Unwrap() []error }
	var one *mapstructure.DecodeError
	switch {
	case err == nil:
	case errors.As(err, &one) && !errors.As(err, &many):
		fs.addDecode(one)
	case errors.As(err, &many):
		for _, e := range many.Unwrap() {
			fs.add(e)
		}
	default:
		*fs = append(*fs, err)
	}
}

// addDecode words a fault that mapstructure found in the words of the file.
func (fs *Faults) addDecode(e *mapstructure.DecodeError) {
	*fs = append(*fs, fmt.Errorf("%s: %w", cmp.Or(keyPath(e.Name()), "(top level)"), e.Unwrap()))
}

func (fs *Faults) addUnknown(path string) {
	i := strings.LastIndexByte(path, '.')
	*fs = append(*fs, fmt.Errorf("%s: unknown key%s", path, hint(path[:max(i, 0)], path[i+1:])))
}

// keyPath turns "listeners[edge].tls" into "listeners.edge.tls".
func keyPath(name string) string {
	return strings.NewReplacer("[", ".", "]", "").Replace(name)
}

// hint names the keys that are known beside an unknown one.
func hint(path, key string) string {
	t := reflect.TypeFor[host.Config]()
	for part := range strings.SplitSeq(path, ".") {
		if part == "" {
			continue
		}
		switch t.Kind() {
		case reflect.Map, reflect.Slice:
			t = t.Elem()
		case reflect.Struct:
			f, ok := fieldByTag(t, part)
			if !ok {
				return ""
			}
			t = f.Type
		}
	}
	if t.Kind() != reflect.Struct {
		return ""
	}
	var known []string
	for i := range t.NumField() {
		known = append(known, t.Field(i).Tag.Get("koanf"))
	}
	for _, k := range known {
		if strings.ReplaceAll(k, "_", "") == strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(key)) {
			return fmt.Sprintf("; did you mean %s?", k)
		}
	}
	slices.Sort(known)
	return "; known here: " + strings.Join(known, ", ")
}

func fieldByTag(t reflect.Type, tag string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("koanf") == tag {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// durationHook wants a unit: "30" would otherwise be 30 ns.
func durationHook(from, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() {
		return data, nil
	}
	s, ok := data.(string)
	if !ok {
		return nil, fmt.Errorf("%v is no duration; write one with its unit, as 30s, 15m or 2h", data)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, fmt.Errorf("%q is no duration; write one with its unit, as 30s, 15m or 2h", s)
	}
	return d, nil
}

func uriHook(from, to reflect.Type, data any) (any, error) {
	if s, ok := data.(string); ok && to == reflect.TypeFor[msrp.URI]() {
		u, err := msrp.ParseURI(s)
		if err != nil {
			return nil, fmt.Errorf("%w; write it as msrps://relay.example.com:2855;tcp", err)
		}
		return u, nil
	}
	return data, nil
}

// bindingHook lets a chain name a provider alone.
func bindingHook(from, to reflect.Type, data any) (any, error) {
	if s, ok := data.(string); ok && to == reflect.TypeFor[host.Binding]() {
		return map[string]any{"provider": s}, nil
	}
	return data, nil
}

// units of a Size; the longer suffixes first.
var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"B", 1},
}

func sizeHook(from, to reflect.Type, data any) (any, error) {
	s, ok := data.(string)
	if !ok || to != reflect.TypeFor[host.Size]() {
		return data, nil
	}
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return nil, fmt.Errorf("%q is no size; write it as 65536, 64KiB or 1MB", s)
	}
	return n * factor, nil
}

// countHook reads a number with or without a factor.
func countHook(from, to reflect.Type, data any) (any, error) {
	s, ok := data.(string)
	if !ok || to != reflect.TypeFor[host.Count]() {
		return data, nil
	}
	number, factor := strings.TrimSpace(s), int64(1)
	for suffix, f := range map[string]int64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, factor = n, f
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return nil, fmt.Errorf("%q is no number; write it as 20000000, 20M or 20k", s)
	}
	return n * factor, nil
}

// Keys returns the names of all keys there are, each once.
func Keys() []string {
	seen := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Map, reflect.Slice:
			walk(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				if tag := t.Field(i).Tag.Get("koanf"); tag != "" {
					seen[tag] = true
					walk(t.Field(i).Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[host.Config]())
	return slices.Sorted(maps.Keys(seen))
}
