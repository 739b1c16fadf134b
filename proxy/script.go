package proxy

import (
	"bytes"
	"container/list"
	"crypto/sha1" //nolint:gosec // the name that Redis gives to a script
	"encoding/hex"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// The bounds of what a worker remembers of scripts: past them, those that were not
// used for the longest time go.
const (
	maxScripts     = 1024
	maxScriptBytes = 4 << 20
	maxScriptBody  = 256 << 10 // a larger one is not kept
)

// scripts remembers the bodies of Lua scripts that passed by. A new master does
// not know the scripts of the old one (the script cache is not replicated), and
// clients that call them by their name alone would be told so. The zero value is
// ready. It is owned by its worker's loop.
type scripts struct {
	bySHA  map[string]*list.Element // of script
	byBody map[string]*list.Element
	recent list.List // the last used in front
	bytes  int
}

type script struct{ sha, body string }

// add remembers a body.
func (c *scripts) add(body []byte) {
	if len(body) > maxScriptBody {
		return
	}
	if e := c.byBody[string(body)]; e != nil { // as a rule: no hash is computed
		c.recent.MoveToFront(e)
		return
	}
	if c.bySHA == nil {
		c.bySHA, c.byBody = make(map[string]*list.Element), make(map[string]*list.Element)
	}
	sum := sha1.Sum(body) //nolint:gosec // as above
	s := script{sha: hex.EncodeToString(sum[:]), body: string(body)}
	e := c.recent.PushFront(s)
	c.bySHA[s.sha], c.byBody[s.body] = e, e
	c.bytes += len(s.body)
	for c.bytes > maxScriptBytes || c.recent.Len() > maxScripts {
		old, _ := c.recent.Remove(c.recent.Back()).(script)
		delete(c.bySHA, old.sha)
		delete(c.byBody, old.body)
		c.bytes -= len(old.body)
	}
}

// body returns the script of a name, in upper or lower case.
func (c *scripts) body(sha []byte) (string, bool) {
	e := c.bySHA[strings.ToLower(string(sha))]
	if e == nil {
		return "", false
	}
	c.recent.MoveToFront(e)
	s, ok := e.Value.(script)
	return s.body, ok
}

// noteScript remembers the script that a command carries.
func (w *worker) noteScript(frame []byte, cmd *command) {
	_, pos := resp.Arg(frame, 0)
	switch cmd.name {
	case "EVAL", "EVAL_RO":
	case "SCRIPT|LOAD":
		_, pos = resp.Arg(frame, pos)
	default:
		return
	}
	if body, next := resp.Arg(frame, pos); next > 0 {
		w.scripts.add(body)
	}
}

// forgetScripts forgets the bodies on every loop: they were to go.
func (w *worker) forgetScripts() {
	w.host.everywhere(func(w *worker, done func(found)) {
		w.scripts = scripts{}
		done(found{})
	}, func(found) {})
}

// withBody returns a call by name as a call by body: EVAL for EVALSHA. ok is false
// if it is none, or nobody has sent the body this way.
func (w *worker) withBody(frame []byte, cmd *command) (call []byte, ok bool) {
	name, isCall := strings.CutPrefix(cmd.name, "EVALSHA")
	if !isCall {
		return nil, false
	}
	args := resp.Args(nil, frame)
	if len(args) < 3 {
		return nil, false
	}
	body, ok := w.scripts.body(args[1])
	if !ok {
		return nil, false
	}
	args[0], args[1] = []byte("EVAL"+name), []byte(body)
	return resp.AppendCommand(nil, args...), true
}

// noScript reports whether Redis does not know the script of a call.
func noScript(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-NOSCRIPT No matching script"))
}
