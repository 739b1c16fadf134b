package events

import (
	"reflect"
	"slices"
	"strings"
)

// Entry is what is to be known of one kind.
type Entry struct {
	Kind Kind
	When string // it is published
	Do   string // for whoever reads it
	// Line is the log line that its publisher writes itself; "": [ToLog] writes one, with
	// the event's message as its text's facts.
	Line string

	body Body // its zero value
}

// Field is one field of a kind beside those that every event has.
type Field struct {
	Name string // in JSON
	Doc  string
}

// Catalogue returns every kind, in the order of docs/events.md.
func Catalogue() []Entry {
	list := []Entry{
		{
			body: RouteChanged{}, Line: "master switched, serving",
			When: "A master is served that was not before, or the same one at a new epoch.",
			Do:   "Nothing: a failover is over. Look at `took_ms` and its phases if clients complained.",
		},
		{
			body: RouteHeld{}, Line: "route holds",
			When: "Commands begin to wait. It is `info` for suspicions that mostly come to nothing and for switchovers, else `warning`.",
			Do:   "Nothing yet: `RouteReleased` follows, or `BreakerOpened`.",
		},
		{
			body: RouteReleased{}, Line: "master switched, hold cleared",
			When: "A hold is over and commands flow. Every `RouteHeld` has one.",
			Do:   "Nothing. Many of outcome `cleared` mean that something keeps looking like a failover: see `cause`.",
		},
		{
			body: RouteFenced{},
			When: "The lease ended: neither a majority of the Sentinels nor every replica confirms the master.",
			Do:   "It is a partition, or all of them are down. Bring the network or the Sentinels back; nothing is acknowledged meanwhile that could be lost.",
		},
		{
			body: BreakerOpened{}, Line: "circuit opened",
			When: "No master came back within `hold.max`.",
			Do:   "Bring Redis back: start with what the Sentinels say in `/api/v1/status`. Clients get what [the outage policy](outage.md) says.",
		},
		{
			body: BreakerClosed{},
			When: "A master is served again after `BreakerOpened`.",
			Do:   "Nothing.",
		},
		{
			body: SwitchoverBegun{}, Line: "switchover asked for",
			When: "A [switchover](switchover.md) was asked of this sidecar. Dry runs are not told.",
			Do:   "Nothing.",
		},
		{
			body: SwitchoverEnded{}, Line: "switchover ended",
			When: "A switchover is over. It is `info` when it is done, else `warning`.",
			Do:   "Read `error`; after `failed` look at who serves.",
		},
		{
			body: TwoMastersSeen{},
			When: "While one master is served, another node has said for two seconds that it is master; for fifteen, if it was the master before: after every failover Sentinel takes some ten to demote it. Told once until that node says otherwise.",
			Do:   "Find out why Sentinel does not demote it, and who writes there without a sidecar. `fence.demote: auto` has the sidecar demote it.",
		},
		{
			body: MasterRestarted{},
			When: "The master's process was restarted at the same address before it was replaced. It is `critical` if its replication offset fell, else `warning`.",
			Do:   "Find out who restarted it. With `offset_fell`, compare with the replicas' backups before they copy an empty master: let Sentinel's `down-after` be shorter than a restart.",
		},
		{
			body: OldMasterDemoted{}, Line: "old master demoted",
			When: "This sidecar made a deposed master a replica (`fence.demote: auto`, `follow: fast`, a switchover).",
			Do:   "Nothing.",
		},
		{
			body: ReplicaLost{},
			When: "A replica that the Sentinels list has not answered for five seconds.",
			Do:   "Bring it back: a group without replicas cannot fail over.",
		},
		{
			body: ReplicaBack{},
			When: "A lost replica answers again.",
			Do:   "Nothing.",
		},
		{
			body: ReplicaLagging{},
			When: "A replica has been more than ten seconds behind its master, as far as their replication offsets tell, and has been a replica for as long.",
			Do:   "Look at its network, disk and processor, and for a large write. If it is promoted now, those bytes are lost.",
		},
		{
			body: ReplicaCaughtUp{},
			When: "A replica that lagged is less than three seconds behind.",
			Do:   "Nothing.",
		},
		{
			body: SentinelLost{}, Line: "sentinel lost, sentinel unreachable",
			When: "A Sentinel that counts does not answer its poll.",
			Do:   "Bring it back while a majority is left; one that is gone for good must be forgotten with `SENTINEL RESET` on the others.",
		},
		{
			body: SentinelBack{}, Line: "sentinel back",
			When: "A lost Sentinel answers again.",
			Do:   "Nothing.",
		},
		{
			body: SentinelsDisagree{}, Line: "no majority among sentinels",
			When: "For two seconds no majority of the known Sentinels has named the same master at the same epoch.",
			Do:   "No failover can succeed. Bring Sentinels back, or forget dead entries; with `conflict` look for a partition.",
		},
		{
			body: SentinelsAgree{}, Line: "sentinels agree",
			When: "A majority names one master again after `SentinelsDisagree`.",
			Do:   "Nothing.",
		},
		{
			body: CertificateExpiringSoon{},
			When: "A certificate that the sidecar depends on ends within `certificates.warning_threshold_days`. Once per certificate and role in `certificates.event_cooldown_seconds`, which is kept in memory: a restart tells it again.",
			Do:   "Renew it. Changed files are noticed by themselves; nodes show theirs at the next connection.",
		},
		{
			body: CertificateExpired{},
			When: "Such a certificate has ended, also while connections made with it live on. Cooldown as above.",
			Do:   "Renew it now: every new connection fails, and after a failover all are new.",
		},
		{
			body: CertificateFilesRejected{}, Line: "changed tls files not loaded, the old ones stay in use",
			When: "Changed TLS files are missing, truncated, encrypted or do not fit each other.",
			Do:   "Correct the files; the old ones stay in use until they end.",
		},
		{
			body: SidecarStarted{}, Line: "sidecar started",
			When: "The sidecar listens.",
			Do:   "Nothing. One that comes often is a crash loop.",
		},
		{
			body: SidecarStopping{}, Line: "stopping",
			When: "The sidecar was asked to stop and drains.",
			Do:   "Nothing.",
		},
		{
			body: ConfigReloaded{}, Line: "configuration reloaded",
			When: "SIGHUP was taken.",
			Do:   "Restart when it suits, if `waiting` is not 0.",
		},
		{
			body: ConfigRejected{}, Line: "configuration not reloaded",
			When: "SIGHUP came with a configuration that has mistakes. What ran goes on.",
			Do:   "The log names each mistake.",
		},
		{
			body: DrillBegun{},
			When: "A [drill](drills.md) of this sidecar and its group begins, if it was given the sidecar's `control` settings.",
			Do:   "Nothing: what follows until `DrillEnded` was done on purpose.",
		},
		{
			body: DrillEnded{},
			When: "That drill is over. A drill that was killed does not say so.",
			Do:   "Read its report where the outcome is not `passed`.",
		},
	}
	for i := range list {
		list[i].Kind = KindOf(list[i].body)
	}
	return list
}

// Kinds lists the names of every kind.
func Kinds() []Kind {
	all := Catalogue()
	kinds := make([]Kind, 0, len(all))
	for _, e := range all {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// Known reports whether there is such a kind.
func Known(k Kind) bool { return slices.Contains(Kinds(), k) }

// Severities returns those that the kind can have.
func (e Entry) Severities() []Severity {
	switch e.body.(type) {
	case RouteHeld, SwitchoverEnded, DrillEnded:
		return []Severity{Info, Warning}
	case MasterRestarted:
		return []Severity{Warning, Critical}
	}
	return []Severity{e.body.tell().severity}
}

// Fields returns the kind's own fields, in the order of its JSON.
func (e Entry) Fields() []Field { return fieldsOf(reflect.TypeOf(e.body)) }

func fieldsOf(t reflect.Type) []Field {
	var fs []Field
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			fs = append(fs, fieldsOf(f.Type)...)
		case name != "-":
			fs = append(fs, Field{name, f.Tag.Get("doc")})
		}
	}
	return fs
}
