package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/parley-msrp/parley/sdk"
)

type pluginNewCmd struct {
	Lang string `help:"Language: go, rust, c or assemblyscript." enum:"go,rust,c,assemblyscript" default:"go"`
	Name string `arg:"" help:"The plugin's name, and that of the folder: small letters, digits and underscores."`
}

// placeholder is what the skeletons call themselves.
const placeholder = "hello"

// sdkFiles are what a plugin needs of the SDK beside it: from the folder of the
// SDKs to that of the plugin.
var sdkFiles = map[string]map[string]string{
	"go":             {"abi": "sdk/sdk/abi", "go": "sdk/sdk/go"},
	"rust":           {"rust": "sdk"},
	"c":              {"c": "sdk"},
	"assemblyscript": {"assemblyscript": "sdk"},
}

// goMods make a Go plugin build where there is no network: the SDK is beside it,
// under the name by which it will be found in the net.
var goMods = map[string]string{
	"go.mod":     "module %s\n\ngo 1.24\n\nrequire github.com/parley-msrp/parley v0.0.0\n\n// The SDK is in this folder. Without this line, and after go get, it is the published one.\nreplace github.com/parley-msrp/parley => ./sdk\n",
	"sdk/go.mod": "module github.com/parley-msrp/parley\n\ngo 1.24\n",
}

var pluginName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// Run makes the folder. What it has made is all there or not at all.
func (cmd *pluginNewCmd) Run(e *env) error {
	if !pluginName.MatchString(cmd.Name) || cmd.Name == "plugin" || cmd.Name == "sdk" {
		return usageError{fmt.Errorf("%q cannot be the name: write small letters, digits and underscores, such as my_users", cmd.Name)}
	}
	if err := os.Mkdir(cmd.Name, 0o755); errors.Is(err, fs.ErrExist) {
		return usageError{fmt.Errorf("there is a %s already", cmd.Name)}
	} else if err != nil {
		return err
	}
	err := cmd.copy(path.Join(cmd.Lang, placeholder), "", false)
	for from, to := range sdkFiles[cmd.Lang] {
		err = errors.Join(err, cmd.copy(from, to, true))
	}
	if cmd.Lang != "go" { // whose SDK has it
		contract, readErr := fs.ReadFile(sdk.Files, "abi/ABI.md")
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(cmd.Name, "sdk", "ABI.md"), contract, 0o644))
	}
	if cmd.Lang == "go" {
		for name, text := range goMods {
			if strings.Contains(text, "%s") {
				text = fmt.Sprintf(text, cmd.Name)
			}
			err = errors.Join(err, os.WriteFile(filepath.Join(cmd.Name, filepath.FromSlash(name)), []byte(text), 0o644))
		}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(cmd.Name))
	}
	fmt.Fprintf(e.stdout, `%[1]s/ is a plugin that works. Next:

  cd %[1]s && make                                # builds %[1]s.wasm
  %[2]s plugin call %[1]s.wasm authenticate username=alice realm=localhost

README.md there says how to go on: what to edit, how to bind it to a listener.
`, cmd.Name, fromFolder(os.Args[0]))
	return nil
}

// fromFolder is how a program is called from a folder of this one.
func fromFolder(program string) string {
	if !strings.Contains(program, "/") || filepath.IsAbs(program) {
		return program
	}
	return filepath.Join("..", program)
}

// copy copies a folder of the SDKs to one of the plugin's. Of an SDK itself,
// skeleton, conformance guest and tests stay behind.
func (cmd *pluginNewCmd) copy(from, to string, library bool) error {
	return fs.WalkDir(sdk.Files, from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, from), "/")
		top, _, _ := strings.Cut(rel, "/")
		if library && (top == placeholder || top == "conform" || top == "gen" || strings.HasSuffix(name, "_test.go")) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		target := filepath.Join(cmd.Name, filepath.FromSlash(to), filepath.FromSlash(rel))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		text, err := fs.ReadFile(sdk.Files, name)
		if err != nil {
			return err
		}
		if library && cmd.Lang != "go" {
			text = []byte(strings.ReplaceAll(string(text), "../abi/ABI.md", "ABI.md"))
		} else if !library {
			target = filepath.Join(cmd.Name, filepath.FromSlash(strings.ReplaceAll(rel, placeholder, cmd.Name)))
			text = []byte(strings.ReplaceAll(string(text), placeholder, cmd.Name))
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o644)
	})
}
