package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/parley-msrp/parley/host/bench"
	"github.com/parley-msrp/parley/host/transport"
)

type benchCompareCmd struct {
	Rounds          int           `help:"How often each is measured, in turns." default:"5"`
	Time            time.Duration `help:"How long each time, after a fifth of that to warm up." default:"2s"`
	Rows            string        `help:"Only rows whose name this regular expression matches." placeholder:"REGEXP"`
	Short           bool          `help:"One round of everything at tiny sizes: does it work? The figures mean nothing."`
	Before          string        `help:"Another parley binary, measured beside as 'before'." type:"existingfile" placeholder:"FILE"`
	Kamailio        string        `help:"Kamailio's program; it is left out if it is not there." default:"kamailio" placeholder:"FILE"`
	KamailioConfig  string        `help:"Its configuration, that of examples/kamailio." default:"examples/kamailio/kamailio.cfg" placeholder:"FILE"`
	Splice          bool          `help:"Have the forwarder leave copying to the system."`
	Profile         string        `help:"Directory for CPU profiles of Parley, one for each row; made in a run of its own." type:"path" placeholder:"DIR"`
	Markdown        string        `help:"Write the tables to this file, too." type:"path" placeholder:"FILE"`
	JSON            string        `name:"json" help:"Write all results to this file." type:"path" placeholder:"FILE"`
	SVG             string        `name:"svg" help:"Draw latencies to this file." type:"path" placeholder:"FILE"`
	List            bool          `help:"Show the rows and what they are to show."`
	dir             string        // certificates and configurations of this run
	parley          string        // this program
	client, server  *tls.Config
	kamailioMissing string // why
}

// Help is what --help says beside the flags.
func (benchCompareCmd) Help() string {
	return "Starts a relay and a forwarder as processes of their own for each row, loads them in turns with the same work from this process, and prints " +
		"the median of all rounds and its ratio to the forwarder's, with the least and the most of them. What counts is CPU for a message: unlike " +
		"messages a second it does not depend on how many processors the generator took. Exit code 1 if anything was lost or changed."
}

// What is measured.
const (
	isParley   = "Parley"
	isBefore   = "before"
	isForward  = "forwarder"
	isKamailio = "Kamailio"
)

// A subject is a process under load, with what it started.
type subject struct {
	kind   string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has, and all its output was read
	stderr tail
	addrs  map[string]string // of "ready: NAME on ADDRESS"
	pids   []int
	ln     net.Listener // where a forwarder connects to
}

// A tail keeps the last of what a process says.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-4096):]
	return len(p), nil
}

// Run measures all rows and prints their tables.
func (cmd *benchCompareCmd) Run(e *env) error {
	match, err := regexp.Compile(cmd.Rows)
	if err != nil {
		return usageError{fmt.Errorf("--rows: %w", err)}
	}
	if cmd.Rounds < 1 || cmd.Time <= 0 {
		return usageError{errors.New("--rounds and --time: more than none")}
	}
	rows := cmd.rows()
	if cmd.Short {
		cmd.Rounds = 1
	}
	if cmd.List {
		for _, r := range rows {
			fmt.Fprintf(e.stdout, "%-14s %s\n", r.name, r.title)
		}
		return nil
	}
	rows = slices.DeleteFunc(rows, func(r *row) bool { return !match.MatchString(r.name) })
	if len(rows) == 0 {
		return usageError{fmt.Errorf("--rows %s: there is none; --list shows them", cmd.Rows)}
	}
	if err := cmd.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(cmd.dir)
	for _, r := range rows {
		fmt.Fprintf(e.stderr, "%s …\n", r.title)
		if err := cmd.measure(e.ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	rep := &report{cmd: cmd, rows: rows}
	if err := rep.write(e.stdout); err != nil {
		return err
	}
	return rep.faults()
}

// prepare makes what processes need.
func (cmd *benchCompareCmd) prepare() (err error) {
	if cmd.parley, err = os.Executable(); err != nil {
		return err
	}
	if cmd.dir, err = os.MkdirTemp("", "parley-bench-"); err != nil {
		return err
	}
	d := &demo{dir: cmd.dir}
	if err := d.makeCertificates(); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(d.path("relay.pem"), d.path("relay.key"))
	if err != nil {
		return err
	}
	if cmd.client, err = transport.TrustFile(d.path("ca.pem")); err != nil {
		return err
	}
	cmd.client.ServerName = "localhost"
	cmd.server = &tls.Config{Certificates: []tls.Certificate{cert}}
	program, err := exec.LookPath(cmd.Kamailio)
	if err != nil && cmd.Kamailio == "kamailio" {
		program, err = exec.LookPath("/usr/sbin/kamailio") // which is in root's path only
	}
	if err != nil {
		cmd.kamailioMissing = "not installed"
	}
	cmd.Kamailio = program
	if _, err := os.Stat(cmd.KamailioConfig); err != nil {
		cmd.kamailioMissing = cmp.Or(cmd.kamailioMissing, "no "+cmd.KamailioConfig)
	}
	return os.WriteFile(d.path("users.wasm"), demoPlugin, 0o600)
}

// benchRelay is the configuration of the relay that is measured. Connections go to
// the ports that the system chooses, whatever its URIs say.
const benchRelay = `
listeners:
  tcp: {uri: "msrp://localhost:2855;tcp", bind: "127.0.0.1:0", plain_auth: true, hooks: {authenticate: [users]}}
  tls: {uri: "msrps://localhost:2856;tcp", bind: "127.0.0.1:0", tls: {certificate: relay.pem, key: relay.key}, hooks: {authenticate: [users]}}
%sproviders:
  users: {type: static, users: {alice: {password: secret}}}
relay:
  realm: example.com
  limits: {sessions: 100000, connections: 40000}
admin: {bind: "127.0.0.1:0", pprof: true}
log: {level: warn}
drain: {timeout: 0s}
%s`

// Compiling the plugin is left to the rows that ask it.
const (
	benchPluginListener = `  plugin: {uri: "msrp://localhost:2857;tcp", bind: "127.0.0.1:0", plain_auth: true, hooks: {authenticate: [{plugin: c}]}}` + "\n"
	benchPlugin         = `plugins: {c: {file: users.wasm, config: "alice:secret"}}` + "\n"
)

func (cmd *benchCompareCmd) start(ctx context.Context, kind string, r *row) (*subject, error) {
	switch kind {
	case isParley, isBefore:
		return cmd.startRelay(ctx, kind, r)
	case isForward:
		return cmd.startForwarder(ctx, r)
	default:
		return cmd.startKamailio(ctx)
	}
}

func (cmd *benchCompareCmd) startRelay(ctx context.Context, kind string, r *row) (*subject, error) {
	text := fmt.Sprintf(benchRelay, "", "")
	if r.plugin {
		text = fmt.Sprintf(benchRelay, benchPluginListener, benchPlugin)
	}
	file := filepath.Join(cmd.dir, kind+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	program := cmd.parley
	if kind == isBefore {
		program = cmd.Before
	}
	return startSubject(ctx, kind, cmd.dir, "admin", program, "serve", "--config", file)
}

func (cmd *benchCompareCmd) startForwarder(ctx context.Context, r *row) (*subject, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	args := []string{"bench", "forward", "--to", ln.Addr().String()}
	if r.secure {
		args = append(args, "--tls", "--certificate", "relay.pem", "--key", "relay.key", "--ca", "ca.pem", "--name", "localhost")
		ln = tls.NewListener(ln, cmd.server)
	}
	if cmd.Splice {
		args = append(args, "--splice")
	}
	s, err := startSubject(ctx, isForward, cmd.dir, "forward", cmd.parley, args...)
	if err != nil {
		ln.Close()
		return nil, err
	}
	s.ln = ln
	return s, nil
}

func (cmd *benchCompareCmd) startKamailio(ctx context.Context) (*subject, error) {
	config, err := filepath.Abs(cmd.KamailioConfig)
	if err != nil {
		return nil, err
	}
	// It cannot choose a port, and somebody may take the free one before it does.
	for range 5 {
		var ln net.Listener
		if ln, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		addr := ln.Addr().String()
		ln.Close()
		var s *subject
		s, err = startSubject(ctx, isKamailio, cmd.dir, "", cmd.Kamailio, "-f", config, "-DD", "-E", "-w", cmd.dir, "-Y", cmd.dir, "-m", "256",
			"-A", "AUTHORITY="+addr, "-A", "LISTEN="+addr, "-A", `SECRET="x"`)
		if err == nil {
			s.addrs["tcp"] = addr
			return s, nil
		}
	}
	return nil, err
}

var readyLine = regexp.MustCompile(`ready: (\w+)(?: on |://)(?:http://)?(\S+)`)

// startSubject starts a program and waits until it says that last is ready; "" = anything.
func startSubject(ctx context.Context, kind, dir, last, program string, args ...string) (*subject, error) {
	s := &subject{kind: kind, addrs: map[string]string{}, ended: make(chan struct{})}
	s.cmd = exec.Command(program, args...)
	s.cmd.Dir = dir
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PARLEY_") }) // it would configure the relay
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stdout, s.cmd.Stderr = w, w
	err = s.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	s.pids = []int{s.cmd.Process.Pid}
	ready := make(chan struct{})
	go func() {
		defer close(s.ended)
		defer r.Close()
		for sc, open := bufio.NewScanner(r), true; sc.Scan(); {
			fmt.Fprintln(&s.stderr, sc.Text())
			if m := readyLine.FindStringSubmatch(sc.Text()); m != nil && open {
				s.addrs[m[1]] = m[2]
				if open = m[1] != last && last != ""; !open {
					close(ready)
				}
			}
		}
		_ = s.cmd.Wait() // it ends by our signal; else it is missed soon
	}()
	wait := time.NewTimer(30 * time.Second)
	defer wait.Stop()
	select {
	case <-ready:
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("%s has ended:\n%s", kind, s.stderr.b)
	case <-wait.C:
		err = errors.New("it did not get ready within 30 s")
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.stop()
	return nil, fmt.Errorf("%s: %w:\n%s", kind, err, s.stderr.b)
}

// stop ends the subject and waits for it.
func (s *subject) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	kill := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	<-s.ended
	kill.Stop()
	if s.ln != nil {
		s.ln.Close()
	}
}

// settle waits until the subject has nothing left to do from before, and finds out
// which processes it is: Kamailio is ready before it has started them all.
func (s *subject) settle(ctx context.Context) error {
	var err error
	used := func() (sum time.Duration) {
		var children []int
		children, err = bench.Children(s.cmd.Process.Pid)
		s.pids = append([]int{s.cmd.Process.Pid}, children...)
		for _, pid := range s.pids {
			d, _ := bench.CPUTime(pid) // one that ended is missed soon
			sum += d
		}
		return sum
	}
	last := used()
	for n := range 100 {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		known := len(s.pids)
		now := used()
		if err != nil || n > 0 && now-last < time.Millisecond && len(s.pids) == known {
			break
		}
		last = now
	}
	return err
}

// measure does all rounds of a row.
func (cmd *benchCompareCmd) measure(ctx context.Context, r *row) error {
	running := map[string]*subject{}
	stop := func() {
		for kind, s := range running {
			s.stop()
			delete(running, kind)
		}
	}
	defer stop()
	for round := range cmd.Rounds {
		for i := range r.trials {
			// There and back, so that who is next to whom evens out.
			if round%2 == 1 {
				i = len(r.trials) - 1 - i
			}
			t := r.trials[i]
			if t.subject == isKamailio && cmd.kamailioMissing != "" {
				t.missing = cmd.kamailioMissing
				continue
			}
			if r.fresh {
				stop()
			}
			s := running[t.subject]
			if s == nil {
				var err error
				if s, err = cmd.start(ctx, t.subject, r); err != nil {
					return err
				}
				running[t.subject] = s
			}
			if err := s.settle(ctx); err != nil {
				return fmt.Errorf("%s: %w", t.label, err)
			}
			res, err := bench.Run(ctx, cmd.config(r, t, s))
			var fault *bench.Fault
			if errors.As(err, &fault) || err != nil && ctx.Err() == nil && t.subject == isKamailio {
				t.faults = append(t.faults, err)
				s.stop() // who knows what it holds
				delete(running, t.subject)
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", t.label, err, s.stderr.b)
			}
			t.results = append(t.results, res)
		}
	}
	if cmd.Profile == "" || !slices.ContainsFunc(r.trials, func(t *trial) bool { return t.subject == isParley }) {
		return nil
	}
	if running[isParley] == nil {
		s, err := cmd.start(ctx, isParley, r)
		if err != nil {
			return err
		}
		running[isParley] = s
	}
	if err := running[isParley].settle(ctx); err != nil {
		return err
	}
	return cmd.profile(ctx, r, running[isParley])
}

// config completes what a trial does with where to do it.
func (cmd *benchCompareCmd) config(r *row, t *trial, s *subject) bench.Config {
	cfg := t.work
	cfg.Time = cmd.Time
	cfg.Warmup = cmd.Time / 5
	if cmd.Short {
		cfg.Time, cfg.Warmup = 40*time.Millisecond, 10*time.Millisecond
	}
	cfg.PIDs = s.pids
	cfg.User, cfg.Password = "alice", "secret"
	cfg.TLS = cmd.client
	switch {
	case s.ln != nil:
		cfg.Through, cfg.Listener, cfg.Secure = s.addrs["forward"], s.ln, r.secure
	case t.subject == isKamailio:
		cfg.Relay = "msrp://" + s.addrs["tcp"] + ";tcp"
		// A SEND by two sessions of one Kamailio would go through it twice, and it
		// would pay double.
		cfg.OneSession = true
	case t.listener == "plugin":
		cfg.Relay, cfg.Addr = "msrp://localhost:2857;tcp", s.addrs["plugin"]
	case r.secure:
		cfg.Relay, cfg.Addr = "msrps://localhost:2856;tcp", s.addrs["tls"]
	default:
		cfg.Relay, cfg.Addr = "msrp://localhost:2855;tcp", s.addrs["tcp"]
	}
	return cfg
}

// profile loads Parley once more and keeps where its time went.
func (cmd *benchCompareCmd) profile(ctx context.Context, r *row, s *subject) error {
	i := slices.IndexFunc(r.trials, func(t *trial) bool { return t.subject == isParley })
	cfg := cmd.config(r, r.trials[i], s)
	seconds := max(1, int(cfg.Time.Seconds()))
	cfg.Messages, cfg.Time = 0, time.Duration(seconds)*time.Second+500*time.Millisecond
	var profile bytes.Buffer
	var got error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		got = func() error {
			select {
			case <-time.After(cfg.Warmup):
			case <-ctx.Done():
				return ctx.Err()
			}
			rq, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.addrs["admin"], seconds), nil)
			if err != nil {
				return err
			}
			rs, err := http.DefaultClient.Do(rq)
			if err != nil {
				return err
			}
			defer rs.Body.Close()
			_, err = io.Copy(&profile, rs.Body)
			return err
		}()
	}()
	_, err := bench.Run(ctx, cfg)
	if err != nil {
		cancel()
	}
	<-done
	if err = errors.Join(err, got); err != nil {
		return err
	}
	return writeFile(filepath.Join(cmd.Profile, r.name+".pprof"), func(w io.Writer) error {
		_, err := profile.WriteTo(w)
		return err
	})
}
