package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

var update = flag.Bool("update", false, "rewrite the generated part of docs/configuration.md")

func TestReferencePage(t *testing.T) {
	const page = "../../docs/configuration.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), "-update -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- /settings -->")
	if !ok1 || !ok2 {
		t.Fatalf("%s has lost its marks", page)
	}
	want := before + "-update -->\n" + Reference() + "<!-- /settings -->" + after
	if want == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says; run go test ./internal/config -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestExamplesLoad(t *testing.T) {
	for _, file := range []string{"../../examples/sentinelproxy.yaml", "../../examples/sentinelproxy-masters.yaml"} {
		t.Run(file, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ca := certtest.MustCA(t)
			pair := ca.MustIssue(t, certtest.Leaf{})
			mustLoad(t, nil, nil, files{
				"/run/secrets/tls/tls.crt": string(pair.Cert), "/run/secrets/tls/tls.key": string(pair.Key),
				"c.yaml": string(b), "/run/secrets/sentinel-password": "a\n", "/run/secrets/orders-password": "b\n",
			})
		})
	}
}

// What guides show of a configuration can be copied: each block is taken, with the files
// that it names, beside nothing but a Sentinel.
func TestPagesLoad(t *testing.T) {
	ca := certtest.MustCA(t)
	pair := ca.MustIssue(t, certtest.Leaf{})
	block, path := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```"), regexp.MustCompile(`/(?:run/secrets|etc)/[\w./-]+`)
	others := regexp.MustCompile(`(?m)^(volumes|scheme|- alert):`) // Kubernetes and Prometheus
	loaded := 0
	for _, page := range []string{"configuration", "events", "operations", "outage", "switchover", "tls"} {
		b, err := os.ReadFile("../../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(b), -1) {
			if others.MatchString(m[1]) {
				continue
			}
			loaded++
			fsys := files{"c.yaml": m[1]}
			for _, p := range path.FindAllString(m[1], -1) {
				switch filepath.Ext(p) {
				case ".crt":
					fsys[p] = string(pair.Cert)
				case ".pem":
					fsys[p] = string(ca.PEM)
				case ".key":
					fsys[p] = string(pair.Key)
				default:
					fsys[p] = "a token of the test\n"
				}
			}
			if cfg, err := load(t, []string{"--sentinel=s"}, nil, fsys); err != nil || len(cfg.Warnings) > 0 {
				t.Errorf("%s.md: %v, warnings %q:\n%s", page, err, cfg.Warnings, m[1])
			}
		}
	}
	if loaded < 7 {
		t.Errorf("%d blocks found; are they written otherwise now?", loaded)
	}
}

// The example shows every setting, and what it shows in comments is valid too.
func TestExampleIsComplete(t *testing.T) {
	b, err := os.ReadFile("../../examples/sentinelproxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for line := range strings.Lines(string(b)) {
		bare := strings.TrimPrefix(line, "# ")
		key, _, isKey := strings.Cut(strings.TrimSpace(bare), ":")
		if bare != line && (!isKey || strings.ContainsAny(key, " `,.")) {
			continue // prose
		}
		all.WriteString(bare)
	}
	doc := reader{file: "example", mistakes: &mistakes{}}
	got := doc.read(all.Bytes())
	if len(*doc.mistakes) > 0 {
		t.Fatalf("with its comments taken off:\n%s\n%v", all.String(), *doc.mistakes)
	}
	for _, s := range settings() {
		if len(got.top[s.flag]) == 0 {
			t.Errorf("the example does not show %s", s.key)
		}
	}
}
