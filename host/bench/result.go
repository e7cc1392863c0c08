package bench

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Result is what Run has measured. Times are in the unit that the name in JSON
// says; memory is in bytes.
type Result struct {
	Config  Summary `json:"config"`
	Setup   float64 `json:"setup_seconds"` // connecting and AUTHs before
	Seconds float64 `json:"seconds"`       // that were measured

	// Messages is the octets that arrived in that time, divided by the size: of a
	// long one it may be a part. All that was sent has arrived in the end.
	Messages  float64 `json:"messages"`
	Octets    int64   `json:"octets"`
	Responses uint64  `json:"responses"` // checked, in all
	Reports   int64   `json:"reports"`
	Latency   Latency `json:"latency"` // from the first octet sent to the last one checked

	Auths       int64   `json:"auths"`
	AuthLatency Latency `json:"auth_latency"`

	Processes []Process `json:"processes,omitempty"`
	Memory    Memory    `json:"memory"`
	// Own is the processor time of the generator itself, CPUs the processors it shares.
	Own  float64 `json:"generator_cpu_seconds"`
	CPUs int     `json:"cpus"`
}

// A Summary is the Config, as far as it says something.
type Summary struct {
	Over         string  `json:"over"` // tcp, tls, ws, wss
	Forwarder    bool    `json:"forwarder"`
	Pairs        int     `json:"pairs"`
	Size         int64   `json:"size"`
	Chunk        int64   `json:"chunk"`
	Window       int     `json:"window"`
	Rate         float64 `json:"rate,omitempty"`
	Failure      string  `json:"failure_report"`
	Success      bool    `json:"success_report"`
	OneSession   bool    `json:"one_session"`
	Idle         int     `json:"idle"`
	AuthWorkers  int     `json:"auth_workers,omitempty"`
	AuthsPerConn int     `json:"auths_per_connection,omitempty"`
}

// A Latency is a distribution of durations, in ns.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ns"`
	P50   int64   `json:"p50_ns"`
	P90   int64   `json:"p90_ns"`
	P99   int64   `json:"p99_ns"`
	P999  int64   `json:"p99.9_ns"`
	Max   int64   `json:"max_ns"`
	Curve []Point `json:"curve,omitempty"`
}

// A Point says how many (of 1) took no longer.
type Point struct {
	Share float64 `json:"share"`
	NS    int64   `json:"ns"`
}

// A Process is one that was watched: processor time while it was measured.
type Process struct {
	PID    int     `json:"pid"`
	Name   string  `json:"name"`
	CPU    float64 `json:"cpu_seconds"`
	User   float64 `json:"user_seconds"`
	System float64 `json:"system_seconds"`
}

// A Memory is what all watched processes together have resident: before anything
// was connected, with the pairs, with the idle sessions, at the end, and at most
// (it is looked at ten times a second).
type Memory struct {
	Before int64 `json:"before"`
	Pairs  int64 `json:"pairs"`
	Idle   int64 `json:"idle"`
	End    int64 `json:"end"`
	Peak   int64 `json:"peak"`
}

func summary(cfg *Config) Summary {
	s := Summary{
		Over: "tcp", Forwarder: cfg.Through != "", Pairs: cfg.pairs(), Size: cfg.size(), Chunk: cfg.chunk(), Window: cfg.window(), Rate: cfg.Rate,
		Failure: cfg.Failure.String(), Success: cfg.Success, OneSession: cfg.OneSession, Idle: cfg.Idle, AuthWorkers: cfg.AuthWorkers,
	}
	if s.Failure == "" {
		s.Failure = "yes"
	}
	if cfg.AuthWorkers > 0 {
		s.AuthsPerConn = cfg.authsPerConn()
	}
	secure := cfg.Secure || strings.HasPrefix(strings.ToLower(cfg.Relay), "msrps")
	switch web := strings.HasSuffix(strings.ToLower(cfg.Relay), ";ws"); {
	case web && secure:
		s.Over = "wss"
	case web:
		s.Over = "ws"
	case secure:
		s.Over = "tls"
	}
	return s
}

// fill takes the figures of a run that is over.
func (r *Result) fill(l *load, first, last snapshot) {
	r.Seconds = last.at.Sub(first.at).Seconds()
	r.Octets = last.octets - first.octets
	r.Messages = float64(r.Octets) / float64(l.cfg.size())
	r.Auths = last.auths - first.auths
	all := hdrhistogram.New(1, int64(100*time.Second), 2)
	for _, p := range l.pairs {
		r.Responses += p.answered.Load()
		r.Reports += p.reported.Load()
		all.Merge(p.latency)
	}
	r.Latency = latency(all)
	auths := hdrhistogram.New(1, int64(100*time.Second), 2)
	for _, w := range l.auths {
		auths.Merge(w.latency)
	}
	r.AuthLatency = latency(auths)
	r.Own, r.CPUs = last.own.sub(first.own).total.Seconds(), runtime.NumCPU()
}

func (r *Result) watched(watched []*process, first, last snapshot) error {
	for i, w := range watched {
		c := last.used[i].sub(first.used[i])
		if last.used[i].total < 0 {
			return fmt.Errorf("process %d (%s) has ended", w.pid, w.name)
		}
		r.Processes = append(r.Processes, Process{w.pid, w.name, c.total.Seconds(), c.user.Seconds(), c.system.Seconds()})
	}
	return nil
}

func latency(h *hdrhistogram.Histogram) (l Latency) {
	l.Count = h.TotalCount()
	if l.Count == 0 {
		return l
	}
	l.Mean, l.Max = h.Mean(), h.Max()
	l.P50, l.P90, l.P99, l.P999 = h.ValueAtQuantile(50), h.ValueAtQuantile(90), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9)
	// So many nines as there are values for.
	for i := 0.0; i <= 10*math.Log10(float64(l.Count)) && i <= 50; i++ {
		share := 1 - math.Pow(10, -i/10)
		l.Curve = append(l.Curve, Point{share, h.ValueAtQuantile(100 * share)})
	}
	return l
}

// CPU is the processor time of all watched processes, in seconds.
func (r *Result) CPU() (sum float64) {
	for _, p := range r.Processes {
		sum += p.CPU
	}
	return sum
}

// CPUPerMessage is CPU for one message, in µs; 0 if there were none.
func (r *Result) CPUPerMessage() float64 {
	if r.Messages == 0 {
		return 0
	}
	return r.CPU() * 1e6 / r.Messages
}

// CPUPerAuth is CPU for one AUTH, in µs; 0 if there were none.
func (r *Result) CPUPerAuth() float64 {
	if r.Auths == 0 {
		return 0
	}
	return r.CPU() * 1e6 / float64(r.Auths)
}

// PerIdle is the memory that an idle session took at the end, in bytes; 0 if there were
// none.
func (r *Result) PerIdle() float64 {
	if r.Config.Idle == 0 {
		return 0
	}
	return float64(r.Memory.End-r.Memory.Pairs) / float64(r.Config.Idle)
}

// WriteText writes the Result for people.
func (r *Result) WriteText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // its error comes with Flush
	}
	c := &r.Config
	what := "relay"
	if c.Forwarder {
		what = "forwarder"
	}
	speed := "full speed"
	if c.Rate > 0 {
		speed = fmt.Sprintf("%g messages a second", c.Rate)
	}
	row("work", "%d pairs through a %s over %s, %s in chunks of %s, window %d, %s, Failure-Report %s; %d idle beside",
		c.Pairs, what, c.Over, amount(float64(c.Size)), amount(float64(c.Chunk)), c.Window, speed, c.Failure, c.Idle)
	row("time", "%.2f s, after %.2f s of connecting", r.Seconds, r.Setup)
	if c.Pairs > 0 {
		row("messages", "%.0f, %.0f a second, %.1f MB/s", r.Messages, r.Messages/r.Seconds, float64(r.Octets)/1e6/r.Seconds)
		row("checked", "each octet, the order, %d responses, %d REPORTs", r.Responses, r.Reports)
		row("latency", "%v", r.Latency)
	}
	if c.AuthWorkers > 0 {
		row("AUTHs", "%d, %.0f a second, %d on a connection", r.Auths, float64(r.Auths)/r.Seconds, c.AuthsPerConn)
		row("latency of AUTH", "%v", r.AuthLatency)
	}
	for _, p := range r.Processes {
		row("process", "%d (%s): %.3f s of CPU (user %.2f, system %.2f)", p.PID, p.Name, p.CPU, p.User, p.System)
	}
	if len(r.Processes) > 0 {
		if r.Messages > 0 {
			row("CPU", "%.2f µs a message, %.2f s a GB", r.CPUPerMessage(), r.CPU()*1e9/float64(r.Octets))
		}
		if r.Auths > 0 {
			row("CPU of AUTH", "%.1f µs, with all that was done beside", r.CPUPerAuth())
		}
		m := &r.Memory
		row("memory", "%s before, %s with the pairs, %s at most, %s at the end", amount(float64(m.Before)), amount(float64(m.Pairs)), amount(float64(m.Peak)), amount(float64(m.End)))
		if c.Idle > 0 {
			row("idle", "%s each", amount(r.PerIdle()))
		}
	}
	own := fmt.Sprintf("%.3f s of CPU", r.Own)
	if r.Messages > 0 {
		own += fmt.Sprintf(", %.2f µs a message", r.Own*1e6/r.Messages)
	}
	row("this generator", "%s, on the same %d processors", own, r.CPUs)
	return tw.Flush()
}

// String says the percentiles.
func (l Latency) String() string {
	f := func(ns int64) string {
		d := time.Duration(ns)
		switch {
		case d >= 10*time.Millisecond:
			d = d.Round(100 * time.Microsecond)
		case d >= 100*time.Microsecond:
			d = d.Round(time.Microsecond)
		default:
			d = d.Round(100 * time.Nanosecond)
		}
		return d.String()
	}
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", f(l.P50), f(l.P90), f(l.P99), f(l.P999), f(l.Max))
}

func amount(n float64) string {
	switch {
	case math.Abs(n) >= 1<<30:
		return fmt.Sprintf("%.1f GiB", n/(1<<30))
	case math.Abs(n) >= 1<<20:
		return fmt.Sprintf("%.1f MiB", n/(1<<20))
	case math.Abs(n) >= 10<<10:
		return fmt.Sprintf("%.1f KiB", n/(1<<10))
	}
	return fmt.Sprintf("%.0f B", n)
}
