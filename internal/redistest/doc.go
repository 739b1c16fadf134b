// Package redistest runs real redis-server and redis-sentinel processes on
// loopback: for tests, for the demo with real Redis, and for drills.
//
// A Group is one master, its replicas and the Sentinels that watch them; Start
// returns when every Sentinel sees all of them. Each process has its own
// directory, configuration file and log. Ports can't be raced for: a port is
// reserved against other users of this package, and a process that loses one to
// a stranger is started again on another.
//
// Nothing outlives its owner: processes are killed by Group.Stop, when the
// context given to Start ends, and, on Linux, when this process dies.
package redistest
