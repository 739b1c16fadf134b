package events

import "fmt"

// SidecarStarted says that a sidecar listens.
type SidecarStarted struct {
	Version string `json:"version" doc:"of the program"`
}

func (b SidecarStarted) tell() told {
	return told{Info, "", "the sidecar has started, version " + b.Version}
}

// SidecarStopping says that a sidecar was asked to end.
type SidecarStopping struct {
	Drain Milliseconds `json:"drain_timeout_ms" doc:"how long it waits for commands in flight"`
}

func (SidecarStopping) tell() told { return told{Info, "", "the sidecar was asked to stop"} }

// ConfigReloaded says that the configuration was read again and put in force.
type ConfigReloaded struct {
	Applied int `json:"applied" doc:"how many settings changed"`
	Waiting int `json:"waiting" doc:"how many others take effect at the next start"`
}

func (b ConfigReloaded) tell() told {
	return told{Info, "", fmt.Sprintf("the configuration was reloaded (settings changed: %d, waiting for a restart: %d)", b.Applied, b.Waiting)}
}

// ConfigRejected says that the configuration has mistakes, and what ran goes on. The log
// tells them: a mistake quotes what was found, and that may be anything.
type ConfigRejected struct {
	Mistakes int `json:"mistakes" doc:"how many there are"`
}

func (b ConfigRejected) tell() told {
	return told{Warning, "", fmt.Sprintf("the changed configuration is not in force: the log has its mistakes (%d)", b.Mistakes)}
}

// DrillBegun says that somebody breaks this group on purpose.
type DrillBegun struct {
	Drill string `json:"drill_id" doc:"which drill; its end has the same"`
	Kind  string `json:"drill" doc:"its kind, such as crash"`
	// Report is where it will be.
	Report Text `json:"report,omitempty" doc:"where its report will be: a file on the host that drills, or an address; absent if none is written"`
}

func (b DrillBegun) tell() told {
	return told{Info, b.Drill, fmt.Sprintf("a drill begins: %s", b.Kind)}
}

// DrillEnded says that it is over. A drill that was killed says nothing.
type DrillEnded struct {
	Drill   string `json:"drill_id" doc:"which drill"`
	Kind    string `json:"drill" doc:"its kind"`
	Outcome string `json:"outcome" doc:"passed, failed (an objective was missed) or broken (it could not be carried out)"`
	Report  Text   `json:"report,omitempty" doc:"where its report is; absent if none was written"`
}

func (b DrillEnded) tell() told {
	s := Info
	if b.Outcome != "passed" {
		s = Warning
	}
	return told{s, b.Drill, fmt.Sprintf("the drill %s is over: %s", b.Kind, b.Outcome)}
}
