package config

import (
	"bytes"
	"flag"
	"os"
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
