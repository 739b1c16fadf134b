package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sentinelproxy/sentinelproxy/internal/evloop"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	fanWait   = 20 * time.Second     // for what must come: confirmations, the last deliveries
	fanTick   = time.Millisecond     // how often a rate is kept
	fanDial   = 2 * time.Second      // one connection
	keepLimit = 1 << 20              // bytes of an incomplete frame; a message is far smaller
	maxFan    = 10 * time.Minute     // more than any delivery takes
	fanName   = "bench:subscribers:" // of a channel, before its number
)

// fan is one publisher and many subscribers on one event loop: so many connections
// cost the machine less than with a goroutine for each, and nothing here is locked.
type fan struct {
	kind fanOut
	size int // bytes of a payload

	// Owned by the loop.
	loop        *evloop.Loop
	subs        []*subscriber
	pub         *publisher
	channels    []uint64 // messages published in each
	next        int      // the channel that is next
	unconfirmed int
	under       int // deliveries that have not come yet
	started     time.Time
	published   int
	delivered   int
	lost        int // skipped by a later message of the same channel
	firstErr    error
	latency     *hdrhistogram.Histogram // microseconds
	stopped     bool                    // nothing more is published
	tick        *evloop.Timer
	confirmed   chan struct{} // closed when every subscriber is
	done        chan struct{} // closed when the last message has come
	failed      chan struct{} // closed with firstErr
}

// fanned is what came of one run.
type fanned struct {
	published, delivered, lost int
	took                       time.Duration // of publishing, and of what was delivered meanwhile
	latency                    *hdrhistogram.Histogram
}

// runFan connects subscribers to addr, publishes through another connection there
// for as long as run, and returns when every message has come or fanWait is over:
// then the rest is lost. begin and end are called when publishing begins, and after
// the last delivery while all are still connected.
func runFan(ctx context.Context, addr topology.Addr, kind fanOut, subscribers, size int, run time.Duration, begin, end func() error) (fanned, error) {
	loop, err := evloop.New(evloop.Options{})
	if err != nil {
		return fanned{}, err
	}
	f := &fan{
		kind: kind, size: size, loop: loop, unconfirmed: subscribers,
		channels:  make([]uint64, kind.channels(subscribers)),
		latency:   hdrhistogram.New(1, maxFan.Microseconds(), 3),
		confirmed: make(chan struct{}), done: make(chan struct{}), failed: make(chan struct{}),
	}
	sockets, err := dialFan(ctx, addr, subscribers+1)
	if err != nil {
		loop.Close()
		return fanned{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = loop.Run(ctx) // until it is cancelled
	}()
	defer func() { cancel(); <-ended }()
	steps := []func() error{
		func() error { return f.await(ctx, "confirmations", f.confirmed, func() { f.connect(sockets) }) },
		begin,
		func() error { return f.await(ctx, "deliveries", f.done, func() { f.start(run) }) },
		end,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fanned{}, err
		}
	}
	result := make(chan fanned, 1)
	if err := loop.Post(func() { result <- f.result() }); err != nil {
		return fanned{}, err
	}
	return <-result, nil
}

// dialFan opens n connections for the loop; on an error none is left.
func dialFan(ctx context.Context, addr topology.Addr, n int) ([]evloop.Socket, error) {
	d := net.Dialer{Timeout: fanDial, KeepAlive: -1}
	var sockets []evloop.Socket
	for range n {
		conn, err := d.DialContext(ctx, "tcp", string(addr))
		var s evloop.Socket
		if err == nil {
			s, err = evloop.Detach(conn, evloop.DriverDefault)
		}
		if err != nil {
			for _, s := range sockets {
				s.Close()
			}
			return nil, fmt.Errorf("connection %d: %w", len(sockets)+1, err)
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// await has the loop begin something and waits for its end.
func (f *fan) await(ctx context.Context, what string, end <-chan struct{}, begin func()) error {
	if err := f.loop.Post(begin); err != nil {
		return err
	}
	select {
	case <-end:
		return nil
	case <-f.failed:
		return fmt.Errorf("waiting for %s: %w", what, f.firstErr)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connect makes the loop own the connections: a publisher, and subscribers in turn
// to each channel.
func (f *fan) connect(sockets []evloop.Socket) {
	for i, s := range sockets {
		_, err := f.loop.Add(s, func(c *evloop.Conn) evloop.Handler {
			peer := peer{fan: f, conn: c}
			if i == 0 {
				f.pub = &publisher{peer: peer}
				return f.pub
			}
			channel := (i - 1) % len(f.channels)
			sub := &subscriber{peer: peer}
			sub.say(request("SUBSCRIBE", channelName(channel)))
			f.subs = append(f.subs, sub)
			return sub
		})
		if err != nil {
			f.fail(err)
		}
	}
	f.loop.After(fanWait, func() {
		if f.unconfirmed > 0 {
			f.fail(fmt.Errorf("%d subscriptions not confirmed within %v", f.unconfirmed, fanWait))
		}
	})
}

func channelName(i int) string { return fmt.Sprintf("%s%d", fanName, i) }

// start begins to publish, for as long as run.
func (f *fan) start(run time.Duration) {
	f.started = time.Now()
	f.loop.After(run, f.stop)
	if f.kind.rate == 0 {
		f.refill()
		return
	}
	f.tick = f.loop.After(fanTick, f.keepRate)
}

// stop ends the publishing, and the run once all has come.
func (f *fan) stop() {
	f.stopped = true
	f.loop.After(fanWait, f.finish)
	if f.under == 0 {
		f.finish()
	}
}

// finish ends the run; what has not come by now is lost.
func (f *fan) finish() {
	if !closed(f.done) {
		close(f.done)
	}
}

// fail ends the run with its first error.
func (f *fan) fail(err error) {
	if f.firstErr == nil {
		f.firstErr = err
		close(f.failed)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (f *fan) result() fanned {
	return fanned{
		published: f.published, delivered: f.delivered, lost: f.lost + f.under,
		took: f.lastDelivery().Sub(f.started), latency: f.latency,
	}
}

func (f *fan) lastDelivery() (last time.Time) {
	for _, s := range f.subs {
		if s.seen.After(last) {
			last = s.seen
		}
	}
	return last
}

// perMessage is how many subscribers a channel has.
func (f *fan) perMessage() int { return len(f.subs) / len(f.channels) }

// refill publishes until the window is full.
func (f *fan) refill() {
	for !f.stopped && f.under <= (f.kind.window-1)*f.perMessage() {
		f.publish(time.Now())
	}
}

// keepRate publishes what is due by now, however late the deliveries are.
func (f *fan) keepRate() {
	if f.stopped {
		return
	}
	now := time.Now()
	for due := int(now.Sub(f.started).Seconds() * float64(f.kind.rate)); f.published < due; {
		f.publish(now)
	}
	f.tick.Reset(fanTick)
}

// publish sends one message to the next channel.
func (f *fan) publish(now time.Time) {
	payload := make([]byte, f.size)
	binary.BigEndian.PutUint64(payload, f.channels[f.next])
	binary.BigEndian.PutUint64(payload[8:], uint64(now.Sub(f.started)))
	f.pub.say(request("PUBLISH", channelName(f.next), string(payload)))
	f.channels[f.next]++
	f.next = (f.next + 1) % len(f.channels)
	f.under += f.perMessage()
	f.published++
}

// peer is what a publisher and a subscriber have in common: bytes out, frames in.
type peer struct {
	fan     *fan
	conn    *evloop.Conn
	out     []byte
	in      []byte // an incomplete frame
	replies resp.Replies
}

func (p *peer) say(text string) {
	p.out = append(p.out, text...)
	p.conn.Flush()
}

// frames calls f with every complete frame of b and of what came before it.
func (p *peer) frames(b []byte, f func(frame []byte)) {
	if len(p.in) > 0 {
		p.in = append(p.in, b...)
		b = p.in
	}
	for len(b) > 0 {
		n, err := p.replies.Next(b)
		if err != nil || n == 0 && len(b) > keepLimit {
			p.fan.fail(fmt.Errorf("no reply of Redis: %w", err))
			return
		}
		if n == 0 {
			break
		}
		f(b[:n])
		b = b[n:]
	}
	p.in = append(p.in[:0], b...)
}

func (p *peer) Output(bufs [][]byte) [][]byte { return append(bufs, p.out) }
func (p *peer) Wrote(n int)                   { p.out = p.out[:copy(p.out, p.out[n:])] }
func (p *peer) EOF()                          { p.fan.fail(errors.New("a connection was closed on us")) }

// Closed is the end of the run, or of the connection.
func (p *peer) Closed(err error) {
	if err != nil && !errors.Is(err, evloop.ErrStopped) {
		p.fan.fail(err)
	}
}

// publisher counts on nothing but an integer for each PUBLISH.
type publisher struct{ peer }

// Data takes the replies to PUBLISH.
func (p *publisher) Data(b []byte) {
	p.frames(b, func(frame []byte) {
		if frame[0] != ':' {
			p.fan.fail(fmt.Errorf("PUBLISH answered %s", strings.TrimSpace(string(frame))))
		}
	})
}

// subscriber checks that its channel's messages come once each, in order.
type subscriber struct {
	peer

	expect uint64 // the number of the next message
	seen   time.Time
}

// Data takes the confirmation, then messages.
func (s *subscriber) Data(b []byte) {
	f := s.fan
	now := time.Now()
	s.frames(b, func(frame []byte) {
		end := len(frame) - len("\r\n")
		if f.unconfirmed > 0 {
			if f.unconfirmed--; frame[0] != '*' {
				f.fail(fmt.Errorf("SUBSCRIBE answered %s", strings.TrimSpace(string(frame))))
			} else if f.unconfirmed == 0 {
				close(f.confirmed)
			}
			return
		}
		if frame[0] != '*' || end < f.size {
			f.fail(fmt.Errorf("no message: %q", frame))
			return
		}
		payload := frame[end-f.size:]
		number := binary.BigEndian.Uint64(payload)
		if number < s.expect {
			f.fail(fmt.Errorf("message %d came after %d", number, s.expect))
			return
		}
		skipped := int(number - s.expect)
		f.lost += skipped
		f.under -= skipped + 1
		f.delivered++
		s.expect, s.seen = number+1, now
		sent := time.Duration(binary.BigEndian.Uint64(payload[8:]))
		_ = f.latency.RecordValue((now.Sub(f.started) - sent).Microseconds()) // within its bounds: see fanWait
	})
	if closed(f.confirmed) && !f.started.IsZero() {
		f.delivery()
	}
}

// delivery goes on after messages have come.
func (f *fan) delivery() {
	switch {
	case f.stopped && f.under == 0:
		f.finish()
	case f.kind.rate == 0:
		f.refill()
	}
}
