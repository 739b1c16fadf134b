package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

var screenshots = flag.String("screenshots", "", "write pictures of the status page into this directory")

// runPaged runs a sidecar at given addresses; stop ends it, and the test's end does.
func runPaged(tb testing.TB, g *redistest.Group, addr, admin string, more ...string) (stop func()) {
	tb.Helper()
	log := new(buffer)
	args := []string{"run", "--listen", addr, "--admin", admin, "--master", g.Name()}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan int, 1) // one value: never full
	go func() { ended <- run(ctx, append(args, more...), log, log) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != 0 {
			tb.Errorf("run: exit code %d", code)
		}
		if tb.Failed() {
			tb.Log(log.String())
		}
	})
	tb.Cleanup(stop)
	waitFor(tb, "readiness", func() bool {
		code, _ := get(tb, addrOf(admin), "/readyz")
		return code == 200
	})
	return stop
}

// watchPage has the page write down each state that it shows, with the time.
const watchPage = `(() => {
	const seen = window.seenStates = [];
	const look = () => {
		const d = document.querySelector("#state li")?.dataset;
		const now = d && JSON.stringify([d.live, d.state, d.address]);
		if (!d || seen.length && seen[seen.length - 1].key === now) return;
		seen.push({key: now, at: Date.now(), live: d.live === "true", state: d.state, address: d.address});
	};
	look();
	new MutationObserver(look).observe(document.getElementById("state"), {subtree: true, childList: true, attributes: true});
	return true;
})()`

// shownState is one state that the page showed.
type shownState struct {
	At      float64 `json:"at"` // Unix milliseconds
	Live    bool    `json:"live"`
	State   string  `json:"state"`
	Address string  `json:"address"`
}

// eventTimes returns when events of a kind were published.
func eventTimes(tb testing.TB, admin, kind string) []time.Time {
	tb.Helper()
	body := page(tb, addrOf(admin), "/api/v1/events?limit=1000")
	var list struct {
		Events []struct {
			Event     string
			Timestamp time.Time
		}
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		tb.Fatal(err)
	}
	var at []time.Time
	for _, e := range list.Events {
		if e.Event == kind {
			at = append(at, e.Timestamp)
		}
	}
	return at
}

// shows is an expression that is true while the page shows a state as live.
func shows(state string, master topology.Addr) string {
	return fmt.Sprintf(`document.querySelector('#state li[data-live="true"][data-state=%q][data-address=%q]')`, state, master)
}

// The status page in a real browser, before a real group: a failover shows, it goes on after
// the sidecar was restarted, it can be read on a phone and by ear, and it asks nobody else.
func TestStatusPage(t *testing.T) {
	b := newBrowser(t)
	g := calmGroup(t)
	addr, admin := freeAddr(t), freeAddr(t)
	socket := filepath.Join(t.TempDir(), "c.sock")
	stop := runPaged(t, g, addr, admin, "--control", "unix:"+socket)
	old := stable(t, g)
	load := startWriters(t, addr, 4)
	defer load.finish()
	evil := dialRaw(t, addr)
	evil.want("CLIENT SETNAME <img/src=x/onerror=alert(1)>", "+OK")

	origin := "http://" + admin
	b.look(t, 320, "light")
	b.do(t, chromedp.Navigate(origin+"/status"))
	b.wait(t, "the state", shows("serving", old.Addr()))
	if got := eval[string](t, b, `document.querySelector("#state li p span:last-child").textContent`); got != fmt.Sprintf("Serving %s, epoch %s.", old.Addr(), eval[string](t, b, `document.querySelector("#state li").dataset.epoch`)) {
		t.Errorf("the state is %q", got)
	}
	b.wait(t, "a plot of commands", `document.querySelector(".plots path").getAttribute("d").includes("L")`)
	b.wait(t, "events", `document.querySelectorAll("#events li").length > 1`)
	b.wait(t, "replicas with their lag", `/, \d+ s behind/.test(document.querySelector(".drawing").textContent)`)
	pageIsLegible(t, b)
	pageIsTold(t, b, g, old)
	pageByKeyboard(t, b)
	clientsAreShown(t, b)
	drillIsShown(t, b, socket)

	// A failover.
	eval[bool](t, b, watchPage)
	strain := g.WatchStrain(t)
	asked := failOverFrom(t, g, old).asked
	var master *redistest.Node
	waitWithin(t, 3*patience, "another master", func() bool {
		m, err := g.Master(t.Context())
		master = m
		return err == nil && m != old
	})
	b.wait(t, "the new master on the page", shows("serving", master.Addr()))
	b.wait(t, "the failover's phases", `/serving \+/.test(document.querySelector(".failovers").textContent)`)
	late := strain.Late(asked, time.Now())
	failoverWasShown(t, eval[[]shownState](t, b, "seenStates"), admin, master.Addr(), late)

	// Paused on request, and on again.
	b.click(t, "#pause")
	b.wait(t, "a pause", `document.body.dataset.link === "paused" && document.querySelector("#state").textContent.includes("Paused, last seen ")`)
	b.click(t, "#pause")
	b.wait(t, "the page to go on", shows("serving", master.Addr()))

	// Another sidecar at the same place.
	if lost := b.networkErrors(); len(lost) > 0 {
		t.Errorf("errors of the network: %q", lost)
	}
	load.finish()
	stop()
	b.wait(t, "the loss to show", `document.body.dataset.link === "lost"`)
	if got := eval[string](t, b, `document.getElementById("link").textContent + "|" + document.getElementById("state").textContent`); !strings.HasPrefix(got, "connection lost, last seen ") || !strings.Contains(got, "Not live, last seen ") {
		t.Errorf("while nobody answers: %q", got)
	}
	stable(t, g)
	runPaged(t, g, addr, admin)
	b.wait(t, "the page to be live again", shows("serving", master.Addr()))
	again := len(b.networkErrors()) // what comes now is no part of the restart
	b.wait(t, "the new process' events", `document.querySelector("#events").textContent.match(/has started/g)?.length === 2`)
	b.wait(t, "its rates", `/[1-9]|: 0/.test(document.querySelector(".plots figcaption").textContent)`)
	b.quiet(t, origin, again)
}

// failoverWasShown checks that every state of the route was on the page, in order, and
// reports how soon. Where somebody was late the page may have been told too late to show
// the hold, or for so long nothing that it called the link lost.
func failoverWasShown(t *testing.T, seen []shownState, admin string, master topology.Addr, late time.Duration) {
	t.Helper()
	mistake := t.Errorf
	if late > muchLate {
		t.Logf("not judged but by its end, somebody was %v late", late)
		mistake = t.Logf
	}
	after := func(at time.Time, shown float64) time.Duration {
		return time.Duration((shown - float64(at.UnixMicro())/1000) * float64(time.Millisecond)).Round(time.Millisecond)
	}
	held, changed := eventTimes(t, admin, "RouteHeld"), eventTimes(t, admin, "RouteChanged")
	if len(changed) < 2 {
		t.Fatalf("%d changes of the route", len(changed))
	}
	if len(held) == 0 {
		mistake("no hold was published")
	}
	for _, s := range seen {
		if !s.Live {
			mistake("the link was lost in the failover: %+v", seen)
		}
	}
	hold := slices.IndexFunc(seen, func(s shownState) bool { return s.State == "holding" })
	serve := slices.IndexFunc(seen, func(s shownState) bool { return s.State == "serving" && s.Address == string(master) })
	if serve < 0 {
		t.Fatalf("shown were %+v; want the new master in the end", seen)
	}
	if hold < 0 || serve < hold {
		mistake("shown were %+v; want the hold and then the new master", seen)
		return
	}
	// The first hold since the page was watched, and the last change.
	for _, at := range held {
		if at.UnixMilli() >= int64(seen[0].At) {
			t.Logf("the hold was shown %v after its event", after(at, seen[hold].At))
			break
		}
	}
	t.Logf("the new master was shown %v after its event", after(changed[len(changed)-1], seen[serve].At))
}

// pageIsLegible looks at the narrow page in both colours: nothing to scroll sideways for, and
// text that stands out.
func pageIsLegible(t *testing.T, b *browser) {
	t.Helper()
	const contrast = `(() => {
		const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
		const rgb = (c) => {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = c;
			canvas.fillRect(0, 0, 1, 1);
			return [...canvas.getImageData(0, 0, 1, 1).data];
		};
		const light = ([r, g, b]) => {
			const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
			return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
		};
		const bad = [];
		const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		let n = 0;
		while (texts.nextNode()) {
			const text = texts.currentNode, e = text.parentElement;
			if (!text.textContent.trim() || !e.checkVisibility() || e.closest(".unseen, noscript, template, title, desc")) continue;
			const svg = e.closest("svg");
			const front = rgb(svg ? getComputedStyle(e).fill : getComputedStyle(e).color);
			let back;
			const box = svg && e.closest("g")?.querySelector("rect");
			if (box) back = rgb(getComputedStyle(box).fill);
			else for (let p = e; p; p = p.parentElement) {
				back = rgb(getComputedStyle(p).backgroundColor);
				if (back[3] === 255) break;
			}
			const [x, y] = [light(front), light(back)].sort((a, b) => b - a);
			const ratio = (x + 0.05) / (y + 0.05);
			n++;
			if (ratio < 4.5) bad.push(ratio.toFixed(2) + " " + text.textContent.slice(0, 40));
		}
		return n < 30 ? ["only " + n + " texts were looked at"] : bad;
	})()`
	for _, scheme := range []string{"dark", "light"} {
		b.look(t, 320, scheme)
		if w := eval[[]int](t, b, `[document.documentElement.scrollWidth, document.documentElement.clientWidth]`); w[0] > w[1] || w[1] > 320 {
			t.Errorf("%s: %d pixels wide of %d", scheme, w[0], w[1])
		}
		for _, bad := range eval[[]string](t, b, contrast) {
			t.Errorf("%s: contrast %s", scheme, bad)
		}
		if wide := eval[[]string](t, b, `[...document.querySelectorAll(".drawing text")].filter((e) => {
			const r = e.getBoundingClientRect(), box = e.closest("g")?.querySelector("rect")?.getBoundingClientRect() ?? e.ownerSVGElement.getBoundingClientRect();
			return r.right > box.right + 1 || r.left < box.left - 1;
		}).map((e) => e.textContent)`); len(wide) > 0 {
			t.Errorf("%s: texts of the drawing that leave their boxes: %q", scheme, wide)
		}
	}
	dark := `getComputedStyle(document.body).backgroundColor`
	light := eval[string](t, b, dark)
	b.look(t, 320, "dark")
	if got := eval[string](t, b, dark); got == light {
		t.Errorf("dark and light have the same background, %s", got)
	}
}

// pageIsTold looks at what a screen reader is told.
func pageIsTold(t *testing.T, b *browser, g *redistest.Group, master *redistest.Node) {
	t.Helper()
	all := b.accessible(t)
	has := func(what string, ok func(axNode) bool) {
		t.Helper()
		if !slices.ContainsFunc(all, ok) {
			t.Errorf("a screen reader is not told of %s: %+v", what, all)
		}
	}
	for _, role := range []string{"banner", "main", "contentinfo", "navigation", "status"} {
		has("a "+role, func(n axNode) bool { return n.role == role })
	}
	for _, name := range []string{"sentinelproxy", "State", "Master " + g.Name(), "Rates and latency", "Clients", "Last failovers", "Certificates", "Recent events"} {
		has("the heading "+name, func(n axNode) bool { return n.role == "heading" && n.name == name })
	}
	has("the drawing", func(n axNode) bool {
		for _, a := range append(g.SentinelAddrs(), master.Addr()) {
			if !strings.Contains(n.description, string(a)) {
				return false
			}
		}
		return isImage(n) && n.name == fmt.Sprintf("The group %s as it is now", g.Name())
	})
	for _, plot := range []string{"Commands per second", "Latency", "Commands held", "Errors per second"} {
		has("the plot of "+plot, func(n axNode) bool { return isImage(n) && strings.HasPrefix(n.name, plot+" in the last 5 minutes: ") })
	}
	for _, n := range all {
		if n.name == "" && (isImage(n) || n.role == "button" || n.role == "link") {
			t.Errorf("a %s without a name", n.role)
		}
	}
}

func isImage(n axNode) bool { return n.role == "image" || n.role == "img" }

// pageByKeyboard goes through the page with the Tab key.
func pageByKeyboard(t *testing.T, b *browser) {
	t.Helper()
	controls := eval[[]string](t, b, `[...document.querySelectorAll("button, a[href], summary, [tabindex='0']")].filter((e) => e.checkVisibility()).map((e, i) => {
		e.dataset.control = i + " " + e.textContent;
		return e.dataset.control;
	})`)
	if len(controls) < 8 {
		t.Fatalf("controls: %q", controls)
	}
	reached := map[string]bool{}
	eval[bool](t, b, `document.activeElement.blur(), true`)
	for range 2 * len(controls) {
		b.do(t, chromedp.KeyEvent("\t"))
		at := eval[[]string](t, b, `[document.activeElement.dataset.control ?? "", getComputedStyle(document.activeElement).outlineStyle]`)
		if at[0] != "" && at[1] == "none" {
			t.Errorf("the focus cannot be seen on %s", at[0])
		}
		reached[at[0]] = true
	}
	for _, c := range controls {
		if !reached[c] {
			t.Errorf("the Tab key does not reach %s", c)
		}
	}
}

// clientsAreShown opens the list of clients. Their names are texts.
func clientsAreShown(t *testing.T, b *browser) {
	t.Helper()
	b.click(t, ".who summary")
	b.wait(t, "the clients", `[...document.querySelectorAll(".who td")].some((e) => e.textContent === "<img/src=x/onerror=alert(1)>")`)
	if w := eval[[]int](t, b, `[document.querySelectorAll("img").length, document.documentElement.scrollWidth, document.documentElement.clientWidth]`); w[0] > 0 || w[1] > w[2] {
		t.Errorf("%d images; %d pixels wide of %d", w[0], w[1], w[2])
	}
	b.click(t, ".who summary")
}

// drillIsShown tells the sidecar of two drills: one has its report on the web, the other in a
// file.
func drillIsShown(t *testing.T, b *browser, socket string) {
	t.Helper()
	c := control.NewUnixClient(socket)
	defer c.Close()
	const url = "https://reports.example/1?a=b"
	for _, d := range []control.Drill{
		{ID: "d1", Kind: "failover", Outcome: control.DrillPassed, Report: url},
		{ID: "d2", Kind: "crash", Outcome: control.DrillFailed, Report: "javascript:alert(1)"},
	} {
		if err := c.Drill(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	b.wait(t, "the drills", `document.querySelectorAll("#drills li").length === 2`)
	links := eval[[]string](t, b, `[...document.querySelectorAll("#drills a")].map((a) => a.href)`)
	text := eval[string](t, b, `document.getElementById("drills").textContent`)
	if !slices.Equal(links, []string{url}) || !strings.Contains(text, "report: javascript:alert(1)") || !strings.Contains(text, "✓ passed") {
		t.Errorf("links %q in %q", links, text)
	}
}

// TestScreenshots writes the pictures of docs/status-page.md: make screenshots.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("they are made with -screenshots")
	}
	b := newBrowser(t)
	g := redistest.New(t, redistest.Options{DownAfter: 8 * time.Second})
	addr, admin := freeAddr(t), freeAddr(t)
	runPaged(t, g, addr, admin)
	load := startWriters(t, addr, 40)
	defer load.finish()
	shoot := func(name string, width, height int64, scheme string) {
		t.Helper()
		b.look(t, width, scheme)
		b.do(t, chromedp.EmulateViewport(width, height))
		pause(t, time.Second) // what is new is drawn
		picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*screenshots, name), picture, 0o644); err != nil { //nolint:gosec // a picture for everybody
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", name, len(picture))
	}
	b.look(t, 900, "light")
	b.do(t, chromedp.Navigate("http://"+admin+"/status"))
	old := stable(t, g)
	if err := g.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	master := stable(t, g)
	if master == old {
		t.Fatal("the master did not change")
	}
	b.wait(t, "the new master on the page", shows("serving", master.Addr()))
	pause(t, 20*time.Second) // so that there is something in the plots
	b.wait(t, "a replica on the page", `/behind/.test(document.querySelector(".drawing").textContent)`)
	shoot("status-serving.png", 900, 1190, "light")

	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wait(t, "the hold on the page", shows("holding", master.Addr()))
	pause(t, 2*time.Second)
	shoot("status-holding.png", 900, 860, "dark")
	if err := master.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := stable(t, g)
	b.wait(t, "a master on the page", shows("serving", next.Addr()))

	for _, s := range g.Sentinels() {
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Resume() }()
	}
	b.wait(t, "the loss of the Sentinels on the page", `document.querySelector('#state li[data-live="true"][data-state="serving"]:not([data-degraded="0"])')`)
	pause(t, 2*time.Second)
	shoot("status-degraded.png", 360, 760, "light")
}
