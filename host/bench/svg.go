package bench

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"time"
)

// A Series is one line of a plot.
type Series struct {
	Name    string
	Latency Latency
}

// WriteSVG draws which share of messages took how long at most, both axes
// logarithmic: the further right, the rarer. Series without values are left out.
func WriteSVG(w io.Writer, title string, series []Series) error {
	const left, top, width, height = 70.0, 50.0, 560.0, 300.0
	lo, hi, nines := math.Inf(1), 0.0, 1.0
	var all []Series
	for _, s := range series {
		if len(s.Latency.Curve) == 0 {
			continue
		}
		all = append(all, s)
		for _, p := range s.Latency.Curve {
			lo, hi = min(lo, float64(max(p.NS, 1))), max(hi, float64(p.NS))
			nines = max(nines, -math.Log10(1-p.Share))
		}
	}
	type label struct {
		X, Y float64
		Text string
	}
	type line struct {
		Points, Color string
		Name          label
	}
	var plot struct {
		Title                    string
		W, H                     float64
		Left, Top, Right, Bottom float64
		XAxis, YAxis             []label
		Lines                    []line
	}
	plot.Title, plot.W, plot.H = title, left+width+130, top+height+60
	plot.Left, plot.Top, plot.Right, plot.Bottom = left, top, left+width, top+height
	lo, hi = math.Floor(math.Log10(min(lo, 1e12))), math.Ceil(math.Log10(max(hi, 1)))
	hi = max(hi, lo+1)
	x := func(share float64) float64 { return left + width*-math.Log10(1-share)/nines }
	y := func(ns float64) float64 { return top + height*(hi-math.Log10(ns))/(hi-lo) }
	for i, text := range []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"} {
		if share := 1 - math.Pow(10, -float64(i)); float64(i) <= nines {
			plot.XAxis = append(plot.XAxis, label{x(share), top + height + 20, text})
		}
	}
	if nines > 0.31 {
		plot.XAxis = append(plot.XAxis, label{x(0.5), top + height + 20, "50 %"})
	}
	for e := lo; e <= hi; e++ {
		ns := math.Pow(10, e)
		plot.YAxis = append(plot.YAxis, label{left - 8, y(ns), time.Duration(ns).String()})
	}
	colors := []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"} // told apart by all eyes
	for i, s := range all {
		l := line{Color: colors[i%len(colors)], Name: label{Text: s.Name}}
		for _, p := range s.Latency.Curve {
			l.Name.X, l.Name.Y = x(p.Share), y(float64(max(p.NS, 1)))
			l.Points += fmt.Sprintf("%.1f,%.1f ", l.Name.X, l.Name.Y)
		}
		l.Name.X = left + width + 8
		l.Name.Y = top + 14 + 18*float64(i)
		plot.Lines = append(plot.Lines, l)
	}
	return svg.Execute(w, plot)
}

var svg = template.Must(template.New("").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.W}} {{.H}}" width="{{.W}}" height="{{.H}}" font-family="sans-serif" font-size="12" role="img">
<title>{{.Title}}</title>
<rect width="100%" height="100%" fill="white"/>
<text x="{{.Left}}" y="28" font-size="15">{{.Title}}</text>
{{- range .XAxis}}
<line x1="{{.X}}" x2="{{.X}}" y1="{{$.Top}}" y2="{{$.Bottom}}" stroke="#ddd"/><text x="{{.X}}" y="{{.Y}}" text-anchor="middle">{{.Text}}</text>
{{- end}}
{{- range .YAxis}}
<line x1="{{$.Left}}" x2="{{$.Right}}" y1="{{.Y}}" y2="{{.Y}}" stroke="#ddd"/><text x="{{.X}}" y="{{.Y}}" text-anchor="end" dominant-baseline="middle">{{.Text}}</text>
{{- end}}
<text x="{{.Left}}" y="{{.H}}" dy="-12">share of messages that took no longer</text>
{{- range .Lines}}
<polyline points="{{.Points}}" fill="none" stroke="{{.Color}}" stroke-width="2"/><text x="{{.Name.X}}" y="{{.Name.Y}}" fill="{{.Color}}">{{.Name.Text}}</text>
{{- end}}
</svg>
`))
