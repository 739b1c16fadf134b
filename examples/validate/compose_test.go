package validate

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// docker-compose.yml is what docker compose takes, with every profile, and no service of
// it may do more than it must. compose-go is what docker compose reads it with.
func TestCompose(t *testing.T) {
	path, err := filepath.Abs("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	opts, err := cli.NewProjectOptions([]string{path}, cli.WithProfiles([]string{"*"}), cli.WithConsistency(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Services) == 0 {
		t.Fatal("no services")
	}
	for _, want := range []string{"redis-a", "sentinel-3", "sentinelproxy", "gateway", "haproxy", "prometheus", "grafana", "tyk", "drill"} {
		if _, ok := p.Services[want]; !ok {
			t.Errorf("no service %s", want)
		}
	}
	for name, s := range p.Services {
		confined(t, name, s)
		if s.HealthCheck == nil && !slices.Contains([]string{"tyk", "drill"}, name) {
			t.Errorf("%s has no health check", name)
		}
		for on, d := range s.DependsOn {
			if d.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s starts when %s is %s; want it healthy", name, on, d.Condition)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is published on %q; want loopback", name, port.HostIP)
			}
		}
		if image := s.Image; strings.HasSuffix(image, ":latest") || !strings.Contains(image, ":") {
			t.Errorf("%s has the image %s; want a version", name, image)
		}
	}
}

// confined checks what a service may do. Grafana's image has a user of its own.
func confined(t *testing.T, name string, s types.ServiceConfig) {
	t.Helper()
	if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 ||
		!slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		t.Errorf("%s: read-only %v, privileged %v, drops %v, adds %v, %v", name, s.ReadOnly, s.Privileged, s.CapDrop, s.CapAdd, s.SecurityOpt)
	}
	if u, _, _ := strings.Cut(s.User, ":"); u == "root" || u == "0" || u == "" && s.Build == nil && name != "grafana" {
		t.Errorf("%s runs as %q; want another than root", name, s.User)
	}
}
