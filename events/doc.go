// Package events is what happened, as one typed stream.
//
// The parts of a sidecar tell a [Stream] what they know first: each [Event] is a small
// struct of a closed set, with a severity and a sentence for people. The stream keeps
// the last of them in memory, under ids that grow. Whoever wants them, a log, a page,
// a webhook, reads at its own pace: a reader that is too slow is told how many it
// missed, and nobody who publishes ever waits for one.
//
// Events are facts of the control plane. Nothing on the path of a command publishes.
// They hold no secret: no password, no token, no address of a webhook.
//
//	publishers ──► Stream ──┬─► log lines (ToLog)
//	                        ├─► /api/v1/events (package health)
//	                        └─► webhooks (package webhook)
package events
