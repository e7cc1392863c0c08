package host_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

// A hop stands before a relay and records what passes: its port is the one in the
// relay's URI.
type hop struct {
	port int
	ln   net.Listener
	tls  *tls.Config // of both sides; nil = TCP
	c    *capture

	mu    sync.Mutex
	conns []net.Conn // all that were open
	done  sync.WaitGroup
}

func newHop(t *testing.T, c *capture, tlsConfig *tls.Config) *hop {
	t.Helper()
	ln, err := net.Listen("tcp4", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{port: ln.Addr().(*net.TCPAddr).Port, ln: ln, tls: tlsConfig, c: c}
	t.Cleanup(func() {
		ln.Close()
		h.mu.Lock()
		for _, nc := range h.conns {
			nc.Close()
		}
		h.mu.Unlock()
		h.done.Wait()
	})
	return h
}

// to begins to pass connections on to a port.
func (h *hop) to(port int) {
	h.done.Go(func() {
		for {
			nc, err := h.ln.Accept()
			if err != nil {
				return
			}
			h.done.Go(func() { h.pass(nc, fmt.Sprintf("localhost:%d", port)) })
		}
	})
}

func (h *hop) pass(in net.Conn, addr string) {
	defer in.Close()
	out, err := net.Dial("tcp4", addr)
	if err != nil {
		return
	}
	defer out.Close()
	h.mu.Lock()
	h.conns = append(h.conns, in, out)
	h.mu.Unlock()
	if h.tls != nil {
		in, out = tls.Server(in, h.tls), tls.Client(out, h.tls)
	}
	out = h.c.tap(out)
	h.done.Go(func() {
		_, _ = io.Copy(in, out) // it ends when either side does
		in.Close()
	})
	_, _ = io.Copy(out, in)
}

// startKamailio runs Kamailio by examples/kamailio, as the relay in w.dir at the port of h.
func startKamailio(t *testing.T, w *site, h *hop) {
	t.Helper()
	cfg, err := filepath.Abs("../examples/kamailio/kamailio.cfg")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-f", cfg, "-DD", "-E", "-w", w.dir, "-Y", w.dir, "-m", "32", "-A", fmt.Sprintf("AUTHORITY=localhost:%d", h.port), "-A", `SECRET="x"`}
	if h.tls != nil {
		b, err := os.ReadFile("../examples/kamailio/tls.cfg")
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("/etc/kamailio/relay.", w.dir+"/good.", "/etc/kamailio/ca.", w.dir+"/ca.").Replace(string(b))
		file := filepath.Join(w.dir, "tls.cfg")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-A", "WITH_TLS", "-A", fmt.Sprintf("TLS_CONFIG=%q", file))
	}
	// Kamailio cannot choose a port, and somebody may take the free one before it does.
	var said string
	for range 5 {
		ln, err := net.Listen("tcp4", "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		ln.Close()
		var ok bool
		if said, ok = runKamailio(t, append(args, "-A", fmt.Sprintf("LISTEN=127.0.0.1:%d", port))); ok {
			h.to(port)
			return
		}
	}
	t.Fatalf("kamailio does not start:\n%s", said)
}

// runKamailio starts Kamailio and reports whether it got ready, or what it said.
func runKamailio(t *testing.T, args []string) (said string, ok bool) {
	t.Helper()
	cmd := exec.Command("kamailio", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		sc := bufio.NewScanner(stderr)
		for began := false; sc.Scan(); {
			fmt.Fprintln(&log, sc.Text())
			if !began && strings.Contains(sc.Text(), "ready: ") {
				began = true
				close(ready)
			}
		}
		_ = cmd.Wait() // it ends by our signal
	}()
	stop := func() {
		// Asked to end, it waits for its own processes, sometimes for ever.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
	select {
	case <-ready:
		t.Cleanup(func() {
			stop()
			if t.Failed() {
				t.Logf("kamailio:\n%s", log.String())
			}
		})
		return "", true
	case <-ended:
	case <-time.After(20 * time.Second):
		stop()
	}
	return log.String(), false
}

const besideKamailio = `
listeners:
  here:
    uri: "SCHEME://localhost:HERE;tcp"
    bind: localhost:0
    HOW
    hooks: {authenticate: [users]}
providers:
  users: {type: static, users: {alice: {password: secret}, bob: {password: secret}}}
relay:
  realm: example.com
  relays: {ca: DIR/ca.pem}
  dial: {allow: [127.0.0.0/8, "::1/128"], ca: DIR/ca.pem}
`

// beside starts Parley and Kamailio next to each other, as listeners "here" and
// "there" of the site, with a recorder before each.
func beside(t *testing.T, secure bool) (*site, *capture) {
	t.Helper()
	needTool(t, "kamailio")
	needTool(t, "tshark")
	ca := msrptest.NewAuthority(t)
	scheme, how := "msrp", "plain_auth: true"
	var tlsConfig *tls.Config
	if secure {
		scheme, how = "msrps", "tls: {certificate: DIR/good.pem, key: DIR/good.key}"
		tlsConfig = &tls.Config{
			// It passes for both relays, which have one name here.
			Certificates: []tls.Certificate{*ca.Certificate("localhost")},
			ServerName:   "localhost", RootCAs: ca.Pool,
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool,
		}
	}
	c := newCapture(t)
	here, there := newHop(t, c, tlsConfig), newHop(t, c, tlsConfig)
	w := newSiteOf(t, ca, strings.NewReplacer("SCHEME", scheme, "HERE", fmt.Sprint(here.port), "HOW", how).Replace(besideKamailio), nil)
	here.to(w.ports["here"])
	startKamailio(t, w, there)
	w.ports["here"], w.ports["there"] = here.port, there.port
	return w, c
}

// texts are what a chat sends in each direction: also what looks like an end-line,
// and what goes in several chunks.
var texts = []string{"hello", "", "grüße, -------\r\n-------x$\r\n", strings.Repeat("0123456789abcdef\r\n", 1000)}

// chat sends the texts both ways, each with its REPORT all the way back.
func chat(t *testing.T, a, b *agent, hops ...string) {
	t.Helper()
	answer := b.session()
	s := a.session(hops...)
	for _, text := range texts {
		for _, way := range []struct {
			s        *msrp.Session
			from, to *agent
		}{{s, a, b}, {answer, b, a}} {
			if err := way.from.send(way.s, []byte(text), 2048); err != nil {
				t.Fatalf("%q: %v", text[:min(len(text), 20)], err)
			}
			if got := <-way.to.got; got != text {
				t.Fatalf("got %q", got)
			}
		}
	}
}

// TestKamailio has a chat between a client of Parley and one of Kamailio, over TCP
// and over TLS, begun by either: the relays dial each other. tshark judges each hop.
func TestKamailio(t *testing.T) {
	for name, secure := range map[string]bool{"tcp": false, "tls": true} {
		for _, first := range []string{"here", "there"} {
			t.Run(name+"/"+first+" begins", func(t *testing.T) {
				w, c := beside(t, secure)
				other := map[string]string{"here": "there", "there": "here"}[first]
				a, b := w.client(first, "alice", secure, nil), w.client(other, "bob", secure, nil)
				chat(t, a, b, a.use, b.use, b.uri)
				c.wait(t)
				wantHops(t, c.judge(t), 3, 2)
			})
		}
	}
}

// TestKamailioChain: a client authenticates with one relay, and through it with the
// other, which takes the first for a relay by its certificate (RFC 4976 §6.3, RELAY-34).
func TestKamailioChain(t *testing.T) {
	for _, tt := range []struct {
		inner, outer string
		hops         int // of a SEND from the client to a client of Parley
	}{
		{"there", "here", 3}, // both sessions at Parley: that is one hop less
		{"here", "there", 4},
	} {
		t.Run(tt.outer+" through "+tt.inner, func(t *testing.T) {
			w, c := beside(t, true)
			a := w.client(tt.inner, "alice", true, nil)
			r := a.auth(fmt.Sprintf("%s msrps://localhost:%d;tcp", a.use, w.ports[tt.outer]), "alice")
			if !r.OK() {
				t.Fatalf("AUTH: %d %s", r.Code, r.Comment)
			}
			outer, _ := r.Header("Use-Path")
			b := w.client("here", "bob", true, nil)
			chat(t, a, b, append(strings.Fields(outer), b.use, b.uri)...)
			c.wait(t)
			wantHops(t, c.judge(t), tt.hops, 4)
		})
	}
}

// wantHops checks what tshark saw of a chat over so many hops: each hop answers
// each SEND itself, and each REPORT comes back over all of them.
func wantHops(t *testing.T, count map[string]int, hops, auths int) {
	t.Helper()
	// hello, "", the one with dashes, and 18000 octets in chunks of 2048, both ways.
	if want := 2 * (3 + 9) * hops; count["SEND"] != want {
		t.Errorf("%d SENDs, want %d", count["SEND"], want)
	}
	if want := 2 * 4 * hops; count["REPORT"] < want {
		t.Errorf("%d REPORTs, want %d at least", count["REPORT"], want)
	}
	if count["200"] != count["SEND"]+auths || count["401"] != auths || count["AUTH"] != 2*auths {
		t.Errorf("%v, want %d AUTHs that succeed, each challenged before", count, auths)
	}
	for code := range count {
		if code[0] >= '4' && code[0] <= '5' && code != "401" {
			t.Errorf("%d times %s", count[code], code)
		}
	}
}
