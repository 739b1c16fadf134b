package outage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Answer is what a command gets that no master can take.
type Answer uint8

// The answers. The zero value is the default.
const (
	Fail  Answer = iota // an error: fail closed
	Stale               // what a replica knows; an error where none can be asked
	Nil                 // what Redis answers where the key is missing: fail open
)

// String returns the answer as it is written in a rule.
func (a Answer) String() string {
	switch a {
	case Fail:
		return "error"
	case Stale:
		return "stale"
	case Nil:
		return "nil"
	}
	return "invalid"
}

// Answers lists every answer, for metrics that export all of them.
func Answers() []Answer { return []Answer{Fail, Stale, Nil} }

// The words for many commands.
const (
	wordRead  = "read"
	wordWrite = "write"
	wordAny   = "any"
)

// Rule gives one answer to some commands. Its zero value matches nothing.
type Rule struct {
	// What is "read" (every command that only reads the keys it names), "write"
	// (every other), "any", or "" where Commands says it.
	What     string
	Commands []string // upper case, a subcommand behind a "|"
	// Keys is a pattern for [Match] that every key of the command must match; ""
	// matches any command, also one whose keys are not known.
	Keys   string
	Answer Answer
}

// ParseRule reads WHAT[:KEYS]=ANSWER. WHAT is read, write, any, or names of
// commands with commas between them.
func ParseRule(text string) (Rule, error) {
	i := strings.LastIndexByte(text, '=')
	if i < 0 {
		return Rule{}, errors.New("the answer is missing")
	}
	what, answer := strings.TrimSpace(text[:i]), strings.ToLower(strings.TrimSpace(text[i+1:]))
	var r Rule
	j := slices.IndexFunc(Answers(), func(a Answer) bool { return a.String() == answer })
	if j < 0 {
		return Rule{}, fmt.Errorf(`answer %q: want "error", "stale" or "nil"`, answer)
	}
	r.Answer = Answers()[j]
	what, keys, patterned := strings.Cut(what, ":")
	if patterned && keys == "" {
		return Rule{}, errors.New("the key pattern behind the colon is empty")
	}
	r.Keys = keys
	switch word := strings.ToLower(strings.TrimSpace(what)); word {
	case wordRead, wordWrite, wordAny:
		r.What = word
	default:
		for name := range strings.SplitSeq(what, ",") {
			r.Commands = append(r.Commands, strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(name), " ", "|")))
		}
	}
	if err := r.valid(); err != nil {
		return Rule{}, err
	}
	return r, nil
}

// valid says why a rule can't be kept.
func (r Rule) valid() error {
	if r.What == wordWrite && r.Answer != Fail {
		return fmt.Errorf("%s is for reads only; a write can only fail", r.Answer)
	}
	if r.What == wordAny && r.Answer != Fail {
		return fmt.Errorf("%s is for reads only; did you mean %q?", r.Answer, Rule{What: wordRead, Keys: r.Keys, Answer: r.Answer})
	}
	reads := Reads()
	for _, name := range r.Commands {
		read := reads[name]
		switch {
		case name == "":
			return errors.New("the command's name is missing")
		case read == nil && r.Answer == Fail:
			return fmt.Errorf("%s is no command that only reads the keys it names; such get an error without a rule", name)
		case read == nil:
			return fmt.Errorf("%s is no command that only reads the keys it names; %s is for those", name, r.Answer)
		case r.Answer == Stale && read.local:
			return fmt.Errorf("%s can't be stale: its cursor is good for one node", name)
		case r.Answer == Nil && read.missing == nil:
			return fmt.Errorf("%s can't be nil: Redis answers a missing key with an error, or how is not known", name)
		}
	}
	return nil
}

// String returns the rule as ParseRule reads it.
func (r Rule) String() string {
	what := r.What
	if what == "" {
		what = strings.Join(r.Commands, ",")
	}
	if r.Keys != "" {
		what += ":" + r.Keys
	}
	return what + "=" + r.Answer.String()
}

// MarshalText writes what String does, for JSON.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// matches reports whether the rule speaks of a read with these arguments.
func (r Rule) matches(name string, read *Read, args [][]byte) bool {
	switch r.What {
	case wordWrite:
		return false
	case wordRead, wordAny:
	default:
		if !slices.Contains(r.Commands, name) {
			return false
		}
	}
	if r.Keys == "" {
		return true
	}
	keys, ok := read.Keys(args)
	return ok && !slices.ContainsFunc(keys, func(k []byte) bool { return !Match(r.Keys, k) })
}

// Policy is an ordered list of rules: the first that matches decides, and where
// none does the answer is Fail.
type Policy []Rule

// String returns the rules with semicolons between them.
func (p Policy) String() string {
	rules := make([]string, len(p))
	for i, r := range p {
		rules[i] = r.String()
	}
	return strings.Join(rules, "; ")
}

// For returns the answer to a read with these arguments, its name included. What is
// no read always fails.
func (p Policy) For(name string, read *Read, args [][]byte) Answer {
	if read == nil {
		return Fail
	}
	for _, r := range p {
		if !r.matches(name, read, args) {
			continue
		}
		if r.Answer == Stale && read.local {
			return Fail
		}
		return r.Answer
	}
	return Fail
}

// Softens reports whether any rule answers other than by an error.
func (p Policy) Softens() bool {
	return slices.ContainsFunc(p, func(r Rule) bool { return r.Answer != Fail })
}
