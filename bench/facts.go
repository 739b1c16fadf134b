package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// fact is one line about what was measured, and on what.
type fact struct{ name, value string }

// collectFacts asks the machine and the programs; what cannot be found out is
// left out.
func collectFacts(ctx context.Context, root string, l *lab) []fact {
	facts := []fact{
		{"date", time.Now().UTC().Format(time.DateOnly)},
		{"CPU", fmt.Sprintf("%s, %d cores", lineValue("/proc/cpuinfo", "model name"), runtime.NumCPU())},
		{"memory", lineValue("/proc/meminfo", "MemTotal")},
		{"kernel", runtime.GOOS + " " + firstLine("/proc/sys/kernel/osrelease") + " " + runtime.GOARCH},
		{"Go", runtime.Version()},
		{"Redis", firstOutput(ctx, root, "redis-server", "--version")},
	}
	if l.wants(nameHAProxy) {
		facts = append(facts, fact{"HAProxy", firstOutput(ctx, root, "haproxy", "-v")})
	}
	if l.wants(nameTwemproxy) {
		facts = append(facts, fact{"twemproxy", firstOutput(ctx, root, "nutcracker", "--version")})
	}
	if l.wants(nameSidecar) {
		facts = append(facts, fact{"sentinelproxy", sidecarVersion(ctx, root, l.options)})
	}
	var known []fact
	for _, f := range facts {
		if f.value != "" {
			known = append(known, f)
		}
	}
	return known
}

// sidecarVersion returns the commit that was built, or that another program was
// measured in its place.
func sidecarVersion(ctx context.Context, root string, o options) string {
	if o.proxyBinary != "" {
		return "another program, given by --proxy-binary"
	}
	commit := firstOutput(ctx, root, "git", "rev-parse", "--short", "HEAD")
	if commit == "" {
		return "built from a tree without a commit"
	}
	// The reports themselves do not make the program another.
	if firstOutput(ctx, root, "git", "status", "--porcelain", "--", ".", ":!bench/results") != "" {
		commit += ", with local changes"
	}
	return "commit " + commit
}

// firstOutput returns the first line a program prints, or "".
func firstOutput(ctx context.Context, dir, program string, args ...string) string {
	path, err := findProgram(program)
	if err != nil {
		return ""
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	var out strings.Builder
	cmd.Stdout = &out
	if program == "nutcracker" { // it prints its version to stderr
		cmd.Stderr = &out
	}
	if err := cmd.Run(); err != nil {
		return ""
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	return strings.TrimSpace(line)
}

// firstLine returns the first line of a file, or "".
func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// lineValue returns what follows "key:" in a file of such lines, or "".
func lineValue(path, key string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
