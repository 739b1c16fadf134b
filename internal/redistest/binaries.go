package redistest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// ErrNoRedis means that redis-server, or a Redis that can be a Sentinel, is not
// installed. The errors that wrap it say what to install.
var ErrNoRedis = errors.New("redistest: Redis is not installed")

// binaries are the programs to start.
type binaries struct {
	server       string
	sentinel     string
	sentinelArgs []string // after the configuration file
	major        int      // of Redis' version, 0 if it could not be read
}

// findBinaries looks up the programs that o needs. Its error wraps ErrNoRedis.
func findBinaries(ctx context.Context, o Options) (binaries, error) {
	var b binaries
	var err error
	name := o.ServerPath
	if name == "" {
		name = "redis-server"
	}
	if b.server, err = exec.LookPath(name); err != nil {
		return b, fmt.Errorf("%w: %w; on Debian: apt-get install redis-server redis-sentinel", ErrNoRedis, err)
	}
	b.major = majorVersion(ctx, b.server)
	if o.SentinelPath != "" {
		if b.sentinel, err = exec.LookPath(o.SentinelPath); err != nil {
			return b, fmt.Errorf("%w: %w; on Debian: apt-get install redis-sentinel", ErrNoRedis, err)
		}
		return b, nil
	}
	// They are one program: redis-sentinel is redis-server by another name.
	if b.sentinel, err = exec.LookPath("redis-sentinel"); err != nil || o.ServerPath != "" {
		b.sentinel, b.sentinelArgs = b.server, []string{"--sentinel"}
	}
	return b, nil
}

// majorVersion asks the program for its version; 0 if it doesn't say.
func majorVersion(ctx context.Context, server string) int {
	out, err := exec.CommandContext(ctx, server, "--version").Output()
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`\bv=(\d+)\.`).FindSubmatch(out) // "Redis server v=7.0.15 sha=..."
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return n
}
