package health

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/events"
)

func TestPageIsServed(t *testing.T) {
	_, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Events: events.NewStream("x")})
	files, err := fs.ReadDir(pageFiles, "page")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	types := map[string]string{"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml", "html": "text/html; charset=utf-8"}
	for _, f := range files {
		path := "/status/" + f.Name()
		if f.Name() == "index.html" {
			path = "/status"
		}
		want, err := fs.ReadFile(pageFiles, "page/"+f.Name())
		if err != nil {
			t.Fatal(err)
		}
		code, body, h := ask(t, addr, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if code != 200 || body != string(want) {
			t.Errorf("%s: %d, %d bytes; want the file's %d", path, code, len(body), len(want))
		}
		if code, body, _ := ask(t, addr, "HEAD "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); code != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, code, body)
		}
		_, ext, _ := strings.Cut(f.Name(), ".")
		for name, want := range map[string]string{
			"Content-Type": types[ext], "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cache-Control": "no-store", "X-Frame-Options": "DENY",
		} {
			if got := h.Get(name); got != want || got == "" {
				t.Errorf("%s: %s %q; want %q", path, name, got, want)
			}
		}
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q; want %s", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, ":") {
			t.Errorf("%s: policy %q lets in more than our own files", path, policy)
		}
	}
	for request, want := range map[string]int{
		"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0": 405,
		"GET /status HTTP/1.1\r\nHost: evil.example":                    421,
		"GET /status/main.js HTTP/1.1\r\nHost: evil.example":            421,
		"GET /status/index.html HTTP/1.1\r\nHost: localhost":            404,
		"GET /status/ HTTP/1.1\r\nHost: localhost":                      404,
		"GET /favicon.ico HTTP/1.1\r\nHost: localhost":                  200, // browsers ask, whatever they show
	} {
		if code, _, _ := ask(t, addr, request+"\r\n\r\n"); code != want {
			t.Errorf("%q: %d; want %d", request, code, want)
		}
	}
}

// The page names no file that is not there and nothing outside, and has no way to take a
// text for markup or code.
func TestPageIsClosed(t *testing.T) {
	files, err := fs.ReadDir(pageFiles, "page")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		names[f.Name()] = true
	}
	loads := regexp.MustCompile(`(?:src="|<link[^>]* href="|from ")(?:status/|\./)?([^"]+)"`)
	outside := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]+[^"\s]*`)
	found := 0
	for name := range names {
		b, err := fs.ReadFile(pageFiles, "page/"+name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range loads.FindAllStringSubmatch(text, -1) {
			found++
			if !names[m[1]] {
				t.Errorf("%s loads %s, which is not there", name, m[1])
			}
		}
		for _, u := range outside.FindAllString(text, -1) {
			if u != "http://www.w3.org/2000/svg" {
				t.Errorf("%s names %s", name, u)
			}
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "style=", "@import", "url("} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %s", name, bad)
			}
		}
	}
	if found < 5 {
		t.Errorf("%d files are loaded; the pattern finds too few", found)
	}
}
