package control

import (
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestDrillIsTold(t *testing.T) {
	api := NewAPI([]Group{&fakeGroup{name: "orders"}}, quiet)
	var told []Drill
	api.OnDrill(func(d Drill) { told = append(told, d) })
	srv := httptest.NewServer(WithToken(func() string { return "t" }, api))
	defer srv.Close()
	c := NewClient(srv.Listener.Addr().String(), "t", nil)
	defer c.Close()
	want := []Drill{
		{Master: "orders", ID: "a1", Kind: "crash"},
		{Master: "orders", ID: "a1", Kind: "crash", Outcome: DrillFailed, Report: "/srv/drill reports/é.html"},
	}
	for _, d := range want {
		d.Master = "" // there is one
		if err := c.Drill(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %+v; want %+v", told, want)
	}
	stranger := NewClient(srv.Listener.Addr().String(), "x", nil)
	defer stranger.Close()
	for name, tt := range map[string]struct {
		c *Client
		d Drill
	}{
		"another token":  {stranger, want[0]},
		"another master": {c, Drill{Master: "sessions", ID: "a1", Kind: "crash"}},
		"no id":          {c, Drill{Master: "orders", Kind: "crash"}},
		"a long kind":    {c, Drill{Master: "orders", ID: "a", Kind: strings.Repeat("x", 65)}},
		"two words":      {c, Drill{Master: "orders", ID: "a", Kind: "x\ny"}},
		"an outcome":     {c, Drill{Master: "orders", ID: "a", Kind: "crash", Outcome: "good"}},
		"two lines":      {c, Drill{Master: "orders", ID: "a", Kind: "crash", Report: "a\nb"}},
		"a long report":  {c, Drill{Master: "orders", ID: "a", Kind: "crash", Report: strings.Repeat("x", 401)}},
	} {
		if err := tt.c.Drill(t.Context(), tt.d); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v; want it refused", name, err)
		}
	}
	if len(told) != len(want) {
		t.Errorf("told %+v of what was refused", told[len(want):])
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", PathDrill, nil))
	if w.Code != 405 {
		t.Errorf("GET: %d; want 405", w.Code)
	}
}
