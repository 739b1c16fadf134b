// Package outage is the policy for commands that come while no master is served:
// which are answered with an error, which from a replica, and which as if their
// key were missing. It is pure: rules, the keys of the reads they speak of, and
// what Redis answers to each read of a missing key.
package outage
