package docker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sentinelproxy/sentinelproxy/internal/metricspage"
)

// What the demo's programs are given is read here without an engine, too: by the program
// itself where it is installed, otherwise for what its documentation asks for.

func TestHAProxyFile(t *testing.T) {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("haproxy is not here: scripts/need haproxy")
		}
		t.Skip("haproxy is not here: scripts/need haproxy")
	}
	cmd := exec.CommandContext(t.Context(), path, "-c", "-f", "haproxy/haproxy.cfg")
	cmd.Env = append(os.Environ(), "DEMO_NET=127.0.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Prometheus finds its files where docker-compose.yml puts them.
func TestPrometheusFiles(t *testing.T) {
	tool := metricspage.Tool(t, "promtool")
	dir := t.TempDir()
	for _, v := range service(t, "prometheus").Volumes {
		from, to, _ := strings.Cut(strings.TrimSuffix(v, ":ro"), ":")
		if !strings.HasPrefix(from, "./") {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(to)), file(t, "../../"+from), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), tool, "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Grafana's source is Prometheus, and each folder of dashboards is one that it is given.
func TestGrafanaFiles(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
		}
	}
	decode(t, "observe/grafana/datasources/prometheus.yml", &sources)
	if sources.APIVersion != 1 || len(sources.Datasources) != 1 {
		t.Fatalf("sources: %+v", sources)
	}
	source := sources.Datasources[0]
	if source.Type != "prometheus" || source.URL != "http://prometheus:9090" || source.Access != "proxy" {
		t.Errorf("source: %+v", source)
	}

	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}
	decode(t, "observe/grafana/dashboards/demo.yml", &dashboards)
	mounts := strings.Join(service(t, "grafana").Volumes, "\n")
	for _, p := range dashboards.Providers {
		top := strings.TrimSuffix(p.Options.Path, "/dashboards") // of provisioning, or of what is mounted beside it
		if p.Type != "file" || !strings.Contains(mounts, ":"+top) {
			t.Errorf("%+v is nowhere in %s", p, mounts)
		}
	}
	for _, uid := range regexp.MustCompile(`"datasource":\s*\{[^}]*"uid":\s*"([^"]*)"`).FindAllSubmatch(file(t, demoDashboard), -1) {
		if string(uid[1]) != source.UID {
			t.Errorf("the dashboard asks %q; the source is %q", uid[1], source.UID)
		}
	}
}

const demoDashboard = "observe/grafana/dashboards/demo.json"

// dashboardExpressions returns what the demo's dashboard asks Prometheus.
func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(file(t, demoDashboard), &d); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range d.Panels {
		for _, tg := range p.Targets {
			all = append(all, tg.Expr)
		}
	}
	if len(all) == 0 {
		t.Fatal("the dashboard shows nothing")
	}
	return all
}

// The dashboard speaks of metrics that there are: ours, and the gateway's.
func TestDemoDashboard(t *testing.T) {
	page, err := metricspage.Read("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	gateway := file(t, "gateway/gateway.go")
	for _, expr := range dashboardExpressions(t) {
		for _, wrong := range metricspage.Check(page, nil, expr) {
			t.Errorf("%s: %s", expr, wrong)
		}
		for _, name := range regexp.MustCompile(`\bgateway_\w+`).FindAllString(expr, -1) {
			if !bytes.Contains(gateway, fmt.Appendf(nil, "%q", name)) {
				t.Errorf("%s: the gateway has no %s", expr, name)
			}
		}
	}
}

// Tyk has the sidecar as its Redis, its API leads to the demo's upstream, and the key
// that docs/docker.md makes is one for that API. The names are those of Tyk 5.
func TestTykFiles(t *testing.T) {
	var conf struct {
		ListenPort        int    `json:"listen_port"`
		TemplatePath      string `json:"template_path"`
		MiddlewarePath    string `json:"middleware_path"`
		UseDBAppConfigs   bool   `json:"use_db_app_configs"`
		AppPath           string `json:"app_path"`
		EnableAnalytics   bool   `json:"enable_analytics"`
		HashKeys          bool   `json:"hash_keys"`
		HashedKeysListing bool   `json:"enable_hashed_keys_listing"`
		PIDFile           string `json:"pid_file_location"`
		Storage           struct {
			Type, Host string
			Port       int
		} `json:"storage"`
	}
	strict(t, file(t, "tyk/tyk.conf"), &conf)
	tyk := service(t, "tyk")
	if conf.Storage.Type != "redis" || conf.Storage.Host != "sentinelproxy" || conf.Storage.Port != 6379 {
		t.Errorf("storage: %+v", conf.Storage)
	}
	for _, want := range []string{"/tyk.conf:/opt/tyk-gateway/tyk.conf:", "/tyk/apps:" + conf.AppPath + ":"} {
		if !strings.Contains(strings.Join(tyk.Volumes, "\n"), want) {
			t.Errorf("%s is not mounted: %q", want, tyk.Volumes)
		}
	}
	if len(tyk.Ports) != 1 || !strings.HasSuffix(tyk.Ports[0], fmt.Sprintf("}:%d", conf.ListenPort)) {
		t.Errorf("Tyk listens on %d; published is %q", conf.ListenPort, tyk.Ports)
	}

	var api struct {
		APIID string `json:"api_id"`
		OrgID string `json:"org_id"`
		Proxy struct {
			TargetURL string `json:"target_url"`
		}
	}
	if err := json.Unmarshal(file(t, "tyk/apps/demo.json"), &api); err != nil {
		t.Fatal(err)
	}
	if api.Proxy.TargetURL != "http://upstream:8081/" {
		t.Errorf("the API leads to %s", api.Proxy.TargetURL)
	}

	posted := regexp.MustCompile(`(?s)/tyk/keys/\w+.*?-d '([^']*)'`).FindSubmatch(file(t, "../../docs/docker.md"))
	if posted == nil {
		t.Fatal("docs/docker.md makes no key")
	}
	var key struct {
		OrgID        string `json:"org_id"`
		AccessRights map[string]struct {
			APIID    string `json:"api_id"`
			APIName  string `json:"api_name"`
			Versions []string
		} `json:"access_rights"`
		Rate, Per float64
	}
	strict(t, posted[1], &key)
	if key.OrgID != api.OrgID || key.AccessRights[api.APIID].APIID != api.APIID {
		t.Errorf("the key is for %+v; the API is %+v", key, api)
	}
}

// composeService is the part of a service that is looked at here.
type composeService struct{ Volumes, Ports []string }

func service(t *testing.T, name string) composeService {
	t.Helper()
	var c struct{ Services map[string]composeService }
	// What a service says itself wins over what it merges, as for compose.
	d := yaml.NewDecoder(bytes.NewReader(file(t, "../../docker-compose.yml")), yaml.AllowDuplicateMapKey())
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	s, ok := c.Services[name]
	if !ok {
		t.Fatalf("docker-compose.yml has no %s", name)
	}
	return s
}

// decode reads YAML whose every field is one of into.
func decode(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.NewDecoder(bytes.NewReader(file(t, path)), yaml.Strict()).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// strict reads JSON whose every field is one of into.
func strict(t *testing.T, b []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
