// Package control is the sidecar's HTTP interface for what changes state, and its Go
// client. The admin server of package health only reads, so that whoever may scrape it
// can do no harm; this is kept apart from it.
//
//	POST /api/v1/switchover   move the master to another node
//	POST /api/v1/drill        say that a drill begins or is over, for the events
//
// It is served on a Unix socket that only the sidecar's own user may open. With a token
// it is served on the admin server too, where the Host header has been checked; a
// request without the token is refused also from loopback, since a gateway beside us may
// be tricked into calling it.
//
// The answer to a switchover is one JSON object per line, each written as soon as a step has ended. A
// caller that goes away calls the switchover off while that is possible.
package control
