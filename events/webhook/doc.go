// Package webhook tells events to HTTP servers.
//
// Each [Hook] has a goroutine that takes what it wants from the stream into a bounded
// queue, and one that sends the queue's events, one at a time, until the receiver has
// taken them. A receiver that is away costs the others nothing, and those who publish
// never wait for any.
//
// Neither secrets nor addresses of receivers appear in logs, metrics or errors: many
// services put the secret into the address. A hook is called by its name.
package webhook
