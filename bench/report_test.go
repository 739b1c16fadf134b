package main

import (
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	c := cell{50, 1, smallValue, cmdGet}
	r := results{}
	r.add(nameDirect, c, sample{load: load{60000, 0.4, 0.6}, redisCPU: 9})
	r.add(nameHAProxy, c, sample{load: load{30000, 0.8, 1.2}, proxyCPU: 12, redisCPU: 9})
	r.add(nameHAProxyAA, c, sample{load: load{33000, 0.8, 1.2}, proxyCPU: 12, redisCPU: 9})
	r.add(nameSidecar, c, sample{load: load{45000, 0.6, 0.6}, proxyCPU: 6, redisCPU: 3})
	r.add(nameUnscraped, c, sample{load: load{50000, 0.6, 0.5}, proxyCPU: 5, redisCPU: 3})
	var candidates []*candidate
	for _, s := range specs() {
		if len(r[s.name]) > 0 {
			candidates = append(candidates, &candidate{spec: s})
		}
	}
	text := report{
		facts:   []fact{{"CPU", "one of 2 cores"}},
		options: options{cells: []cell{c}, run: time.Second, candidates: []string{nameSidecar, nameUnscraped}},
		rounds:  1,
		results: r, candidates: candidates, verdicts: judge(r, targets()),
		leftOut: []string{"twemproxy was left out: no nutcracker"},
	}.markdown()
	for _, want := range []string{
		"| CPU | one of 2 cores |",
		"**twemproxy was left out: no nutcracker**",
		"3 met, 0 within the noise, 0 missed, 13 not measured",
		"| c50P1/64/get | proxy CPU | ≤ 0.65× | 0.50× | ± 0.00 | met | haproxy |",
		"| c50P1/64/get | throughput | ≥ 1.00× | 1.50× | ± 0.10 | met | haproxy |",
		"| direct | 60000 | 2.00 | 0.400 | 0.50 | 0.600 | 0.50 | – | – | 9.00 | 1.00 |",
		"| sentinelproxy | 45000 | 1.50 | 0.600 | 0.75 | 0.600 | 0.50 | 6.00 | 0.50 | 3.00 | 0.33 |",
		"| c50P1/64/get | 0.90× ± 0.10 | 1.00× ± 0.00 | 1.20× ± 0.00 | 1.20× ± 0.00 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestScrapedSays(t *testing.T) {
	for want, s := range map[string]scraped{
		"nothing was scraped":                     {},
		"9 scrapes of 400 bytes, none failed":     {good: 9, bytes: 400},
		"3 scrapes, **1 failed**, the last with:": {good: 2, bad: 1},
	} {
		if got := s.String(); !strings.HasPrefix(got, want) {
			t.Errorf("%+v prints %q; want %q", s, got, want)
		}
	}
}
