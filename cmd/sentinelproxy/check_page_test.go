package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// documentedChecks returns the ids in the table of docs/check.md.
func documentedChecks(tb testing.TB) map[string]bool {
	tb.Helper()
	page, err := os.ReadFile("../../docs/check.md")
	if err != nil {
		tb.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "| check | looks at |")
	if !ok {
		tb.Fatal("docs/check.md has lost its table")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	ids := make(map[string]bool)
	word := regexp.MustCompile("`([a-z0-9-]+)`")
	for line := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		for _, m := range word.FindAllStringSubmatch(cell, -1) {
			if ids[m[1]] {
				tb.Errorf("docs/check.md lists %s twice", m[1])
			}
			ids[m[1]] = true
		}
	}
	return ids
}

// sourceChecks collects the ids of findings in the source.
type sourceChecks struct {
	tb    testing.TB
	files *token.FileSet
	found map[string]token.Position
}

// take notes the id in an expression. A parameter of the function around it is taken where
// that is called.
func (s *sourceChecks) take(e ast.Expr) {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		if name := types.ExprString(e); name != "check" {
			s.tb.Errorf("%s: the id %s is computed, and this test does not know what may come of it", s.files.Position(e.Pos()), name)
		}
		return
	}
	if id, err := strconv.Unquote(lit.Value); err == nil {
		s.found[id] = s.files.Position(e.Pos())
	}
}

// visit looks at one node of the syntax tree: add(severity, id, …), a helper whose parameter
// is the id, and a Finding itself.
func (s *sourceChecks) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		switch fun := types.ExprString(n.Fun); {
		case fun == "n.add" && len(n.Args) > 1:
			s.take(n.Args[1])
		case fun == "judgeUnreachable" && len(n.Args) > 3:
			s.take(n.Args[3])
		}
	case *ast.CompositeLit:
		if n.Type == nil || !strings.HasSuffix(types.ExprString(n.Type), "Finding") || len(n.Elts) == 0 {
			return true
		}
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && types.ExprString(kv.Key) == "Check" {
				s.take(kv.Value)
			}
		}
		if _, keyed := n.Elts[0].(*ast.KeyValueExpr); !keyed {
			s.take(n.Elts[0])
		}
	}
	return true
}

// The page lists the findings that a check may have, all of them and no other.
func TestCheckPage(t *testing.T) {
	documented := documentedChecks(t)
	s := &sourceChecks{tb: t, files: token.NewFileSet(), found: make(map[string]token.Position)}
	own, err := filepath.Glob("check*.go")
	if err != nil {
		t.Fatal(err)
	}
	doctors, err := filepath.Glob("../../internal/doctor/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(own, doctors...) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, s.visit)
	}
	for _, id := range slices.Sorted(maps.Keys(s.found)) {
		if !documented[id] {
			t.Errorf("%s: the finding %s is not in docs/check.md", s.found[id], id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(documented)) {
		if _, ok := s.found[id]; !ok {
			t.Errorf("docs/check.md lists %s, which nothing finds", id)
		}
	}
	if len(s.found) < 30 {
		t.Errorf("only %d findings were found: the source is not read", len(s.found))
	}
}
