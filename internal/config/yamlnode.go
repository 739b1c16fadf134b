package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// pairsOf returns a mapping's entries.
func pairsOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// scalar returns a value's text. Numbers and booleans stay as they are written:
// the setting decides what they mean.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		if n.Value == nil {
			return "", true
		}
		return strings.TrimSpace(n.Value.Value), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// describe names what a node is, in words of people who write YAML.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "no value"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		if len(n.Values) == 0 {
			return "an empty list"
		}
		return "a list"
	case *ast.AliasNode, *ast.AnchorNode:
		return "an anchor or alias, which are not supported"
	case *ast.TagNode:
		return "a tag, which is not supported"
	}
	if v, ok := scalar(n); ok {
		return quote(v)
	}
	return "something else"
}

// describeIn is describe, but does not quote what stands in the place of a webhook: it is
// likely to be an address, with a secret in it.
func describeIn(key string, n ast.Node) string {
	if _, ok := scalar(n); ok && strings.HasPrefix(key, "webhook") {
		return "one value"
	}
	return describe(n)
}

// isSection reports whether settings are nested below key.
func isSection(key string, allowed map[string]setting) bool {
	for k := range allowed {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

func indexed(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }

func sorted(words []string) []string {
	slices.Sort(words)
	return words
}
