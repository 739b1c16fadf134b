package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// queue is a list that one client fills and another empties by blocking pops.
type queue struct {
	key    string
	pushed int64 // owned by the pusher
}

func (q *queue) push(c *client, conn *conn) error {
	q.pushed++
	_, err := c.exec(conn, Op{Kind: OpPush, Arg: q.pushed}, nil, "RPUSH", q.key, decimal(q.pushed))
	if err != nil {
		return err
	}
	return c.renew(conn, q.key) // a queue that was empty is a new key, without an end to its life
}

// pop waits for an item, a second at most, so that a stop is soon noticed.
func (q *queue) pop(c *client, conn *conn) error {
	_, err := c.exec(conn, Op{Kind: OpPop}, func(v resp.Value) int64 {
		if len(v.Elem) != 2 {
			return 0
		}
		return v.Elem[1].Int()
	}, "BLPOP", q.key, "1")
	return err
}

// news is a channel with a publisher and a subscriber.
type news struct {
	channel   string
	published int64 // owned by the publisher
}

func (n *news) publish(c *client, conn *conn) error {
	n.published++
	_, err := c.exec(conn, Op{Kind: OpPublish, Arg: n.published}, number, "PUBLISH", n.channel, decimal(n.published))
	return err
}

// subscribe records messages until ctx ends, on a new connection where one was
// lost.
func (n *news) subscribe(ctx context.Context, c *client) {
	for ctx.Err() == nil {
		if err := n.listen(ctx, c); err != nil && ctx.Err() == nil {
			c.lost(err)
			_ = pause(ctx, 20*time.Millisecond+rand.N(30*time.Millisecond)) // its end is seen above
		}
	}
}

func (n *news) listen(ctx context.Context, c *client) error {
	conn, err := dialAs(ctx, c.load.Addr, c.load.Login, c.load.Timeout, 0)
	if err != nil {
		return err
	}
	defer conn.close()
	v, err := conn.do("SUBSCRIBE", n.channel)
	if err == nil && v.Type == '-' {
		err = fmt.Errorf("SUBSCRIBE: %s", v.Str)
	}
	if err != nil {
		return err
	}
	// Silence is no error from here on: nothing is published during a failover.
	if err := conn.nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("stopped") // the watch on ctx may have been undone above
	}
	for {
		v, err := conn.receive()
		if err != nil {
			return err
		}
		if len(v.Elem) == 3 && string(v.Elem[0].Str) == "message" {
			at := c.now()
			c.record.add(Op{Kind: OpMessage, Begin: at, End: at, Got: v.Elem[2].Int(), Outcome: OK})
		}
	}
}
