package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/parley-msrp/parley/host/bench"
)

// A row is one kind of work, done by several.
type row struct {
	name    string // for --rows
	title   string
	figures []figure
	trials  []*trial
	base    string // label of the trial that ratios are to
	secure  bool   // over TLS
	plugin  bool   // the relay has the listener whose users a plugin knows
	fresh   bool   // a process for each trial of each round: memory is never given back
}

// A figure is what a row shows of a result.
type figure struct {
	name string
	unit string
	of   func(*bench.Result) float64
	goal string // as the report says it
}

// A trial is one who does the work, or one way to do it.
type trial struct {
	label    string
	subject  string
	listener string // of the relay, if it is not what the row says
	work     bench.Config

	results []*bench.Result
	faults  []error
	missing string // why it was not measured
}

var (
	cpuPerMessage = figure{name: "CPU of a message", unit: "µs", of: (*bench.Result).CPUPerMessage}
	cpuPerGB      = figure{name: "CPU of a GB", unit: "s", of: func(r *bench.Result) float64 { return r.CPU() * 1e9 / float64(r.Octets) }}
	perSecond     = figure{name: "messages a second", of: func(r *bench.Result) float64 { return r.Messages / r.Seconds }}
	cpuPerAuth    = figure{name: "CPU of an AUTH", unit: "µs", of: (*bench.Result).CPUPerAuth}
	authsASecond  = figure{name: "AUTHs a second", of: func(r *bench.Result) float64 { return float64(r.Auths) / r.Seconds }}
	perIdle       = figure{name: "memory of a session", unit: "KiB", of: func(r *bench.Result) float64 { return r.PerIdle() / 1024 }}
	growth        = figure{name: "memory beyond that before", unit: "MiB", of: func(r *bench.Result) float64 { return float64(r.Memory.Peak-r.Memory.Pairs) / (1 << 20) }}
	p50           = figure{name: "latency p50", unit: "µs", of: func(r *bench.Result) float64 { return float64(r.Latency.P50) / 1e3 }}
	p99           = figure{name: "latency p99", unit: "µs", of: func(r *bench.Result) float64 { return float64(r.Latency.P99) / 1e3 }}
)

func (f figure) to(goal string) figure {
	f.goal = goal
	return f
}

// rows is all that is measured.
func (cmd *benchCompareCmd) rows() []*row {
	pick := func(short, long int) int {
		if cmd.Short {
			return short
		}
		return long
	}
	size := func(n int64) int64 {
		if cmd.Short {
			return min(n, 100<<10)
		}
		return n
	}
	// The same work for each process.
	against := func(name, title string, work bench.Config, kamailio bool, figures ...figure) *row {
		r := &row{name: name, title: title, figures: figures, base: isForward}
		for _, kind := range []string{isParley, isForward, isBefore, isKamailio} {
			if kind == isKamailio && !kamailio || kind == isBefore && cmd.Before == "" {
				continue
			}
			r.trials = append(r.trials, &trial{label: kind, subject: kind, work: work})
		}
		return r
	}
	const frame = 60_000 // the longest that Kamailio takes
	var rows []*row
	for _, w := range []struct {
		name, title string
		work        bench.Config
		goal        string
		f           figure
	}{
		{"200B", "messages of 200 bytes", bench.Config{Size: 200, Window: 64}, "≤ 2.0", cpuPerMessage},
		{"2K", "messages of 2 KiB", bench.Config{Size: 2 << 10}, "≤ 1.5", cpuPerMessage},
		{"64K", "messages of 64 KiB in one chunk", bench.Config{Size: 64 << 10, Window: 8}, "≤ 1.1", cpuPerMessage},
		{"10M-2K", "10 MB in chunks of 2 KiB", bench.Config{Size: size(10e6), Chunk: 2 << 10}, "≤ 1.5", cpuPerGB},
		{"10M-64K", "10 MB in chunks of 64 KiB", bench.Config{Size: size(10e6), Chunk: 64 << 10, Window: 8}, "≤ 1.1", cpuPerGB},
	} {
		rows = append(rows, against(w.name, w.title, w.work, cmp.Or(w.work.Chunk, w.work.Size) < frame, w.f.to(w.goal), perSecond))
	}
	secure := against("2K-tls", "messages of 2 KiB over TLS", bench.Config{}, false, cpuPerMessage.to("≤ 1.2"), perSecond)
	secure.secure = true
	paced := against("paced", "5,000 messages of 2 KiB a second", bench.Config{Rate: 5000}, true, p50.to("≤ 1.5"), p99.to("≤ 1.5"), cpuPerMessage)
	rows = append(rows, secure, paced)

	// One relay, with more and more to do.
	pairs := &row{name: "pairs", title: "messages of 2 KiB, by number of pairs", base: "pairs: 10", figures: []figure{cpuPerMessage.to("0.9 to 1.1")}}
	for _, n := range []int{1, 10, pick(20, 100)} {
		pairs.trials = append(pairs.trials, &trial{label: fmt.Sprintf("pairs: %d", n), subject: isParley, work: bench.Config{Pairs: n}})
	}
	idle := &row{name: "idle", title: "messages of 2 KiB, by idle sessions beside", base: "idle: 10", figures: []figure{cpuPerMessage.to("0.9 to 1.1")}}
	for _, n := range []int{10, pick(50, 10_000)} {
		idle.trials = append(idle.trials, &trial{label: fmt.Sprintf("idle: %d", n), subject: isParley, work: bench.Config{Idle: n}})
	}
	rows = append(rows, pairs, idle)

	for _, w := range []struct {
		name, title, goal string
		perConn           int
	}{
		{"auth-new", "AUTHs, each on a new TCP connection", "< 60 µs", 1},
		{"auth-open", "AUTHs on open TCP connections", "< 15 µs", 500},
	} {
		work := bench.Config{Pairs: -1, AuthWorkers: 8, AuthsPerConn: w.perConn}
		rows = append(rows, &row{
			name: w.name, title: w.title, base: "built-in", plugin: true, figures: []figure{cpuPerAuth.to(w.goal), authsASecond},
			trials: []*trial{
				{label: "built-in", subject: isParley, work: work},
				{label: "C plugin", subject: isParley, listener: "plugin", work: work},
				{label: isKamailio, subject: isKamailio, work: work},
			},
		})
	}
	for _, w := range []struct {
		name, title, goal string
		secure            bool
	}{
		{"memory", "idle sessions over TCP", "≤ 5 KiB", false},
		{"memory-tls", "idle sessions over TLS", "≤ 25 KiB", true},
	} {
		work := bench.Config{Pairs: 1, Idle: pick(50, 5000)}
		r := &row{name: w.name, title: w.title, secure: w.secure, fresh: true, figures: []figure{perIdle.to(w.goal)}}
		r.trials = append(r.trials, &trial{label: isParley, subject: isParley, work: work})
		if cmd.Before != "" {
			r.trials = append(r.trials, &trial{label: isBefore, subject: isBefore, work: work})
		}
		if !w.secure {
			work.Idle = min(work.Idle, 1500) // it takes 2048 connections, unless it is configured to take more
			r.trials = append(r.trials, &trial{label: isKamailio, subject: isKamailio, work: work})
		}
		rows = append(rows, r)
	}
	file := against("1G", "one message of 1 GiB in chunks of 1 MiB", bench.Config{Pairs: 1, Size: size(1 << 30), Chunk: 1 << 20, Window: 4, Messages: 1}, false,
		growth.to("flat"), cpuPerGB)
	file.fresh = true
	return append(rows, file)
}

// A report says what the rows have shown.
type report struct {
	cmd  *benchCompareCmd
	rows []*row
}

// A spread is the median of some figures, the least and the most.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	v = slices.Sorted(slices.Values(v))
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (m + v[len(v)/2-1]) / 2
	}
	return spread{m, v[0], v[len(v)-1], len(v)}
}

// of is the spread of a figure.
func (t *trial) of(f figure) spread {
	var v []float64
	for _, r := range t.results {
		v = append(v, f.of(r))
	}
	return spreadOf(v)
}

// ratio is the spread of a figure's ratio to that of base, round by round.
func (t *trial) ratio(f figure, base *trial) spread {
	var v []float64
	if len(t.results) == len(base.results) { // else rounds are missing
		for i, r := range t.results {
			v = append(v, f.of(r)/f.of(base.results[i]))
		}
	}
	return spreadOf(v)
}

func (r *row) baseTrial() *trial {
	i := slices.IndexFunc(r.trials, func(t *trial) bool { return t.label == r.base })
	if i < 0 {
		return nil
	}
	return r.trials[i]
}

// number shows some digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case a >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// tables writes the rows as tables in Markdown: one line for each figure of each.
func (rep *report) tables(w io.Writer) {
	fmt.Fprintln(w, "| work | figure | who | median | least – most | ratio | least – most | goal |")
	fmt.Fprintln(w, "|---|---|---|---:|---:|---:|---:|---|")
	for _, r := range rep.rows {
		title := r.title
		base := r.baseTrial()
		for _, f := range r.figures {
			name, goal := f.name, f.goal
			if f.unit != "" {
				name += ", " + f.unit
			}
			for _, t := range r.trials {
				cells := []string{title, name, t.label, "–", "", "", "", ""}
				s := t.of(f)
				switch {
				case t.missing != "":
					cells[3] = t.missing
				case len(t.faults) > 0:
					cells[3] = fmt.Sprintf("%d of %d failed: see below", len(t.faults), len(t.faults)+len(t.results))
				case s.N > 0:
					cells[3], cells[4] = number(s.Median), number(s.Min)+" – "+number(s.Max)
				}
				if base != nil && t != base && s.N > 0 {
					if ratio := t.ratio(f, base); ratio.N > 0 {
						cells[5], cells[6] = fmt.Sprintf("**%.2f**", ratio.Median), fmt.Sprintf("%.2f – %.2f", ratio.Min, ratio.Max)
					}
				}
				if p := r.trials[0]; t.subject == isKamailio && p.subject == isParley && f.unit != "" {
					if ratio := t.ratio(f, p); ratio.N > 0 {
						cells[7] = fmt.Sprintf("%.1f times Parley's", ratio.Median)
					}
				}
				if t.subject == isParley && (t != base || base == r.trials[0]) {
					cells[7] = goal
				}
				fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
				title, name = "", ""
			}
		}
	}
}

// write prints the tables and writes the files that were asked for.
func (rep *report) write(w io.Writer) error {
	cmd := rep.cmd
	rep.text(w)
	var errs []error
	if cmd.Markdown != "" {
		errs = append(errs, writeFile(cmd.Markdown, func(w io.Writer) error {
			rep.text(w)
			return nil
		}))
	}
	if cmd.SVG != "" {
		for _, r := range rep.rows {
			if r.name != "paced" {
				continue
			}
			var lines []bench.Series
			for _, t := range r.trials {
				if len(t.results) > 0 {
					lines = append(lines, bench.Series{Name: t.label, Latency: middle(t.results).Latency})
				}
			}
			errs = append(errs, writeFile(cmd.SVG, func(w io.Writer) error {
				return bench.WriteSVG(w, "Latency at "+r.title, lines)
			}))
		}
	}
	if cmd.JSON != "" {
		errs = append(errs, writeFile(cmd.JSON, func(w io.Writer) error { return writeJSON(w, rep.json()) }))
	}
	return errors.Join(errs...)
}

// middle is the result with the median of p99.
func middle(results []*bench.Result) *bench.Result {
	s := slices.SortedFunc(slices.Values(results), func(a, b *bench.Result) int { return cmp.Compare(a.Latency.P99, b.Latency.P99) })
	return s[len(s)/2]
}

func (rep *report) text(w io.Writer) {
	cmd := rep.cmd
	fmt.Fprintf(w, "Machine: %s. parley %s, ", bench.Machine(), programVersion())
	if cmd.Short {
		fmt.Fprint(w, "a short run: it shows that all works, and nothing else.\n\n")
	} else {
		fmt.Fprintf(w, "%d rounds in turns, of %v each; 10 pairs where nothing else is said. A ratio is to the forwarder, or to the one of the "+
			"work that has none, of the same round.\n\n", cmd.Rounds, cmd.Time)
	}
	rep.tables(w)
	for _, r := range rep.rows {
		for _, t := range r.trials {
			for _, err := range t.faults {
				fmt.Fprintf(w, "\n%s, %s: %v\n", r.title, t.label, err)
			}
		}
	}
	var own, all float64
	for _, r := range rep.rows {
		for _, t := range r.trials {
			for _, res := range t.results {
				own, all = own+res.Own, all+res.Seconds
			}
		}
	}
	fmt.Fprintf(w, "\nThe generator itself took %.0f %% of one processor on average. It checked each octet, the order, and each response and REPORT.\n", 100*own/all)
}

func (rep *report) json() any {
	type jsonFigure struct {
		Name  string  `json:"name"`
		Unit  string  `json:"unit,omitempty"`
		Value spread  `json:"value"`
		Ratio *spread `json:"ratio,omitempty"`
		Goal  string  `json:"goal,omitempty"`
	}
	type jsonTrial struct {
		Label   string          `json:"label"`
		Subject string          `json:"subject"`
		Figures []jsonFigure    `json:"figures"`
		Results []*bench.Result `json:"results"`
		Faults  []string        `json:"faults,omitempty"`
		Missing string          `json:"missing,omitempty"`
	}
	type jsonRow struct {
		Name   string      `json:"name"`
		Title  string      `json:"title"`
		Base   string      `json:"base,omitempty"`
		Trials []jsonTrial `json:"trials"`
	}
	out := struct {
		Machine string    `json:"machine"`
		Version string    `json:"version"`
		Short   bool      `json:"short"`
		Rows    []jsonRow `json:"rows"`
	}{Machine: bench.Machine(), Version: programVersion(), Short: rep.cmd.Short}
	for _, r := range rep.rows {
		jr := jsonRow{Name: r.name, Title: r.title, Base: r.base}
		base := r.baseTrial()
		for _, t := range r.trials {
			jt := jsonTrial{Label: t.label, Subject: t.subject, Results: t.results, Missing: t.missing}
			for _, err := range t.faults {
				jt.Faults = append(jt.Faults, err.Error())
			}
			for _, f := range r.figures {
				jf := jsonFigure{Name: f.name, Unit: f.unit, Value: t.of(f), Goal: f.goal}
				if base != nil && t != base {
					ratio := t.ratio(f, base)
					jf.Ratio = &ratio
				}
				jt.Figures = append(jt.Figures, jf)
			}
			jr.Trials = append(jr.Trials, jt)
		}
		out.Rows = append(out.Rows, jr)
	}
	return out
}

// faults returns what was wrong with Parley or the forwarder; that of others is in
// the table.
func (rep *report) faults() error {
	var errs []error
	for _, r := range rep.rows {
		for _, t := range r.trials {
			for _, err := range t.faults {
				if t.subject != isKamailio {
					errs = append(errs, fmt.Errorf("%s, %s: %w", r.name, t.label, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}
