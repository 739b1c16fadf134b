package systemd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// sendTimeout bounds one message. The manager's queue may be full, and nothing of ours
// waits for it.
const sendTimeout = time.Second

// Notifier tells a service manager how the service is. It is safe for concurrent use,
// and nil tells nobody.
type Notifier struct{ addr *net.UnixAddr }

// NewNotifier returns the Notifier that the environment names, or nil if it names none.
func NewNotifier(getenv func(string) string) (*Notifier, error) {
	path := getenv("NOTIFY_SOCKET")
	switch {
	case path == "":
		return nil, nil //nolint:nilnil // nobody to tell is no error
	case path[0] != '/' && path[0] != '@':
		return nil, fmt.Errorf("NOTIFY_SOCKET: found %q; want a socket's path, or a name that begins with @", path)
	}
	return &Notifier{addr: &net.UnixAddr{Net: "unixgram", Name: path}}, nil
}

// Send sends one message of assignments such as Ready. It blocks for a second at most.
func (n *Notifier) Send(assignments ...string) error {
	if n == nil {
		return nil
	}
	c, err := net.DialUnix(n.addr.Net, nil, n.addr)
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	err = c.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		_, err = c.Write([]byte(strings.Join(assignments, "\n")))
	}
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// What there is to say; see sd_notify(3).
const (
	Ready    = "READY=1" // after the start, and after a reload
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"

	reloading = "RELOADING=1"
)

// Reloading says that a reload begins now; Ready ends it.
func Reloading() string {
	if now, ok := monotonic(); ok {
		return reloading + "\nMONOTONIC_USEC=" + strconv.FormatInt(now.Microseconds(), 10)
	}
	return reloading
}

// Extend asks for so much more time for what is under way, a start or a stop.
func Extend(d time.Duration) string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10)
}

// maxStatus is how long a status may be, in bytes.
const maxStatus = 1024

// Status is a line for people. What can't be in a line is replaced, and what is too
// much cut off: a message is made of lines, and none may be smuggled in.
func Status(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + "…"
	}
	return "STATUS=" + text
}

// Watchdog returns how often at least the manager wants to hear Alive from the process
// pid; 0 for never.
func Watchdog(getenv func(string) string, pid int) (time.Duration, error) {
	every := getenv("WATCHDOG_USEC")
	if every == "" {
		return 0, nil
	}
	if of := getenv("WATCHDOG_PID"); of != "" && of != strconv.Itoa(pid) {
		return 0, nil
	}
	us, err := strconv.ParseInt(every, 10, 64)
	if limit := int64(24 * time.Hour / time.Microsecond); err != nil || us <= 0 || us > limit {
		return 0, fmt.Errorf("WATCHDOG_USEC: found %q; want a number of microseconds", every)
	}
	return time.Duration(us) * time.Microsecond, nil
}
