package doctor

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// skew is how far clocks may differ.
const skew = time.Second

// beyond reports whether a clock differs by more than skew, whatever the way to it took.
func (c Clock) beyond() bool { return c.Known && c.Ahead.Abs()-c.Error > skew }

// way says where a clock that differs is, seen from ours.
func (c Clock) way() string {
	if c.Ahead < 0 {
		return "behind"
	}
	return "ahead of"
}

// timed is somebody's clock.
type timed struct {
	Clock

	addr topology.Addr
	what string // it is about, for people
}

// judgeClocks compares the others' clocks with ours, as well as the way to them allows.
// Where all of several differ from ours in the same direction, ours is the one to set.
func judgeClocks(n *notes, f Facts) {
	var all []timed
	for _, s := range f.Sentinels {
		all = append(all, timed{s.Clock, s.Addr, "the times in its log differ from those in ours, and certificates are judged differently"})
	}
	for _, node := range f.Nodes {
		all = append(all, timed{node.Clock, node.Addr, "keys with a deadline (EXPIREAT, SET … EXAT) end at another time than clients mean, also after a failover, and certificates are judged differently"})
	}
	all = slices.DeleteFunc(all, func(t timed) bool { return !t.Known })
	if len(all) == 0 {
		if len(f.Nodes) > 0 || len(f.Sentinels) > 0 {
			n.add(Info, "clock", "", "", "nobody told the time, so that clocks can't be compared")
		}
		return
	}
	if off, ours := oursIsOff(all); ours {
		n.add(Warning, "clock", "", "NTP on this machine", "all %d others' clocks are %v or more %s the one here: event times, certificates' ends and deadlines of keys are judged wrongly here",
			len(all), off.Ahead.Abs().Round(100*time.Millisecond), off.way())
		return
	}
	for _, t := range all {
		if t.beyond() {
			n.add(Warning, "clock", string(t.addr), "NTP on both machines", "its clock is %v %s ours: %s", t.Ahead.Abs().Round(100*time.Millisecond), t.way(), t.what)
		}
	}
}

// oursIsOff reports whether several clocks all differ from ours in one direction, and the
// one that does least.
func oursIsOff(all []timed) (least Clock, ours bool) {
	least = all[0].Clock
	for _, t := range all {
		if !t.beyond() || (t.Ahead < 0) != (least.Ahead < 0) {
			return Clock{}, false
		}
		if t.Ahead.Abs() < least.Ahead.Abs() {
			least = t.Clock
		}
	}
	return least, len(all) > 1
}

// JudgeAdmin looks at the TLS files of the admin server, which is no master's.
func JudgeAdmin(t config.TLS, now time.Time, warnDays int) []Finding {
	n := &notes{}
	_, files := readLeg("", "admin.tls", t, nil)
	judgeTLS(n, Facts{At: now, Files: files}, warnDays)
	return n.list
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
			n.add(Warning, "tls-expiry", subject, remedy, "a certificate ends on %s, in %d days", day, int((left+24*time.Hour-1)/(24*time.Hour))) // begun ones included, as in events
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
