package health

import (
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// What a check says, and what is believed of it and since when, look by look.
func TestLedger(t *testing.T) {
	const ms = time.Millisecond
	type look struct {
		at    time.Duration
		ok    bool
		about string
		want  bool
		since time.Duration
	}
	for name, tt := range map[string]struct {
		sustain topology.Sustain
		looks   []look
	}{
		"at once": {topology.Sustain{}, []look{
			{0, true, "", true, 0}, {10 * ms, false, "", false, 10 * ms}, {20 * ms, false, "", false, 10 * ms}, {30 * ms, true, "", true, 30 * ms},
		}},
		"first look counts": {topology.Sustain{Bad: time.Second}, []look{
			{0, false, "", false, 0}, {10 * ms, true, "", true, 10 * ms},
		}},
		"a moment is no change": {topology.Sustain{Bad: time.Second}, []look{
			{0, true, "", true, 0},
			{900 * ms, false, "", true, 0},
			{1800 * ms, true, "", true, 0},
			{1900 * ms, false, "", true, 0},
			{2800 * ms, false, "", true, 0},
			{2900 * ms, false, "", false, 1900 * ms},
		}},
		"good again must last": {topology.Sustain{Good: time.Second}, []look{
			{0, true, "", true, 0},
			{100 * ms, false, "", false, 100 * ms},
			{200 * ms, true, "", false, 100 * ms},
			{300 * ms, false, "", false, 100 * ms},
			{400 * ms, true, "", false, 100 * ms},
			{1400 * ms, true, "", true, 400 * ms},
		}},
		"another master is another story": {topology.Sustain{Good: time.Hour}, []look{
			{0, false, "a 1", false, 0}, {10 * ms, true, "a 1", false, 0}, {20 * ms, true, "b 2", true, 20 * ms},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var l ledger
			start := time.Unix(0, 0)
			for _, k := range tt.looks {
				got := l.judge(start.Add(k.at), "g", topology.Check{Name: "c", OK: k.ok, About: k.about, Sustain: tt.sustain})
				if got.OK != k.want || !got.Since.Equal(start.Add(k.since)) {
					t.Errorf("at %v: ok %v since %v; want %v since %v", k.at, got.OK, got.Since.Sub(start), k.want, k.since)
				}
			}
		})
	}
}

func TestLedgerKeepsChecksApart(t *testing.T) {
	var l ledger
	start := time.Unix(0, 0)
	l.judge(start, "a", topology.Check{Name: "c", OK: true})
	if got := l.judge(start.Add(1), "b", topology.Check{Name: "c"}); got.OK || !got.Since.Equal(start.Add(1)) {
		t.Errorf("group b: %+v", got)
	}
	said := start.Add(-time.Hour)
	if got := l.judge(start.Add(2), "a", topology.Check{Name: "c", OK: true, Since: said}); !got.Since.Equal(said) {
		t.Errorf("since %v; want what the check itself says", got.Since)
	}
}
