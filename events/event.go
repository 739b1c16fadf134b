package events

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// Event is one thing that happened. It is immutable.
type Event struct {
	Body

	// ID grows by one with every event of a process, and a later process begins above
	// it, as long as the clock was not set back.
	ID      uint64
	At      time.Time
	Sidecar string // which sidecar says so
	Master  string // the group it is about; "" for the process as a whole
}

// Body is what happened. Only this package can add one; [Kinds] lists them all, and
// readers handle those that they care for.
type Body interface {
	// tell returns how grave it is, what a cooldown tells it apart by beside its kind
	// and master, and one sentence.
	tell() told
}

type told struct {
	severity Severity
	subject  string
	message  string
}

// Kind is a body's name, such as "RouteHeld". It never changes.
type Kind string

// KindOf returns what b is called.
func KindOf(b Body) Kind { return Kind(reflect.TypeOf(b).Name()) }

// Kind returns what the event is called.
func (e Event) Kind() Kind { return KindOf(e.Body) }

// Severity returns how grave it is.
func (e Event) Severity() Severity { return e.tell().severity }

// Subject returns what it is about within its master: a node, a Sentinel, a certificate;
// "" for the master or process itself.
func (e Event) Subject() string { return e.tell().subject }

// Message returns it as one sentence for people.
func (e Event) Message() string { return clip(e.tell().message) }

// Severity says how soon somebody should look.
type Severity uint8

// The severities, from the least. The zero value is none.
const (
	Info     Severity = 1 + iota // for the record
	Warning                      // look at it in working hours
	Critical                     // commands fail, wait or are at risk, or will soon
)

// Severities lists every severity, the least first.
func Severities() []Severity { return []Severity{Info, Warning, Critical} }

// String returns "info", "warning" or "critical".
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return "invalid"
}

// head is what the JSON of every event begins with. Fields are added, never renamed.
type head struct {
	ID        uint64    `json:"id"`
	Event     Kind      `json:"event"`
	Timestamp time.Time `json:"timestamp"`
	Severity  string    `json:"severity"`
	Master    string    `json:"master_name,omitempty"`
	Sidecar   string    `json:"sidecar"`
	Subject   string    `json:"subject,omitempty"`
	Message   string    `json:"message"`
}

// MarshalJSON writes one flat object: what every event has, then its own fields.
func (e Event) MarshalJSON() ([]byte, error) {
	t := e.tell()
	out, err := json.Marshal(head{
		ID: e.ID, Event: e.Kind(), Timestamp: e.At.UTC(), Severity: t.severity.String(), Master: e.Master,
		Sidecar: e.Sidecar, Subject: t.subject, Message: clip(t.message),
	})
	if err != nil {
		return nil, err
	}
	own, err := json.Marshal(e.Body)
	if err != nil {
		return nil, err
	}
	if len(own) <= len("{}") {
		return out, nil
	}
	out[len(out)-1] = ','
	return append(out, own[1:]...), nil
}

// Text is what somebody else said, such as an error. It is told in one line and cut
// where it is long: what comes from the network must not fill the memory.
type Text string

// maxText bounds a text or message, in bytes.
const maxText = 500

// String returns one line of at most 500 bytes.
func (t Text) String() string { return clip(string(t)) }

// MarshalText writes what String does.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func clip(s string) string {
	if len(s) > 4*maxText {
		s = s[:4*maxText] // most of it would be thrown away
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}

// Milliseconds is a duration as the JSON of events has it.
type Milliseconds float64

// Millis makes Milliseconds of d.
func Millis(d time.Duration) Milliseconds { return Milliseconds(float64(d.Microseconds()) / 1000) }

// span prints it for people.
func (m Milliseconds) span() string {
	d := time.Duration(float64(m) * float64(time.Millisecond))
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
