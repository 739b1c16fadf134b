package evloop

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeepalive(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, tt := range []struct {
		k                             Keepalive
		on, idle, interval, giveUpSec int
	}{
		{Keepalive{Idle: 300 * time.Second}, 1, 300, 100, 0},
		{Keepalive{Idle: time.Minute, Unacked: true}, 1, 60, 20, 120},
		{Keepalive{Idle: time.Second}, 1, 1, 1, 0},
		{Keepalive{}, 0, -1, -1, 0},
	} {
		s, err := Detach(dial(t, ln.Addr()), DriverEpoll)
		if err != nil {
			t.Fatal(err)
		}
		s.SetKeepalive(tt.k)
		for what, o := range map[string]struct{ level, option, want int }{
			"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE, tt.on},
			"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, tt.idle},
			"TCP_KEEPINTVL":    {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, tt.interval},
			"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1000 * tt.giveUpSec},
		} {
			got, err := unix.GetsockoptInt(s.fd, o.level, o.option)
			if err != nil || o.want >= 0 && got != o.want {
				t.Errorf("%+v: %s is %d, %v; want %d", tt.k, what, got, err, o.want)
			}
		}
		s.Close()
	}
}
