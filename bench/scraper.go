package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// scrapeEvery is how often the sidecar's metrics are read, as a busy
// Prometheus would: a proxy is measured with the cost of being watched.
const scrapeEvery = time.Second

// scraper reads one candidate's /metrics while the campaign runs.
type scraper struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// Owned by run until wg is done.
	good, bad int
	bytes     int64 // of the last good answer
	lastErr   error
}

// scraped sums up a scraper's work.
type scraped struct {
	good, bad int
	bytes     int64
	lastErr   error
}

// startScraper starts scraping the candidate that has metrics, if there is one.
func startScraper(ctx context.Context, candidates []*candidate) *scraper {
	ctx, cancel := context.WithCancel(ctx)
	s := &scraper{cancel: cancel}
	for _, c := range candidates {
		if c.metrics != "" {
			s.wg.Go(func() { s.run(ctx, c.metrics) })
			break
		}
	}
	return s
}

// stop ends the scraping and returns what came of it.
func (s *scraper) stop() scraped {
	s.cancel()
	s.wg.Wait()
	return scraped{good: s.good, bad: s.bad, bytes: s.bytes, lastErr: s.lastErr}
}

func (s *scraper) run(ctx context.Context, url string) {
	client := &http.Client{Timeout: scrapeEvery}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(scrapeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := scrape(ctx, client, url)
		switch {
		case err == nil:
			s.good++
			s.bytes = n
		case ctx.Err() == nil:
			s.bad++
			s.lastErr = err
		}
	}
}

// scrape reads the whole answer and returns its length.
func scrape(ctx context.Context, client *http.Client, url string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}

// String says how the scraping went, as one sentence for the report.
func (s scraped) String() string {
	switch {
	case s.good+s.bad == 0:
		return "nothing was scraped"
	case s.bad == 0:
		return fmt.Sprintf("%d scrapes of %d bytes, none failed", s.good, s.bytes)
	}
	return fmt.Sprintf("%d scrapes, **%d failed**, the last with: %v", s.good+s.bad, s.bad, s.lastErr)
}
