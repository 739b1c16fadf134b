// Package evloop is the data path's event loop: one goroutine that owns many
// connections and calls their handlers, so that a handler needs no lock, no
// channel and no goroutine.
//
// A turn of the loop is: wait for events, read each ready connection once (at
// most 64 KiB, so no peer starves another), run posted functions and due
// timers, run the end-of-turn hooks, write once to each connection that has
// something to say, close what was closed. Replies of one turn therefore leave
// in one system call per connection.
//
// On Linux the loop waits in epoll; elsewhere, and in tests everywhere, a
// portable driver of goroutines over net.Conn stands behind the same interface
// (Options.Driver). Both pass the same conformance tests; only epoll is meant
// to be fast.
//
// A connection that speaks TLS does its handshake in a goroutine (ServerTLS,
// ClientTLS) and is then owned like any other (Loop.AddTLS): its handler sees
// plaintext.
//
// Loops share nothing. Everything slow (dialling, TLS handshakes, DNS, the
// control plane) happens in other goroutines and enters by Post.
package evloop
