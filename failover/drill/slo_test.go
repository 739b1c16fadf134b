package drill

import (
	"strings"
	"testing"
	"time"
)

func TestParseSLO(t *testing.T) {
	base := SLO{maxErrors: 0, maxLost: 0, maxPause: 2000}
	for name, tt := range map[string]struct {
		text string
		want SLO
		errs []string // what the error must say
	}{
		"nothing":        {"", base, nil},
		"the issue's":    {"max-errors=0,max-pause=3s,max-lost=0", SLO{maxErrors: 0, maxLost: 0, maxPause: 3000}, nil},
		"any":            {"max-lost=any, max-errors=5", SLO{maxErrors: 5, maxPause: 2000}, nil},
		"every mistake":  {"max-error=0,max-lost=-1,max-pause=3,max-errors", nil, []string{"max-error\"", "max-lost=-1", "max-pause=3:", "max-errors="}},
		"no fractions":   {"max-lost=0.5", nil, []string{"max-lost=0.5"}},
		"no time travel": {"max-pause=-3s", nil, []string{"max-pause=-3s"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSLO(tt.text, base)
			if len(tt.errs) == 0 {
				if err != nil || textOf(t, got) != textOf(t, tt.want) {
					t.Errorf("got %v, %v; want %v", got, err, tt.want)
				}
				return
			}
			for _, want := range tt.errs {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v; want one that names %q", err, want)
				}
			}
		})
	}
	if base[maxPause] != 2000 || len(base) != 3 {
		t.Errorf("base was changed: %v", base)
	}
}

func FuzzParseSLO(f *testing.F) {
	f.Add("max-errors=0,max-pause=3s,max-lost=any")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSLO(text, SLO{})
		for name, v := range s {
			if err == nil && (v < 0 || !strings.Contains(text, name)) {
				t.Errorf("%q gives %s=%v", text, name, v)
			}
		}
	})
}

// Every objective must be able to fail a drill, and each kind is held to those
// that no fault excuses.
func TestObjectives(t *testing.T) {
	bad := Column{
		Findings: Findings{
			Errors: 9, Fenced: 9, Uncertain: 99, Disconnects: 9, Lost: Loss{Total: 9}, Duplicated: 9, RefusedExecuted: 9,
			StaleReads: 9, Disorder: 9, Registers: Registers{Checked: 9, Illegal: 9},
		},
		Pace: Pace{LongestPauseMS: 1e6},
	}
	bad.RecoveryMS = 1e6
	bad.probed = Probed{Bad: 9, LongestGapMS: 1e6}
	for _, p := range append(Plans(), variants(t)...) {
		s := p.Expected(16, time.Second)
		if got := s.judge(bad); len(got) != len(s) {
			t.Errorf("%s: %d breaches of %d objectives: %q", p.Kind, len(got), len(s), got)
		}
		if got := s.judge(Column{}); len(got) != 0 {
			t.Errorf("%s: nothing is wrong, and yet %q", p.Kind, got)
		}
		for _, must := range []string{maxErrors, maxDisconnects, maxUnexplained, maxDuplicated, maxStaleReads, maxNonlinear} {
			if p.Kind == KindOutage && (must == maxErrors || must == maxDisconnects) {
				continue // without any Redis a client gets errors, or worse
			}
			if limit, ok := s[must]; !ok || limit != 0 {
				t.Errorf("%s: %s is %v, %v; want 0", p.Kind, must, limit, ok)
			}
		}
	}
}

// variants returns the plans that are asked for by more than a kind.
func variants(tb testing.TB) []Plan {
	tb.Helper()
	var all []Plan
	for _, v := range []struct {
		kind    Kind
		Variant Variant
	}{
		{KindPartition, Variant{Side: SideMinority}}, {KindLeaderLoss, Variant{When: WhenElection}}, {KindSwitchover, Variant{Strict: true}},
	} {
		p, err := PlanOf(string(v.kind), v.Variant)
		if err != nil {
			tb.Fatal(err)
		}
		if p.variant() == "" {
			tb.Errorf("%s: the variant %+v has no name", v.kind, v.Variant)
		}
		all = append(all, p)
	}
	return all
}

func TestPlanOf(t *testing.T) {
	for _, p := range Plans() {
		got, err := PlanOf(string(p.Kind), Variant{})
		if err != nil || got.Kind != p.Kind {
			t.Errorf("PlanOf(%q) = %v, %v", p.Kind, got.Kind, err)
		}
		for _, round := range p.rounds(9) {
			if round.script == nil {
				t.Errorf("%s: a round of %s does nothing", p.Kind, round.Kind)
			}
		}
	}
	if _, err := PlanOf("earthquake", Variant{}); err == nil || !strings.Contains(err.Error(), "rolling-restart") {
		t.Errorf("error %v; want one that names all kinds", err)
	}
}

func TestVariantMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		kind string
		v    Variant
		want []string
	}{
		"another kind's": {"crash", Variant{Side: SideMinority, When: WhenElection, Strict: true}, []string{"--side is for partition", "--when is for leader-loss", "--strict is for switchover"}},
		"no such side":   {"partition", Variant{Side: "left"}, []string{`--side: found "left"; want majority or minority`}},
		"not away":       {"crash", Variant{Away: time.Minute}, []string{"--away is for hang, partition and outage; this is crash"}},
		"away too short": {"hang", Variant{Away: time.Millisecond}, []string{"--away: found 1ms; want 1s to 10m0s"}},
		"no such moment": {"leader-loss", Variant{When: "lunch"}, []string{`--when: found "lunch"; want election or promotion`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := PlanOf(tt.kind, tt.v)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v; want one that says %q", err, want)
				}
			}
		})
	}
}
