// Package health is the admin HTTP server: probes, metrics and status for
// people, Prometheus and the kubelet. It only reads; what may be ordered of the sidecar
// is package control's, which cmd can have served here too.
//
//	/status          a page for people, which shows the rest and follows it
//	/livez           200 while the event loops turn
//	/readyz          200 while every group (?master=NAME: that one) has a verified master
//	/startupz        200 once the event loops have turned
//	                 each of the three explains itself in JSON with ?verbose
//	/metrics         Prometheus' text format
//	/api/v1/status   everything known, as JSON
//	/api/v1/status/stream   the same each second and when something happens, as server-sent events
//	/api/v1/clients  the clients that are connected, to this machine or with a token
//	/api/v1/events   what happened, as JSON (?since=ID&limit=N) or as server-sent events
//	/api/v1/certificates   the certificates that the sidecar depends on, as JSON
//
// All that may be left to those a Guard lets in; a second listener then answers the probes
// to whoever asks, in a word.
//
// It declares what it needs of the others as interfaces and imports none of
// them but the values that all exchange.
package health
