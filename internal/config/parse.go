package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// errPlain says that a value is not valid and that the setting's own text says
// all there is to say.
var errPlain = errors.New("not valid")

// sentinelPort is Sentinel's port where none is named.
const sentinelPort = 26379

// longest is above any duration that makes sense here.
const longest = 24 * time.Hour

// schemeTLS is before the address of a listener that speaks TLS.
const schemeTLS = "tls://"

func parseListen(v string) (Listen, error) {
	if path, ok := strings.CutPrefix(v, "unix:"); ok {
		switch {
		case !filepath.IsAbs(path):
			return Listen{}, errors.New("a socket's path starts with /")
		case len(path) > 107: // sun_path of unix(7), less its zero byte
			return Listen{}, errors.New("a socket's path has at most 107 bytes")
		}
		return Listen{Network: "unix", Address: filepath.Clean(path)}, nil
	}
	bare, secure := strings.CutPrefix(v, schemeTLS)
	if secure && strings.HasPrefix(bare, "unix:") {
		return Listen{}, errors.New("TLS is for host:port; a Unix socket has its permissions")
	}
	a, err := parseBind(bare)
	return Listen{Network: "tcp", Address: a, TLS: secure}, err
}

// parseBind reads an address to listen on: the host may be empty, the port 0.
func parseBind(v string) (string, error) {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		switch {
		case isPort(v):
			return "", fmt.Errorf("did you mean %q?", ":"+v)
		case strings.HasPrefix(v, "/"):
			return "", fmt.Errorf("did you mean %q?", "unix:"+v)
		case net.ParseIP(v) != nil && strings.Contains(v, ":"):
			return "", fmt.Errorf("did you mean %q?", "["+v+"]:6379")
		}
		return "", errPlain
	}
	if !isPort(port) {
		return "", fmt.Errorf("port %q: want a number up to 65535", port)
	}
	if strings.ContainsAny(host, " /@") || strings.Contains(host, ":") && net.ParseIP(trimZone(host)) == nil {
		return "", fmt.Errorf("host %q: want a name or an IP address", host)
	}
	return net.JoinHostPort(host, port), nil
}

// parseBindOrOff is parseBind, or "" for off.
func parseBindOrOff(v string) (string, error) {
	if v == "off" {
		return "", nil
	}
	return parseBind(v)
}

// trimZone cuts the zone off an IPv6 address such as fe80::1%eth0.
func trimZone(host string) string {
	ip, _, _ := strings.Cut(host, "%")
	return ip
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// maxCommand is the longest name that the proxy tells from others.
const maxCommand = 128

// parseCommand reads a command's name, or "none", which is "".
func parseCommand(v string) (string, error) {
	if len(v) > maxCommand {
		return "", fmt.Errorf("no command has a name of %d bytes", len(v))
	}
	if strings.EqualFold(v, "none") {
		return "", nil
	}
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ',' }) {
		if main, sub, ok := strings.Cut(v, " "); ok && main != "" && sub != "" {
			return "", fmt.Errorf("did you mean %q?", strings.ToUpper(main+"|"+sub))
		}
		return "", errPlain
	}
	if main, sub, ok := strings.Cut(v, "|"); ok && (main == "" || sub == "" || strings.Contains(sub, "|")) {
		return "", errPlain
	}
	return strings.ToUpper(v), nil
}

func parseSentinel(v string) (topology.Addr, error) {
	if strings.ContainsAny(v, " /@\t") {
		return "", errPlain
	}
	return topology.ParseAddr(v, sentinelPort)
}

// parseAnnounce reads a host, or a host and a port, that clients can connect to.
func parseAnnounce(v string) (Announce, error) {
	host, port := v, 0
	if h, p, err := net.SplitHostPort(v); err == nil {
		n, err := parseCount(p, 1, 65535)
		if err != nil {
			return Announce{}, fmt.Errorf("port %q: want a number from 1 to 65535", p)
		}
		host, port = h, n
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	switch {
	case host == "" || strings.ContainsAny(host, " /@,[]\t") || ip == nil && strings.Contains(host, ":"):
		return Announce{}, errPlain
	case ip.IsUnspecified():
		return Announce{}, fmt.Errorf("nobody can connect to %s", host)
	case isPort(host):
		return Announce{}, errors.New("the host is missing")
	}
	return Announce{Host: host, Port: port}, nil
}

// parseDuration reads a positive duration.
func parseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
		if _, err := strconv.ParseUint(v, 10, 31); err == nil {
			return 0, fmt.Errorf("the unit is missing; did you mean %q?", v+"s")
		}
		return 0, errPlain
	case d < 0:
		return 0, errors.New("it is negative")
	case d > longest:
		return 0, fmt.Errorf("it is longer than %v", longest)
	}
	return d, nil
}

// parseWait reads "auto", "off" or a duration, of which 0 is off.
func parseWait(v string) (Wait, error) {
	switch v {
	case "auto":
		return Wait{Auto: true}, nil
	case "off", "0":
		return Wait{}, nil
	}
	d, err := parseDuration(v)
	if errors.Is(err, errPlain) {
		err = oneOfHint(v, "auto", "off")
	}
	return Wait{For: d}, err
}

// parseSeconds reads "off" or a duration of a second or more.
func parseSeconds(v string) (Wait, error) {
	if v == "off" || v == "0" {
		return Wait{}, nil
	}
	d, err := parseDuration(v)
	switch {
	case errors.Is(err, errPlain):
		err = oneOfHint(v, "off")
	case err == nil && d > 0 && d < time.Second:
		err = errors.New("it counts in seconds")
	}
	return Wait{For: d.Truncate(time.Second)}, err
}

// parseMillis reads "off" or a duration of a millisecond or more.
func parseMillis(v string) (Wait, error) {
	if v == "off" || v == "0" {
		return Wait{}, nil
	}
	d, err := parseDuration(v)
	switch {
	case errors.Is(err, errPlain):
		err = oneOfHint(v, "off")
	case err == nil && d > 0 && d < time.Millisecond:
		err = errors.New("it counts in milliseconds")
	}
	return Wait{For: d.Truncate(time.Millisecond)}, err
}

// parseAfter reads "auto" or a duration, of which 0 is at once.
func parseAfter(v string) (After, error) {
	if v == "off" {
		return After{}, errors.New("0s: nothing waits; to wait for as long as hold.timeout says: auto")
	}
	w, err := parseWait(v)
	return After{Fixed: !w.Auto, For: w.For}, err
}

func parseCount(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, errPlain
	}
	return n, nil
}

// sized parses a size within bounds.
func sized(least, most int) func(string) (int, error) {
	return func(v string) (int, error) {
		n, err := parseSize(v)
		switch {
		case err != nil:
			return 0, err
		case n < least:
			return 0, fmt.Errorf("it is less than %s", sizeString(least))
		case n > most:
			return 0, fmt.Errorf("it is more than %s", sizeString(most))
		}
		return n, nil
	}
}

// mostBytes is the largest size.
const mostBytes = math.MaxInt / 2

// parseSize reads bytes as Redis' configuration has them: a number, with b, k, kb, m,
// mb, g or gb behind it in any case; k is 1000, kb 1024, and so on.
func parseSize(v string) (int, error) {
	n, err := plainSize(v)
	if errors.Is(err, errPlain) { // a space, or the unit of another world?
		try := strings.Replace(strings.ReplaceAll(strings.ToLower(v), " ", ""), "ib", "b", 1)
		if _, err := plainSize(try); err == nil {
			return 0, fmt.Errorf("did you mean %q?", try)
		}
	}
	return n, err
}

func plainSize(v string) (int, error) {
	digits := strings.TrimRight(strings.ToLower(v), "bkmg")
	unit, ok := map[string]int{
		"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1e6, "mb": 1 << 20, "g": 1e9, "gb": 1 << 30,
	}[strings.ToLower(v)[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 63)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && ok && n > uint64(mostBytes/unit):
		return 0, errors.New("it is too large")
	case err != nil && strings.HasPrefix(v, "-"):
		return 0, errors.New("it is negative")
	case err != nil, !ok:
		return 0, errPlain
	}
	return int(n) * unit, nil
}

// sizeString writes a size as parseSize reads it, in the largest unit that divides it.
func sizeString(n int) string {
	for _, u := range []struct {
		name string
		size int
	}{{"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.Itoa(n/u.size) + u.name
		}
	}
	return strconv.Itoa(n)
}

// longestSoft is the most seconds of a soft limit.
const longestSoft = 24 * 60 * 60

// parseOutputLimit reads "class hard soft seconds", as Redis'
// client-output-buffer-limit.
func parseOutputLimit(v string) (OutputLimit, error) {
	words := strings.Fields(v)
	if len(words) != 4 {
		return OutputLimit{}, fmt.Errorf("it has %d words", len(words))
	}
	var o OutputLimit
	var err error
	if o.Class, err = parseChoice(strings.ToLower(words[0]), OutputNormal, OutputPubSub); err != nil {
		if errors.Is(err, errPlain) {
			err = fmt.Errorf("want %q or %q", OutputNormal, OutputPubSub)
		}
		return o, fmt.Errorf("class %s: %w", quote(words[0]), err)
	}
	for i, to := range []*int{&o.Hard, &o.Soft} {
		if *to, err = parseSize(words[1+i]); err != nil {
			if errors.Is(err, errPlain) {
				err = errors.New("want a size such as 32mb, or 0 for no limit")
			}
			return o, fmt.Errorf("size %s: %w", quote(words[1+i]), err)
		}
		if *to > 0 && *to < leastOutput {
			return o, fmt.Errorf("size %s: less than %s would cut off clients that do read", quote(words[1+i]), sizeString(leastOutput))
		}
	}
	seconds, err := parseCount(words[3], 0, longestSoft)
	if err != nil {
		return o, fmt.Errorf("seconds %s: want a number from 0 to %d", quote(words[3]), longestSoft)
	}
	o.For = time.Duration(seconds) * time.Second
	if o.Hard > 0 && o.Soft > o.Hard {
		return o, fmt.Errorf("the soft limit %s is above the hard one %s", words[2], words[1])
	}
	return o, nil
}

// leastOutput is what one reply that arrives in one piece may take.
const leastOutput = 1 << 20

// parseChoice reads one of a few words.
func parseChoice[T ~string](v string, choices ...T) (T, error) {
	if slices.Contains(choices, T(v)) {
		return T(v), nil
	}
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = string(c)
	}
	return "", oneOfHint(v, words...)
}

func oneOfHint(v string, words ...string) error {
	if n := nearest(v, words); n != "" {
		return fmt.Errorf("did you mean %q?", n)
	}
	return errPlain
}

// parsePath reads a file's path. It does not look whether the file is there.
func parsePath(v string) (string, error) {
	if v == "" || strings.ContainsRune(v, 0) {
		return "", errPlain
	}
	return v, nil
}

// parseName reads a master's name: Sentinel accepts what Redis' configuration
// lines can hold in one word.
func parseName(v string) (string, error) {
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '\'' }) {
		return "", errPlain
	}
	return v, nil
}
