// Package faultnet is a misbehaving network for tests: a TCP relay that stalls,
// delays, cuts, resets and refuses, and a net.Conn that reads and writes less
// than it was asked to.
//
// A Relay stands for the network before one node, in all its connections at
// once. Faults are switched on and off while traffic flows; Heal ends them all.
package faultnet
