package redistest

import (
	"context"
	"fmt"
	"net"
)

// claim marks a port as taken among the processes of this network namespace.
// It is a listening socket in the abstract Unix namespace: it leaves no file
// behind, and the kernel drops it when its process dies.
type claim struct{ l net.Listener }

func claimPort(ctx context.Context, n int) (claim, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", fmt.Sprintf("@sentinelproxy-redistest-port-%d", n))
	return claim{l}, err
}

func (c claim) release() error { return c.l.Close() }
