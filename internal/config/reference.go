package config

import (
	"fmt"
	"strings"
)

// Reference returns the table of all settings in Markdown, for
// docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString("| YAML | Flag | Variable | Default | Reload | What it is |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- |\n")
	for _, s := range settings() {
		key := code(s.key)
		switch {
		case s.entryKey() != s.key:
			key += ", in `" + s.scope.list() + "`: " + code(s.entryKey())
		case s.short != "":
			key += ", or " + code(s.short) + " alone (process)"
		case s.scope == ofProcess:
			key += " (process)"
		}
		def := "–" // not "none", which auth could be set to
		if s.def != "" {
			def = code(strings.ReplaceAll(s.def, "|", `\|`))
		}
		reload := "restart"
		if s.live {
			reload = "SIGHUP"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", key, code("--"+s.flag), code(s.env()), def, reload, s.usage)
	}
	return b.String()
}

func code(s string) string { return "`" + s + "`" }
