package events

import (
	"fmt"
	"strings"
)

// Reference returns every kind in Markdown, for docs/events.md.
func Reference() string {
	var b strings.Builder
	for _, e := range Catalogue() {
		var levels []string
		for _, s := range e.Severities() {
			levels = append(levels, s.String())
		}
		fmt.Fprintf(&b, "### %s\n\n%s. %s\n\n", e.Kind, strings.Join(levels, " or "), e.When)
		if fields := e.Fields(); len(fields) > 0 {
			b.WriteString("| field | what it is |\n| --- | --- |\n")
			for _, f := range fields {
				fmt.Fprintf(&b, "| `%s` | %s |\n", f.Name, f.Doc)
			}
			b.WriteString("\n")
		}
		line := e.Line
		if line == "" {
			line = Phrase(e.Kind)
		}
		fmt.Fprintf(&b, "**What to do:** %s\n\n**In the log:** `%s`\n\n", e.Do, strings.ReplaceAll(line, ", ", "`, `"))
	}
	return b.String()
}
