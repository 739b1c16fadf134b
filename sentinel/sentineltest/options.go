package sentineltest

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options describe a group. The zero value is one master, two replicas and
// three Sentinels, with a failover that takes about two seconds.
type Options struct {
	Name      string // what the Sentinels call the group; default "mymaster"
	Host      string // where all listen, and what they announce; default "127.0.0.1"
	Replicas  int    // default 2; -1 for none
	Sentinels int    // default 3
	Quorum    int    // for +odown; default: more than half of the Sentinels

	// DownAfter is how long after Kill the Sentinels call a node down, and what
	// they show as down-after-milliseconds; default 1 s.
	DownAfter time.Duration

	Password string            // of the data nodes' default user; "" lets everybody in
	Users    map[string]string // further users of the data nodes and their passwords

	SentinelUsername string // the Sentinels' only user if set; else SentinelPassword is the default user's
	SentinelPassword string // "" lets everybody in

	// The timeline of a failover: each is the pause since the step before it.
	// Zero means the default, which is near what Sentinel was measured to take
	// (in brackets, if shortened). The parts of a second that Sentinel spends
	// on election and selection are within PromoteAfter.
	PromoteAfter      time.Duration // +try-failover to the candidate being master; default 180 ms
	ConfirmAfter      time.Duration // to the leader's +promoted-slave; default 900 ms
	AgreeAfter        time.Duration // to +switch-master on the others; default 75 ms
	LeaderSwitchAfter time.Duration // to +switch-master on the leader; default 1 s
	DemoteAfter       time.Duration // to the old master's demotion; default 2 s (9 s)

	Log *slog.Logger // what happens to the group; default: nothing is logged
}

// Fast returns Options whose failover is over within a quarter of a second and
// whose nodes are down 100 ms after Kill. Its steps keep their order, and gaps
// that a poll every few milliseconds can see.
func Fast() Options {
	return Options{
		DownAfter:         100 * time.Millisecond,
		PromoteAfter:      30 * time.Millisecond,
		ConfirmAfter:      50 * time.Millisecond,
		AgreeAfter:        15 * time.Millisecond,
		LeaderSwitchAfter: 50 * time.Millisecond,
		DemoteAfter:       80 * time.Millisecond,
	}
}

// complete checks o, reports every problem, and returns o with its defaults.
func (o Options) complete() (Options, error) {
	setDefault(&o.Name, "mymaster")
	setDefault(&o.Host, "127.0.0.1")
	setDefault(&o.Replicas, 2)
	setDefault(&o.Sentinels, 3)
	setDefault(&o.Quorum, o.Sentinels/2+1)
	setDefault(&o.DownAfter, time.Second)
	setDefault(&o.PromoteAfter, 180*time.Millisecond)
	setDefault(&o.ConfirmAfter, 900*time.Millisecond)
	setDefault(&o.AgreeAfter, 75*time.Millisecond)
	setDefault(&o.LeaderSwitchAfter, time.Second)
	setDefault(&o.DemoteAfter, 2*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Replicas == -1 {
		o.Replicas = 0
	}

	var errs []error
	if o.Replicas < 0 {
		errs = append(errs, fmt.Errorf("option Replicas: want -1 or more, got %d", o.Replicas))
	}
	if o.Sentinels < 1 {
		errs = append(errs, fmt.Errorf("option Sentinels: want 1 or more, got %d", o.Sentinels))
	}
	if o.Quorum < 1 || o.Quorum > o.Sentinels {
		errs = append(errs, fmt.Errorf("option Quorum: want 1 to %d, got %d", o.Sentinels, o.Quorum))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"DownAfter", o.DownAfter},
		{"PromoteAfter", o.PromoteAfter},
		{"ConfirmAfter", o.ConfirmAfter},
		{"AgreeAfter", o.AgreeAfter},
		{"LeaderSwitchAfter", o.LeaderSwitchAfter},
		{"DemoteAfter", o.DemoteAfter},
	} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("option %s: want more than 0, got %v", d.name, d.d))
		}
	}
	if o.SentinelUsername != "" && o.SentinelPassword == "" {
		errs = append(errs, errors.New("option SentinelUsername: SentinelPassword is missing"))
	}
	return o, errors.Join(errs...)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
