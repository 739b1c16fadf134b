package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Probe is an HTTP service behind the proxy, such as a gateway, that is asked at a
// steady rate while the drill goes on: what its own clients see.
type Probe struct {
	Name   string
	URL    string
	Header http.Header
	Expect int // the status code that is good
	Rate   int // requests a second
	// Timeout is how long a request may take before it counts as not answered.
	Timeout time.Duration
}

const (
	// maxOutstanding is how many requests of a probe are under way at most. When it
	// is full the next ones are not sent, and count as not answered: so does whoever
	// finds no connection left.
	maxOutstanding = 4096
	// maxAnswers bounds a probe's record: over an hour at 200 a second. The probe
	// stops there.
	maxAnswers = 1 << 20
)

// answer is one request of a probe.
type answer struct {
	begin, end time.Duration // since the round began
	status     int           // 0: none came
}

// prober asks one Probe. Run does so until its context ends, and waits for the last
// answers; then answers and firstBad may be read.
type prober struct {
	// Fixed at construction.
	p       Probe
	began   time.Time
	client  http.Client
	request *http.Request

	mu       sync.Mutex // guards the fields below
	answers  []answer
	firstBad string // what the first one that was not good said
}

// newProber returns one whose times count from began.
func newProber(p Probe, began time.Time) (*prober, error) {
	req, err := http.NewRequest(http.MethodGet, p.URL, http.NoBody) //nolint:noctx // a template: each request has its own
	if err != nil {
		return nil, err
	}
	req.Header = p.Header.Clone()
	return &prober{
		p: p, began: began, request: req,
		client: http.Client{
			// Connections are kept as a client's pool does, and no proxy stands between.
			Transport:     &http.Transport{MaxIdleConnsPerHost: maxOutstanding},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// run asks until ctx ends. Requests begin when they are due, however slow the ones
// before them are.
func (p *prober) run(ctx context.Context) {
	defer p.client.CloseIdleConnections()
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxOutstanding)
	tick := time.NewTicker(time.Second / time.Duration(p.p.Rate))
	defer tick.Stop()
	began := time.Now()
	for sent := 0; ctx.Err() == nil && sent < maxAnswers; {
		// A ticker drops what its reader is late for; those are due all the same.
		for due := int(time.Since(began).Seconds()*float64(p.p.Rate)) + 1; sent < min(due, maxAnswers); sent++ {
			select {
			case slots <- struct{}{}:
				wg.Go(func() {
					p.ask(ctx)
					<-slots
				})
			default:
				now := time.Since(p.began)
				p.add(answer{begin: now, end: now}, fmt.Sprintf("not sent: %d requests are under way", maxOutstanding))
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	wg.Wait()
}

// ask sends one request. It goes on when ctx has ended: the last ones are answered, too.
func (p *prober) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.p.Timeout)
	defer cancel()
	a := answer{begin: time.Since(p.began)}
	resp, err := p.client.Do(p.request.WithContext(ctx))
	text := ""
	if err == nil {
		const most = 4 << 10
		var body []byte
		body, err = io.ReadAll(io.LimitReader(resp.Body, most))
		_ = resp.Body.Close() // what matters has been read
		a.status, text = resp.StatusCode, resp.Status+" "+strings.TrimSpace(string(body))
	}
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // it names the URL once more
		}
		a.status, text = 0, err.Error()
	}
	a.end = time.Since(p.began)
	p.add(a, text)
}

// add notes an answer.
func (p *prober) add(a answer, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.firstBad == "" && a.status != p.p.Expect {
		p.firstBad = text
	}
	p.answers = append(p.answers, a)
}

// probes asks all of a drill's probes at once. Stop ends them.
type probes struct {
	all  []*prober
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// startProbes starts to ask. All times count from began.
func startProbes(ctx context.Context, some []Probe, began time.Time) (*probes, error) {
	ctx, cancel := context.WithCancel(ctx)
	ps := &probes{stop: cancel}
	for _, p := range some {
		r, err := newProber(p, began)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("probe %s: %w", p.Name, err)
		}
		ps.all = append(ps.all, r)
	}
	for _, r := range ps.all {
		ps.wg.Go(func() { r.run(ctx) })
	}
	return ps, nil
}

// finish waits for the last answers and returns what was seen. marks are the round's.
func (ps *probes) finish(marks []Mark) []Probed {
	ps.stop()
	ps.wg.Wait()
	all := []Probed{}
	for _, r := range ps.all {
		all = append(all, probed(r.p, r.answers, r.firstBad, firstFault(marks)))
	}
	return all
}

// firstFault returns when something was broken first; 0 if nothing was.
func firstFault(marks []Mark) time.Duration {
	for _, m := range marks {
		if m.What == MarkFault {
			return m.At
		}
	}
	return 0
}

// checkProbes asks each probe once: a drill whose probes fail before anything is
// broken would show nothing.
func checkProbes(ctx context.Context, some []Probe) error {
	var errs []error
	for _, p := range some {
		r, err := newProber(p, time.Now())
		if err != nil {
			errs = append(errs, fmt.Errorf("probe %s: %w", p.Name, err))
			continue
		}
		r.ask(ctx)
		r.client.CloseIdleConnections()
		if r.answers[0].status != p.Expect {
			errs = append(errs, fmt.Errorf("probe %s at %s: want %d before anything is broken: %s", p.Name, p.URL, p.Expect, cmp.Or(r.firstBad, "no answer")))
		}
	}
	return errors.Join(errs...)
}

// sortAnswers puts answers in the order in which they were asked for.
func sortAnswers(all []answer) {
	slices.SortStableFunc(all, func(a, b answer) int { return cmp.Compare(a.begin, b.begin) })
}
