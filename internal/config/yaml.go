package config

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile is far above any configuration, in bytes.
const maxFile = 1 << 20

// text is one value as it was written.
type text struct {
	value  string
	origin Origin
}

// layer holds the values of one place, by the setting's flag.
type layer map[string][]text

// document is a YAML file, keys resolved and values still text.
type document struct {
	top   layer
	lists map[string]list // by key: masters and webhooks

	unread bool // the file is no good, so nothing of it is known
}

// list is one of the file's lists. Its zero value is not in the file.
type list struct {
	entries []entry
	there   bool
	origin  Origin // of its key
}

// entry is one item of a list.
type entry struct {
	layer // nil if the item is none, which was reported

	origin Origin // of the item; Key is like masters[0]
}

// reader turns a YAML file into a document, collecting every mistake.
type reader struct {
	file     string
	mistakes *mistakes
}

// read parses b. What it can't make sense of it reports and leaves out.
//
// It walks the syntax tree itself rather than decoding into structs: a decoder
// stops at the first mistake and forgets the lines of what it accepted.
func (r reader) read(b []byte) document {
	doc := document{top: layer{}, lists: map[string]list{}}
	if len(b) > maxFile {
		r.mistakes.add(Origin{File: r.file}, "the file holds %d bytes; want at most %d", len(b), maxFile)
		doc.unread = true
		return doc
	}
	root, ok := r.root(b)
	if !ok {
		doc.unread = true
		return doc
	}
	allowed := map[string]setting{}
	for _, s := range settings() {
		allowed[s.key] = s
		if s.short != "" {
			allowed[s.short] = s
		}
	}
	r.mapping(root, "", "", allowed, doc.top, func(kv *ast.MappingValueNode) bool {
		name := kv.Key.GetToken().Value
		if name != listMasters && name != listWebhooks {
			return false
		}
		doc.lists[name] = list{entries: r.entries(name, kv.Value), there: true, origin: r.at(kv.Key, name)}
		return true
	})
	return doc
}

// root returns the file's one mapping; nil and true for an empty file.
func (r reader) root(b []byte) (ast.Node, bool) {
	file, err := parser.ParseBytes(b, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		o := Origin{File: r.file}
		msg := err.Error()
		if ye, ok := errors.AsType[yaml.Error](err); ok {
			o.Line = line(ye.GetToken())
			msg = ye.GetMessage()
		}
		r.mistakes.add(o, "not valid YAML: %s", msg)
		return nil, false
	}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType && d.Body.Type() != ast.NullType {
			bodies = append(bodies, d.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return nil, true
	case len(bodies) > 1:
		r.mistakes.add(r.at(bodies[1], ""), "a second YAML document; want one")
	}
	return bodies[0], true
}

// entries reads the list of that name.
func (r reader) entries(name string, n ast.Node) []entry {
	seq, ok := n.(*ast.SequenceNode)
	if name == listWebhooks && ok && len(seq.Values) == 0 {
		return nil // none
	}
	if !ok || len(seq.Values) == 0 {
		r.mistakes.add(r.at(n, name), "found %s; want a list with one entry per %s", describeIn(name, n), strings.TrimSuffix(name, "s"))
		return nil
	}
	allowed := map[string]setting{}
	for _, s := range settings() {
		if s.scope.list() == name {
			allowed[s.entryKey()] = s
		}
	}
	var entries []entry
	for i, item := range seq.Values {
		prefix := indexed(name, i)
		e := entry{layer: layer{}, origin: r.at(item, prefix)}
		r.mapping(item, prefix+".", "", allowed, e.layer, nil)
		if _, ok := pairsOf(item); !ok {
			e.layer = nil
		}
		entries = append(entries, e)
	}
	return entries
}

// mapping reads a mapping's settings into l. where is the path to the mapping,
// for people; prefix is the part of it that belongs to the keys in allowed.
// special, if not nil, is asked first and says whether it took the entry.
func (r reader) mapping(n ast.Node, where, prefix string, allowed map[string]setting, l layer, special func(*ast.MappingValueNode) bool) {
	if n == nil {
		return
	}
	pairs, ok := pairsOf(n)
	if !ok {
		at := strings.TrimSuffix(where+prefix, ".")
		r.mistakes.add(r.at(n, at), "found %s; want keys and values", describeIn(at, n))
		return
	}
	seen := map[string]int{}
	for _, kv := range pairs {
		name := kv.Key.GetToken().Value
		key := prefix + name
		at := r.at(kv.Key, where+key)
		if first, twice := seen[name]; twice {
			r.mistakes.add(at, "given twice; first in line %d", first)
			continue
		}
		seen[name] = at.Line
		if special != nil && special(kv) {
			continue
		}
		_, section := pairsOf(kv.Value)
		if s, ok := allowed[key]; ok && (s.short != key || !section) {
			if vs := r.values(s, kv, at); len(vs) > 0 {
				l[s.flag] = vs
			}
			continue
		}
		if isSection(key, allowed) {
			r.mapping(kv.Value, where, key+".", allowed, l, nil)
			continue
		}
		r.unknown(at, key, where, allowed)
	}
}

// unknown reports a key that is no setting.
func (r reader) unknown(at Origin, key, where string, allowed map[string]setting) {
	for _, s := range settings() {
		if s.scope == ofProcess && (s.key == key || s.short == key) && where != "" {
			r.mistakes.add(at, "is of the whole process; want it at the top level")
			return
		}
	}
	var known []string
	for k := range allowed {
		known = append(known, k)
	}
	if where == "" {
		known = append(known, listMasters, listWebhooks)
	}
	hint := didYouMean(key, sorted(known))
	if hint == "" {
		hint = "; want one of " + strings.Join(sorted(known), ", ")
	}
	r.mistakes.add(at, "no such setting%s", hint)
}

// values returns a setting's values: one, or a list where it may repeat.
func (r reader) values(s setting, kv *ast.MappingValueNode, at Origin) []text {
	if v, ok := scalar(kv.Value); ok {
		return []text{{value: v, origin: at}}
	}
	seq, isList := kv.Value.(*ast.SequenceNode)
	if !isList || !s.repeat {
		r.mistakes.add(at, "found %s; %s", describe(kv.Value), s.want)
		return nil
	}
	switch {
	case len(seq.Values) > 0:
	case s.none != "":
		return []text{{value: s.none, origin: at}}
	default:
		r.mistakes.add(at, "found an empty list; %s", s.want)
	}
	var vs []text
	for i, item := range seq.Values {
		o := r.at(item, indexed(at.Key, i))
		if v, ok := scalar(item); ok {
			vs = append(vs, text{value: v, origin: o})
		} else {
			r.mistakes.add(o, "found %s; %s", describe(item), s.want)
		}
	}
	return vs
}

// at returns a node's origin.
func (r reader) at(n ast.Node, key string) Origin {
	o := Origin{File: r.file, Key: key}
	if n != nil {
		o.Line = line(n.GetToken())
	}
	return o
}

func line(t *token.Token) int {
	if t == nil || t.Position == nil {
		return 0
	}
	return t.Position.Line
}
