package docker_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
)

// Prometheus of the profile observe: it scrapes the sidecar and the gateway, has the
// rules, and has an answer to all that the demo's dashboard asks. Grafana, which makes
// pictures of that, is not started: its image can't be made here.
func (d *demo) testObserve(t *testing.T) {
	d.do(t, "up", "-d", "--no-build", "prometheus")
	t.Run("targets", func(t *testing.T) {
		seen := ""
		waitFor(t, "both targets up", &seen, func() bool {
			var targets struct {
				ActiveTargets []struct {
					Labels struct{ Job string }
					Health string
				}
			}
			seen = d.query(t, "targets", nil, &targets)
			up := make(map[string]bool)
			for _, tg := range targets.ActiveTargets {
				up[tg.Labels.Job] = tg.Health == "up"
			}
			return len(up) == 2 && up["sentinelproxy"] && up["gateway"]
		})
	})
	t.Run("rules", func(t *testing.T) {
		seen := ""
		waitFor(t, "every rule evaluated", &seen, func() bool {
			var rules struct {
				Groups []struct {
					Rules []struct{ Name, Health string }
				}
			}
			seen = d.query(t, "rules", nil, &rules)
			n, ok := 0, 0
			for _, g := range rules.Groups {
				for _, r := range g.Rules {
					n++
					if r.Health == "ok" {
						ok++
					}
				}
			}
			return n > 0 && ok == n
		})
	})
	t.Run("dashboard", func(t *testing.T) {
		d.served(t) // so that there is an answer to count
		for _, expr := range dashboardExpressions(t) {
			seen := ""
			waitFor(t, "an answer to "+expr, &seen, func() bool {
				var found struct{ Result []any }
				seen = d.query(t, "query", url.Values{"query": {expr}}, &found)
				return len(found.Result) > 0
			})
		}
	})
	d.without(t, "prometheus")
}

// query asks Prometheus' API, and returns the answer as it came, too.
func (d *demo) query(t *testing.T, what string, args url.Values, data any) string {
	t.Helper()
	code, body := get(t, "http://"+d.prometheus+"/api/v1/"+what+"?"+args.Encode(), "")
	if code != http.StatusOK {
		return body // it starts
	}
	answer := struct{ Data any }{data}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v\n%s", what, err, body)
	}
	return body
}
