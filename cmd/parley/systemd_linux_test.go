package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A unit is the real binary, run as systemd would.
type unit struct {
	t      *testing.T
	cmd    *exec.Cmd
	notify *net.UnixConn
	file   string // the configuration
	stderr bytes.Buffer
}

const unitConfig = `
listeners:
  edge: {uri: "msrp://localhost:2855;tcp", bind: "127.0.0.1:1", plain_auth: true, hooks: {authenticate: [users]}}
providers: {users: {type: static, users: {alice: {password: secret}}}}
log: {level: info}
reload: {watch: false}
`

// newUnit starts the binary with a socket under this name, a notify socket, and a watchdog.
func newUnit(t *testing.T, socket net.Listener, name string) *unit {
	t.Helper()
	dir := t.TempDir()
	u := &unit{t: t, file: filepath.Join(dir, "parley.yaml")}
	u.write(unitConfig)
	address := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	var err error
	if u.notify, err = net.ListenUnixgram("unixgram", address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.notify.Close() })
	f, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// LISTEN_PID must be the pid, which only the child knows.
	u.cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ exec parley serve --config "$0"`, u.file)
	u.cmd.ExtraFiles = []*os.File{f}
	u.cmd.Stderr = &u.stderr
	u.cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES="+name, "NOTIFY_SOCKET="+address.Name, "WATCHDOG_USEC=200000", "GORACE=atexit_sleep_ms=0")
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if u.cmd.ProcessState == nil {
			_ = u.cmd.Process.Kill()
			_ = u.cmd.Wait()
		}
	})
	return u
}

func (u *unit) write(text string) {
	u.t.Helper()
	if err := os.WriteFile(u.file, []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// want waits for a message that begins so; only the watchdog's may come before.
func (u *unit) want(prefix string) string {
	u.t.Helper()
	b := make([]byte, 1000)
	_ = u.notify.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		n, err := u.notify.Read(b)
		got := string(b[:n])
		if err == nil && strings.HasPrefix(got, prefix) {
			return got
		}
		if err != nil || got != "WATCHDOG=1" {
			_ = u.cmd.Process.Kill()
			_ = u.cmd.Wait() // no more is written to stderr
			u.t.Fatalf("want %q, got %q, %v\n%s", prefix, got, err, u.stderr.String())
		}
	}
}

func (u *unit) signal(sig os.Signal) {
	u.t.Helper()
	if err := u.cmd.Process.Signal(sig); err != nil {
		u.t.Fatal(err)
	}
}

func passedSocket(t *testing.T) net.Listener {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return socket
}

// alive reports whether an AUTH is challenged at address.
func alive(t *testing.T, address string) bool {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprint(nc, "MSRP abcd AUTH\r\nTo-Path: msrp://localhost:2855;tcp\r\nFrom-Path: msrp://a.invalid:9/alice12345;tcp\r\n-------abcd$\r\n")
	b := make([]byte, 100)
	n, err := nc.Read(b)
	return err == nil && strings.HasPrefix(string(b[:n]), "MSRP abcd 401")
}

// TestSystemd: what systemd passes is used, and it is told what it wants to know, in
// order: ready, well, reloading and ready again (also after a reload that failed),
// draining, stopping.
func TestSystemd(t *testing.T) {
	socket := passedSocket(t)
	address := socket.Addr().String()
	u := newUnit(t, socket, "edge")
	if got := u.want("READY=1"); got != "READY=1\nSTATUS=Serving" {
		t.Errorf("%q", got)
	}
	if !alive(t, address) {
		t.Error("the socket that was passed is not served")
	}
	u.want("WATCHDOG=1")
	for _, text := range []string{strings.Replace(unitConfig, "alice", "bob", 1), "listeners: {edge: {bind: nonsense}}", unitConfig} {
		u.write(text)
		before := monotonic(t)
		u.signal(syscall.SIGHUP)
		got := u.want("RELOADING=1\nMONOTONIC_USEC=")
		var usec int64
		if _, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d", &usec); err != nil || usec < before || usec > monotonic(t) {
			t.Errorf("%q is not between %d and now: %v", got, before, err)
		}
		u.want("READY=1")
		if !alive(t, address) {
			t.Error("not served after a reload")
		}
	}
	socket.Close() // ours: now only the relay has it
	u.signal(syscall.SIGUSR1)
	u.want("STATUS=Draining")
	for alive(t, address) { // it closes after it has refused
		time.Sleep(time.Millisecond)
	}
	u.want("WATCHDOG=1") // and it lives on
	u.want("WATCHDOG=1")
	u.signal(syscall.SIGTERM)
	u.want("STOPPING=1\nSTATUS=Draining")
	if err := u.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, u.stderr.String())
	}
	if log := u.stderr.String(); !strings.Contains(log, `"inherited":true`) || strings.Contains(log, "127.0.0.1:1\"") {
		t.Errorf("bind was used:\n%s", log)
	}
}

// TestSystemdWrongSocket: a socket that no listener has a name for ends it, and it says why.
func TestSystemdWrongSocket(t *testing.T) {
	u := newUnit(t, passedSocket(t), "core")
	err := u.cmd.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != exitFault ||
		!strings.Contains(u.stderr.String(), "FileDescriptorName=core: each must be a stream socket with the name of one listener") {
		t.Errorf("%v\n%s", err, u.stderr.String())
	}
}

// monotonic is what systemd takes for now, in µs.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano() / 1000
}
