package evloop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxEvents is how many ready descriptors one turn handles at the most.
const maxEvents = 512

// maxIOV is how many buffers one writev takes; the kernel's IOV_MAX is 1024.
const maxIOV = 64

// epoll is the Linux driver. Every descriptor it watches has a slot; an event
// carries the slot and the generation in which it was given out, so that an
// event never reaches a connection that came later.
type epoll struct {
	ep     int
	raw    []unix.EpollEvent
	events []event
	slots  []slot
	free   []uint32
	iov    [maxIOV]unix.Iovec
	linger bool // Options.Linger
	idle   bool // the last wait brought nothing

	mu     sync.Mutex // guards wakefd: a late wake must not write to a reused descriptor
	wakefd int        // -1 once closed
}

type slot struct {
	gen  uint32
	conn *Conn
	ln   *listener
}

const wakeSlot = 0 // the eventfd's

func newPoller(o Options) (poller, error) {
	if o.Driver == DriverPortable {
		return newPortable(), nil
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("evloop: epoll_create1: %w", err)
	}
	wfd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("evloop: eventfd: %w", err)
	}
	p := &epoll{
		ep: ep, wakefd: wfd, linger: o.Linger,
		raw:    make([]unix.EpollEvent, maxEvents),
		events: make([]event, 0, maxEvents),
		slots:  make([]slot, 1, 64),
	}
	if err := p.ctl(unix.EPOLL_CTL_ADD, wfd, unix.EPOLLIN, wakeSlot); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *epoll) ctl(op, fd int, mask, slot uint32) error {
	ev := unix.EpollEvent{Events: mask, Fd: int32(slot), Pad: int32(p.slots[slot].gen)}
	if err := unix.EpollCtl(p.ep, op, fd, &ev); err != nil {
		return fmt.Errorf("evloop: epoll_ctl: %w", err)
	}
	return nil
}

func (p *epoll) take(s slot) uint32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		s.gen = p.slots[i].gen
		p.slots[i] = s
		return i
	}
	p.slots = append(p.slots, s)
	return uint32(len(p.slots) - 1)
}

func (p *epoll) give(i uint32) {
	p.slots[i] = slot{gen: p.slots[i].gen + 1}
	p.free = append(p.free, i)
}

func (p *epoll) wait(d time.Duration) ([]event, error) {
	// First without telling the Go scheduler: under load there is nearly always work,
	// now or, with linger, within a millisecond, and then our P need not be handed
	// over. Only a wait that will really sleep goes the scheduler's way.
	ms := 0
	if p.linger && !p.idle && d != 0 {
		ms = 1
	}
	n, err := p.waitRaw(ms)
	if n == 0 && err == nil && ms == 0 && d != 0 {
		n, err = unix.EpollWait(p.ep, p.raw, millis(d))
		if errors.Is(err, unix.EINTR) {
			n, err = 0, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("evloop: epoll_wait: %w", err)
	}
	p.idle = n == 0
	p.events = p.events[:0]
	for i := range n {
		raw := &p.raw[i]
		idx := uint32(raw.Fd)
		if idx == wakeSlot {
			p.drainWake()
			continue
		}
		s := &p.slots[idx]
		if s.gen != uint32(raw.Pad) {
			continue
		}
		p.events = append(p.events, event{conn: s.conn, accept: s.ln, flags: flagsOf(raw.Events)})
	}
	return p.events, nil
}

// waitRaw waits for at most ms milliseconds and holds the processor meanwhile. The
// scheduler's signal, with which it stops the world, ends it.
func (p *epoll) waitRaw(ms int) (int, error) {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.ep),
		uintptr(unsafe.Pointer(&p.raw[0])), uintptr(len(p.raw)), uintptr(ms), 0, 0)
	if e == unix.EINTR {
		n, e = 0, 0
	}
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// millis rounds up, so that a timer is due when its wait ends.
func millis(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, 1<<30))
}

func flagsOf(m uint32) evFlags {
	var f evFlags
	if m&(unix.EPOLLIN|unix.EPOLLHUP) != 0 {
		f |= evRead // a hang-up is read too: the bytes before it come first
	}
	if m&unix.EPOLLOUT != 0 {
		f |= evWrite
	}
	if m&unix.EPOLLRDHUP != 0 {
		f |= evHangup
	}
	if m&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		f |= evError
	}
	return f
}

func (p *epoll) drainWake() {
	var b [8]byte
	_, _ = unix.Read(p.wakefd, b[:]) // the loop's goroutine, which alone closes it
}

var one = [8]byte{1} // in the byte order of every Linux that Go runs on but s390x, where any non-zero value wakes as well

func (p *epoll) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wakefd >= 0 {
		_, _ = unix.Write(p.wakefd, one[:])
	}
}

func maskOf(c *Conn) uint32 {
	var m uint32
	if !c.eof {
		if !c.left {
			m = unix.EPOLLRDHUP
		}
		if !c.paused {
			m |= unix.EPOLLIN
		}
	}
	if c.wantsWrite {
		m |= unix.EPOLLOUT
	}
	return m
}

func (p *epoll) add(c *Conn) error {
	if c.sock.fd == 0 {
		return errors.New("evloop: not a socket of this driver")
	}
	c.slot = p.take(slot{conn: c})
	c.mask = maskOf(c)
	if err := p.ctl(unix.EPOLL_CTL_ADD, c.sock.fd, c.mask, c.slot); err != nil {
		p.give(c.slot)
		return err
	}
	return nil
}

func (p *epoll) update(c *Conn) {
	if m := maskOf(c); m != c.mask {
		c.mask = m
		if err := p.ctl(unix.EPOLL_CTL_MOD, c.sock.fd, m, c.slot); err != nil {
			c.fail(err)
		}
	}
}

func (p *epoll) remove(c *Conn) {
	p.give(c.slot)
	if c.abort {
		_ = unix.SetsockoptLinger(c.sock.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(c.sock.fd) // leaves the epoll set too: no other descriptor names this socket
	c.sock.fd = -1
}

func (*epoll) read(c *Conn, b []byte) (int, error) {
	for {
		// RawSyscall: the descriptor never blocks, so the scheduler need not know.
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(c.sock.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch {
		case e == 0 && n == 0:
			return 0, errEOF
		case e == 0:
			return int(n), nil
		case e == unix.EAGAIN:
			return 0, errAgain
		case e != unix.EINTR:
			return 0, e
		}
	}
}

func (p *epoll) write(c *Conn, bufs [][]byte) (int, error) {
	k, total := 0, 0
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		if k == maxIOV {
			break // the caller sees that not all was taken, and comes again
		}
		p.iov[k].Base = &b[0]
		p.iov[k].SetLen(len(b))
		total += len(b)
		k++
	}
	n, e := p.writev(c.sock.fd, k)
	clear(p.iov[:k])
	switch {
	case e == unix.EAGAIN:
		return 0, errAgain
	case e != 0:
		return 0, e
	case n < total:
		return n, errAgain
	}
	return n, nil
}

// writev writes the first k of p.iov.
func (p *epoll) writev(fd, k int) (int, syscall.Errno) {
	for {
		var n uintptr
		var e syscall.Errno
		if k == 1 { // a plain write costs the kernel less than a vector of one
			n, _, e = unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(p.iov[0].Base)), uintptr(p.iov[0].Len))
		} else {
			n, _, e = unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&p.iov[0])), uintptr(k))
		}
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func (*epoll) sockError(c *Conn) error {
	v, err := unix.GetsockoptInt(c.sock.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if v == 0 {
		return unix.ECONNRESET
	}
	return syscall.Errno(v)
}

func (p *epoll) listen(a *listener) error {
	sc, ok := a.ln.(syscall.Conn)
	if !ok {
		return fmt.Errorf("evloop: listener %T has no descriptor", a.ln)
	}
	fd, err := dupFD(sc)
	if err != nil {
		return err
	}
	a.fd = fd
	a.slot = p.take(slot{ln: a})
	if err := p.ctl(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN, a.slot); err != nil {
		p.give(a.slot)
		_ = unix.Close(fd)
		return err
	}
	return nil
}

func (p *epoll) updateListen(a *listener) {
	mask := uint32(unix.EPOLLIN)
	if a.resting {
		mask = 0
	}
	_ = p.ctl(unix.EPOLL_CTL_MOD, a.fd, mask, a.slot)
}

func (p *epoll) unlisten(a *listener) {
	if a.closed {
		return
	}
	a.closed = true
	p.give(a.slot)
	_ = unix.EpollCtl(p.ep, unix.EPOLL_CTL_DEL, a.fd, nil) // ln holds the same socket open
	_ = unix.Close(a.fd)
	_ = a.ln.Close()
}

func (*epoll) accept(a *listener) (Socket, error) {
	for {
		fd, sa, err := unix.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			if a.ln.Addr().Network() != networkUnix {
				noDelay(fd)
			}
			return Socket{fd: fd, peer: sockaddrPort(sa)}, nil
		case errors.Is(err, unix.EAGAIN):
			return Socket{}, errAgain
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue // the peer went away while it waited to be accepted
		default:
			return Socket{}, err
		}
	}
}

func (p *epoll) close() {
	_ = unix.Close(p.ep)
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Close(p.wakefd)
	p.wakefd = -1
}

func noDelay(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// setKeepaliveFD is SetKeepalive on a descriptor; on a Unix socket the kernel
// refuses the options of TCP, and does nothing about the others.
func (s Socket) setKeepaliveFD(k Keepalive) {
	if k.Idle <= 0 {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		return
	}
	idle, interval := max(1, int(k.Idle/time.Second)), int(k.interval()/time.Second)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle)
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, interval)
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepaliveProbes)
	if k.Unacked {
		_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1000*(idle+keepaliveProbes*interval))
	}
}

func dupFD(sc syscall.Conn) (int, error) {
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("evloop: descriptor: %w", err)
	}
	var fd int
	var dupErr error
	if err := rc.Control(func(p uintptr) {
		fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 3)
	}); err != nil {
		return 0, fmt.Errorf("evloop: descriptor: %w", err)
	}
	if dupErr != nil {
		return 0, fmt.Errorf("evloop: dup: %w", dupErr)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("evloop: non-blocking: %w", err)
	}
	return fd, nil
}

// Detach takes a dialled connection out of the Go runtime's hands, so that a
// loop with driver d can own it. nc is closed in every case. It may be called
// from any goroutine.
func Detach(nc net.Conn, d Driver) (Socket, error) {
	if d == DriverPortable {
		return Socket{nc: nc}, nil
	}
	defer func() { _ = nc.Close() }()
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return Socket{}, fmt.Errorf("evloop: connection %T has no descriptor", nc)
	}
	peer := peerOf(nc)
	fd, err := dupFD(sc)
	if err != nil {
		return Socket{}, err
	}
	if nc.LocalAddr().Network() != networkUnix {
		noDelay(fd)
	}
	return Socket{fd: fd, peer: peer}, nil
}

// Close closes a socket that no loop owns.
func (s Socket) Close() {
	if s.nc != nil {
		_ = s.nc.Close()
		return
	}
	if s.fd > 0 {
		_ = unix.Close(s.fd)
	}
}

func (s Socket) remoteAddr() string {
	if s.nc != nil {
		return addrString(s.nc.RemoteAddr())
	}
	if s.peer.IsValid() {
		return s.peer.String()
	}
	sa, err := unix.Getpeername(s.fd)
	if err != nil {
		return ""
	}
	return sockaddrString(sa)
}

func (s Socket) localAddr() string {
	if s.nc != nil {
		return addrString(s.nc.LocalAddr())
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return ""
	}
	return sockaddrString(sa)
}

func sockaddrString(sa unix.Sockaddr) string {
	if ap := sockaddrPort(sa); ap.IsValid() {
		return ap.String()
	}
	return networkUnix
}

func sockaddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
