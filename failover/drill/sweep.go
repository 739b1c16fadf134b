package drill

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// unlinkBatch is how many keys are removed by one command.
const unlinkBatch = 512

// removeOwn removes all keys that h's commands may have left behind, by name: a
// group may be others' too.
func removeOwn(ctx context.Context, addr string, login Login, load Load, h History) error {
	c, err := dialAs(ctx, addr, login, 30*time.Second, 0)
	if err != nil {
		return err
	}
	defer c.close()
	names := []string{load.Prefix + "q"}
	for i := range load.Clients {
		names = append(names, counterKey(load.Prefix, i), listKey(load.Prefix, i), registerKey(load.Prefix, uint32(i)))
	}
	h.each(OpWrite, func(client int, op Op) { names = append(names, writeKey(load.Prefix, client, op.Arg)) })
	return unlink(c, names)
}

func unlink(c *conn, names []string) error {
	for len(names) > 0 {
		n := min(len(names), unlinkBatch)
		if _, err := c.ask(append([]string{"UNLINK"}, names[:n]...)...); err != nil {
			return fmt.Errorf("UNLINK: %w", err)
		}
		names = names[n:]
	}
	return nil
}

// sweep removes the keys that begin with prefix, which has no pattern's
// characters. It is for those who do not know the names: it walks all keys.
func sweep(ctx context.Context, addr string, login Login, prefix string) error {
	c, err := dialAs(ctx, addr, login, 30*time.Second, 0)
	if err != nil {
		return err
	}
	defer c.close()
	const perStep = 1000
	for cursor := "0"; ; {
		v, err := c.ask("SCAN", cursor, "MATCH", prefix+"*", "COUNT", strconv.Itoa(perStep))
		if err != nil {
			return fmt.Errorf("SCAN: %w", err)
		}
		if len(v.Elem) != 2 {
			return fmt.Errorf("SCAN: unexpected reply of %d elements", len(v.Elem))
		}
		var names []string
		for _, e := range v.Elem[1].Elem {
			names = append(names, string(e.Str))
		}
		if err := unlink(c, names); err != nil {
			return err
		}
		if cursor = string(v.Elem[0].Str); cursor == "0" {
			return nil
		}
	}
}
