package admin

import (
	"math"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-msrp/parley/host/wasm"
)

// metric describes one metric family.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("parley_"+name, help, labels, nil)
}

var (
	connections = metric("connections", "Open MSRP connections.")
	dialled     = metric("connections_dialled", "Open MSRP connections to next hops.")
	sessions    = metric("sessions", "Live session URIs given to clients.")
	users       = metric("users", "Users who have sessions.")
	bans        = metric("bans", "Addresses that are banned now.")
	events      = metric("relay_events_total", "Refusals, drops, closes and REPORTs made, by reason.", "reason")

	pluginCalls        = metric("plugin_calls_total", "Calls of plugins that ended with a verdict.", "plugin", "hook", "verdict")
	pluginFailures     = metric("plugin_failures_total", "Calls of plugins that failed.", "plugin", "kind")
	pluginSeconds      = metric("plugin_call_seconds", "Duration of calls, with waiting for an instance.", "plugin")
	pluginInstructions = metric("plugin_call_instructions", "WebAssembly instructions of calls.", "plugin")
	pluginInstances    = metric("plugin_instances", "Instances, idle and at work.", "plugin")
	pluginMemory       = metric("plugin_memory_bytes", "Memory of idle instances.", "plugin")
	pluginRecycled     = metric("plugin_recycled_total", "Instances that were replaced.", "plugin")
	pluginGeneration   = metric("plugin_generation", "Number of the generation that runs.", "plugin")
	pluginReloads      = metric("plugin_reloads_total", "Reloads by how they ended.", "plugin", "result")
	pluginOpen         = metric("plugin_breaker_open", "1 while the plugin is not asked since it fails again and again.", "plugin")
	pluginEntries      = metric("plugin_store_entries", "Entries of the plugin's store.", "plugin")
)

// A collector reads everything at the moment it is asked for.
type collector struct{ cfg Config }

// Describe says that what there is depends on the plugins: their own metrics
// are among it.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect is for Prometheus.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	st := c.cfg.Relay.Stats()
	put(connections, prometheus.GaugeValue, float64(st.Connections))
	put(dialled, prometheus.GaugeValue, float64(st.Dialled))
	put(sessions, prometheus.GaugeValue, float64(st.Sessions))
	put(users, prometheus.GaugeValue, float64(st.Users))
	put(bans, prometheus.GaugeValue, float64(st.Banned))
	for reason, n := range st.Counts {
		put(events, prometheus.CounterValue, float64(n), reason)
	}
	if c.cfg.Plugins == nil {
		return
	}
	shape := map[string]string{}
	for _, p := range c.cfg.Plugins() {
		name, st := p.Name(), p.Stats()
		for hook, verdicts := range st.Calls {
			for verdict, n := range verdicts {
				put(pluginCalls, prometheus.CounterValue, float64(n), name, hook, verdict)
			}
		}
		for kind, n := range st.Failures {
			put(pluginFailures, prometheus.CounterValue, float64(n), name, string(kind))
		}
		for result, n := range st.Reloads {
			put(pluginReloads, prometheus.CounterValue, float64(n), name, result)
		}
		open := 0.0
		if st.Breaker != "closed" {
			open = 1
		}
		put(pluginOpen, prometheus.GaugeValue, open, name)
		put(pluginInstances, prometheus.GaugeValue, float64(st.Instances), name)
		put(pluginMemory, prometheus.GaugeValue, float64(st.Memory), name)
		put(pluginRecycled, prometheus.CounterValue, float64(st.Recycled), name)
		put(pluginGeneration, prometheus.GaugeValue, float64(st.Generation), name)
		put(pluginEntries, prometheus.GaugeValue, float64(st.StoreEntries), name)
		out <- histogram(pluginSeconds, &st.Duration, 10, 34, 1e-9, name)
		out <- histogram(pluginInstructions, &st.Instructions, 6, 30, 1, name)
		custom(out, name, st.Series, shape)
	}
}

// custom tells of the metrics that a plugin has made. Shape is kind and labels of
// each name so far: Prometheus wants them to be the same, so another one is left
// out, which is that plugin's loss only.
func custom(out chan<- prometheus.Metric, plugin string, series []wasm.Series, shape map[string]string) {
	for _, s := range series {
		names, values := []string{"plugin"}, []string{plugin}
		for _, l := range s.Labels {
			names, values = append(names, l[0]), append(values, l[1])
		}
		sig := s.Kind + " " + strings.Join(names, ",")
		if first, ok := shape[s.Name]; ok && first != sig {
			continue
		}
		shape[s.Name] = sig
		d := prometheus.NewDesc("parley_custom_"+s.Name, "Made by plugins.", names, nil)
		if s.Kind == "histogram" {
			out <- histogram(d, &s.Histogram, 0, 40, 1, values...)
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

// histogram tells of the buckets from 2^lo to 2^hi, in units of scale.
func histogram(d *prometheus.Desc, h *wasm.Histogram, lo, hi int, scale float64, labels ...string) prometheus.Metric {
	buckets := map[float64]uint64{}
	below := uint64(0)
	for n := range hi + 1 {
		below += h.Buckets[n]
		if n >= lo {
			buckets[math.Ldexp(1, n)*scale] = below
		}
	}
	return prometheus.MustNewConstHistogram(d, h.Count(), float64(h.Sum)*scale, buckets, labels...)
}
