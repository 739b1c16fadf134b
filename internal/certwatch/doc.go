// Package certwatch tells of certificates before they end.
//
// It watches what this sidecar depends on: our own certificates and client authorities, of
// the files in force; and those that Redis nodes and Sentinels show, as seen in real
// handshakes. A handshake leaves the parsed chain behind and no more; hashing, dates and
// events are the work of one goroutine. So a certificate that ends while its connections
// live is told of, too.
package certwatch
