package validate

import (
	"os"
	"slices"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
)

const guide = "../../docs/kubernetes.md"

// snippets returns what a page has in blocks of a language.
func snippets(tb testing.TB, file, language string) []string {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for _, rest := range strings.Split("\n"+string(b), "\n```"+language+"\n")[1:] {
		block, _, closed := strings.Cut(rest, "\n```\n")
		if !closed {
			tb.Fatalf("%s: a block of %s has no end", file, language)
		}
		all = append(all, block)
	}
	return all
}

// What the guide has readers copy is an object as an API server takes it, and makes the
// Secret that the pod mounts, for the name by which the admin server is checked.
func TestGuide(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := certmanagerv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	blocks := snippets(t, guide, "yaml")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of YAML in %s; want one, a Certificate", len(blocks), guide)
	}
	obj, _, err := s.Decode([]byte(blocks[0]), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := obj.(*certmanagerv1.Certificate)
	if !ok {
		t.Fatalf("found a %T", obj)
	}
	if c.Spec.IssuerRef.Name == "" || c.Spec.IssuerRef.Kind == "" {
		t.Errorf("issuer %+v; want one", c.Spec.IssuerRef)
	}
	g := readGateway(t, manifests+"/overlays/production")
	if secret := c.Spec.SecretName; !mounts(g.pod.Spec, secret) {
		t.Errorf("it makes the Secret %s, which the pod does not mount", secret)
	}
	monitor := get[*monitoringv1.ServiceMonitor](t, g.objects, "ServiceMonitor sentinelproxy")
	for _, e := range monitor.Spec.Endpoints {
		if name := e.TLSConfig.ServerName; name == nil || !slices.Contains(c.Spec.DNSNames, *name) {
			t.Errorf("Prometheus checks the certificate for %v; it is for %v", name, c.Spec.DNSNames)
		}
	}
	if len(monitor.Spec.Endpoints) == 0 {
		t.Error("Prometheus asks for nothing")
	}
}
