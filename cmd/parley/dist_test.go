package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tool returns the path of a program that a test needs beside Go, or skips the test.
// With PARLEY_REQUIRE_TOOLS set an absent tool fails it.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("PARLEY_REQUIRE_TOOLS") != "" {
		t.Fatal(err)
	}
	t.Skipf("needs %s; .ci/run installs it", name)
	return ""
}

func readDist(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("dist", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// maxExposure is what `systemd-analyze security` may say at most, in tenths. What it
// finds: a network, and memory that is written and then run.
const maxExposure = "15"

// TestUnits: systemd finds no fault in the units, and little to be taken from the service.
func TestUnits(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	dir := t.TempDir()
	parley, err := exec.LookPath("parley")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"parley.service", "parley.socket"} {
		text := strings.ReplaceAll(readDist(t, name), "/usr/bin/parley", parley) // it must be there
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	service, socket := filepath.Join(dir, "parley.service"), filepath.Join(dir, "parley.socket")
	for _, args := range [][]string{
		{"verify", "--man=no", "--recursive-errors=no", service, socket},
		{"security", "--no-pager", "--offline=true", "--threshold=" + maxExposure, service},
	} {
		out, err := exec.Command(analyze, args...).CombinedOutput()
		// Only faults of verify are printed at all; it does not always count them.
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}

// TestUnitMatchesProgram: the unit gives the program the time that it asks for, and
// socket and configuration agree.
func TestUnitMatchesProgram(t *testing.T) {
	service, socket := readDist(t, "parley.service"), readDist(t, "parley.socket")
	for _, want := range []string{"Type=notify\n", "TimeoutStopSec=60s\n", "WatchdogSec=", "ExecStart=/usr/bin/parley serve --config /etc/parley/parley.yaml\n"} {
		if !strings.Contains(service, want) {
			t.Errorf("parley.service without %q", want)
		}
	}
	name := regexp.MustCompile(`(?m)^FileDescriptorName=(.+)$`).FindStringSubmatch(socket)
	if name == nil || !strings.Contains(readDist(t, "parley.yaml"), "\n  "+name[1]+":\n") {
		t.Errorf("the socket is for %q, which is no listener of parley.yaml", name)
	}
}
