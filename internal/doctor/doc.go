// Package doctor diagnoses a configuration and what it points to, before or while a
// sidecar runs: Sentinels, Redis nodes, rights, TLS, clocks and ports.
//
// Collect asks everything once, at the same time, within its context's deadline, and
// changes nothing. Judge is pure: it turns what was collected into findings, each with its
// severity, its reason and what to do.
package doctor
