package route

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

var update = flag.Bool("update", false, "rewrite what the scenarios in testdata expect")

// TestScenarios runs the files of testdata. A block is commands, a line of dashes,
// and what the machine did; blocks are parted by an empty line. Lines that begin
// with # are kept. The first lines of a file that are comments tell its rule.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scenarios: %v, %d files", err, len(files))
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := runScenario(t, string(raw))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(raw) {
				t.Errorf("%s: the machine did:\n%s", f, got)
			}
		})
	}
}

func runScenario(t *testing.T, text string) string {
	t.Helper()
	s := newSim(Policy{}, Saved{})
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, found := strings.Cut(block, "\n----")
		for line := range strings.Lines(commands) {
			line = strings.TrimSpace(line)
			out.WriteString(line + "\n")
			if line != "" && !strings.HasPrefix(line, "#") {
				s = s.command(t, line)
			}
		}
		if !found && len(s.log) == 0 {
			continue
		}
		out.WriteString("----\n")
		for _, l := range s.log {
			out.WriteString(l + "\n")
		}
		s.log = nil
	}
	return out.String()
}

// command runs one line of a scenario.
func (s *sim) command(t *testing.T, line string) *sim {
	t.Helper()
	f := strings.Fields(line)
	bad := func(err error) {
		if err != nil {
			t.Fatalf("scenario line %q: %v", line, err)
		}
	}
	dur := func(v string) time.Duration {
		d, err := time.ParseDuration(v)
		bad(err)
		return d
	}
	opts := map[string]string{}
	var args []string
	for _, w := range f[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			opts[k] = v
		} else {
			args = append(args, w)
		}
	}
	switch f[0] {
	case "new": // new [follow=] [demote=] [fence=] [hold-max=] [hold-timeout=] [offer-replicas=on] [saved=addr/epoch,replica,...]
		var p Policy
		var saved Saved
		for k, v := range opts {
			switch k {
			case "fence":
				mode, err := ParseFenceMode(v)
				bad(err)
				p.Fence = mode
			case "follow":
				mode, err := ParseFollowMode(v)
				bad(err)
				p.Follow = mode
			case "demote":
				mode, err := ParseDemoteMode(v)
				bad(err)
				p.Demote = mode
			case "hold-max":
				p.HoldMax = After(dur(v))
			case "hold-timeout":
				p.HoldTimeout = After(dur(v))
			case "offer-replicas":
				p.OfferReplicas = v == "on"
			case "saved":
				nodes := strings.Split(v, ",")
				w := parseView(t, nodes[0])
				saved = Saved{Group: "g", Master: w.addr, Epoch: w.epoch, DownAfter: time.Second}
				for _, r := range nodes[1:] {
					saved.Replicas = append(saved.Replicas, topology.Addr(r))
				}
			default:
				t.Fatalf("scenario line %q: unknown option %q", line, k)
			}
		}
		return newSim(p, saved)
	case "views": // views a/1 a/1 - ~a/1 [known=] [replicas=b,-c] [down-after=]
		s.views = nil
		for _, a := range args {
			s.views = append(s.views, parseView(t, a))
		}
		if v, ok := opts["known"]; ok {
			n, err := strconv.Atoi(v)
			bad(err)
			s.known = n
		}
		if v, ok := opts["replicas"]; ok {
			s.replicas = nil
			for r := range strings.SplitSeq(v, ",") {
				if name := strings.TrimPrefix(r, "-"); name != "" {
					s.replicas = append(s.replicas, topology.Replica{Addr: topology.Addr(name), Up: name == r})
				}
			}
		}
		if v, ok := opts["down-after"]; ok {
			s.downAfter = dur(v)
		}
	case "node": // node a master [guarded=yes] | node b replica a [offset=] | node c refused|hung|noauth
		n := &simNode{}
		switch args[1] {
		case "master":
			n.role = topology.RoleMaster
		case "replica":
			n.role, n.master = topology.RoleReplica, topology.Addr(args[2])
		case "refused":
			n.refused = true
		case "hung":
			n.hung = true
		case "noauth":
			n.noAuth = true
		default:
			t.Fatalf("scenario line %q: unknown node state", line)
		}
		_, n.guarded = opts["guarded"]
		if v, ok := opts["offset"]; ok {
			o, err := strconv.ParseInt(v, 10, 64)
			bad(err)
			n.offset = o
		}
		s.nodes[topology.Addr(args[0])] = n
	case "sign": // sign kind sentinel [candidate] [old=]
		sg := topology.Sign{Group: "g", Sentinel: topology.Addr(args[1]), Old: topology.Addr(opts["old"]), At: s.now}
		if len(args) > 2 {
			sg.Candidate = topology.Addr(args[2])
		}
		for k := topology.SignRepoll; k <= topology.SignDemoted; k++ {
			if k.String() == args[0] {
				sg.Kind = k
			}
		}
		s.step(Signed{sg})
	case "closed":
		s.step(NodeClosed{topology.Addr(args[0])})
	case "missed":
		s.step(Missed{})
	case "report": // report kind addr [gen=+n]
		r := topology.Report{Group: "g", Gen: s.m.gen, Addr: topology.Addr(args[1]), At: s.now}
		if v, ok := opts["gen"]; ok {
			n, err := strconv.Atoi(v)
			bad(err)
			r.Gen = uint64(int(r.Gen) + n)
		}
		for k := topology.ReportHeld; k <= topology.ReportLeaseEnded; k++ {
			if k.String() == args[0] {
				r.Kind = k
			}
		}
		s.step(Reported{r})
	case "switchover": // switchover begin 2s [fast] | commit s1 | refused | end
		switch args[0] {
		case "begin":
			s.step(SwitchoverBegun{Until: s.now + dur(args[1]), Fast: slices.Contains(args, "fast")})
		case "commit":
			s.step(SwitchoverCommitted{Sentinel: topology.Addr(args[1])})
		case "refused":
			s.step(SwitchoverRefused{})
		case "end":
			s.step(SwitchoverEnded{})
		default:
			t.Fatalf("scenario line %q: unknown", line)
		}
		under, committed := s.m.Switchover()
		s.logf("switchover under way %v, committed %v", under, committed)
	case "preflight": // preflight [fast]
		ev := SwitchoverBegun{Until: s.now + 2*time.Second, Fast: slices.Contains(args, "fast")}
		for _, f := range s.m.Preflight(s.now, ev) {
			s.logf("preflight: %s", f)
		}
	case "run":
		s.run(dur(args[0]))
	case "freeze": // time passes without the machine, as in a suspended VM
		d := dur(args[0])
		s.now += d
		s.probeAt, s.pollAt = max(s.probeAt, s.now+1), max(s.pollAt, s.now+1)
		s.step(Tick{})
	case "degraded":
		for _, d := range s.m.Degraded() {
			s.logf("degraded: %s", d)
		}
	default:
		t.Fatalf("scenario line %q: unknown command", line)
	}
	return s
}

func parseView(t *testing.T, v string) simView {
	t.Helper()
	if v == "-" {
		return simView{}
	}
	rest := strings.TrimPrefix(v, "~")
	a, e, ok := strings.Cut(rest, "/")
	epoch, err := strconv.ParseUint(e, 10, 64)
	if !ok || err != nil {
		t.Fatalf("view %q: want addr/epoch: %v", v, err)
	}
	return simView{addr: topology.Addr(a), epoch: epoch, up: true, tilt: rest != v}
}
