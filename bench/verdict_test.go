package main

import "testing"

func TestJudge(t *testing.T) {
	c := cell{50, 1, smallValue, cmdGet}
	cpu := target{50, 1, proxyCPU, 0.65}
	rate := target{50, 1, throughput, 1.3}
	for name, tt := range map[string]struct {
		target target
		// The figure of each candidate; 0 leaves it out.
		sidecar, haproxy, again, oneThread float64
		want                               outcome
		base                               string
	}{
		"CPU met":                     {cpu, 6, 10, 10, 0, outcomeMet, nameHAProxy},
		"CPU on the limit":            {cpu, 6.5, 10, 10, 0, outcomeMet, nameHAProxy},
		"CPU missed":                  {cpu, 7, 10, 10, 0, outcomeMissed, nameHAProxy},
		"CPU missed within noise":     {cpu, 7, 10, 11, 0, outcomeWithinNoise, nameHAProxy},
		"CPU missed, noise unknown":   {cpu, 7, 10, 0, 0, outcomeMissed, nameHAProxy},
		"cheaper single thread":       {cpu, 6, 10, 10, 9, outcomeMissed, nameHAProxy1},
		"dearer single thread":        {cpu, 6, 10, 10, 12, outcomeMet, nameHAProxy},
		"throughput met":              {rate, 130, 100, 100, 0, outcomeMet, nameHAProxy},
		"throughput missed":           {rate, 120, 100, 100, 0, outcomeMissed, nameHAProxy},
		"throughput within noise":     {rate, 120, 100, 85, 0, outcomeWithinNoise, nameHAProxy},
		"throughput ignores 1 thread": {rate, 130, 100, 100, 200, outcomeMet, nameHAProxy},
		"sidecar left out":            {cpu, 0, 10, 10, 0, outcomeUnmeasured, nameHAProxy},
		"HAProxy left out":            {cpu, 6, 0, 0, 0, outcomeUnmeasured, nameHAProxy},
	} {
		t.Run(name, func(t *testing.T) {
			r := results{}
			for name, v := range map[string]float64{nameSidecar: tt.sidecar, nameHAProxy: tt.haproxy, nameHAProxyAA: tt.again, nameHAProxy1: tt.oneThread} {
				if v > 0 {
					r.add(name, c, sample{load: load{rps: v}, proxyCPU: v})
				}
			}
			got := judgeCell(r, tt.target, c)
			if got.outcome != tt.want || got.base != tt.base {
				t.Errorf("judged %v against %s; want %v against %s (%+v)", got.outcome, got.base, tt.want, tt.base, got)
			}
		})
	}
}

func TestJudgeCoversBothCommands(t *testing.T) {
	got := judge(results{}, targets())
	if len(got) != 2*len(targets()) || count(got, outcomeUnmeasured) != len(got) {
		t.Errorf("judge of nothing = %+v; want %d unmeasured", got, 2*len(targets()))
	}
}
