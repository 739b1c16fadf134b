package proxy

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"time"
)

// idempotent says when a write of class I1 (FAILOVER.md 4) may run twice: end
// state and reply are then the same, if nobody else writes to its keys between.
type idempotent struct {
	when  string // the condition, for people; "" if there is none
	blind bool   // overwrites its keys and answers OK whatever they held
	// writes returns the keys that a command with these arguments, its name included,
	// writes. ok is false if it may not run twice. A time to live counts from the
	// second run, which comes at most longest after the first.
	writes func(args [][]byte, longest time.Duration) (keys [][]byte, ok bool)
}

// sharedSameReply is the list of class I1. What FAILOVER.md 6.2 has there and is
// not here failed when it ran twice on Redis 7.0.15, or could: XTRIM counts what it
// removed, EXPIREAT may lie in the past by then, and a second SCRIPT FLUSH drops
// what others have loaded since.
func sharedSameReply() map[string]idempotent {
	const (
		apart    = "the destination is not one of the sources"
		plainSet = "no NX, XX, IFEQ, GET or KEEPTTL"
		long     = "no NX, XX, GT or LT, and a time at least a minute longer than `hold.timeout`; it starts again"
	)
	return map[string]idempotent{
		"SET":     {when: plainSet, blind: true, writes: writesOf(1, 3, 2)},
		"SETEX":   {blind: true, writes: writesFirst},
		"PSETEX":  {blind: true, writes: writesFirst},
		"MSET":    {blind: true, writes: writesPairs},
		"MSETEX":  {when: "no NX, XX or KEEPTTL", blind: true, writes: writesCounted},
		"HMSET":   {writes: writesFirst},
		"LSET":    {writes: writesFirst},
		"EXPIRE":  {when: long, writes: writesTTL(time.Second)},
		"PEXPIRE": {when: long, writes: writesTTL(time.Millisecond)},

		"SETRANGE":    {writes: writesFirst},
		"SCRIPT|LOAD": {writes: writesNothing},

		"BITOP":             {when: apart, writes: stores(2, 3)},
		"PFMERGE":           {when: apart, writes: stores(1, 2)},
		"SDIFFSTORE":        {when: apart, writes: stores(1, 2)},
		"SINTERSTORE":       {when: apart, writes: stores(1, 2)},
		"SUNIONSTORE":       {when: apart, writes: stores(1, 2)},
		"ZDIFFSTORE":        {when: apart, writes: storesCounted},
		"ZINTERSTORE":       {when: apart, writes: storesCounted},
		"ZUNIONSTORE":       {when: apart, writes: storesCounted},
		"ZRANGESTORE":       {when: apart, writes: storesOne},
		"GEOSEARCHSTORE":    {when: apart, writes: storesOne},
		"GEORADIUS":         {when: apart, writes: storesOption(6)},
		"GEORADIUSBYMEMBER": {when: apart, writes: storesOption(5)},
		"SORT":              {when: apart + ", and STORE comes without BY and GET", writes: storesSorted},
	}
}

// writesFirst is for commands that write their first argument.
func writesFirst(args [][]byte, _ time.Duration) ([][]byte, bool) {
	if len(args) < 3 {
		return nil, false
	}
	return args[1:2], true
}

func writesNothing([][]byte, time.Duration) ([][]byte, bool) { return nil, true }

// onlyExpiry reports whether options say nothing but when the key expires.
func onlyExpiry(options [][]byte) bool {
	for i := 0; i < len(options); i += 2 {
		switch o := string(options[i]); {
		case equalFold(o, "ex"), equalFold(o, "px"), equalFold(o, "exat"), equalFold(o, "pxat"):
		default:
			return false
		}
	}
	return true
}

// writesOf is for commands with n keys from first on, every step arguments, and
// options behind them.
func writesOf(n, options, step int) func([][]byte, time.Duration) ([][]byte, bool) {
	return func(args [][]byte, _ time.Duration) ([][]byte, bool) {
		if len(args) < options || !onlyExpiry(args[options:]) {
			return nil, false
		}
		keys := make([][]byte, 0, n)
		for i := options - n*step; i < options; i += step {
			keys = append(keys, args[i])
		}
		return keys, true
	}
}

// writesPairs is for MSET key value ...
func writesPairs(args [][]byte, longest time.Duration) ([][]byte, bool) {
	n := (len(args) - 1) / 2
	return writesOf(n, 1+2*n, 2)(args, longest)
}

// writesCounted is for MSETEX numkeys key value ... [options].
func writesCounted(args [][]byte, longest time.Duration) ([][]byte, bool) {
	n, ok := countArg(args, 1)
	if !ok {
		return nil, false
	}
	return writesOf(n, 2+2*n, 2)(args, longest)
}

// writesTTL is for EXPIRE and PEXPIRE without a condition.
func writesTTL(unit time.Duration) func([][]byte, time.Duration) ([][]byte, bool) {
	return func(args [][]byte, longest time.Duration) ([][]byte, bool) {
		if len(args) != 3 {
			return nil, false
		}
		n, err := strconv.ParseInt(string(args[2]), 10, 64)
		if err != nil || n <= int64(longest/unit) {
			return nil, false
		}
		return args[1:2], true
	}
}

// stores is for commands with a destination and any number of sources, where they
// may not be the same key: BITOP and others then build on what they built.
func stores(dst, sources int) func([][]byte, time.Duration) ([][]byte, bool) {
	return func(args [][]byte, _ time.Duration) ([][]byte, bool) {
		if len(args) <= sources {
			return nil, false
		}
		return apart(args[dst:dst+1], args[sources:])
	}
}

// storesOne is for ZRANGESTORE and GEOSEARCHSTORE: destination, source, options.
func storesOne(args [][]byte, _ time.Duration) ([][]byte, bool) {
	if len(args) < 4 {
		return nil, false
	}
	return apart(args[1:2], args[2:3])
}

// storesCounted is for ZUNIONSTORE destination numkeys key ... [options].
func storesCounted(args [][]byte, _ time.Duration) ([][]byte, bool) {
	n, ok := countArg(args, 2)
	if !ok || len(args) < 3+n {
		return nil, false
	}
	return apart(args[1:2], args[3:3+n])
}

// storesOption is for GEORADIUS and kin, whose options begin at an index and may
// name a destination.
func storesOption(options int) func([][]byte, time.Duration) ([][]byte, bool) {
	return func(args [][]byte, _ time.Duration) ([][]byte, bool) {
		if len(args) < options {
			return nil, false
		}
		var dst [][]byte
		for i, a := range args[options:] {
			if o := string(a); (equalFold(o, "store") || equalFold(o, "storedist")) && options+i+1 < len(args) {
				dst = append(dst, args[options+i+1])
			}
		}
		return apart(dst, args[1:2])
	}
}

// storesSorted is for SORT, which reads whatever its patterns match.
func storesSorted(args [][]byte, longest time.Duration) ([][]byte, bool) {
	if len(args) < 2 {
		return nil, false
	}
	patterns := slices.ContainsFunc(args[2:], func(a []byte) bool {
		return equalFold(string(a), "by") || equalFold(string(a), "get")
	})
	dst, ok := storesOption(2)(args, longest)
	return dst, ok && (len(dst) == 0 || !patterns)
}

// apart returns the destinations if none of them is a source.
func apart(dst, sources [][]byte) ([][]byte, bool) {
	for _, d := range dst {
		for _, s := range sources {
			if bytes.Equal(d, s) {
				return nil, false
			}
		}
	}
	return dst, true
}

// countArg reads the number of keys at index i.
func countArg(args [][]byte, i int) (int, bool) {
	if i >= len(args) {
		return 0, false
	}
	n, err := strconv.Atoi(string(args[i]))
	return n, err == nil && n > 0 && n < math.MaxInt32
}
