package endpoint

import (
	"fmt"
	"strings"

	"github.com/tidwall/redcon"
)

// reply builds replies in the protocol that their reader speaks.
type reply struct {
	b     []byte
	resp3 bool
}

func (r *reply) simple(s string)    { r.b = redcon.AppendString(r.b, s) }
func (r *reply) integer(n int64)    { r.b = redcon.AppendInt(r.b, n) }
func (r *reply) bulk(s string)      { r.b = redcon.AppendBulkString(r.b, s) }
func (r *reply) array(n int)        { r.b = redcon.AppendArray(r.b, n) }
func (r *reply) err(text string)    { r.b = append(r.b, "-"+oneLine(text)+"\r\n"...) }
func (r *reply) head(c byte, n int) { r.b = fmt.Appendf(r.b, "%c%d\r\n", c, n) }

// nullBulk and nullArray are one null in RESP3.
func (r *reply) nullBulk()  { r.b = append(r.b, r.either("$-1\r\n", "_\r\n")...) }
func (r *reply) nullArray() { r.b = append(r.b, r.either("*-1\r\n", "_\r\n")...) }

func (r *reply) either(resp2, resp3 string) string {
	if r.resp3 {
		return resp3
	}
	return resp2
}

// dict begins a map of n pairs: a flat array in RESP2.
func (r *reply) dict(n int) {
	if r.resp3 {
		r.head('%', n)
		return
	}
	r.array(2 * n)
}

// pairs writes a map of strings, in order. len(kv) is even.
func (r *reply) pairs(kv []string) {
	r.dict(len(kv) / 2)
	r.bulks(kv)
}

// strings writes an array of strings.
func (r *reply) strings(list []string) {
	r.array(len(list))
	r.bulks(list)
}

func (r *reply) bulks(list []string) {
	for _, s := range list {
		r.bulk(s)
	}
}

// push begins an out-of-band message of n elements: a plain array in RESP2.
func (r *reply) push(n int) {
	if r.resp3 {
		r.head('>', n)
		return
	}
	r.array(n)
}

// text writes what Redis calls verbatim text: a bulk string in RESP2.
func (r *reply) text(s string) {
	if r.resp3 {
		r.b = fmt.Appendf(r.b, "=%d\r\ntxt:%s\r\n", len(s)+4, s)
		return
	}
	r.bulk(s)
}

func (r *reply) wrongArity(of string) {
	r.err("ERR wrong number of arguments for '" + of + "' command")
}

// unknown answers a command nobody knows, in Redis 7's words.
func (r *reply) unknown(args []string) {
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= 128 {
			break
		}
		fmt.Fprintf(&b, "'%s' ", cut(a, 128-b.Len()))
	}
	r.err("ERR unknown command '" + cut(args[0], 128) + "', with args beginning with: " + b.String())
}

func (r *reply) unknownSub(container, sub string) {
	r.err("ERR unknown subcommand '" + cut(sub, 128) + "'. Try " + container + " HELP.")
}

// refused answers what only a real Sentinel can do.
func (r *reply) refused(what string) {
	r.err("ERR '" + what + "' is refused by the proxy: ask a Sentinel itself (sentinelproxy)")
}

// cut returns at most n bytes of s.
func cut(s string, n int) string { return s[:min(len(s), n)] }

// oneLine keeps an error reply a line, as Redis does.
func oneLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
}
