// Package manpage writes the manual pages of commands: what their help says, in man(7).
package manpage

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Header is what all pages have in common.
type Header struct {
	Date    string // of the program, such as 2026-01-31; "" is left out
	Version string
	Tail    []Section // after the command's own sections
}

// Section is a part of a page: plain text, in paragraphs with blank lines between.
type Section struct{ Title, Text string }

// Name returns the page's name, such as "sentinelproxy-run".
func Name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// Page returns a command's page. The same command makes the same bytes.
func Page(cmd *cobra.Command, h Header) []byte {
	cmd.InitDefaultHelpFlag()
	p := &page{}
	name := Name(cmd)
	p.macro(".TH", strings.ToUpper(name), "1", h.Date, "sentinelproxy "+h.Version, "User Commands")
	p.section("NAME")
	p.text(name + ` - ` + cmd.Short)
	p.section("SYNOPSIS")
	if cmd.Runnable() && cmd.HasParent() || !cmd.HasAvailableSubCommands() {
		p.verbatim(cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		p.verbatim(cmd.CommandPath() + " COMMAND [flags]")
	}
	p.section("DESCRIPTION")
	p.paragraphs(or(cmd.Long, cmd.Short+"."))
	if cmd.HasAvailableSubCommands() {
		p.section("COMMANDS")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				p.item(sub.Name(), sub.Short+".")
			}
		}
	}
	if cmd.HasAvailableFlags() {
		p.section("OPTIONS")
		cmd.Flags().VisitAll(p.flag)
	}
	if cmd.HasExample() {
		p.section("EXAMPLES")
		p.verbatim(cmd.Example)
	}
	for _, s := range h.Tail {
		p.section(s.Title)
		p.paragraphs(s.Text)
	}
	p.section("SEE ALSO")
	p.seeAlso(cmd)
	return p.b.Bytes()
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// page is a page that grows.
type page struct{ b bytes.Buffer }

// escape makes text of s that man(7) prints as it is, wherever it stands in a line.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
}

func (p *page) macro(name string, args ...string) {
	p.b.WriteString(name)
	for _, a := range args {
		fmt.Fprintf(&p.b, " \"%s\"", strings.ReplaceAll(escape(a), `"`, `\(dq`))
	}
	p.b.WriteByte('\n')
}

func (p *page) section(title string) { p.macro(".SH", title) }

// text writes lines that are filled.
func (p *page) text(s string) {
	for line := range strings.Lines(s) {
		line = escape(strings.TrimSpace(line))
		if strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		p.b.WriteString(line + "\n")
	}
}

// verbatim writes lines as they are.
func (p *page) verbatim(s string) {
	p.b.WriteString(".nf\n")
	for line := range strings.Lines(s) {
		line = escape(strings.TrimRight(strings.TrimPrefix(line, "  "), "\n"))
		if strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		p.b.WriteString(line + "\n")
	}
	p.b.WriteString(".fi\n")
}

// paragraphs writes text with blank lines in it; what is indented stays as it is.
func (p *page) paragraphs(s string) {
	for i, para := range strings.Split(strings.Trim(s, "\n"), "\n\n") {
		if i > 0 {
			p.b.WriteString(".PP\n")
		}
		if strings.HasPrefix(para, "  ") {
			p.verbatim(para)
		} else {
			p.text(para)
		}
	}
}

// item writes a term and what it is.
func (p *page) item(term, text string) {
	p.b.WriteString(".TP\n")
	p.macro(".B", term)
	p.text(text)
}

func (p *page) flag(f *pflag.Flag) {
	if f.Hidden || f.Deprecated != "" {
		return
	}
	kind, usage := pflag.UnquoteUsage(f)
	term := "--" + f.Name
	if f.Shorthand != "" {
		term = "-" + f.Shorthand + ", " + term
	}
	if kind != "" {
		term += " " + kind
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
		usage += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	p.item(term, usage)
}

func (p *page) seeAlso(cmd *cobra.Command) {
	var names []string
	if cmd.HasParent() {
		names = append(names, Name(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, Name(sub))
		}
	}
	for i, n := range names {
		names[i] = n + "(1)"
	}
	p.text(strings.Join(append(names, "https://github.com/sentinelproxy/sentinelproxy"), ", "))
}
