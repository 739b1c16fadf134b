// Package proxy is the data path: it takes gateway connections, speaks the Redis
// protocol to them, and carries their commands to the master that the current
// topology.Route names.
//
// One worker per event loop owns everything on that loop: sessions (one per
// client), pipes (backend connections) and the route they obey. Sessions and
// pipes are state machines over bytes behind the evloop.Handler interface; they
// reach sockets, dialling and time only through small interfaces, so tests
// drive them without any. No command crosses a lock, a channel or a second
// goroutine.
//
//	client ─► session ─► shared pipe ─► master      stateless commands of many sessions
//	                └──► own pipe ────► master      MULTI, SUBSCRIBE, BLPOP, anything unknown
//
// A session has commands under way on one pipe at a time and changes to another
// only when nothing is, so replies come back in order by themselves.
//
// # Holding
//
// While the route is not Serving, nothing new goes out: the first command that
// must wait stops its session. When the route serves again, what waited goes to
// the new master, behind the commands that were under way on the old one and may
// safely be sent again (see judge.go). What may not is answered -UNCERTAIN.
package proxy
