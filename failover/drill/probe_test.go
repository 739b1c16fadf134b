package drill

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The time that nodes are away is what was asked for, in every text.
func TestAway(t *testing.T) {
	for _, tt := range []struct {
		kind Kind
		v    Variant
		want time.Duration
	}{
		{KindHang, Variant{}, away},
		{KindHang, Variant{Away: 30 * time.Second}, 30 * time.Second},
		{KindOutage, Variant{}, awayAll},
		{KindPartition, Variant{Side: SideMinority}, awayMinority},
		{KindPartition, Variant{Side: SideMinority, Away: 2 * time.Minute}, 2 * time.Minute},
	} {
		p, err := PlanOf(string(tt.kind), tt.v)
		if err != nil {
			t.Fatal(err)
		}
		if p.away != tt.want || !strings.Contains(p.Short+strings.Join(p.Steps, ""), spell(tt.want)) {
			t.Errorf("%s %+v: away for %v, %q, %q; want %v", tt.kind, tt.v, p.away, p.Short, p.Steps, tt.want)
		}
	}
	for _, p := range Plans() {
		if text := p.Short + strings.Join(append(p.Steps, p.Remote...), ""); strings.Contains(text, "{away}") {
			t.Errorf("%s: %q", p.Kind, text)
		}
	}
	if spell(2*time.Minute) != "2m" || spell(90*time.Second) != "1m30s" || spell(6*time.Second) != "6s" {
		t.Errorf("%s %s %s", spell(2*time.Minute), spell(90*time.Second), spell(6*time.Second))
	}
}

func TestProbed(t *testing.T) {
	const second = time.Second
	at := func(begin, end time.Duration, status int) answer { return answer{begin, end, status} }
	good := func(from, to time.Duration) (some []answer) {
		for ; from < to; from += 100 * time.Millisecond {
			some = append(some, at(from, from+time.Millisecond, 200))
		}
		return some
	}
	p := Probe{Name: "g", URL: "http://g/", Expect: 200, Rate: 10}
	var answers []answer
	answers = append(answers, at(2100*time.Millisecond, 2600*time.Millisecond, 503), at(2200*time.Millisecond, 2210*time.Millisecond, 0)) // out of order
	answers = append(answers, good(0, 2*second)...)
	answers = append(answers, at(2*second, 4*second, 503))
	answers = append(answers, good(4*second, 6*second)...)
	answers = append(answers, at(6*second, 6*second+time.Millisecond, 502))
	answers = append(answers, good(6100*time.Millisecond, 7*second)...)
	r := probed(p, answers, "503 no", 1500*time.Millisecond)
	if r.Requests != len(answers) || r.Bad != 4 || r.Good != len(answers)-4 || r.ByStatus["503"] != 2 || r.ByStatus["none"] != 1 || r.ByStatus["502"] != 1 {
		t.Errorf("counts %+v", r)
	}
	if len(r.Stretches) != 2 {
		t.Fatalf("stretches %+v; want two", r.Stretches)
	}
	if s := r.Stretches[0]; s.FromMS != 500 || s.ToMS != 2500 || s.Bad != 3 || s.ByStatus["503"] != 2 {
		t.Errorf("the first stretch is %+v; want 3 answers from 500 to 2500", s)
	}
	if want := 2100.0; r.LongestGapMS != want {
		t.Errorf("longest gap %v; want %v: from 1901 to 4001", r.LongestGapMS, want)
	}
	total := 0
	for _, s := range r.Series {
		total += s.OK + s.Bad
	}
	if total != len(answers) {
		t.Errorf("the series has %d answers of %d", total, len(answers))
	}
	sum := r.plus(r)
	if sum.Bad != 8 || sum.ByStatus["503"] != 4 || r.ByStatus["503"] != 2 || sum.LongestGapMS != r.LongestGapMS {
		t.Errorf("two rounds are %+v", sum)
	}
	if none := probed(p, nil, "", 0); none.LongestGapMS != 0 || none.Requests != 0 {
		t.Errorf("nothing asked is %+v", none)
	}
	if never := probed(p, []answer{at(0, second, 0), at(second, 3*second, 503)}, "", 0); never.LongestGapMS != 3000 {
		t.Errorf("without a good answer the gap is %v; want all the time", never.LongestGapMS)
	}
}

// Every request that is due is sent, also while all answers are late: what is slow
// must not make a probe ask less.
func TestProbeDoesNotWait(t *testing.T) {
	var arrived atomic.Int64
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "testkey" {
			t.Errorf("headers %v", r.Header)
		}
		arrived.Add(1)
		<-release
		w.WriteHeader(http.StatusTeapot)
	}))
	defer srv.Close()
	ps, err := startProbes(t.Context(), []Probe{{
		Name: "a", URL: srv.URL, Header: http.Header{"Authorization": {"testkey"}}, Expect: http.StatusTeapot, Rate: 500, Timeout: time.Minute,
	}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const many = 50
	awaiting(t, "requests under way at once", func() bool { return arrived.Load() >= many })
	var once sync.Once
	done := make(chan []Probed)
	go func() { done <- ps.finish(nil) }()
	once.Do(func() { close(release) })
	r := (<-done)[0]
	if r.Bad != 0 || r.Good < many || r.Good != r.Requests {
		t.Errorf("found %+v; want at least %d good answers, and none else", r, many)
	}
}

// awaiting waits until ok.
func awaiting(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		if pause(ctx, time.Millisecond) != nil {
			t.Fatalf("waited for %s", what)
		}
	}
}

func TestProbeWithoutAnswer(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	redirects := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusFound))
	defer redirects.Close()
	p := Probe{Expect: 200, Rate: 100, Timeout: 20 * time.Millisecond}
	quiet, gone, moved := p, p, p
	quiet.Name, quiet.URL = "silent", "http://"+silent.Addr().String()
	gone.Name, gone.URL, gone.Timeout = "gone", "http://127.0.0.1:1/", time.Minute
	moved.Name, moved.URL, moved.Timeout = "moved", redirects.URL, time.Minute
	err = checkProbes(t.Context(), []Probe{quiet, gone, moved})
	if err == nil {
		t.Fatal("they passed")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q; want a line for each", lines)
	}
	for i, want := range []string{"probe silent at", "connection refused", "302 Found"} {
		if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], "want 200 before anything is broken") {
			t.Errorf("line %q; want %q in it", lines[i], want)
		}
	}
	ps, err := startProbes(t.Context(), []Probe{quiet}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	awaiting(t, "an answer that did not come", func() bool {
		ps.all[0].mu.Lock()
		defer ps.all[0].mu.Unlock()
		return len(ps.all[0].answers) > 0
	})
	if r := ps.finish(nil)[0]; r.Good != 0 || r.Bad == 0 || r.ByStatus["none"] != r.Bad || len(r.Stretches) == 0 {
		t.Errorf("found %+v; want all without an answer", r)
	}
}

// The summary tells both services side by side, and when each failed.
func TestProbeText(t *testing.T) {
	p := Probe{Name: "gateway", URL: "http://g/", Expect: 200, Rate: 200}
	ok := probed(p, []answer{{0, time.Millisecond, 200}}, "", 0)
	p.Name = "beside"
	bad := probed(p, []answer{{0, time.Millisecond, 200}, {2 * time.Second, 3 * time.Second, 503}}, "503 Service Unavailable away", time.Second)
	r := Report{Verdict: verdictPass, Rounds: []Round{{Columns: []Column{{Name: "x"}}, Probes: []Probed{ok, bad}}}}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HTTP, 200 requests/s", "gateway               beside", "answered 503", "beside: 1 answer bad from +1000 to +2000 ms after the fault (503: 1)", "the first said: 503 Service Unavailable away"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "<th>beside</th>") || !strings.Contains(b.String(), "HTTP: gateway") {
		t.Errorf("the page lacks the services")
	}
}
