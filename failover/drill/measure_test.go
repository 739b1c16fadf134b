package drill

import (
	"testing"
	"time"
)

func TestLongestPause(t *testing.T) {
	op := func(begin, end int, o Outcome) Op {
		return Op{Kind: OpRead, Begin: time.Duration(begin) * time.Millisecond, End: time.Duration(end) * time.Millisecond, Outcome: o}
	}
	for name, tt := range map[string]struct {
		ops  []Op
		want time.Duration
	}{
		"nothing sent":                 {nil, 0},
		"the time between is no pause": {[]Op{op(0, 1, OK), op(500, 502, OK)}, 2 * time.Millisecond},
		"one command held":             {[]Op{op(0, 1, OK), op(5, 1205, OK), op(1210, 1211, OK)}, 1200 * time.Millisecond},
		"errors until a success":       {[]Op{op(0, 1, OK), op(5, 6, Refused), op(10, 300, Unanswered), op(310, 320, OK)}, 315 * time.Millisecond},
		"no success any more":          {[]Op{op(0, 1, OK), op(5, 6, Refused), op(10, 300, Refused)}, 295 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			if got := longestPause(tt.ops); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	h := History{
		Took: 250 * time.Millisecond,
		Clients: [][]Op{
			{at(10, Op{Kind: OpWrite, Arg: 1}), at(120, Op{Kind: OpWrite, Arg: 2, Outcome: Refused})},
			{at(210, Op{Kind: OpRead, Arg: 1}), at(220, Op{Kind: OpPop})},
		},
		Disconnects: []time.Duration{130 * time.Millisecond, time.Hour},
	}
	p := measure(h)
	want := []Slice{{OK: 1, WorstMS: 1}, {Bad: 2}, {OK: 1, Bad: 1, WorstMS: 1}}
	if got, want := textOf(t, p.Series), textOf(t, want); got != want {
		t.Errorf("series %s; want %s", got, want)
	}
	if p.SilenceMS != 200 {
		t.Errorf("silence %v ms; want 200: from 11 to 211", p.SilenceMS)
	}
	if p.P50MS < 0.9 || p.MaxMS > 1.1 {
		t.Errorf("p50 %v ms, max %v ms; want about 1 each", p.P50MS, p.MaxMS)
	}
}

// A full record drops what comes and says so.
func TestRecordFull(t *testing.T) {
	r := &record{limit: chunkOps + 1}
	for i := range chunkOps + 3 {
		r.add(Op{Arg: int64(i + 1)})
	}
	h := join(time.Time{}, time.Second, []*record{r})
	if n := len(h.Clients[0]); n != chunkOps+1 || !h.Full {
		t.Errorf("%d commands, full %v; want %d, true", n, h.Full, chunkOps+1)
	}
	for i, op := range h.Clients[0] {
		if op.Arg != int64(i+1) {
			t.Fatalf("command %d is number %d", i, op.Arg)
		}
	}
	if b := (SLO{}).judge(Column{Incomplete: true}); len(b) != 1 {
		t.Errorf("breaches %q; want one, for the full record", b)
	}
}

func TestTimeline(t *testing.T) {
	const s = time.Second
	marks := []Mark{
		{At: 1 * s, What: MarkFault, Addr: "a:1", Detail: "planned"},
		{At: 2 * s, What: MarkHold, Addr: "a:1"},
		{At: 3 * s, What: MarkRoute, Addr: "a:1"}, // a false alarm
		{At: 4 * s, What: MarkMaster, Addr: "b:1", LagBytes: 7},
		{At: 5 * s, What: MarkMajority, Addr: "b:1"},
		{At: 5 * s, What: MarkSwitched},
		{At: 6 * s, What: MarkRoute, Addr: "b:1"},
		{At: 8 * s, What: MarkSwitched},
		{At: 20 * s, What: MarkFault, Addr: "b:1", Detail: "again"},
		{At: 20500 * time.Millisecond, What: MarkRoute, Addr: "a:1"}, // the sidecar saw it first
		{At: 21 * s, What: MarkMaster, Addr: "a:1"},
	}
	h := History{
		Took: 30 * s,
		Clients: [][]Op{{
			{Kind: OpWrite, End: 2 * s, Outcome: Refused},
			{Kind: OpWrite, End: 7 * s, Outcome: OK},
			{Kind: OpWrite, End: 22 * s, Outcome: Refused},
		}},
	}
	got := failovers(marks, h)
	want := []Failover{
		{Fault: "planned", Switched: true, LagBytes: 7, Steps: []Step{
			{"fault", 0, 1000, "a:1"},
			{"route_held", 1000, 2000, "a:1"},
			{"last_error", 1000, 2000, ""},
			{"promoted", 3000, 4000, "b:1"},
			{"majority", 4000, 5000, "b:1"},
			{"switch_master", 4000, 5000, ""},
			{"route_switched", 5000, 6000, "b:1"},
			{"first_success", 6000, 7000, ""},
			{"switch_master_leader", 7000, 8000, ""},
		}},
		{Fault: "again", Switched: true, Steps: []Step{
			{"fault", 0, 20000, "b:1"}, {"route_switched", 500, 20500, "a:1"}, {"promoted", 1000, 21000, "a:1"}, {"last_error", 2000, 22000, ""},
		}},
	}
	if got, want := textOf(t, got), textOf(t, want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	changes := Plan{Lossy: true}.switches(marks, time.Second)
	if len(changes) != 2 || changes[0] != (Switch{Fault: s, Promoted: 4 * s, Lossy: true, LagBytes: 7}) || changes[1].Fault != 20*s {
		t.Errorf("switches %+v", changes)
	}
}
