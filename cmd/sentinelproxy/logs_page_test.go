package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// documentedFields returns the fields that docs/logs.md lists.
func documentedFields(tb testing.TB) map[string]bool {
	tb.Helper()
	page, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		tb.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "## Fields")
	if !ok {
		tb.Fatal("docs/logs.md has lost its list")
	}
	fields := make(map[string]bool)
	word := regexp.MustCompile("`([a-z_]+)`")
	for line := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, m := range word.FindAllStringSubmatch(cell, -1) {
			if fields[m[1]] {
				tb.Errorf("docs/logs.md lists %s twice", m[1])
			}
			fields[m[1]] = true
		}
	}
	return fields
}

// eventFields returns the fields of all events.
func eventFields() map[string]bool {
	fields := make(map[string]bool)
	for _, e := range events.Catalogue() {
		for _, f := range e.Fields() {
			fields[f.Name] = true
		}
	}
	return fields
}

// computedFields are keys that the source makes, by the expression, and what comes of
// each; none where others say it: the fields of a group, or what a helper is called with.
func computedFields() map[string][]string {
	return map[string][]string{
		`role.String() + "_expires"`:            {"ca_expires", "cert_expires"},
		`p.Name`:                                nil, // in the group phases
		`strings.ReplaceAll(st.Name, " ", "_")`: nil, // in the group steps
		`key`:                                   nil, // of helpers whose names begin with attr or optional
		`name`:                                  nil, // an event's own
	}
}

// logKeys collects the keys of log attributes in the source.
type logKeys struct {
	files    *token.FileSet
	found    map[string]token.Position
	computed map[string]token.Position
}

// take notes the key in an expression.
func (k *logKeys) take(e ast.Expr) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if key, err := strconv.Unquote(lit.Value); err == nil {
			k.found[key] = k.files.Position(e.Pos())
		}
		return
	}
	k.computed[types.ExprString(e)] = k.files.Position(e.Pos())
}

// pairs notes the keys among arguments: each second one, unless it is an attribute.
func (k *logKeys) pairs(args []ast.Expr) {
	for i := 0; i < len(args); i++ {
		if c, ok := args[i].(*ast.CallExpr); ok && types.ExprString(c.Fun) != "role.String" && !strings.Contains(types.ExprString(c.Fun), "strings.") {
			continue // makes an attribute
		}
		if i == len(args)-1 {
			return // a list of them, which is looked at where it is made
		}
		k.take(args[i])
		i++
	}
}

// visit looks at one node of the syntax tree.
func (k *logKeys) visit(n ast.Node) bool {
	if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && types.ExprString(a.Lhs[0]) == "attrs" {
		switch r := a.Rhs[0].(type) {
		case *ast.CompositeLit:
			if types.ExprString(r.Type) == "[]any" {
				k.pairs(r.Elts)
			}
		case *ast.CallExpr:
			if types.ExprString(r.Fun) == "append" && len(r.Args) >= 3 {
				k.pairs(r.Args[1:])
			}
		}
	}
	c, ok := n.(*ast.CallExpr)
	if !ok || len(c.Args) == 0 {
		return true
	}
	switch f := c.Fun.(type) {
	case *ast.Ident:
		if strings.HasPrefix(f.Name, "attr") || f.Name == "optional" {
			if len(c.Args) == 2 {
				k.take(c.Args[0])
			}
		}
	case *ast.SelectorExpr:
		on := strings.ToLower(types.ExprString(f.X))
		logger := strings.HasSuffix(on, "log") || strings.HasPrefix(on, "r.changed") || strings.HasSuffix(on, "logger()")
		switch f.Sel.Name {
		case "Debug", "Info", "Warn", "Error":
			if logger {
				k.pairs(c.Args[1:])
			}
		case "With":
			if logger {
				k.pairs(c.Args)
			}
		case "String", "Int", "Int64", "Uint64", "Float64", "Bool", "Time", "Duration", "Any", "Group":
			if on == "slog" {
				k.take(c.Args[0])
			}
		}
	}
	return true
}

// sourceKeys returns the keys in what a sidecar is made of.
func sourceKeys(tb testing.TB) *logKeys {
	tb.Helper()
	k := &logKeys{files: token.NewFileSet(), found: make(map[string]token.Position), computed: make(map[string]token.Position)}
	// What no run of a sidecar logs: tools, and help for tests.
	others := []string{"bench", "examples", "docs", "drill", "sentineltest", "redistest", "faultnet", "certtest", "captures", "testdata"}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(others, d.Name()) || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return filepath.SkipDir
		case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"), strings.HasPrefix(d.Name(), "demo"), strings.HasPrefix(d.Name(), "drill"):
			return nil
		}
		f, err := parser.ParseFile(k.files, path, nil, parser.SkipObjectResolution)
		if err == nil {
			ast.Inspect(f, k.visit)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// The page lists the fields of the source, all of them and no other.
func TestLogsPage(t *testing.T) {
	documented, k := documentedFields(t), sourceKeys(t)
	in := map[string]bool{"time": true, "level": true, "msg": true}
	for key, at := range k.found {
		in[key] = true
		if !documented[key] {
			t.Errorf("%s: the field %s is not in docs/logs.md", at, key)
		}
	}
	known := computedFields()
	for expr, at := range k.computed {
		if _, ok := known[expr]; !ok {
			t.Errorf("%s: the key %s is computed, and this test does not know what may come of it", at, expr)
		}
	}
	for expr, keys := range known {
		if _, ok := k.computed[expr]; !ok {
			t.Errorf("no key is computed as %s any more", expr)
		}
		for _, key := range keys {
			in[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(documented)) {
		if !in[key] {
			t.Errorf("docs/logs.md lists %s, which nothing logs", key)
		}
	}
	if len(k.found) < 50 {
		t.Errorf("only %d fields were found: the source is not read", len(k.found))
	}
}

// Each line of a sidecar's log is one JSON object with fields that are documented.
func TestLogsAreJSON(t *testing.T) {
	g := redistest.New(t, redistest.Options{Quick: true, DownAfter: calm})
	s := startRun(t, g, "--log-format", "json", "--log-level", "debug", "--follow", "fast")
	_ = stable(t, g)
	if err := g.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the failover in the log", func() bool {
		return strings.Contains(s.log.String(), `"route serves"`) || strings.Contains(s.log.String(), `"phases"`)
	})
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: redis\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the data path's line", func() bool { return strings.Contains(s.log.String(), "a client speaks http") })
	documented, ofEvents := documentedFields(t), eventFields()
	lines := 0
	for line := range strings.Lines(s.log.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		lines++
		for _, must := range []string{"time", "level", "msg"} {
			if _, ok := fields[must].(string); !ok {
				t.Errorf("no %s in %s", must, line)
			}
		}
		if at, _ := fields["time"].(string); !strings.Contains(at, "T") {
			t.Errorf("the time %q is not RFC 3339", at)
		}
		if msg, _ := fields["msg"].(string); strings.Contains(msg, "a client speaks http") && fields["master_name"] != g.Name() {
			t.Errorf("no master_name in %s", line)
		}
		if policy, told := fields["outage_policy"]; told && reflect.TypeOf(policy) != reflect.TypeFor[[]any]() {
			t.Errorf("the empty policy is %v: %s", policy, line)
		}
		_, event := fields["event_id"]
		for key := range fields {
			if !documented[key] && (!event || !ofEvents[key]) {
				t.Errorf("the field %s is not documented: %s", key, line)
			}
		}
	}
	if lines < 10 {
		t.Errorf("%d lines; want those of a start and a failover", lines)
	}
}
