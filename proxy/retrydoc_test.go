package proxy

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the generated part of docs/retry.md")

// retryTable is the generated part of docs/retry.md: what becomes of each command
// that was sent and not answered.
func retryTable() string {
	const again, uncertain = "sent again", "`-UNCERTAIN`"
	var b strings.Builder
	b.WriteString("| command | `never` | `idempotent` | `always` |\n| --- | --- | --- | --- |\n")
	cmds := newCommands(DefaultDenied()).all
	slices.SortFunc(cmds, func(a, b *command) int { return strings.Compare(a.name, b.name) })
	reads := map[bool][]string{}
	for _, c := range cmds {
		if c.class == classDenied || c.class == classLocal || c.class == classContainer {
			continue
		}
		name, idempotent, always := "`"+displayName(c.name)+"`", uncertain, again
		switch c.resend {
		case resendRead:
			reads[c.wide] = append(reads[c.wide], name)
			continue
		case resendNever:
			always = uncertain
		case resendSame:
			if idempotent = again; c.again.when != "" {
				idempotent += " if " + strings.TrimSpace(c.again.when)
				idempotent = strings.Replace(idempotent, "if no ", "if it has no ", 1)
			}
		case resendLeast:
		}
		if c.name == "unknown" {
			name = "any other, such as a module's"
		}
		if c.class == classExec {
			always = "the whole transaction is sent again, except behind `WATCH`, or when it is larger than 1 MiB or holds one of the commands that are never repeated"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, uncertain, idempotent, always)
	}
	fmt.Fprintf(&b, "\nSent again in every mode, for they change nothing: %s.\n", strings.Join(reads[false], ", "))
	fmt.Fprintf(&b, "\nSo are these, but with `idempotent` not before a write that is sent again: %s.\n", strings.Join(reads[true], ", "))
	return b.String()
}

func TestRetryPage(t *testing.T) {
	const page = "../docs/retry.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), "-update -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- /commands -->")
	if !ok1 || !ok2 {
		t.Fatalf("%s has lost its marks", page)
	}
	want := before + "-update -->\n" + retryTable() + "<!-- /commands -->" + after
	if want == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says; run go test ./proxy -run TestRetryPage -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
