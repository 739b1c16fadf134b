// Package tlsconf makes TLS configurations of settings and files, keeps them up
// to date while the files change, and says in plain words why a handshake with a
// node failed.
//
// A [Source] belongs to one leg: clients, Redis, or Sentinels. Each generation of
// its files is one tls.Config of its own, so that a session ticket of an older
// generation is worth nothing.
package tlsconf
