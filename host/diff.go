package host

import (
	"encoding"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A Change is one key that two configurations have different values for.
type Change struct {
	Key      string // path, such as relay.expires.max
	Old, New string // as in the file; secrets are masked; "" = nothing
	Restart  bool   // takes effect by a restart only
}

// LogValue makes the change one line of a log.
func (c Change) LogValue() slog.Value {
	return slog.GroupValue(slog.String("key", c.Key), slog.String("old", c.Old), slog.String("new", c.New))
}

// A Diff is all changes from one configuration to another, by key.
type Diff []Change

// Compare returns what is different in next. An entry of listeners, interfaces,
// providers or plugins that only one of them has is one change.
func Compare(old, next *Config) Diff {
	var d Diff
	d.compare("", reflect.ValueOf(*old), reflect.ValueOf(*next))
	slices.SortFunc(d, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	return d
}

// secret are the names of keys whose values are not shown: credentials, and what
// may have some inside.
var secret = []string{"password", "ha1", "config", "params"}

const masked = "(not shown)"

// needsRestart says which keys cannot change while the server runs: a listener's
// uri is in the session URIs that were given, the key in what is sealed with it, and
// the cache and the admin listener are made once.
func needsRestart(key string) bool {
	parts := strings.Split(key, ".")
	switch {
	case len(parts) >= 3 && parts[0] == "listeners":
		return parts[2] == "uri" || parts[2] == "proxy_protocol"
	case parts[0] == "plugin_cache", parts[0] == "admin":
		return true
	}
	return key == "relay.key_file" || key == "relay.bans.file"
}

func (d *Diff) add(key, old, next string) {
	*d = append(*d, Change{key, old, next, needsRestart(key)})
}

func (d *Diff) compare(key string, a, b reflect.Value) {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return
	}
	name := key[strings.LastIndex(key, ".")+1:]
	_, isText := a.Interface().(encoding.TextMarshaler)
	switch kind := a.Kind(); {
	case slices.Contains(secret, name):
		d.add(key, masked, masked)
	case kind == reflect.Struct && !isText && hasTags(a.Type()):
		for i := range a.NumField() {
			tag := a.Type().Field(i).Tag.Get("koanf")
			if tag == "" {
				continue
			}
			d.compare(join(key, tag), a.Field(i), b.Field(i))
		}
	case kind == reflect.Map:
		d.compareMaps(key, a, b)
	case kind == reflect.Slice && a.Len() == b.Len() && a.Type().Elem().Kind() == reflect.Struct && hasTags(a.Type().Elem()):
		for i := range a.Len() {
			d.compare(fmt.Sprintf("%s.%d", key, i), a.Index(i), b.Index(i))
		}
	default:
		d.add(key, show(a), show(b))
	}
}

func (d *Diff) compareMaps(key string, a, b reflect.Value) {
	names := map[string]bool{}
	for _, m := range []reflect.Value{a, b} {
		for _, k := range m.MapKeys() {
			names[k.String()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		at, k := join(key, name), reflect.ValueOf(name)
		switch x, y := a.MapIndex(k), b.MapIndex(k); {
		case !x.IsValid():
			d.add(at, "", "(added)")
		case !y.IsValid():
			d.add(at, "(removed)", "")
		default:
			d.compare(at, x, y)
		}
	}
}

func hasTags(t reflect.Type) bool { return t.NumField() > 0 && t.Field(0).Tag.Get("koanf") != "" }

func join(key, name string) string { return strings.TrimPrefix(key+"."+name, ".") }

// show writes a value without what may be secret in it.
func show(v reflect.Value) string {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct && hasTags(v.Type().Elem()) {
		return fmt.Sprintf("%d entries", v.Len())
	}
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	if v.CanAddr() {
		if s, ok := v.Addr().Interface().(fmt.Stringer); ok {
			return s.String()
		}
	}
	return fmt.Sprint(v.Interface())
}
