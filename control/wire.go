package control

import (
	"encoding/json"
	"io"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// PathSwitchover is where a switchover is asked for.
const PathSwitchover = "/api/v1/switchover"

// request is the body of a POST to PathSwitchover. Every field may be left out.
type request struct {
	Master     string  `json:"master"` // may be left out where there is one
	To         string  `json:"to"`
	Strict     bool    `json:"strict"`
	DryRun     bool    `json:"dry_run"`
	MaxPauseMS float64 `json:"max_pause_ms"`
}

// line is one line of the answer: a step, or the result, which is the last. Fields are
// added, never renamed.
type line struct {
	Step   string  `json:"step,omitempty"`
	Status string  `json:"status,omitempty"`
	TookMS float64 `json:"took_ms"`
	Detail string  `json:"detail,omitempty"`

	Result *result `json:"result,omitempty"`
}

// result is how a switchover ended.
type result struct {
	OK      bool    `json:"ok"`
	Outcome string  `json:"outcome"`
	From    string  `json:"from"`
	To      string  `json:"to"`
	Epoch   uint64  `json:"epoch"`
	PauseMS float64 `json:"pause_ms"`
	Error   string  `json:"error"`
}

// resultLine is the last line.
type resultLine struct {
	Result result `json:"result"`
}

// WriteStep writes a step as the line of an answer.
func WriteStep(w io.Writer, s topology.SwitchoverStep) error {
	return json.NewEncoder(w).Encode(line{Step: s.Name, Status: string(s.Status), TookMS: milliseconds(s.Took), Detail: s.Detail})
}

// WriteResult writes the last line of an answer.
func WriteResult(w io.Writer, r topology.SwitchoverResult) error {
	return json.NewEncoder(w).Encode(resultLine{resultOf(r)})
}

func (l line) step() topology.SwitchoverStep {
	return topology.SwitchoverStep{
		Name: l.Step, Status: topology.StepStatus(l.Status), Took: duration(l.TookMS), Detail: l.Detail,
	}
}

func resultOf(r topology.SwitchoverResult) result {
	return result{
		OK: r.OK(), Outcome: string(r.Outcome), From: string(r.From), To: string(r.To), Epoch: r.Epoch,
		PauseMS: milliseconds(r.Pause), Error: r.Err,
	}
}

func (r result) value() topology.SwitchoverResult {
	return topology.SwitchoverResult{
		Outcome: topology.SwitchoverOutcome(r.Outcome), From: topology.Addr(r.From), To: topology.Addr(r.To),
		Epoch: r.Epoch, Pause: duration(r.PauseMS), Err: r.Error,
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
