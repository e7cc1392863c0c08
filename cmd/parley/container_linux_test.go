package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An image is what the last stage of the Containerfile says.
type image struct {
	uid, gid             uint32
	env                  []string
	workdir              string
	health, entry, serve []string
}

func readImage(t *testing.T) (img image) {
	t.Helper()
	text := readDist(t, "Containerfile")
	text = text[strings.LastIndex(text, "\nFROM "):]
	one := func(re string) string {
		m := regexp.MustCompile(`(?m)^`+re+`$`).FindAllStringSubmatch(text, -1)
		if len(m) != 1 {
			t.Fatalf("%d of %s in %s", len(m), re, text)
		}
		return m[0][1]
	}
	args := func(re string) (words []string) {
		if err := json.Unmarshal([]byte(one(re)), &words); err != nil {
			t.Fatalf("%s: %v", re, err) // there is no shell to run any other form
		}
		return words
	}
	if _, err := fmt.Sscanf(one("USER (.+)"), "%d:%d", &img.uid, &img.gid); err != nil {
		t.Fatal(err) // a name would not do for Kubernetes' runAsNonRoot
	}
	img.env, img.workdir = []string{one("ENV (.+)")}, one("WORKDIR (.+)")
	img.health, img.entry, img.serve = args("HEALTHCHECK .*CMD (.+)"), args("ENTRYPOINT (.+)"), args("CMD (.+)")
	return img
}

// TestContainer runs what the Containerfile builds as it would be run: with no file but
// the binary and the configuration, as nobody, and asked by its health check.
func TestContainer(t *testing.T) {
	img := readImage(t)
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "etc/parley", img.workdir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(root, "usr/bin/parley")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary is not static: the image has no libraries")
		}
	}
	if img.uid == 0 || img.gid == 0 {
		t.Error("it runs as root")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to run it as another user in a root of its own")
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("listeners: {edge: {uri: \"msrp://localhost:%s;tcp\"}}\nrelay: {key_file: parley.key}\n", port)
	if err := os.WriteFile(filepath.Join(root, "etc/parley/parley.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(root, img.workdir), int(img.uid), int(img.gid)); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	command := func(args []string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(cmd.Env, strings.Replace(img.env[0], ":8856", ":"+admin, 1)) // other tests have ports, too
		cmd.Dir = img.workdir
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: img.uid, Gid: img.gid}}
		return cmd
	}
	relay := command(append(img.entry, img.serve...))
	relay.Stdout, relay.Stderr = &output, &output
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- relay.Wait() }()
	for deadline := time.Now().Add(30 * time.Second); ; {
		out, err := command(img.health).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			_ = relay.Process.Kill()
			t.Fatalf("never healthy: %v %s\n%v\n%s", err, out, <-ended, output.String())
		}
	}
	if _, err := os.Stat(filepath.Join(root, img.workdir, "parley.key")); err != nil {
		t.Error(err) // what is kept is in the volume
	}
	if err := relay.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, output.String())
	}
	if command(img.health).Run() == nil {
		t.Error("healthy after its end")
	}
}
