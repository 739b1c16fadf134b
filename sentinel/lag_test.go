package sentinel

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestSwitchLag(t *testing.T) {
	const a, b = topology.Addr("a:1"), topology.Addr("b:1")
	var s switches
	show := func() string {
		var out []string
		for _, addr := range []topology.Addr{"s1:1", "s2:1", "s3:1"} {
			if lag, ok := s.lag[addr]; ok {
				out = append(out, fmt.Sprintf("%s+%v", addr, lag))
			}
		}
		return strings.Join(out, " ")
	}
	at := func(d time.Duration, sentinel, event string, old, master topology.Addr) topology.Sign {
		return topology.Sign{Event: event, Sentinel: topology.Addr(sentinel), Old: old, Candidate: master, At: d}
	}
	for _, step := range []struct {
		sign    topology.Sign
		changed bool
		want    string
	}{
		{at(9*time.Second, "s2:1", "+sdown", "", a), false, ""},
		{at(10*time.Second, "s2:1", "+switch-master", a, b), true, "s2:1+0s"},
		{at(10*time.Second+80*time.Millisecond, "s1:1", "+switch-master", a, b), true, "s1:1+80ms s2:1+0s"},
		{at(11*time.Second, "s1:1", "+switch-master", a, b), false, "s1:1+80ms s2:1+0s"}, // again
		{at(11*time.Second, "s3:1", "+switch-master", "", ""), false, "s1:1+80ms s2:1+0s"},
		{at(12*time.Second, "s3:1", "+switch-master", a, b), true, "s1:1+80ms s2:1+0s s3:1+2s"},
		{at(20*time.Second, "s3:1", "+switch-master", b, a), true, "s3:1+0s"},                      // back
		{at(20*time.Second+sameSwitch, "s1:1", "+switch-master", b, a), true, "s1:1+1m0s s3:1+0s"}, // just the same one
		{at(90*time.Second, "s2:1", "+switch-master", b, a), true, "s2:1+0s"},                      // its like, later
	} {
		if changed := s.heard(step.sign); changed != step.changed || show() != step.want {
			t.Fatalf("after %+v: changed=%v %q; want %v %q", step.sign, changed, show(), step.changed, step.want)
		}
	}
	if !s.forget("s2:1") || s.forget("s2:1") || show() != "" {
		t.Errorf("a forgotten Sentinel: %q", show())
	}
}
