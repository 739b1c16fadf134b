package drill

import (
	"fmt"
	"html/template"
	"io"
	"strings"
)

// WriteHTML writes the report as one page that needs nothing else.
func (r Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"upper": strings.ToUpper, "thousands": thousands, "millis": millis, "chart": chart,
		"inc": func(i int) int { return i + 1 },
	}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

const page = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>drill {{.Kind}}: {{.Verdict}}</title>
<style>
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1 b{padding:.1em .5em;border-radius:.3em;color:#fff}.pass{background:#1a7f37}.fail{background:#c62828}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .9rem;border-bottom:1px solid #d8dee4;text-align:right}
td:first-child,th:first-child{text-align:left}.bad{color:#c62828}small{color:#57606a}svg{width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#57606a}.ok{fill:#2f81f7}.err{fill:#c62828}.wait{fill:none;stroke:#e08700;stroke-width:1.5}
.mark{stroke:#57606a;stroke-dasharray:3 3}
</style></head><body>
<h1>drill {{.Kind}}{{with .Variant}} ({{.}}){{end}} <b class="{{.Verdict}}">{{upper .Verdict}}</b></h1>
<p>Redis {{.Redis}}, down-after {{.DownAfter}} ms, {{.Clients}} clients, begun {{.Began.Format "2006-01-02 15:04:05 MST"}}.</p>
{{range $n, $round := .Rounds}}
<h2>Round {{inc $n}}: {{.Kind}}</h2>
{{range .Notes}}<p>{{.}}.</p>{{end}}
{{range (index .Columns 0).Breaches}}<p class="bad">{{.}}</p>{{end}}
<table><tr><th></th>{{range .Columns}}<th>{{.Name}}</th>{{end}}</tr>
<tr><td>commands answered</td>{{range .Columns}}<td>{{thousands .Commands}}</td>{{end}}</tr>
<tr><td>errors</td>{{range .Columns}}<td>{{thousands .Errors}}</td>{{end}}</tr>
<tr><td>uncertain</td>{{range .Columns}}<td>{{thousands .Uncertain}}</td>{{end}}</tr>
<tr><td>disconnects</td>{{range .Columns}}<td>{{thousands .Disconnects}}</td>{{end}}</tr>
<tr><td>writes acknowledged</td>{{range .Columns}}<td>{{thousands .Acknowledged}}</td>{{end}}</tr>
<tr><td>lost (by lag, to a stale master)</td>{{range .Columns}}<td>{{thousands .Lost.Total}} ({{thousands .Lost.Lag}}, {{thousands .Lost.Stale}})</td>{{end}}</tr>
<tr><td>duplicated</td>{{range .Columns}}<td>{{thousands .Duplicated}}</td>{{end}}</tr>
<tr><td>fenced</td>{{range .Columns}}<td>{{thousands .Fenced}}</td>{{end}}</tr>
<tr><td>stale reads</td>{{range .Columns}}<td>{{thousands .StaleReads}}</td>{{end}}</tr>
<tr><td>out of order</td>{{range .Columns}}<td>{{thousands .Disorder}}</td>{{end}}</tr>
<tr><td>registers not linearizable</td>{{range .Columns}}<td>{{.Registers.Illegal}} of {{.Registers.Checked}}</td>{{end}}</tr>
<tr><td>longest pause of a client</td>{{range .Columns}}<td>{{millis .Pace.LongestPauseMS}}</td>{{end}}</tr>
<tr><td>p50 / p99 / p99.9</td>{{range .Columns}}<td>{{millis .Pace.P50MS}} / {{millis .Pace.P99MS}} / {{millis .Pace.P999MS}}</td>{{end}}</tr>
</table>
{{with .Probes}}<table><tr><th>HTTP</th>{{range .}}<th>{{.Name}}</th>{{end}}</tr>
<tr><td>requests</td>{{range .}}<td>{{thousands .Requests}}</td>{{end}}</tr>
<tr><td>answered as expected</td>{{range .}}<td>{{thousands .Good}}</td>{{end}}</tr>
<tr><td>not</td>{{range .}}<td>{{thousands .Bad}}{{range $status, $n := .ByStatus}} · {{$status}}: {{thousands $n}}{{end}}</td>{{end}}</tr>
<tr><td>longest without one</td>{{range .}}<td>{{millis .LongestGapMS}}</td>{{end}}</tr>
<tr><td>p50 / p99 / slowest</td>{{range .}}<td>{{millis .P50MS}} / {{millis .P99MS}} / {{millis .MaxMS}}</td>{{end}}</tr>
</table>{{end}}
{{range .Probes}}<h3>HTTP: {{.Name}}</h3>{{chart .Pace $round.Failovers}}{{end}}
{{with (index .Columns 0).Losses}}<details><summary>what was lost</summary><ul>{{range .}}<li>{{.What}}, acknowledged at {{millis .AtMS}}: {{.Why}}</li>{{end}}</ul></details>{{end}}
{{range .Columns}}<h3>{{.Name}}</h3>{{chart .Pace $round.Failovers}}{{end}}
{{range .Failovers}}<h3>{{.Fault}}</h3><p><small>{{if .Switched}}The promoted node was {{.LagBytes}} bytes behind.{{end}}</small></p>
<table><tr><th>step</th><th>after the fault</th><th>node</th></tr>
{{range .Steps}}<tr><td>{{.Name}}</td><td>{{millis .AfterMS}}</td><td>{{if .Addr}}{{.Addr}}{{end}}</td></tr>{{end}}</table>{{end}}
{{end}}
</body></html>
`

// The chart's size, in its own units.
const (
	chartWidth, chartHeight = 960.0, 200.0
	chartTop, chartLeft     = 20.0, 50.0
)

// chart draws, over time, what was answered as bars, what went wrong as red ones
// on top, the slowest success as a line, and each fault and promotion.
func chart(p Pace, failovers []Failover) template.HTML {
	most, worst := 1, 1.0
	for _, s := range p.Series {
		most, worst = max(most, s.OK+s.Bad), max(worst, s.WorstMS)
	}
	width := (chartWidth - 2*chartLeft) / float64(max(1, len(p.Series)))
	room := chartHeight - 2*chartTop
	base := chartHeight - chartTop
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="throughput and pause over time">`, chartWidth, chartHeight)
	bar := func(class string, x, y, h float64) {
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.2f" height="%.1f"/>`, class, x, y, width*0.9, h)
	}
	var line strings.Builder
	for i, s := range p.Series {
		x := chartLeft + float64(i)*width
		ok, bad := room*float64(s.OK)/float64(most), room*float64(s.Bad)/float64(most)
		if s.OK > 0 {
			bar("ok", x, base-ok, ok)
		}
		if s.Bad > 0 {
			bar("err", x, base-ok-bad, bad)
		}
		fmt.Fprintf(&line, "%.1f,%.1f ", x+width/2, base-room*s.WorstMS/worst)
	}
	fmt.Fprintf(&b, `<polyline class="wait" points="%s"/>`, line.String())
	scale := 0.0
	if p.SliceMS > 0 {
		scale = width / p.SliceMS
	}
	for _, f := range failovers {
		for _, s := range f.Steps {
			if s.Name != string(MarkFault) && s.Name != string(MarkMaster) {
				continue
			}
			x := chartLeft + s.AtMS*scale
			fmt.Fprintf(&b, `<line class="mark" x1="%[1]f" x2="%[1]f" y1="%[2]f" y2="%[3]f"/><text x="%[1]f" y="12">%[4]s</text>`,
				x, chartTop, base, template.HTMLEscapeString(s.Name))
		}
	}
	fmt.Fprintf(&b, `<text x="2" y="%.0f">%d</text><text x="2" y="%.0f">0</text>`, chartTop+8, most, base)
	fmt.Fprintf(&b, `<text x="%.0f" y="%.0f">%s</text>`, chartWidth-chartLeft+4, chartTop+8, millis0(worst))
	fmt.Fprintf(&b, `<text x="%.0f" y="%.0f">bars: answered per %s ms (red: errors, disconnects); line: the slowest success; %.1f s in all</text></svg>`,
		chartLeft, chartHeight-4, plain(p.SliceMS), float64(len(p.Series))*p.SliceMS/1000)
	return template.HTML(b.String()) //nolint:gosec // numbers and escaped text only
}
