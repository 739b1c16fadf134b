package health

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard lets through what a monitoring client sends and nothing else. Checking
// the Host header keeps out web pages whose name was made to resolve to this
// address (DNS rebinding): a browser sends that name.
type guard struct {
	hosts  map[string]bool         // names in lower case
	orders map[string]http.Handler // paths that take POST
	next   http.Handler

	ordered http.Handler // has the orders, which check by themselves who asks
}

func newGuard(bound net.Addr, names []string, next http.Handler) *guard {
	g := &guard{hosts: map[string]bool{"localhost": true}, next: next}
	for _, n := range append([]string{bareHost(bound.String())}, names...) {
		if n != "" {
			g.hosts[strings.ToLower(n)] = true
		}
	}
	return g
}

// ServeHTTP checks method and host, and sets the headers of every answer.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if !g.knows(r) {
		http.Error(w, "this server does not go by that name (sentinelproxy)", http.StatusMisdirectedRequest)
		return
	}
	if _, order := g.orders[r.URL.Path]; order {
		g.ordered.ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "read-only: use GET or HEAD (sentinelproxy)", http.StatusMethodNotAllowed)
		return
	}
	g.next.ServeHTTP(w, r)
}

// knows reports whether the Host header names this server: a known name, a
// loopback address, or the address the request came in at (which the kubelet
// and Prometheus use where we listen on every interface), or that of the TLS handshake.
func (g *guard) knows(r *http.Request) bool {
	if r.Host == "" {
		return true // HTTP/1.0, as simple probes send it; no browser does
	}
	host := strings.ToLower(bareHost(r.Host))
	if g.hosts[host] || r.TLS != nil && strings.ToLower(strings.TrimSuffix(r.TLS.ServerName, ".")) == host {
		return true // with TLS the caller has found that name in our certificate
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if ip.Unmap().IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddr(bareHost(local.String()))
	return err == nil && at.Unmap() == ip.Unmap()
}

// bareHost cuts port and brackets off, and the dot that ends a full DNS name.
func bareHost(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	return strings.TrimSuffix(strings.Trim(s, "[]"), ".")
}
