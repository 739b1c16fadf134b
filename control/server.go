package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	headerTimeout = 2 * time.Second
	maxHeader     = 16 << 10 // bytes
)

// Server serves an API on the Unix socket. Make it with NewServer.
type Server struct {
	ln   net.Listener
	http *http.Server
}

// NewServer returns a Server that accepts nothing yet. Run closes ln.
func NewServer(ln net.Listener, api http.Handler, log *slog.Logger) *Server {
	return &Server{ln: ln, http: &http.Server{
		Handler: api, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Run serves until ctx is done. Then it accepts nothing any more, ends the contexts of
// the requests under way, which calls off what can be called off, and waits for them:
// a switchover past the point of no return goes on to its end.
func (s *Server) Run(ctx context.Context) error {
	requests, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.http.BaseContext = func(net.Listener) context.Context { return requests }
	served := make(chan error, 1) // one value: Serve's
	go s.serve(served)
	select {
	case err := <-served:
		return fmt.Errorf("control: serve %s: %w", s.ln.Addr(), err)
	case <-ctx.Done():
	}
	stop()
	if err := s.http.Shutdown(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("control: stop: %w", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control: serve %s: %w", s.ln.Addr(), err)
	}
	return nil
}

func (s *Server) serve(done chan<- error) { done <- s.http.Serve(s.ln) }
