package drill

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// Final is what the last master holds of a workload once it has stopped and the
// group is whole again.
type Final struct {
	Present  []map[int64]bool // for each client the writes, by number, that are there
	Counters []int64          // of each client; 0 where there is none
	Lists    [][]int64        // of each client
	Queue    []int64          // items that nobody has popped
}

// readFinal asks the master at addr for all that h's commands may have left
// behind. load is the one that h is of.
func readFinal(ctx context.Context, addr string, login Login, load Load, h History) (Final, error) {
	c, err := dialAs(ctx, addr, login, 30*time.Second, 0)
	if err != nil {
		return Final{}, err
	}
	defer c.close()
	f := Final{
		Present:  make([]map[int64]bool, load.Clients),
		Counters: make([]int64, load.Clients),
		Lists:    make([][]int64, load.Clients),
	}
	for i := range load.Clients {
		if f.Present[i], err = present(c, load, i, h.Clients[i]); err != nil {
			return f, fmt.Errorf("read back the writes: %w", err)
		}
		v, err := c.pipeline([][]string{
			{"GET", counterKey(load.Prefix, i)},
			{"LRANGE", listKey(load.Prefix, i), "0", "-1"},
		})
		if err != nil {
			return f, fmt.Errorf("read back counters and lists: %w", err)
		}
		f.Counters[i], f.Lists[i] = v[0].Int(), numbers(v[1])
	}
	v, err := c.pipeline([][]string{{"LRANGE", load.Prefix + "q", "0", "-1"}})
	if err != nil {
		return f, fmt.Errorf("read back the queue: %w", err)
	}
	f.Queue = numbers(v[0])
	return f, nil
}

// present returns which of a client's writes are there, the refused included.
func present(c *conn, load Load, client int, ops []Op) (map[int64]bool, error) {
	const batch = 512
	there := make(map[int64]bool)
	var asked []int64
	var commands [][]string
	ask := func() error {
		replies, err := c.pipeline(commands)
		if err != nil {
			return err
		}
		for i, v := range replies {
			if v.Int() == 1 {
				there[asked[i]] = true
			}
		}
		asked, commands = asked[:0], commands[:0]
		return nil
	}
	for _, op := range ops {
		if op.Kind != OpWrite {
			continue
		}
		asked = append(asked, op.Arg)
		commands = append(commands, []string{"EXISTS", writeKey(load.Prefix, client, op.Arg)})
		if len(commands) == batch {
			if err := ask(); err != nil {
				return nil, err
			}
		}
	}
	return there, ask()
}

// numbers reads an array of integers.
func numbers(v resp.Value) []int64 {
	all := make([]int64, 0, len(v.Elem))
	for _, e := range v.Elem {
		n, err := strconv.ParseInt(string(e.Str), 10, 64)
		if err != nil {
			n = 0 // nothing of ours: the checker reports it as never written
		}
		all = append(all, n)
	}
	return all
}
