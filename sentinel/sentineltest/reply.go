package sentineltest

import (
	"fmt"
	"strings"

	"github.com/tidwall/redcon"
)

// reply builds one reply in the protocol its reader speaks.
type reply struct {
	b     []byte
	resp3 bool
}

func (r *reply) simple(s string)    { r.b = redcon.AppendString(r.b, s) }
func (r *reply) integer(n int64)    { r.b = redcon.AppendInt(r.b, n) }
func (r *reply) bulk(s string)      { r.b = redcon.AppendBulkString(r.b, s) }
func (r *reply) array(n int)        { r.b = redcon.AppendArray(r.b, n) }
func (r *reply) raw(b []byte)       { r.b = append(r.b, b...) }
func (r *reply) err(text string)    { r.b = append(r.b, "-"+text+"\r\n"...) }
func (r *reply) head(c byte, n int) { r.b = fmt.Appendf(r.b, "%c%d\r\n", c, n) }
func (r *reply) null(resp2 string)  { r.b = append(r.b, r.either(resp2, "_\r\n")...) }
func (r *reply) nullBulk()          { r.null("$-1\r\n") }
func (r *reply) nullArray()         { r.null("*-1\r\n") }
func (r *reply) wrongArity(of string) {
	r.err("ERR wrong number of arguments for '" + of + "' command")
}

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

// pairs writes a map of strings, in order. len(kv) is even.
func (r *reply) pairs(kv ...string) {
	r.dict(len(kv) / 2)
	for _, s := range kv {
		r.bulk(s)
	}
}

// unknown answers a command nobody knows, in Redis 7's words.
func (r *reply) unknown(args []string) {
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= 128 {
			break
		}
		fmt.Fprintf(&b, "'%.*s' ", 128-b.Len(), a)
	}
	r.err(fmt.Sprintf("ERR unknown command '%.128s', with args beginning with: %s", oneLine(args[0]), oneLine(b.String())))
}

func (r *reply) unknownSub(container, sub string) {
	r.err(fmt.Sprintf("ERR unknown subcommand '%.128s'. Try %s HELP.", oneLine(sub), container))
}

func oneLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
}
