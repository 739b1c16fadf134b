package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/proxy"
	"github.com/sentinelproxy/sentinelproxy/sentinel"
)

// realParts makes the parts that serve real traffic.
func realParts() parts {
	return parts{
		follower:   newFollower,
		controller: newController,
		server:     newServer,
	}
}

func newFollower(m config.Master, h followerHooks, log *slog.Logger) (loginFollower, error) {
	return newSwapFollower(m.Sentinel, func(l config.Login) (follower, error) {
		return sentinel.New(sentinel.Options{
			Group:         m.Name,
			Sentinels:     m.Sentinels,
			Username:      l.User,
			Password:      l.Password.Reveal(),
			Dial:          h.dial,
			Log:           log,
			OnObservation: h.observe,
			OnSign:        h.sign,
			Tell:          h.tell,
		})
	})
}

// failoverController is a Controller whose Status is any JSON-able value, and
// that tells a probe what is degraded.
type failoverController struct{ *failover.Controller }

// Status returns the [failover.Status].
func (c failoverController) Status(context.Context) any { return c.Controller.Status() }

// Ready adds what is degraded while it serves.
func (c failoverController) Ready() (ok bool, reason string) {
	ok, reason = c.Controller.Ready()
	if d := c.Controller.Status().Degraded; ok && len(d) > 0 {
		reason = "degraded: " + strings.Join(d, "; ")
	}
	return ok, reason
}

// SetLogin never fails.
func (c failoverController) SetLogin(l config.Login) error {
	c.Controller.SetLogin(l.User, l.Password.Reveal())
	return nil
}

// SetSentinelLogin changes the account of switchovers on the Sentinels.
func (c failoverController) SetSentinelLogin(l config.Login) {
	c.Controller.SetSentinelLogin(l.User, l.Password.Reveal())
}

func newController(m config.Master, h controllerHooks, log *slog.Logger) (controller, error) {
	fence, err := route.ParseFenceMode(string(m.Fence))
	if err != nil {
		return nil, err
	}
	follow, err := route.ParseFollowMode(string(m.Follow))
	if err != nil {
		return nil, err
	}
	demote, err := route.ParseDemoteMode(string(m.Demote))
	if err != nil {
		return nil, err
	}
	c, err := failover.New(failover.Options{
		Group: m.Name,
		Policy: route.Policy{
			Follow:      follow,
			Fence:       fence,
			Demote:      demote,
			HoldTimeout: limit(m.Hold.Timeout),
			HoldMax:     limit(m.Hold.Max),

			OfferReplicas: true, // a reload may bring a policy that wants them
		},
		Publish:       h.publish,
		PollSentinels: h.poll,
		SetFast:       h.setFast,
		Drained:       h.drained,
		Tell:          h.tell,
		Dial:          h.dial,
		DialSentinel:  h.ask,
		Patience:      h.patient,
		Username:      m.Redis.User,
		Password:      m.Redis.Password.Reveal(),
		Log:           log,
		StateFile:     m.StateFile,

		SentinelUsername: m.Sentinel.User,
		SentinelPassword: m.Sentinel.Password.Reveal(),
	})
	if err != nil {
		return nil, err
	}
	return failoverController{c}, nil
}

// limit translates a configured wait.
func limit(w config.Wait) route.Limit {
	if w.Auto {
		return route.Auto()
	}
	return route.After(w.For)
}

// denied is the commands that are refused as package proxy takes them: nil is the default
// there, and here it is none.
func denied(names []string) []string { return append([]string{}, names...) }

func newServer(m config.Master, h serverHooks, log *slog.Logger) (server, error) {
	log = log.With("master_name", m.Name) // the other parts do so themselves
	auth := proxy.AuthPassthrough
	if m.Auth == config.AuthNone {
		auth = proxy.AuthNone
	}
	retry, err := proxy.ParseRetryMode(string(m.RetryWrites))
	if err != nil {
		return nil, err
	}
	warnDenied(m.Deny, log)
	o := proxy.Options{
		Group:        m.Name,
		Loops:        m.Loops,
		Linger:       h.linger,
		Auth:         auth,
		Dedicated:    m.Dedicated,
		DenyCommands: denied(m.Deny),
		Username:     m.Redis.User,
		Password:     m.Redis.Password.Reveal(),
		Report:       h.report,
		DrainTimeout: max(h.drain, time.Nanosecond), // 0 there is the default, here no drain at all
		MaxClients:   m.MaxClients,
		MaxUserPipes: m.MaxUserPipes,
		Allow:        m.Allow,
		IdleTimeout:  m.IdleTimeout.For,
		SlowCommand:  m.SlowCommand.For,

		ClientKeepalive: keepalive(m.Keepalive),
		NodeKeepalive:   keepalive(m.RedisKeepalive),

		LargeCommand:     m.LargeCommand,
		QueryBufferLimit: m.QueryBuffer,
		OutputLimits: &proxy.OutputLimits{
			Normal: outputLimit(m.OutputLimit(config.OutputNormal)),
			PubSub: outputLimit(m.OutputLimit(config.OutputPubSub)),
		},

		RetryWrites: retry,
		Outage:      outagePolicy(m.Outage),
		Log:         log,
	}
	h.tls.secure(&o, m.Listen, h.listeners)
	s, err := proxy.New(o)
	if err != nil {
		return nil, err
	}
	return proxyServer{s}, nil
}

func outputLimit(o config.OutputLimit) proxy.OutputLimit {
	return proxy.OutputLimit{Hard: o.Hard, Soft: o.Soft, For: o.For}
}

// keepalive translates a configured one: 0 there is the default, here it is off.
func keepalive(w config.Wait) time.Duration {
	if w.For == 0 {
		return -1
	}
	return w.For
}

// warnDenied tells of commands to be refused that Redis does not have: a module may,
// but a slip of the pen lets through what it was to stop.
func warnDenied(names []string, log *slog.Logger) {
	known := proxy.KnownCommands()
	for _, n := range names {
		if !slices.Contains(known, n) {
			log.Warn("deny_commands names a command that Redis does not have", "command", n, "did_you_mean", config.Nearest(n, known))
		}
	}
}

// outagePolicy translates a configured policy.
func outagePolicy(o config.Outage) proxy.Outage {
	return proxy.Outage{Fixed: o.After.Fixed, After: o.After.For, Rules: o.Policy}
}

// proxyServer is a Server whose Status is any JSON-able value.
type proxyServer struct{ *proxy.Server }

// Status returns the [proxy.Status].
func (s proxyServer) Status(ctx context.Context) any { return s.Server.Status(ctx) }

// Clients returns the [proxy.ClientList].
func (s proxyServer) Clients(ctx context.Context, limit int) any { return s.Server.Clients(ctx, limit) }

// SetLogin never fails.
func (s proxyServer) SetLogin(l config.Login) error {
	s.Server.SetLogin(l.User, l.Password.Reveal())
	return nil
}

// SetOutage changes the policy, also for an outage that goes on.
func (s proxyServer) SetOutage(o config.Outage) { s.Server.SetOutage(outagePolicy(o)) }
