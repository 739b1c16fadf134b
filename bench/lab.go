package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	// wantFiles has room for 10 000 clients of a proxy that opens two
	// descriptors for each, and for Redis behind it.
	wantFiles = 32_768
	// downAfter keeps a machine at full load from looking like a dead master.
	downAfter = 30 * time.Second
	replicas  = 2
)

// lab is the group under load and the candidates before it. Its owner calls
// close.
type lab struct {
	dir     string // configurations and logs; kept, for looking at after a failure
	options options
	group   *redistest.Group
	master  *redistest.Node
	sidecar string    // the sidecar's program
	tls     *tlsFiles // nil: all is plain
	files   uint64    // descriptors each process may have

	candidates []*candidate
	leftOut    []string // a line for each candidate that cannot be measured
}

// openLab opens a group and starts the candidates asked for.
func openLab(ctx context.Context, root string, o options, stderr io.Writer) (*lab, error) {
	l, err := openGroup(ctx, root, o, stderr)
	if err != nil {
		return nil, err
	}
	for _, s := range o.specs() {
		if err := l.add(ctx, root, s, stderr); err != nil {
			l.close()
			return nil, err
		}
	}
	if len(l.candidates) == 0 {
		l.close()
		return nil, fmt.Errorf("%w: no candidate can be measured: %s", errMissing, strings.Join(l.leftOut, "; "))
	}
	return l, nil
}

// openGroup installs Redis if it is missing and can be, and starts the group,
// with no candidate before it yet.
func openGroup(ctx context.Context, root string, o options, stderr io.Writer) (*lab, error) {
	return openGroupOf(ctx, root, o, stderr, redistest.Options{
		Replicas:  replicas,
		DownAfter: downAfter,
		RedisConfig: []string{
			"maxclients 20000",
			// A replica that cannot keep up with two cores at full load must
			// not be cut off: its full resync would be measured instead.
			"client-output-buffer-limit replica 0 0 0",
			"repl-timeout 600",
		},
	})
}

// openGroupOf is openGroup with a group of another kind.
func openGroupOf(ctx context.Context, root string, o options, stderr io.Writer, group redistest.Options) (*lab, error) {
	l := &lab{dir: filepath.Join(root, "bench", ".work"), options: o, sidecar: o.proxyBinary}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if o.cmd == cmdTLS {
		if l.tls, err = makeTLS(l.dir); err != nil {
			return nil, err
		}
	}
	if l.files, err = raiseFileLimit(wantFiles); err != nil {
		return nil, fmt.Errorf("descriptor limit: %w", err)
	}
	if err := need(ctx, root, stderr, "redis-server", "redis-benchmark"); err != nil {
		return nil, err
	}
	l.group, err = redistest.Start(ctx, group)
	if err != nil {
		return nil, err
	}
	if l.master, err = l.group.Master(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// add starts one candidate if it was asked for. One whose program is missing
// and cannot be installed is left out, visibly; one that does not work is an
// error.
func (l *lab) add(ctx context.Context, root string, s spec, stderr io.Writer) error {
	if !l.wants(s.name) {
		return nil
	}
	if s.program != "" {
		if err := need(ctx, root, stderr, s.program); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.leftOut = append(l.leftOut, fmt.Sprintf("%s was left out: %v", s.name, err))
			return nil
		}
	}
	if (s.name == nameSidecar || s.name == nameUnscraped) && l.sidecar == "" {
		var err error
		if l.sidecar, err = buildSidecar(ctx, root, l.dir); err != nil {
			return err
		}
	}
	c, err := s.start(ctx, l)
	if err != nil {
		return err
	}
	l.candidates = append(l.candidates, c)
	return nil
}

func (l *lab) wants(name string) bool { return slices.Contains(l.options.candidates, name) }

// close stops the candidates, then the group.
func (l *lab) close() {
	for _, c := range l.candidates {
		c.stop()
	}
	if l.group != nil {
		_ = l.group.Stop()
	}
}

func (l *lab) masterAddr() topology.Addr { return l.master.Addr() }

// fill writes every key of the cell with a value of its size, so that each GET
// finds one.
func (l *lab) fill(ctx context.Context, c cell) error {
	a, err := dialAdmin(ctx, l.masterAddr(), nil)
	if err != nil {
		return err
	}
	defer a.close()
	const script = `local v = string.rep('x', ARGV[2]) for i = 0, ARGV[1] - 1 do redis.call('SET', string.format('key:%012d', i), v) end return 1`
	if _, err := a.do("FLUSHALL"); err != nil {
		return err
	}
	if _, err := a.do("EVAL", script, "0", strconv.Itoa(c.keys()), strconv.Itoa(c.size)); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return l.settle(ctx)
}

// settle returns once the replicas have caught up, so that the work one run
// left them is not on the next one's bill.
func (l *lab) settle(ctx context.Context) error {
	a, err := dialAdmin(ctx, l.masterAddr(), nil)
	if err != nil {
		return err
	}
	defer a.close()
	for ctx.Err() == nil {
		// WAIT counts from the last write of its own connection.
		if _, err := a.do("SET", "bench:settle", "1"); err != nil {
			return err
		}
		got, err := a.do("WAIT", strconv.Itoa(replicas), "1000")
		if err != nil {
			return err
		}
		if got == fmt.Sprintf(":%d", replicas) {
			return nil
		}
	}
	return ctx.Err()
}

// checkMaster returns an error if the master is no longer the one the lab began
// with: then the figures mean nothing.
func (l *lab) checkMaster(ctx context.Context) error {
	now, err := l.group.Master(ctx)
	if err != nil {
		return err
	}
	if now.Addr() != l.masterAddr() {
		return fmt.Errorf("the master moved from %s to %s during the run: a failover was measured", l.masterAddr(), now.Addr())
	}
	return nil
}

// need returns nil if the programs are installed, after installing them through
// apt where that works; else an errMissing that says what to install.
func need(ctx context.Context, root string, stderr io.Writer, programs ...string) error {
	var missing []string
	for _, p := range programs {
		if _, err := findProgram(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", "need"), missing...)
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if err == nil {
		return nil
	}
	if _, ran := errors.AsType[*exec.ExitError](err); !ran {
		return fmt.Errorf("%w: %s: %w", errMissing, strings.Join(missing, ", "), err)
	}
	return fmt.Errorf("%w: %s", errMissing, strings.TrimSpace(string(out)))
}

// findProgram returns a program's path. Debian keeps HAProxy and twemproxy
// where an ordinary user's PATH does not lead.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", filepath.Base(name)))
}
