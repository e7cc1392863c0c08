package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/parley-msrp/parley/host/bench"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

type benchCmd struct {
	Run     benchRunCmd     `cmd:"" default:"withargs" help:"Load a relay, or a forwarder in its place, and say what it took."`
	Forward benchForwardCmd `cmd:"" help:"Copy bytes between two connections: what to measure a relay against."`
	Compare benchCompareCmd `cmd:"" help:"Measure Parley, the forwarder and, where it is installed, Kamailio in turns."`
}

// A byteSize is a number of bytes, on the command line with or without a unit.
type byteSize int64

// UnmarshalText takes 2048, 2KiB, 10MB.
func (s *byteSize) UnmarshalText(text []byte) error {
	number := strings.TrimRight(string(text), "KMGiB")
	unit, ok := map[string]int64{
		"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1e3, "MB": 1e6, "GB": 1e9,
	}[string(text[len(number):])]
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || !ok || n < 0 {
		return fmt.Errorf("%q: write it as 2048, 64KiB or 10MB", text)
	}
	*s = byteSize(n * unit)
	return nil
}

type benchRunCmd struct {
	Relay    string `help:"The relay, such as msrps://relay.example.com:2855;tcp, or with ;ws by WebSocket. Default: the demo relay of 'parley serve'." placeholder:"URI" group:"What"`
	Addr     string `help:"Connect there instead of where the URI says." placeholder:"HOST:PORT" group:"What"`
	User     string `help:"User name of all sessions." default:"alice" group:"What"`
	Password string `help:"Password; better in the environment. Default: the demo's." env:"PARLEY_PASSWORD" placeholder:"PASSWORD" group:"What"`
	CA       string `help:"PEM file of authorities to trust beside the system's." type:"existingfile" placeholder:"FILE" group:"What"`
	Through  string `help:"A forwarder to use instead of a relay, without AUTH." placeholder:"HOST:PORT" group:"What"`
	Listen   string `help:"Where the forwarder connects to (its --to)." placeholder:"HOST:PORT" group:"What"`
	TLS      bool   `name:"tls" help:"Speak TLS with the forwarder, on both sides; needs --certificate and --key." group:"What"`
	benchCertificate

	Pairs      int      `help:"Pairs of a sender and a receiver. 0: none." default:"10" group:"Work"`
	OneSession bool     `help:"Only receivers AUTH; senders send to their session URI, as peers without a relay do." group:"Work"`
	Size       byteSize `help:"Bytes of a message." default:"2048" group:"Work"`
	Chunk      byteSize `help:"Bytes of its body in one SEND. Default: all." placeholder:"SIZE" group:"Work"`
	Window     int      `help:"SENDs of a pair that may be under way." default:"32" group:"Work"`
	Rate       float64  `help:"Messages a second, of all pairs. 0: as many as the windows let." default:"0" group:"Work"`
	Failure    string   `name:"failure-report" help:"Failure-Report of SENDs: yes, no or partial." enum:"yes,no,partial" default:"yes" group:"Work"`
	Success    bool     `name:"success-report" help:"Ask for a REPORT on each message." group:"Work"`
	Idle       int      `help:"Sessions beside that do nothing." default:"0" group:"Work"`

	AuthWorkers int     `help:"So many clients do AUTHs, each one after the other." default:"0" group:"Work"`
	AuthRate    float64 `help:"AUTHs a second, of all of them. 0: as many as they can." default:"0" group:"Work"`
	AuthsOnConn int     `name:"auths-per-connection" help:"AUTHs on one connection. 1: each on a new one." default:"1" group:"Work"`

	Time     time.Duration `help:"How long to measure." default:"5s" group:"How long"`
	Warmup   time.Duration `help:"How long to work before that." default:"1s" group:"How long"`
	Messages int64         `help:"Send so many messages on each pair, instead of for a time." default:"0" group:"How long"`
	Stall    time.Duration `help:"How long nothing may come while something is under way." default:"30s" group:"How long"`

	PID  []int  `name:"pid" help:"Process whose CPU time and memory to show; again for each of several. Linux only." placeholder:"PID" group:"Report"`
	JSON bool   `name:"json" help:"Print JSON." group:"Report"`
	SVG  string `name:"svg" help:"Draw the latencies to this file." type:"path" placeholder:"FILE" group:"Report"`
}

type benchCertificate struct {
	Certificate string `help:"PEM file of the own certificate, for who connects." type:"existingfile" placeholder:"FILE" group:"What"`
	Key         string `help:"PEM file of its key." type:"existingfile" placeholder:"FILE" group:"What"`
}

func (c *benchCertificate) load() (*tls.Config, error) {
	if c.Certificate == "" || c.Key == "" {
		return nil, usageError{errors.New("TLS needs --certificate and --key")}
	}
	cert, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, usageError{err}
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
}

// Help is what --help says beside the flags.
func (benchRunCmd) Help() string {
	return "Each pair is a sender and a receiver, both here, each on its own connection. Every octet, the order of messages, every response and " +
		"every REPORT is checked; what is wrong ends the run with exit code 1 and says what it was. Latency is from the first octet sent (if the window " +
		"held it up, from when it was to be sent) to the last one checked. CPU of the processes named by --pid counts from the end of the warm-up to " +
		"the end of the time.\n\nA baseline without a relay, with as many connections and the same frames:\n\n" +
		"  parley bench forward --listen 127.0.0.1:9001 --to 127.0.0.1:9002\n" +
		"  parley bench --through 127.0.0.1:9001 --listen 127.0.0.1:9002 --pid PID"
}

// Run does one run and prints what it took.
func (cmd *benchRunCmd) Run(e *env) error {
	cfg, err := cmd.config()
	if err != nil {
		return err
	}
	if cfg.Listener != nil {
		defer cfg.Listener.Close()
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	r, err := bench.Run(e.ctx, cfg)
	if err != nil {
		return err
	}
	if cmd.SVG != "" {
		if err := writeFile(cmd.SVG, func(w io.Writer) error {
			return bench.WriteSVG(w, "Latency", []bench.Series{{Name: "messages", Latency: r.Latency}, {Name: "AUTHs", Latency: r.AuthLatency}})
		}); err != nil {
			return err
		}
	}
	if cmd.JSON {
		return writeJSON(e.stdout, r)
	}
	return r.WriteText(e.stdout)
}

func (cmd *benchRunCmd) config() (cfg bench.Config, err error) {
	if cmd.Relay == "" && cmd.Through == "" {
		d, err := openDemo(false)
		if err != nil {
			return cfg, err
		}
		cmd.Relay, cmd.CA = demoRelay, d.path("ca.pem")
		cmd.Password = cmp.Or(cmd.Password, d.password)
	}
	trust, err := transport.TrustFile(cmd.CA)
	if err != nil {
		return cfg, usageError{err}
	}
	cfg = bench.Config{
		Relay: cmd.Relay, Addr: cmd.Addr, User: cmd.User, Password: cmd.Password, OneSession: cmd.OneSession, Through: cmd.Through, Secure: cmd.TLS, TLS: trust,
		Pairs: cmp.Or(cmd.Pairs, -1), Size: int64(cmd.Size), Chunk: int64(cmd.Chunk), Window: cmd.Window, Rate: cmd.Rate, Success: cmd.Success,
		Failure: map[string]msrp.ReportWish{"no": msrp.No, "partial": msrp.Partial}[cmd.Failure], // yes is what an absent one means
		Time:    cmd.Time, Warmup: cmd.Warmup, Messages: cmd.Messages, Stall: cmd.Stall, Idle: cmd.Idle,
		AuthWorkers: cmd.AuthWorkers, AuthRate: cmd.AuthRate, AuthsPerConn: cmd.AuthsOnConn, PIDs: cmd.PID,
	}
	if cmd.Through == "" {
		return cfg, nil
	}
	if cmd.Listen == "" {
		return cfg, usageError{errors.New("--through needs --listen, where the forwarder connects to")}
	}
	var server *tls.Config
	if cmd.TLS {
		if server, err = cmd.load(); err != nil {
			return cfg, err
		}
	}
	if cfg.Listener, err = net.Listen("tcp", cmd.Listen); err != nil {
		return cfg, err
	}
	if server != nil {
		cfg.Listener = tls.NewListener(cfg.Listener, server)
	}
	return cfg, nil
}

func writeFile(name string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

type benchForwardCmd struct {
	Listen string   `help:"Where to listen; port 0 lets the system choose." default:"127.0.0.1:0" placeholder:"HOST:PORT"`
	To     string   `help:"Where to connect for each connection that comes." required:"" placeholder:"HOST:PORT"`
	TLS    bool     `name:"tls" help:"Speak TLS on both sides; needs --certificate and --key."`
	CA     string   `help:"PEM file of authorities to trust beside the system's." type:"existingfile" placeholder:"FILE"`
	Name   string   `help:"Host name that the certificate of --to must have. Default: its own." placeholder:"HOST"`
	Buffer byteSize `help:"Bytes that are read at once." default:"32KiB"`
	Splice bool     `help:"Let the system copy (splice), where it can: TCP on Linux."`
	benchCertificate
}

// Run forwards until a signal comes.
func (cmd *benchForwardCmd) Run(e *env) error {
	if cmd.Buffer < 1 {
		return usageError{errors.New("--buffer: 1 byte at least")}
	}
	f := &bench.Forwarder{To: cmd.To, Buffer: int(cmd.Buffer), Splice: cmd.Splice}
	if cmd.TLS {
		var err error
		if f.Accept, err = cmd.load(); err != nil {
			return err
		}
		if f.Connect, err = transport.TrustFile(cmd.CA); err != nil {
			return usageError{err}
		}
		if f.Connect == nil {
			f.Connect = &tls.Config{}
		}
		host, _, err := net.SplitHostPort(cmd.To)
		if err != nil {
			return usageError{fmt.Errorf("--to: %w", err)}
		}
		f.Connect.ServerName = cmp.Or(cmd.Name, host)
	}
	ln, err := new(net.ListenConfig).Listen(context.WithoutCancel(e.ctx), "tcp", cmd.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "ready: forward on %s\n", ln.Addr())
	return f.Serve(e.ctx, ln)
}
