// Package sentineltest runs a Redis group under Sentinel inside the test's own
// process: data nodes backed by miniredis and Sentinels that speak Sentinel's
// protocol, all on loopback, without a redis-server binary. It is meant for
// tests and demonstrations of whatever follows Sentinel.
//
//	g := sentineltest.New(t, sentineltest.Fast())
//	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: g.Name(), ...})
//	err := g.Failover(t.Context(), "") // the whole timeline, with its events
//
// # What is faithful
//
// The Sentinels answer PING, AUTH, HELLO, CLIENT, INFO, ROLE, (P)SUBSCRIBE,
// (P)UNSUBSCRIBE and SENTINEL GET-MASTER-ADDR-BY-NAME, MASTER, MASTERS,
// REPLICAS, SLAVES, SENTINELS, CKQUORUM, MYID, FAILOVER and RESET with the keys,
// types, order, nulls and error texts of Redis 7.0.15, in RESP2 and RESP3; a
// test of this package compares them with a real one. Events carry Sentinel's
// names and payloads in Sentinel's order, different on the leader and on the
// others: while it reconfigures, the leader's SENTINEL MASTER shows the old
// address with the new config-epoch, and its +switch-master is the last of all.
//
// A promoted replica closes its client connections. The old master goes on
// saying that it is master and accepting writes until it is demoted; those
// writes are lost, as in a real failover. Whoever writes to it shows it.
//
// # What is simulated
//
//   - Replication has no lag: a replica reads its master's dataset. At a
//     promotion the promoted node keeps that dataset, and the old master gets a
//     copy that is thrown away at its demotion. (HyperLogLogs, consumer groups
//     and the expiry of hash fields are left out of that copy.)
//   - A killed node keeps its data, as if it were persisted.
//   - Replicas are reconfigured all at once; the pauses between the steps of a
//     failover are those of Options, not of Sentinel's timers; the leader is the
//     first Sentinel that may lead.
//   - No hello messages are published on the data nodes, and Sentinels do not
//     talk to each other over the network.
//   - Commands are miniredis' own, Lua included; scripts count as writes.
//
// A command that neither knows is answered as Redis answers an unknown command;
// it is logged and shows in Calls.
package sentineltest
