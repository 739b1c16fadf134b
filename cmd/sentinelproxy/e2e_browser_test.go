package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium with one page. It ends with the test.
type browser struct {
	ctx context.Context //nolint:containedctx // chromedp's handle of a page is a context

	mu       sync.Mutex // guards the fields below
	errors   []string   // exceptions, and errors of the console but those of the network
	network  []string   // errors of the network, as the console has them
	requests []string   // addresses that were asked for
}

// newBrowser starts one. Without Chromium the test is skipped, or fails in CI.
func newBrowser(tb testing.TB, more ...chromedp.ExecAllocatorOption) *browser {
	tb.Helper()
	path := needTool(tb, "chromium")
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // which root has to do without; it opens no page but ours
		chromedp.UserDataDir(tb.TempDir()),
		chromedp.WSURLReadTimeout(time.Minute),
	)
	opts = append(opts, more...)
	// Not the test's context, which ends before the browser is to be closed.
	alloc, stop := chromedp.NewExecAllocator(context.WithoutCancel(tb.Context()), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	b := &browser{ctx: ctx}
	tb.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			tb.Errorf("browser: %v", err)
		}
		cancel()
		stop()
	})
	if err := chromedp.Listen(ctx, b.note); err != nil {
		tb.Fatalf("browser: %v", err)
	}
	return b
}

// note is called with every event of the page.
func (b *browser) note(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		text := ev.ExceptionDetails.Text
		if ex := ev.ExceptionDetails.Exception; ex != nil {
			text += " " + ex.Description
		}
		b.errors = append(b.errors, text)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			b.errors = append(b.errors, fmt.Sprintf("console.%s: %v", ev.Type, ev.Args))
		}
	case *log.EventEntryAdded:
		e := ev.Entry
		line := fmt.Sprintf("%s %s: %s %s", e.Source, e.Level, e.Text, e.URL)
		switch {
		case e.Source == log.EntrySourceNetwork:
			b.network = append(b.network, line)
		case e.Level == log.EntryLevelError || e.Level == log.EntryLevelWarning:
			b.errors = append(b.errors, line)
		}
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	}
}

func (b *browser) networkErrors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.network)
}

func (b *browser) do(tb testing.TB, steps ...chromedp.Action[chromedp.Void]) {
	tb.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		tb.Fatalf("browser: %v", err)
	}
}

// eval returns the value of an expression in the page.
func eval[T any](tb testing.TB, b *browser, expression string) T {
	tb.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		tb.Fatalf("%s: %v", expression, err)
	}
	return v
}

// wait waits until an expression is true in the page.
func (b *browser) wait(tb testing.TB, want, expression string) {
	tb.Helper()
	waitWithin(tb, 3*patience, want, func() bool { return eval[bool](tb, b, "Boolean("+expression+")") })
}

// click clicks on the first thing that a CSS selector finds.
func (b *browser) click(tb testing.TB, selector string) {
	tb.Helper()
	eval[bool](tb, b, fmt.Sprintf("document.querySelector(%q).click(), true", selector))
}

// look sets the width of the page and which colours are preferred.
func (b *browser) look(tb testing.TB, width int64, scheme string) {
	tb.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	b.do(tb, chromedp.EmulateViewport(width, 800), func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return chromedp.Void{}, err
	})
}

// axNode is what a screen reader is told of one thing.
type axNode struct{ role, name, description string }

// accessible returns what of the page is told.
func (b *browser) accessible(tb testing.TB) []axNode {
	tb.Helper()
	tree, err := chromedp.Run(b.ctx, func(ctx context.Context, t *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	if err != nil {
		tb.Fatalf("accessibility tree: %v", err)
	}
	word := func(v *accessibility.Value) string {
		var s string
		if v != nil {
			_ = json.Unmarshal(v.Value, &s) // no text: nothing is told
		}
		return s
	}
	var all []axNode
	for _, n := range tree.Nodes {
		if !n.Ignored {
			all = append(all, axNode{word(n.Role), word(n.Name), word(n.Description)})
		}
	}
	return all
}

// quiet fails the test if the page had an error, asked anybody else, or the network failed
// but for what is allowed to.
func (b *browser) quiet(tb testing.TB, origin string, allowed int) {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.errors {
		tb.Errorf("console: %s", e)
	}
	for _, e := range b.network[min(allowed, len(b.network)):] {
		tb.Errorf("console, after the restart: %s", e)
	}
	for _, u := range b.requests {
		if !strings.HasPrefix(u, origin) {
			tb.Errorf("asked for %s", u)
		}
	}
	if len(b.requests) < 5 {
		tb.Errorf("%d requests were seen: %q; want at least the page's files", len(b.requests), b.requests)
	}
}
