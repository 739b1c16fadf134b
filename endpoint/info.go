package endpoint

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// info answers INFO with the sections that clients and exporters read of a
// Sentinel. It is no verbatim text in RESP3, unlike a data node's.
func (s *session) info(r *reply, args []string) {
	d := s.dir
	var parts []string
	if wants(args[1:], "server") {
		uptime := (d.now() - d.since) / time.Second
		parts = append(parts, fmt.Sprintf("# Server\r\nredis_version:%s\r\nredis_mode:sentinel\r\nprocess_id:%d\r\nrun_id:%s\r\ntcp_port:%d\r\n"+
			"uptime_in_seconds:%d\r\nuptime_in_days:%d\r\nsentinelproxy:1\r\n", version, os.Getpid(), d.id, d.port, uptime, uptime/(24*60*60)))
	}
	if wants(args[1:], "sentinel") {
		list := d.located(s.local)
		var b strings.Builder
		fmt.Fprintf(&b, "# Sentinel\r\nsentinel_masters:%d\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\nsentinel_running_scripts:0\r\n"+
			"sentinel_scripts_queue_length:0\r\nsentinel_simulate_failure_flags:0\r\n", len(list))
		for i, l := range list {
			fmt.Fprintf(&b, "master%d:name=%s,status=ok,address=%s:%d,slaves=0,sentinels=1\r\n", i, l.Name, l.host, l.port)
		}
		parts = append(parts, b.String())
	}
	r.bulk(strings.Join(parts, "\r\n"))
}

func wants(asked []string, section string) bool {
	for _, a := range asked {
		switch strings.ToLower(a) {
		case section, "all", "default", "everything":
			return true
		}
	}
	return len(asked) == 0
}
