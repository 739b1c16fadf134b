package drill

import (
	"fmt"
	"strings"
	"time"
)

// Describe tells people what p will do to a group that others run, how long it
// takes, what is expected and what may go wrong.
func (p Plan) Describe(f Facts, r Remote, times int, slo SLO) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "drill %s of %q: %s\n", p.Kind, f.Group, p.Short)
	line("master", "%s", f.Master())
	line("replicas", "%s", f.fill("{replicas}"))
	line("Sentinels", "%d of %d, down-after %v, failover-timeout %v", len(f.Sentinels), f.Known, f.DownAfter(), f.FailoverTimeout())
	line("clients", "through %s, keys and channels %s*, about %s", r.Sidecar, r.Prefix, inBytes(f.Writes))
	if f.Sidecar.Status == nil {
		line("", "the sidecar's admin server does not answer (%s): its route will not be in the timeline", f.Sidecar.StatusErr)
	}
	steps := p.Steps
	if p.Remote != nil {
		steps = p.Remote
	}
	for i, s := range steps {
		name := ""
		if i == 0 {
			name = "steps"
		}
		line(name, "%d. %s", i+1, f.fill(s))
	}
	if p.Kind == KindPartition {
		line("", "--cut-cmd is %s", r.CutCmd)
		line("", "--heal-cmd is %s", r.HealCmd)
	}
	if times > 1 {
		line("", "%d times", times)
	}
	line("takes", "about %s", p.takes(f, times))
	line("expected", "%s", slo.String())
	line("worst case", "%s", f.fill(p.Worst))
	return b.String()
}

// fill names the nodes that a text is about.
func (f Facts) fill(text string) string {
	var replicas []string
	for _, n := range f.replicas() {
		replicas = append(replicas, string(n.Addr))
	}
	replica, sentinel := "a replica", "a Sentinel"
	if len(replicas) > 0 {
		replica = replicas[0]
	}
	for _, s := range f.Sentinels {
		if s.Err == "" {
			sentinel = string(s.Addr)
			break
		}
	}
	return strings.NewReplacer(
		"{master}", string(f.Master()), "{replica}", replica, "{replicas}", strings.Join(replicas, ", "),
		"{sentinel}", sentinel, "{failover-timeout}", f.FailoverTimeout().String(),
	).Replace(text)
}

// takes is a rough guess for people.
func (p Plan) takes(f Facts, times int) string {
	const demotion = 15 * time.Second // until an old master is a replica, with the workload's start and end
	one := demotion
	if p.Lossy {
		one += max(p.away, away) + f.DownAfter()
	}
	if p.Kind == KindRollingRestart {
		one += demotion * time.Duration(len(f.Nodes))
	}
	one *= time.Duration(max(1, times))
	if p.Needs.Automatic && times > 1 {
		one += time.Duration(times-1) * p.rest(f)
	}
	return one.Round(time.Second).String()
}

// rest is how long to wait between two rounds: Sentinels that began a failover
// begin no other by themselves within twice failover-timeout.
func (p Plan) rest(f Facts) time.Duration {
	if !p.Needs.Automatic {
		return 0
	}
	return 2*f.FailoverTimeout() + time.Second
}

// String tells the objectives on one line, those that allow nothing first.
func (s SLO) String() string {
	var none, some []string
	for _, o := range objectives() {
		limit, judged := s[o.name]
		switch {
		case !judged:
		case limit == 0:
			none = append(none, strings.TrimPrefix(o.name, "max-"))
		case timed(o.name):
			some = append(some, fmt.Sprintf("%s at most %s ms", strings.TrimPrefix(o.name, "max-"), plain(limit)))
		default:
			some = append(some, fmt.Sprintf("%s at most %s", strings.TrimPrefix(o.name, "max-"), plain(limit)))
		}
	}
	text := strings.Join(some, ", ")
	if len(none) > 0 {
		text = strings.TrimPrefix(text+"; no "+strings.Join(none, ", "), "; ")
	}
	return text
}
