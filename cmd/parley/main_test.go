package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/parley-msrp/parley/host/config"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"parley": main})
}

// goCache is where this machine's Go keeps what it has built; scripts have
// another home.
var goCache = func() string {
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}()

// TestScripts runs the real binary. See testdata/*.txtar.
func TestScripts(t *testing.T) { runScripts(t, "testdata") }

// TestGoPluginScripts are those that load plugins in Go.
func TestGoPluginScripts(t *testing.T) {
	if raceEnabled {
		t.Skip("compiling a Go plugin takes ten seconds under the race detector; make test runs this without it, too")
	}
	runScripts(t, "testdata/goplugin")
}

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:           dir,
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			for _, name := range []string{"PORT", "PORT2", "PORT3", "PORT4"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				e.Setenv(name, port)
			}
			e.Setenv("GOCACHE", goCache)            // for plugins in Go
			e.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's default costs a second per process
			ps := map[string]*process{}
			e.Values["processes"] = ps
			e.Defer(func() {
				for _, p := range ps {
					p.stop(true)
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start, "await": await, "awaiterr": awaiterr, "hup": sends(syscall.SIGHUP), "sigterm": sends(syscall.SIGTERM), "sigusr1": sends(syscall.SIGUSR1), "killed": killed, "sigkill": sigkill, "feed": feed, "end": end(true), "eof": end(false),
		},
	})
}

// freePort returns a port that nobody listens on right now.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// A process runs beside a script, which reads its output line by line.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string
	stderr stderr
	output strings.Builder
}

// stderr is what a process wrote to standard error so far.
type stderr struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed by the next write; nil = nobody waits
}

func (e *stderr) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.more != nil {
		close(e.more)
		e.more = nil
	}
	return e.b.Write(p)
}

func (e *stderr) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.b.String()
}

// next returns what is closed when there is more.
func (e *stderr) next() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.more == nil {
		e.more = make(chan struct{})
	}
	return e.more
}

// stop ends p; its exit code says how that went.
func (p *process) stop(interrupt bool) {
	if p.cmd.ProcessState != nil {
		return
	}
	p.in.Close()
	if interrupt {
		_ = p.cmd.Process.Signal(os.Interrupt)
	}
	for line := range p.lines {
		p.output.WriteString(line + "\n")
	}
	_ = p.cmd.Wait()
}

func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value("processes").(map[string]*process)
}

// start NAME ARGS… runs parley with ARGS beside the script.
func start(ts *testscript.TestScript, _ bool, args []string) {
	parley, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), ":")[0], "parley"))
	ts.Check(err)
	p := &process{cmd: exec.Command(parley, args[1:]...), lines: make(chan string, 1000)}
	p.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"HOME", "PATH", "XDG_STATE_HOME", "PARLEY_PASSWORD", "GORACE"} {
		p.cmd.Env = append(p.cmd.Env, name+"="+ts.Getenv(name))
	}
	p.cmd.Env = append(p.cmd.Env, "PARLEY_DRAIN__TIMEOUT=0s") // scripts end relays that have sessions
	p.cmd.Stderr = &p.stderr
	p.in, err = p.cmd.StdinPipe()
	ts.Check(err)
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	processes(ts)[args[0]] = p
	go func() {
		defer close(p.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			p.lines <- sc.Text()
		}
	}()
}

// await NAME REGEXP [VARIABLE] waits for a line of output, and keeps its first group.
func await(ts *testscript.TestScript, _ bool, args []string) {
	p := processes(ts)[args[0]]
	re := regexp.MustCompile(args[1])
	deadline := time.After(30 * time.Second)
	for open := true; open; {
		var line string
		select {
		case line, open = <-p.lines:
		case <-deadline:
			open = false
		}
		p.output.WriteString(line + "\n")
		if m := re.FindStringSubmatch(line); m != nil && open {
			if len(args) > 2 {
				ts.Setenv(args[2], m[1])
			}
			return
		}
	}
	ts.Fatalf("%s ended, or waits, without a line like %q:\n%s%s", args[0], args[1], p.output.String(), p.stderr.String())
}

// awaiterr NAME REGEXP waits until the process has written that to standard error.
func awaiterr(ts *testscript.TestScript, _ bool, args []string) {
	p := processes(ts)[args[0]]
	re := regexp.MustCompile(args[1])
	deadline := time.After(30 * time.Second)
	for {
		more := p.stderr.next()
		if re.MatchString(p.stderr.String()) {
			return
		}
		select {
		case <-more:
		case <-deadline:
			ts.Fatalf("%s has not written %q:\n%s", args[0], args[1], p.stderr.String())
		}
	}
}

// sends makes a command that sends a signal to a process: hup NAME.
func sends(sig os.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(processes(ts)[args[0]].cmd.Process.Signal(sig))
	}
}

// killed NAME sends SIGTERM until one, which is no longer caught, ends the process.
func killed(ts *testscript.TestScript, _ bool, args []string) {
	p := processes(ts)[args[0]]
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.stop(false)
	}()
	for tick := time.Tick(20 * time.Millisecond); ; {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // may have ended
		select {
		case <-done:
		case <-tick:
			continue
		}
		break
	}
	if st, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() {
		ts.Fatalf("%s was not ended by a signal: %v\n%s", args[0], p.cmd.ProcessState, p.stderr.String())
	}
}

// sigkill NAME ends a process without a word.
func sigkill(ts *testscript.TestScript, _ bool, args []string) {
	p := processes(ts)[args[0]]
	ts.Check(p.cmd.Process.Kill())
	p.stop(false)
}

// feed NAME LINE writes a line to the input.
func feed(ts *testscript.TestScript, _ bool, args []string) {
	_, err := fmt.Fprintln(processes(ts)[args[0]].in, args[1])
	ts.Check(err)
}

// end NAME [CODE] interrupts a process, and eof NAME [CODE] ends its input. It
// must exit with CODE (0); what it printed goes into NAME.out and NAME.err.
func end(interrupt bool) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		p := processes(ts)[args[0]]
		want := "0"
		if len(args) > 1 {
			want = args[1]
		}
		p.stop(interrupt)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), []byte(p.output.String()), 0o644))
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".err"), []byte(p.stderr.String()), 0o644))
		if code := fmt.Sprint(p.cmd.ProcessState.ExitCode()); code != want {
			ts.Fatalf("%s: exit code %s\n%s", args[0], code, p.stderr.String())
		}
	}
}

// TestDefaultConfig: the commented configuration file is right, and says so of
// every key.
func TestDefaultConfig(t *testing.T) {
	text, err := os.ReadFile("dist/parley.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.Mkdir("plugins", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"relay.crt", "relay.key", "users.htdigest", "authorities.pem", "relays.pem", "other.crt", "other.key", "plugins/auth-file.wasm", "users.csv",
	} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := config.Parse(text, nil, nil); err != nil {
		t.Error(err)
	}
	// With the comments taken from the keys that show defaults it is right, too,
	// and has every key there is.
	full := regexp.MustCompile(`(?m)^( *)# ( *[a-z0-9_]+:( |$))`).ReplaceAllString(string(text), "$1$2")
	if _, err := config.Parse([]byte(full), nil, nil); err != nil {
		t.Errorf("%v in\n%s", err, full)
	}
	for _, key := range config.Keys() {
		if !regexp.MustCompile(`(?m)[ {]` + key + `:`).MatchString("\n" + strings.ReplaceAll(full, "\n", "\n ")) {
			t.Errorf("dist/parley.yaml says nothing of %q", key)
		}
	}
}
