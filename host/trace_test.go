package host_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host/msrptest"
)

// shark runs tshark and returns the lines that it prints of a capture file.
func shark(t *testing.T, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark %q: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// readers waits until so many look at frames.
func (w *site) readers(n int) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); w.s.Relay().Snapshot().Traces != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%d readers of frames, not %d", w.s.Relay().Snapshot().Traces, n)
		}
	}
}

// TestTrace: the frames of a chat by TLS are in a file that tshark reads, without
// what is secret; a filter that a reload sets counts at once.
func TestTrace(t *testing.T) {
	needTool(t, "tshark")
	file := filepath.Join(t.TempDir(), "trace.pcapng")
	collector, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer collector.Close()
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin.Close()
	text := twoListeners + fmt.Sprintf("admin: {bind: %q, trace: true}\ntrace:\n  filter: {user: alice, bodies: true}\n  file: {path: %q}\n  hep: {address: %q}\n",
		admin.Addr(), file, collector.LocalAddr())
	w := newSiteOf(t, msrptest.NewAuthority(t), text, nil)
	rs, err := http.Get("http://" + admin.Addr().String() + "/debug/trace?user=bob&format=text&for=1m")
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Body.Close()
	w.readers(3) // the file, the collector, and us
	a, b := w.client("tls", "alice", true, nil), w.client("tcp", "bob", false, nil)
	b.session()
	s := a.session(a.use, b.use, b.uri)
	if err := a.send(s, []byte("hello bob"), 0); err != nil || <-b.got != "hello bob" {
		t.Fatal(err)
	}
	packet := make([]byte, 1<<16)
	n, _, err := collector.ReadFrom(packet)
	if err != nil || string(packet[:4]) != "HEP3" {
		t.Fatalf("%q %v", packet[:n], err)
	}
	// A reader that came by HTTP sees bob's, and no bodies.
	var seen strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(seen.String(), "200 OK\nTo-Path: "+fmt.Sprintf("msrps://localhost:%d", w.ports["tls"])) && !strings.Contains(seen.String(), " SEND\nTo-Path: msrp://bob") {
		n, err := rs.Body.Read(buf)
		seen.Write(buf[:n])
		if err != nil && err != io.EOF || err == io.EOF && n == 0 {
			t.Fatalf("%v after\n%s", err, seen.String())
		}
	}
	if strings.Contains(seen.String(), "hello bob") || strings.Contains(seen.String(), b.use) {
		t.Errorf("%s", seen.String())
	}
	if _, err := w.reload(w.text[:strings.Index(w.text, "trace:\n")]); err != nil {
		t.Fatal(err)
	}
	w.readers(1)
	if _, err := w.reload(strings.Replace(w.text, "user: alice", "user: nobody", 1)); err != nil {
		t.Fatal(err)
	}
	w.readers(3)
	if err := a.send(s, []byte("not shown"), 0); err != nil || <-b.got != "not shown" {
		t.Fatal(err)
	}
	w.end()
	w.wait()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"response=", a.use, b.use, "not shown"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the file has %q", secret)
		}
	}
	decode := []string{"-r", file}
	for _, name := range []string{"tls", "tcp"} {
		decode = append(decode, "-d", fmt.Sprintf("tcp.port==%d,msrp", w.ports[name]))
	}
	lines := shark(t, append(decode, "-Y", "msrp", "-T", "fields", "-e", "msrp.method", "-e", "msrp.status.code", "-e", "msrp.data")...)
	t.Logf("%d frames", len(lines))
	if all := strings.Join(lines, " "); len(lines) < 4 || !strings.Contains(all, "SEND") || !strings.Contains(all, "200") {
		t.Errorf("%q", lines)
	}
	if bad := shark(t, append(decode, "-Y", "_ws.malformed")...); bad[0] != "" {
		t.Errorf("malformed: %q", bad)
	}
}
