// Package grafana makes the dashboard beside it, dashboard.json, which users import:
// go test ./examples/grafana -update writes it.
package grafana

import (
	"encoding/json"
	"fmt"
	"strings"
)

// of selects what the dashboard's variables choose; ofProcess does where series are of all
// groups together.
const (
	of        = `job=~"$job", instance=~"$instance", master_name=~"$master"`
	ofProcess = `job=~"$job", instance=~"$instance"`
)

// line is one expression, in which SEL and PROC stand for the selection, with its legend.
type line struct{ expr, legend string }

// graph is a panel of lines over time.
type graph struct {
	title, about string
	unit         string // Grafana's name of it
	lines        []line
	max          int  // of the axis; 0: as it comes
	steps        bool // values hold until the next
}

// row is a heading and its panels, three beside each other.
type row struct {
	title  string
	graphs []graph
}

func rows() []row {
	return []row{
		{"Is it served?", []graph{
			{"Route", "1 for the state that the route is in.", "short", []line{
				{`max by (instance, master_name, state) (sentinelproxy_route_state{SEL} == 1)`, "{{master_name}} {{state}} {{instance}}"},
			}, 1, true},
			{"Master served", "A change is a failover.", "short", []line{
				{`count by (master_name, master_address) (sentinelproxy_master_info{SEL})`, "{{master_name}} {{master_address}}"},
			}, 0, true},
			{"What is amiss", "Reasons that /readyz gives while commands flow.", "short", []line{
				{`sentinelproxy_degraded_reasons{SEL}`, "{{master_name}} {{instance}}"},
			}, 0, true},
		}},
		{"What clients feel", []graph{
			{"Commands", "Answered, with an error or without.", "ops", []line{
				{`sum by (master_name) (rate(sentinelproxy_commands_total{SEL}[$__rate_interval]))`, "{{master_name}}"},
			}, 0, false},
			{"Commands that wait", "For a master, at the moment.", "short", []line{
				{`sum by (master_name) (sentinelproxy_held_commands{SEL})`, "{{master_name}}"},
			}, 0, false},
			{"Commands that failed", "Without a master, or of unknown outcome.", "ops", []line{
				{`sum by (master_name) (rate(sentinelproxy_held_commands_total{outcome="failed", SEL}[$__rate_interval]))`, "{{master_name}} waited too long"},
				{`sum by (master_name) (rate(sentinelproxy_rejected_commands_total{SEL}[$__rate_interval]))`, "{{master_name}} not served"},
				{`sum by (master_name) (rate(sentinelproxy_uncertain_replies_total{SEL}[$__rate_interval]))`, "{{master_name}} uncertain"},
			}, 0, false},
			{"How long clients waited", "Percentiles of holds.", "s", []line{
				{`histogram_quantile(0.5, sum by (le, master_name) (rate(sentinelproxy_hold_duration_seconds_bucket{SEL}[$__rate_interval])))`, "{{master_name}} p50"},
				{`histogram_quantile(0.99, sum by (le, master_name) (rate(sentinelproxy_hold_duration_seconds_bucket{SEL}[$__rate_interval])))`, "{{master_name}} p99"},
			}, 0, false},
			{"Answers without a master", "By the outage policy: stale and nil may be wrong.", "ops", []line{
				{`sum by (master_name, policy) (rate(sentinelproxy_outage_replies_total{SEL}[$__rate_interval]))`, "{{master_name}} {{policy}}"},
			}, 0, false},
			{"Sent again", "", "ops", []line{
				{`sum by (master_name, reason) (rate(sentinelproxy_resends_total{SEL}[$__rate_interval]))`, "{{master_name}} {{reason}}"},
				{`sum by (master_name) (rate(sentinelproxy_repeated_writes_total{SEL}[$__rate_interval]))`, "{{master_name}} writes that may have run"},
			}, 0, false},
		}},
		{"Commands by name", []graph{
			{"Rate", "The ten that are sent most.", "ops", []line{
				{`topk(10, sum by (master_name, command) (rate(sentinelproxy_commands_total{SEL}[$__rate_interval])))`, "{{master_name}} {{command}}"},
			}, 0, false},
			{"Slowest", "99th percentile, with waits for a master: the ten highest.", "s", []line{
				{
					`topk(10, histogram_quantile(0.99, sum by (le, master_name, command) (rate(sentinelproxy_command_duration_seconds_bucket{SEL}[$__rate_interval]))))`,
					"{{master_name}} {{command}}",
				},
			}, 0, false},
			{"Latency", "Of all commands but those that are meant to wait.", "s", []line{
				{`histogram_quantile(0.5, sum by (le, master_name) (rate(sentinelproxy_command_duration_seconds_bucket{command!~"b.*(pop|push|move).*|xread.*|wait.*", SEL}[$__rate_interval])))`, "{{master_name}} p50"},
				{`histogram_quantile(0.99, sum by (le, master_name) (rate(sentinelproxy_command_duration_seconds_bucket{command!~"b.*(pop|push|move).*|xread.*|wait.*", SEL}[$__rate_interval])))`, "{{master_name}} p99"},
			}, 0, false},
			{"Errors by command", "", "ops", []line{
				{`sum by (master_name, command) (rate(sentinelproxy_commands_total{outcome="error", SEL}[$__rate_interval])) > 0`, "{{master_name}} {{command}}"},
			}, 0, false},
			{"Errors by kind", "The word that they begin with.", "ops", []line{
				{`sum by (master_name, error) (rate(sentinelproxy_error_replies_total{SEL}[$__rate_interval])) > 0`, "{{master_name}} {{error}}"},
			}, 0, false},
			{"Slow commands", "Slower than slow_command; the log has them.", "ops", []line{
				{`sum by (master_name, outcome) (rate(sentinelproxy_slow_commands_total{SEL}[$__rate_interval]))`, "{{master_name}} {{outcome}}"},
			}, 0, false},
		}},
		{"Failovers", []graph{
			{"Holds", "By what began them; those that no failover followed too.", "short", []line{
				{`sum by (master_name, cause) (increase(sentinelproxy_holds_total{SEL}[$__rate_interval])) > 0`, "{{master_name}} {{cause}}"},
			}, 0, false},
			{"How holds ended", "", "short", []line{
				{`sum by (master_name, outcome) (increase(sentinelproxy_failovers_total{SEL}[$__rate_interval]))`, "{{master_name}} {{outcome}}"},
			}, 0, false},
			{"Phases", "Mean time from the first sign to each phase.", "s", []line{
				{
					`sum by (master_name, phase) (increase(sentinelproxy_failover_phase_reached_seconds_sum{SEL}[$__rate_interval]))` +
						` / (sum by (master_name, phase) (increase(sentinelproxy_failover_phase_reached_seconds_count{SEL}[$__rate_interval])) > 0)`,
					"{{master_name}} {{phase}}",
				},
			}, 0, false},
		}},
		{"Nodes and Sentinels", []graph{
			{"Nodes that answer", "", "short", []line{
				{`min by (master_name, node) (sentinelproxy_node_up{SEL})`, "{{master_name}} {{node}}"},
			}, 1, true},
			{"Replica lag", "What a failover would lose.", "s", []line{
				{`max by (master_name, node) (sentinelproxy_replica_lag_seconds{SEL})`, "{{master_name}} {{node}}"},
			}, 0, false},
			{"Replica lag in bytes", "", "bytes", []line{
				{`max by (master_name, node) (sentinelproxy_replica_lag_bytes{SEL})`, "{{master_name}} {{node}}"},
			}, 0, false},
			{"Sentinels that answer and agree", "", "short", []line{
				{`sum by (instance, master_name) (sentinelproxy_sentinel_agreement{SEL})`, "{{master_name}} agree {{instance}}"},
				{`max by (instance, master_name) (sentinelproxy_sentinels_known{SEL})`, "{{master_name}} known {{instance}}"},
			}, 0, true},
			{"Age of each Sentinel's word", "", "s", []line{
				{`max by (master_name, sentinel) (sentinelproxy_sentinel_view_age_seconds{SEL})`, "{{master_name}} {{sentinel}}"},
			}, 0, false},
			{"Lease", "How long writes may go on without news.", "s", []line{
				{`min by (instance, master_name) (sentinelproxy_lease_remaining_seconds{SEL})`, "{{master_name}} {{instance}}"},
			}, 0, false},
		}},
		{"Connections", []graph{
			{"Clients", "", "short", []line{
				{`sum by (instance, master_name) (sentinelproxy_client_connections{SEL})`, "{{master_name}} {{instance}}"},
			}, 0, false},
			{"Connections to Redis", "", "short", []line{
				{`sum by (master_name, use) (sentinelproxy_backend_connections{SEL})`, "{{master_name}} {{use}}"},
			}, 0, false},
			{"Clients that got a connection of their own", "", "ops", []line{
				{`sum by (master_name, reason) (rate(sentinelproxy_pins_total{SEL}[$__rate_interval])) > 0`, "{{master_name}} {{reason}}"},
			}, 0, false},
			{"Clients turned away or cut off", "", "ops", []line{
				{`sum by (master_name, reason) (rate(sentinelproxy_client_connections_refused_total{SEL}[$__rate_interval]))`, "{{master_name}} refused: {{reason}}"},
				{`sum by (master_name, class, limit) (rate(sentinelproxy_client_output_cut_total{SEL}[$__rate_interval]))`, "{{master_name}} did not read: {{class}} {{limit}}"},
				{`sum by (master_name, reason) (rate(sentinelproxy_client_protocol_errors_total{SEL}[$__rate_interval]))`, "{{master_name}} protocol: {{reason}}"},
				{`sum by (master_name, outcome) (rate(sentinelproxy_client_logins_total{SEL}[$__rate_interval]))`, "{{master_name}} login {{outcome}}"},
			}, 0, false},
		}},
		{"The sidecar itself", []graph{
			{"Event loops", "1 is a loop that does nothing but work.", "percentunit", []line{
				{`rate(sentinelproxy_loop_busy_seconds_total{SEL}[$__rate_interval])`, "{{instance}} {{master_name}} loop {{loop}}"},
			}, 1, false},
			{"Processors", "", "short", []line{
				{`rate(process_cpu_seconds_total{PROC}[$__rate_interval])`, "{{instance}}"},
			}, 0, false},
			{"Memory", "", "bytes", []line{
				{`process_resident_memory_bytes{PROC}`, "{{instance}}"},
			}, 0, false},
			{"Bytes", "In is what is read, out what is written.", "Bps", []line{
				{`sum by (instance, direction) (rate(sentinelproxy_client_bytes_total{SEL}[$__rate_interval]))`, "{{instance}} clients {{direction}}"},
				{`sum by (instance, direction) (rate(sentinelproxy_backend_bytes_total{SEL}[$__rate_interval]))`, "{{instance}} Redis {{direction}}"},
			}, 0, false},
			{"Certificates", "Time until the first of a chain ends.", "s", []line{
				{`min by (master_name, cert_role, source) (sentinelproxy_certificate_not_after_timestamp_seconds{SEL}) - time()`, "{{cert_role}} {{source}}"},
			}, 0, false},
			{"Events for webhooks", "That wait, or were lost.", "short", []line{
				{`sum by (webhook) (sentinelproxy_webhook_queued_events{PROC})`, "{{webhook}} wait"},
				{`sum by (webhook, outcome) (increase(sentinelproxy_webhook_deliveries_total{outcome=~"rejected|dropped|expired", PROC}[$__rate_interval]))`, "{{webhook}} {{outcome}}"},
			}, 0, false},
		}},
	}
}

// Dashboard returns the file that Grafana imports.
func Dashboard() ([]byte, error) {
	source := &datasource{Type: "prometheus", UID: "${datasource}"}
	choice := func(name, label, query string) variable {
		return variable{
			Name: name, Label: label, Type: "query", Query: query, Datasource: source,
			Multi: true, IncludeAll: true, AllValue: ".*", Refresh: 2, Sort: 1,
		}
	}
	d := dashboard{
		UID: "sentinelproxy", Title: "sentinelproxy", Tags: []string{"redis", "sentinelproxy"},
		Description:   "What the Redis groups behind sentinelproxy do, and what it does about it. docs/metrics.md has each metric.",
		SchemaVersion: 39, Editable: true, GraphTooltip: 1, Refresh: "10s", Time: timeRange{"now-1h", "now"},
		Templating: templating{[]variable{
			{Name: "datasource", Label: "Prometheus", Type: "datasource", Query: "prometheus"},
			choice("job", "Job", "label_values(sentinelproxy_build_info, job)"),
			choice("instance", "Sidecar", `label_values(sentinelproxy_build_info{job=~"$job"}, instance)`),
			choice("master", "Master", `label_values(sentinelproxy_route_state{job=~"$job", instance=~"$instance"}, master_name)`),
		}},
		Panels: panels(source),
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// panels lays the rows out.
func panels(source *datasource) []panel {
	const width, height, perRow = 8, 8, 3
	var all []panel
	y := 0
	for _, r := range rows() {
		all = append(all, panel{ID: len(all) + 1, Type: "row", Title: r.title, GridPos: grid{H: 1, W: width * perRow, Y: y}})
		y++
		for i, g := range r.graphs {
			p := g.panel(source)
			p.ID = len(all) + 1
			p.GridPos = grid{H: height, W: width, X: i % perRow * width, Y: y + i/perRow*height}
			all = append(all, p)
		}
		y += (len(r.graphs) + perRow - 1) / perRow * height
	}
	return all
}

func (g graph) panel(source *datasource) panel {
	zero := 0
	p := panel{
		Type: "timeseries", Title: g.title, Description: g.about, Datasource: source,
		FieldConfig: &fieldConfig{Overrides: []string{}, Defaults: defaults{Unit: g.unit, Min: &zero, Custom: map[string]any{
			"lineInterpolation": "linear", "showPoints": "never", "fillOpacity": 10,
		}}},
		Options: map[string]any{
			"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		},
	}
	if g.max > 0 {
		p.FieldConfig.Defaults.Max = &g.max
	}
	if g.steps {
		p.FieldConfig.Defaults.Custom["lineInterpolation"] = "stepAfter"
	}
	for i, l := range g.lines {
		p.Targets = append(p.Targets, target{
			RefID: fmt.Sprintf("%c", 'A'+i), Datasource: source, LegendFormat: l.legend,
			Expr: strings.NewReplacer("SEL", of, "PROC", ofProcess).Replace(l.expr),
		})
	}
	return p
}
