package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// through starts what serve does between a sender and a receiver, and returns a
// Config that uses it.
func through(t *testing.T, receivers net.Listener, serve func(ctx context.Context, ln net.Listener) error) Config {
	t.Helper()
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return Config{Through: ln.Addr().String(), Listener: receivers, Pairs: 3, Messages: 50, Stall: 20 * time.Second}
}

// TestRun: what was sent has arrived, whatever is sent, and is counted right.
func TestRun(t *testing.T) {
	ca := msrptest.NewAuthority(t)
	cert := ca.Certificate("127.0.0.1", "relay.invalid")
	server, client := &tls.Config{Certificates: []tls.Certificate{*cert}}, &tls.Config{RootCAs: ca.Pool, ServerName: "relay.invalid"}
	for name, tt := range map[string]struct {
		edit      func(*Config)
		tls       bool
		forwarder Forwarder
		responses uint64
		reports   int64
	}{
		"as it is":         {edit: func(*Config) {}, responses: 150},
		"one octet":        {edit: func(c *Config) { c.Size = 1 }, responses: 150},
		"chunks":           {edit: func(c *Config) { c.Size, c.Chunk = 10_001, 1000 }, responses: 150 * 11},
		"a long chunk":     {edit: func(c *Config) { c.Size, c.Messages = 3<<20, 2 }, responses: 6},
		"window of one":    {edit: func(c *Config) { c.Window = 1 }, responses: 150},
		"no failures":      {edit: func(c *Config) { c.Failure = msrp.No }},
		"partial":          {edit: func(c *Config) { c.Failure = msrp.Partial }},
		"reports":          {edit: func(c *Config) { c.Success, c.Size, c.Chunk = true, 5000, 2048 }, responses: 450, reports: 150},
		"reports only":     {edit: func(c *Config) { c.Success, c.Failure = true, msrp.No }, reports: 150},
		"one session":      {edit: func(c *Config) { c.OneSession = true }, responses: 150},
		"paced":            {edit: func(c *Config) { c.Rate = 3000 }, responses: 150},
		"idle beside":      {edit: func(c *Config) { c.Idle = 5 }, responses: 150},
		"tls":              {edit: func(c *Config) { c.Secure, c.TLS = true, client }, tls: true, responses: 150},
		"spliced":          {edit: func(*Config) {}, forwarder: Forwarder{Splice: true}, responses: 150},
		"buffer of a byte": {edit: func(*Config) {}, forwarder: Forwarder{Buffer: 1}, responses: 150},
	} {
		t.Run(name, func(t *testing.T) {
			receivers := listen(t)
			f := tt.forwarder
			f.To = receivers.Addr().String()
			if tt.tls {
				receivers, f.Accept, f.Connect = tls.NewListener(receivers, server), server, client
			}
			cfg := through(t, receivers, f.Serve)
			tt.edit(&cfg)
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			want := float64(cfg.Messages * 3)
			if r.Messages != want || r.Octets != int64(want)*cfg.size() || r.Latency.Count != int64(want) || r.Responses != tt.responses || r.Reports != tt.reports {
				t.Errorf("%v messages, %d octets, %d latencies, %d responses, %d reports; want %v, %d responses, %d reports",
					r.Messages, r.Octets, r.Latency.Count, r.Responses, r.Reports, want, tt.responses, tt.reports)
			}
			if r.Latency.P50 <= 0 || r.Latency.P50 > r.Latency.P99 || r.Latency.P99 > r.Latency.Max {
				t.Errorf("latency %+v", r.Latency)
			}
		})
	}
}

// TestRunForATime: what is measured begins after the warm-up and ends with the time.
func TestRunForATime(t *testing.T) {
	receivers := listen(t)
	cfg := through(t, receivers, (&Forwarder{To: receivers.Addr().String()}).Serve)
	cfg.Messages, cfg.Warmup, cfg.Time = 0, 20*time.Millisecond, 50*time.Millisecond
	if runtime.GOOS == "linux" {
		cfg.PIDs = []int{os.Getpid()}
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Seconds < 0.05 || r.Messages < 1 || float64(r.Responses) < r.Messages {
		t.Errorf("%+v", r)
	}
	if runtime.GOOS != "linux" {
		return
	}
	if r.CPU() <= 0 || r.CPUPerMessage() <= 0 || r.Memory.Before < 1<<20 || r.Memory.Peak < r.Memory.End/2 {
		t.Errorf("%+v", r)
	}
	// The process watched is the generator itself: two clocks for the same.
	if own := r.Own; r.CPU() < own/1.5 || r.CPU() > own*1.5+0.02 {
		t.Errorf("%.3f s by one clock, %.3f s by the other", r.CPU(), own)
	}
}

// A faulty relay passes frames on one by one, of which spoil may make others.
type faulty struct {
	to    string
	spoil func(n int, frame []byte, back bool) [][]byte // the n-th of its direction
}

func (f *faulty) serve(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		in, err := ln.Accept()
		if err != nil {
			return nil
		}
		out, err := net.Dial("tcp", f.to)
		if err != nil {
			in.Close()
			return err
		}
		end := func() { in.Close(); out.Close() }
		stop := context.AfterFunc(ctx, end)
		wg.Go(func() { f.pass(out, in, false); end(); stop() })
		wg.Go(func() { f.pass(in, out, true); end() })
	}
}

func (f *faulty) pass(dst, src net.Conn, back bool) {
	rd := msrp.NewReader(src, msrp.Limits{Piece: 1 << 20})
	defer rd.Close()
	for n := 0; ; n++ {
		p, err := rd.Next()
		if err != nil {
			return
		}
		b := append([]byte(nil), p.Head.Raw...)
		if p.HasBody {
			b = append(append(append(b, "\r\n"...), p.Body...), "\r\n"...)
		}
		b = append(append(append(append(b, "-------"...), p.Head.TID...), byte(p.Flag)), "\r\n"...)
		for _, frame := range f.spoil(n, b, back) {
			if _, err := dst.Write(frame); err != nil {
				return
			}
		}
	}
}

// TestFaults: whatever a relay does wrong is found, and said.
func TestFaults(t *testing.T) {
	at := func(n int, back bool, then func(frame []byte) [][]byte) func(int, []byte, bool) [][]byte {
		return func(i int, frame []byte, b bool) [][]byte {
			if i == n && b == back {
				return then(frame)
			}
			return [][]byte{frame}
		}
	}
	replace := func(n int, back bool, old, new string) func(int, []byte, bool) [][]byte {
		return at(n, back, func(b []byte) [][]byte {
			if !bytes.Contains(b, []byte(old)) {
				panic("nothing to spoil in " + string(b))
			}
			return [][]byte{bytes.Replace(b, []byte(old), []byte(new), 1)}
		})
	}
	drop := func([]byte) [][]byte { return nil }
	twice := func(b []byte) [][]byte { return [][]byte{b, b} }
	var held []byte
	for name, tt := range map[string]struct {
		spoil func(int, []byte, bool) [][]byte
		edit  func(*Config)
		want  string
	}{
		"a lost SEND":      {spoil: at(7, false, drop), want: "message 8 came instead of 7"},
		"the last is lost": {spoil: at(49, false, drop), edit: func(c *Config) { c.Stall = 100 * time.Millisecond }, want: "nothing came for"},
		"a SEND twice":     {spoil: at(7, false, twice), want: "message 7 came instead of 8"},
		"out of order": {spoil: func(n int, b []byte, back bool) [][]byte {
			switch {
			case back || n < 7 || n > 8:
				return [][]byte{b}
			case n == 7:
				held = b
				return nil
			}
			return [][]byte{b, held}
		}, want: "message 8 came instead of 7"},
		"another octet": {spoil: at(7, false, func(b []byte) [][]byte {
			b[len(b)-100] ^= 1
			return [][]byte{b}
		}), want: "octet 1976 of message 7 is"},
		"an octet less": {spoil: at(7, false, func(b []byte) [][]byte {
			return [][]byte{append(b[:len(b)-100:len(b)-100], b[len(b)-99:]...)}
		}), want: "of message 7 is"},
		"a lost chunk":      {spoil: at(7, false, drop), edit: func(c *Config) { c.Size, c.Chunk = 10_000, 1000 }, want: "Byte-Range 8001-9000/10000 of message 0 instead of 7001-*/10000"},
		"a wrong range":     {spoil: replace(7, false, "Byte-Range: 1-2048", "Byte-Range: 1-2047"), want: "a chunk ends at 2048, and its Byte-Range at 2047"},
		"a wrong flag":      {spoil: replace(7, false, "$\r\n", "+\r\n"), want: "has the flag '+'"},
		"a wrong To-Path":   {spoil: replace(7, false, ";tcp\r\nFrom", "x;tcp\r\nFrom"), want: "came with To-Path"},
		"another From-Path": {spoil: replace(7, false, ";tcp\r\nMessage", "x;tcp\r\nMessage"), want: "came with From-Path"},
		"a changed type":    {spoil: replace(7, false, "octet-stream", "octet-string"), want: "Content-Type"},
		"a changed wish":    {spoil: replace(7, false, "\r\nByte-Range", "\r\nFailure-Report: no\r\nByte-Range"), want: "Failure-Report"},
		"a lost response":   {spoil: at(7, true, drop), edit: func(c *Config) { c.Messages = 500 }, want: "no response to SEND 7"},
		"a late lost one":   {spoil: at(47, true, drop), edit: func(c *Config) { c.Stall = 100 * time.Millisecond }, want: "nothing came for"},
		"a response twice":  {spoil: at(7, true, twice), want: "SEND 7 is answered twice"},
		"another response":  {spoil: replace(7, true, "200 OK", "413 No"), want: "SEND 7 is answered 413 No"},
		"an unasked one": {spoil: func(n int, b []byte, back bool) [][]byte {
			return [][]byte{bytes.Replace(b, []byte("Failure-Report: no\r\n"), nil, 1)}
		}, edit: func(c *Config) { c.Failure = msrp.No }, want: "Failure-Report"},
		"a lost REPORT":      {spoil: at(7, true, drop), edit: func(c *Config) { c.Success, c.Failure = true, msrp.No }, want: "a REPORT on message 8 instead of 7"},
		"a REPORT twice":     {spoil: at(7, true, twice), edit: func(c *Config) { c.Success, c.Failure = true, msrp.No }, want: "a REPORT on message 7 instead of 8"},
		"a bad REPORT":       {spoil: replace(7, true, "000 200", "000 408"), edit: func(c *Config) { c.Success, c.Failure = true, msrp.No }, want: "the REPORT on message 7 says 408"},
		"half a REPORT":      {spoil: replace(7, true, "1-2048", "1-1000"), edit: func(c *Config) { c.Success, c.Failure = true, msrp.No }, want: "Byte-Range 1-1000/2048"},
		"the end":            {spoil: at(7, false, func([]byte) [][]byte { return [][]byte{[]byte("HTTP/1.1 400\r\n\r\n")} }), want: "connection lost"},
		"a frame of its own": {spoil: replace(7, true, "200 OK", "NICKNAME"), want: "the sender got a NICKNAME"},
	} {
		t.Run(name, func(t *testing.T) {
			receivers := listen(t)
			cfg := through(t, receivers, (&faulty{receivers.Addr().String(), tt.spoil}).serve)
			cfg.Pairs = 1
			if tt.edit != nil {
				tt.edit(&cfg)
			}
			_, err := Run(t.Context(), cfg)
			var fault *Fault
			if !errors.As(err, &fault) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestEnds: a run ends with its context, and says what is not there.
func TestEnds(t *testing.T) {
	receivers := listen(t)
	cfg := through(t, receivers, (&Forwarder{To: receivers.Addr().String()}).Serve)
	cfg.Messages, cfg.Time = 0, time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ln := listen(t)
	ln.Close()
	if _, err := Run(t.Context(), Config{Relay: "msrp://" + ln.Addr().String() + ";tcp"}); err == nil {
		t.Error("no relay, no error")
	}
	cfg.PIDs = []int{1 << 30}
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "process 1073741824") {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for want, cfg := range map[string]Config{
		"one of relay and forwarder": {},
		"relay nonsense":             {Relay: "nonsense"},
		"needs a listener":           {Through: "127.0.0.1:1"},
		"needs chunks":               {Relay: "msrp://a:1;tcp", Size: 1 << 30},
		"window 65537":               {Relay: "msrp://a:1;tcp", Window: 65537},
		"needs pairs":                {Relay: "msrp://a:1;tcp", Pairs: -1, Messages: 1},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
