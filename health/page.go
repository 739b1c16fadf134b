package health

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

// pageFiles are the status page: index.html, served as /status, and what it loads, as
// /status/NAME. It shows what the API tells and asks nobody else.
//
//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load its own files and talk to this server, and nothing more.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageTypes are the content types of the files. The system's table may have others.
func pageTypes() map[string]string {
	return map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".svg":  "image/svg+xml",
	}
}

// addPage registers the page's files.
func addPage(mux *http.ServeMux) error {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	for _, e := range entries {
		body, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return fmt.Errorf("health: %w", err)
		}
		at := "/status/" + e.Name()
		if e.Name() == "index.html" {
			at = "/status"
		}
		file := pageFile{pageTypes()[path.Ext(e.Name())], body}
		mux.Handle(at, file)
		if e.Name() == "icon.svg" {
			mux.Handle("/favicon.ico", file) // browsers ask for it beside what is no page, such as /livez
		}
	}
	return nil
}

// pageFile is one file of the page.
type pageFile struct {
	contentType string
	body        []byte
}

func (f pageFile) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY") // of browsers that do not know frame-ancestors
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	_, _ = w.Write(f.body) // the client left: there is nobody to tell
}
