package sentineltest_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
)

// A program starts a group, writes to its master, and fails over.
func Example() {
	ctx := context.Background()
	group, err := sentineltest.Start(ctx, sentineltest.Fast())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = group.Close() }()

	sentinel := redis.NewSentinelClient(&redis.Options{Addr: string(group.SentinelAddrs()[0])})
	defer func() { _ = sentinel.Close() }()
	events := sentinel.Subscribe(ctx, "+switch-master")
	defer func() { _ = events.Close() }()
	if _, err := events.Receive(ctx); err != nil { // until the subscription is confirmed
		fmt.Println(err)
		return
	}

	old := group.MasterAddr()
	if err := group.Failover(ctx, ""); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println((<-events.Channel()).Channel)
	fmt.Println("moved:", group.MasterAddr() != old, "epoch:", group.Epoch())
	fmt.Println("the old master is now a", group.Node(old).Role())
	// Output:
	// +switch-master
	// moved: true epoch: 1
	// the old master is now a replica
}
