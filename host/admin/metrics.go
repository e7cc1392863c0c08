package admin

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/relay"
	"github.com/parley-msrp/parley/host/wasm"
)

// A family is a metric with all its label values. METRICS.md lists them.
type family struct {
	name, kind, help string
	labels           []string
	desc             *prometheus.Desc
}

var families []*family

// metric describes a family.
func metric(kind, name, help string, labels ...string) *family {
	f := &family{name: "parley_" + name, kind: kind, help: help, labels: labels}
	f.desc = prometheus.NewDesc(f.name, help, labels, nil)
	families = append(families, f)
	return f
}

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// The label listener names one of the configuration, or is "dialled" for
// connections to next hops.
var (
	buildInfo = metric(gauge, "build_info", "1; the version that runs.", "version", "go_version")
	ready     = metric(gauge, "ready", "1 if this check of /readyz passes, else 0.", "check")

	connections       = metric(gauge, "connections", "Open MSRP connections.", "listener")
	connectionsLimit  = metric(gauge, "connections_limit", "How many connections there may be, relay.limits.connections.")
	dialledLimit      = metric(gauge, "dialled_connections_limit", "How many connections to next hops there may be, relay.limits.dialled.")
	connectionsOpened = metric(counter, "connections_opened_total", "Connections accepted, or to next hops begun.", "listener")
	connectionsClosed = metric(counter, "connections_closed_total", "Connections closed, by reason.", "listener", "reason")
	handshakeSeconds  = metric(histogram, "tls_handshake_seconds", "Duration of TLS handshakes that succeeded.", "listener")
	dialSeconds       = metric(histogram, "dial_seconds", "Duration of connecting to next hops, with TLS, by result: ok or failed.", "result")
	unreached         = metric(gauge, "next_hops_unreached", "Next hops that were not reached and are not tried again yet.")

	sessions      = metric(gauge, "sessions", "Live session URIs given to clients.", "listener")
	sessionsBegun = metric(counter, "sessions_begun_total", "Sessions begun.", "listener")
	sessionsEnded = metric(counter, "sessions_ended_total", "Sessions ended, by reason.", "listener", "reason")
	users         = metric(gauge, "users", "Users who have sessions.")
	bans          = metric(gauge, "bans", "Addresses that are banned now.")
	traces        = metric(gauge, "trace_readers", "Readers of frames: the log, files, collectors, operators.")
	tracesLost    = metric(counter, "trace_lost_total", "Frames that a reader had no room for.")
	auths         = metric(counter, "auths_total", "AUTHs to this relay, by result; a client's first one is challenged.", "listener", "result")

	frames      = metric(counter, "frames_total", "Frames in and out (direction): requests by method, responses by status.", "listener", "direction", "method", "status")
	frameBytes  = metric(counter, "frame_bytes_total", "Bytes of these frames.", "listener", "direction", "method", "status")
	forwardTime = metric(histogram, "forward_seconds",
		"Time from a SEND's last byte read until the network took it towards a connection of this listener. Without SENDs of Failure-Report no.", "listener")
	answerTime = metric(histogram, "answer_seconds", "Time from there until that peer's response. Of requests that got one.", "listener")
	events     = metric(counter, "relay_events_total", "Refusals, drops, closes and REPORTs made, by reason.", "listener", "reason")

	outboxBytes       = metric(gauge, "outbox_bytes", "Bytes that wait to be written, of all connections.", "listener")
	outboxMaxBytes    = metric(gauge, "outbox_max_bytes", "Bytes that wait to be written to the connection with the most.", "listener")
	outboxConnections = metric(gauge, "outbox_connections", "Connections for which something waits to be written.", "listener")
	slowConnections   = metric(gauge, "slow_connections", "Connections that were waited for in vain, and have had no room since.", "listener")
	pending           = metric(gauge, "pending_requests", "Requests without a response yet.", "listener")

	pluginCalls        = metric(counter, "plugin_calls_total", "Calls of plugins that ended with a verdict.", "plugin", "hook", "verdict")
	pluginFailures     = metric(counter, "plugin_failures_total", "Calls of plugins that failed.", "plugin", "kind")
	pluginSeconds      = metric(histogram, "plugin_call_seconds", "Duration of calls, with waiting for an instance.", "plugin")
	pluginInstructions = metric(histogram, "plugin_call_instructions", "WebAssembly instructions of calls.", "plugin")
	pluginInstances    = metric(gauge, "plugin_instances", "Instances, idle and at work.", "plugin")
	pluginMemory       = metric(gauge, "plugin_memory_bytes", "Memory of idle instances.", "plugin")
	pluginRecycled     = metric(counter, "plugin_recycled_total", "Instances that were replaced.", "plugin")
	pluginGeneration   = metric(gauge, "plugin_generation", "Number of the generation that runs.", "plugin")
	pluginReloads      = metric(counter, "plugin_reloads_total", "Reloads, by result.", "plugin", "result")
	pluginOpen         = metric(gauge, "plugin_breaker_open", "1 while the plugin is not asked since it fails again and again.", "plugin")
	pluginEntries      = metric(gauge, "plugin_store_entries", "Entries of the plugin's store.", "plugin")
)

// A collector reads everything at the moment it is asked for.
type collector struct{ s *Server }

// Describe says that what there is depends on the plugins: their own metrics
// are among it.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// A sink takes metrics.
type sink chan<- prometheus.Metric

func (out sink) put(f *family, v float64, labels ...string) {
	kind := prometheus.GaugeValue
	if f.kind == counter {
		kind = prometheus.CounterValue
	}
	out <- prometheus.MustNewConstMetric(f.desc, kind, v, labels...)
}

func (out sink) each(f *family, counts map[string]uint64, label string) {
	for name, n := range counts {
		out.put(f, float64(n), label, name)
	}
}

func (out sink) durations(f *family, h msrp.Histogram, labels ...string) {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for _, b := range h.Buckets {
		buckets[b.Bound.Seconds()] = b.Count
	}
	out <- prometheus.MustNewConstHistogram(f.desc, h.Count, h.Sum.Seconds(), buckets, labels...)
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Collect is for Prometheus.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	out, cfg := sink(ch), &c.s.cfg
	out.put(buildInfo, 1, cfg.Version, runtime.Version())
	for name, err := range c.s.recentChecks() {
		out.put(ready, one(err == nil), name)
	}
	out.relay(cfg.Relay.Snapshot())
	if cfg.Plugins == nil {
		return
	}
	shape := map[string]string{}
	for _, p := range cfg.Plugins() {
		out.plugin(p, shape)
	}
}

func (out sink) relay(st relay.Snapshot) {
	out.put(connectionsLimit, float64(st.MaxConnections))
	out.put(dialledLimit, float64(st.MaxDialled))
	out.put(unreached, float64(st.UnreachedTargets))
	out.put(users, float64(st.Users))
	out.put(bans, float64(st.Banned))
	out.put(traces, float64(st.Traces))
	out.put(tracesLost, float64(st.TracesLost))
	out.durations(dialSeconds, st.Dials, "ok")
	out.durations(dialSeconds, st.DialsFailed, "failed")
	for _, l := range st.Listeners {
		out.put(connections, float64(l.Connections), l.Name)
		out.put(connectionsOpened, float64(l.Opened), l.Name)
		out.each(connectionsClosed, l.Closed, l.Name)
		out.each(events, l.Reasons, l.Name)
		out.durations(forwardTime, l.Forwarding, l.Name)
		out.durations(answerTime, l.Answering, l.Name)
		out.put(outboxBytes, float64(l.Outbox), l.Name)
		out.put(outboxMaxBytes, float64(l.OutboxMax), l.Name)
		out.put(outboxConnections, float64(l.Waiting), l.Name)
		out.put(slowConnections, float64(l.Slow), l.Name)
		out.put(pending, float64(l.Pending), l.Name)
		for _, f := range l.Frames {
			direction := "in"
			if f.Out {
				direction = "out"
			}
			out.put(frames, float64(f.Frames), l.Name, direction, f.Method, f.Status)
			out.put(frameBytes, float64(f.Octets), l.Name, direction, f.Method, f.Status)
		}
		if l.Name == relay.Dialled {
			continue // nobody authenticates there
		}
		out.durations(handshakeSeconds, l.Handshakes, l.Name)
		out.put(sessions, float64(l.Sessions), l.Name)
		out.put(sessionsBegun, float64(l.Begun), l.Name)
		out.each(sessionsEnded, l.Ended, l.Name)
		out.each(auths, l.Auth, l.Name)
	}
}

func (out sink) plugin(p *wasm.Plugin, shape map[string]string) {
	name, st := p.Name(), p.Stats()
	for hook, verdicts := range st.Calls {
		for verdict, n := range verdicts {
			out.put(pluginCalls, float64(n), name, hook, verdict)
		}
	}
	for kind, n := range st.Failures {
		out.put(pluginFailures, float64(n), name, string(kind))
	}
	out.each(pluginReloads, st.Reloads, name)
	out.put(pluginOpen, one(st.Breaker != "closed"), name)
	out.put(pluginInstances, float64(st.Instances), name)
	out.put(pluginMemory, float64(st.Memory), name)
	out.put(pluginRecycled, float64(st.Recycled), name)
	out.put(pluginGeneration, float64(st.Generation), name)
	out.put(pluginEntries, float64(st.StoreEntries), name)
	out.powers(pluginSeconds.desc, &st.Duration, 10, 34, time.Nanosecond.Seconds(), name)
	out.powers(pluginInstructions.desc, &st.Instructions, 6, 30, 1, name)
	out.custom(name, st.Series, shape)
}

// customName begins the names of what plugins make.
const customName = "parley_custom_"

// custom tells of the metrics that a plugin has made. Shape is kind and labels of
// each name so far: Prometheus wants them to be the same, so another one is left
// out, as is one with labels that Prometheus does not allow. That is the loss of
// that plugin only.
func (out sink) custom(plugin string, series []wasm.Series, shape map[string]string) {
	for _, s := range series {
		names, values := []string{"plugin"}, []string{plugin}
		for _, l := range s.Labels {
			names, values = append(names, l[0]), append(values, l[1])
		}
		if slices.Contains(names, "le") { // which histograms have already
			continue
		}
		sig := s.Kind + " " + strings.Join(names, ",")
		if first, ok := shape[s.Name]; ok && first != sig {
			continue
		}
		shape[s.Name] = sig
		d := prometheus.NewDesc(customName+s.Name, "Made by plugins.", names, nil)
		if s.Kind == "histogram" {
			out.powers(d, &s.Histogram, 0, 40, 1, values...)
			continue
		}
		kind := prometheus.CounterValue
		if s.Kind == "gauge" {
			kind = prometheus.GaugeValue
		}
		if m, err := prometheus.NewConstMetric(d, kind, float64(s.Value), values...); err == nil {
			out <- m
		}
	}
}

// powers tells of the buckets from 2^lo to 2^hi, in units of scale; of nothing if d is not valid.
func (out sink) powers(d *prometheus.Desc, h *wasm.Histogram, lo, hi int, scale float64, labels ...string) {
	buckets := map[float64]uint64{}
	below := uint64(0)
	for n := range hi + 1 {
		below += h.Buckets[n]
		if n >= lo {
			buckets[math.Ldexp(1, n)*scale] = below
		}
	}
	if m, err := prometheus.NewConstHistogram(d, h.Count(), float64(h.Sum)*scale, buckets, labels...); err == nil {
		out <- m
	}
}
