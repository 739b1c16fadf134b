// Package failover keeps the route of one group: a [Controller] feeds the pure
// machine of failover/route with what the Sentinels, the data path and its own
// probes of the data nodes say, and carries out what the machine decides.
//
// One goroutine owns the machine; everything else reaches it through a bounded
// inbox that never blocks its senders. A sign of a failover becomes a published
// route without waiting for any network answer.
package failover
