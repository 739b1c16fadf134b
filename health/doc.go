// Package health is the admin HTTP server: probes, metrics and status for
// people, Prometheus and the kubelet. It only reads; what may be ordered of the sidecar
// is package control's, which cmd can have served here too.
//
//	/livez           200 while the event loops turn
//	/readyz          200 while every group (?master=NAME: that one) has a verified master
//	/metrics         Prometheus' text format
//	/api/v1/status   everything known, as JSON
//	/api/v1/clients  the clients that are connected, to this machine or with a token
//
// It declares what it needs of the others as interfaces and imports none of
// them.
package health
