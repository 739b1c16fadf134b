package doctor

import (
	"crypto/x509"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// skew is how far clocks may differ.
const skew = 2 * time.Second

// judgeClocks compares the others' clocks with ours, as well as the way to them allows.
func judgeClocks(n *notes, f Facts) {
	look := func(a topology.Addr, c Clock) {
		if c.Known && c.Ahead.Abs()-c.Error > skew {
			way := "ahead of"
			if c.Ahead < 0 {
				way = "behind"
			}
			n.add(Warning, "clock", string(a), "NTP on both machines", "its clock is %v %s ours: keys expire at another time after a failover, and certificates are judged differently", c.Ahead.Abs().Round(100*time.Millisecond), way)
		}
	}
	for _, s := range f.Sentinels {
		look(s.Addr, s.Clock)
	}
	for _, node := range f.Nodes {
		look(node.Addr, node.Clock)
	}
}

// judgeTLS looks at when certificates end: ours, and those that were shown.
func judgeTLS(n *notes, f Facts, warnDays int) {
	look := func(subject, remedy string, ends time.Time) {
		left := ends.Sub(f.At)
		day := ends.UTC().Format("2006-01-02 15:04 MST")
		switch {
		case left <= 0:
			n.add(Error, "tls-expiry", subject, remedy, "a certificate ended on %s", day)
		case left < time.Duration(warnDays)*24*time.Hour:
			n.add(Warning, "tls-expiry", subject, remedy, "a certificate ends on %s, in %d days", day, int(left.Hours()/24))
		default:
			n.add(Info, "tls-expiry", subject, "", "the certificates are good until %s", day)
		}
	}
	for _, file := range f.Files {
		if file.Err != "" {
			n.add(Error, "tls-file", file.Path, "see docs/tls.md", "%s", file.Err)
			continue
		}
		look(file.Path, "renew it; a changed file is noticed by itself", file.Ends)
	}
	for _, c := range f.Chains {
		if len(c.Certs) > 0 {
			look(c.Addr, "renew it on that node", firstEnd(c.Certs))
		}
	}
}

// firstEnd returns when the first of some certificates ends.
func firstEnd(list []*x509.Certificate) time.Time {
	ends := list[0].NotAfter
	for _, c := range list[1:] {
		if c.NotAfter.Before(ends) {
			ends = c.NotAfter
		}
	}
	return ends
}
