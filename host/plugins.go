package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/parley-msrp/parley/host/wasm"
)

// settings are what package wasm wants to know of a plugin.
func (p *Plugin) settings(name string) wasm.Settings {
	return wasm.Settings{
		Name: name, File: p.File, SHA256: p.SHA256,
		Config: func() ([]byte, []string, error) { return expandConfig(p.Config) },
		Memory: int64(p.Memory), Budget: int64(p.Budget), StartBudget: int64(p.StartBudget),
		Timeout: p.Timeout, Message: int(p.Message), ByDeadline: p.ByDeadline,
		Instances: wasm.Instances{
			Warm: p.Instances.Warm, Max: p.Instances.Max, Idle: p.Instances.Idle,
			Calls: int64(p.Instances.Calls), Memory: p.Instances.Memory,
		},
		Breaker: wasm.Breaker(p.Breaker),
		Grants:  wasm.Grants(p.Grants),
		Store:   wasm.Store{Size: int64(p.Store.Size), Key: int(p.Store.Key), Value: int(p.Store.Value)},
		Output:  wasm.Output(p.Output),
	}
}

// buildPlugins loads the plugins of b, or takes them from old where their
// settings are the same; then it looks whether their files are, too.
func (s *Server) buildPlugins(ctx context.Context, b, old *build) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(b.cfg.Plugins)) {
		set := b.cfg.Plugins[name]
		var err error
		if old != nil && old.plugins[name] != nil && reflect.DeepEqual(old.cfg.Plugins[name], set) {
			b.plugins[name] = old.plugins[name]
			err = b.plugins[name].Reload(ctx)
		} else if b.plugins[name], err = s.plugins.Prepare(ctx, set.settings(name)); err == nil {
			b.fresh = append(b.fresh, b.plugins[name])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("plugins.%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Plugins returns the plugins that run.
func (s *Server) Plugins() []*wasm.Plugin { return s.plugins.Plugins() }

// fileRef is ${file:PATH}; with one more $ before, it stands for itself.
var fileRef = regexp.MustCompile(`\$?\$\{file:[^}]*\}`)

// maxConfigFile bounds a file that a plugin's configuration takes in, in bytes.
const maxConfigFile = 16 << 20

// expandConfig returns a plugin's configuration as the plugin gets it: a text
// as it is, all else as JSON; with each ${file:PATH} replaced by that file.
func expandConfig(v any) (text []byte, files []string, err error) {
	_, whole := v.(string)
	v, err = expand(v, whole, &files)
	switch v := v.(type) {
	case nil:
	case string:
		text = []byte(v)
	default:
		if err == nil {
			text, err = json.Marshal(v)
		}
	}
	return text, files, err
}

// expand expands what v consists of; whole says that v is all there is. Each file goes to files, also those that
// cannot be read: they are to be watched.
func expand(v any, whole bool, files *[]string) (any, error) {
	var errs []error
	keep := func(v any, err error) any {
		if err != nil {
			errs = append(errs, err)
		}
		return v
	}
	switch old := v.(type) {
	case string:
		v = fileRef.ReplaceAllStringFunc(old, func(ref string) string {
			if strings.HasPrefix(ref, "$$") {
				return ref[1:]
			}
			path := strings.TrimSuffix(strings.TrimPrefix(ref, "${file:"), "}")
			*files = append(*files, path)
			text, err := readConfigFile(path)
			if err == nil && !whole && !utf8.ValidString(text) {
				err = fmt.Errorf("%s: not UTF-8, so it cannot be part of JSON; make it all of the configuration", path)
			}
			return keep(text, err).(string)
		})
	case []any:
		list := make([]any, len(old))
		for i := range old {
			list[i] = keep(expand(old[i], false, files))
		}
		v = list
	case map[string]any:
		m := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(old)) {
			m[key] = keep(expand(old[key], false, files))
		}
		v = m
	}
	return v, errors.Join(errs...)
}

// readConfigFile reads a file, without the line break that editors put at the
// end of secrets.
func readConfigFile(path string) (string, error) {
	switch info, err := os.Stat(path); { // opening what is no file may wait for ever
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxConfigFile {
		return "", fmt.Errorf("%s: larger than %d bytes", path, maxConfigFile)
	}
	text := strings.TrimSuffix(string(b), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}
