package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

const (
	maxAnswer  = 64 << 10 // bytes of an answer that are read, so that its connection can stay
	maxHeaders = 16 << 10 // bytes of an answer's headers
)

// try is how one try ended.
type try uint8

const (
	tryOK       try = iota // the receiver has taken it
	tryRefused             // it never will: sending it again is of no use
	tryAnswered            // it answered that it can't now
	tryFailed              // no answer
	tries                  // how many there are
)

func (t try) String() string {
	switch t {
	case tryOK:
		return "ok"
	case tryRefused:
		return "refused"
	case tryAnswered:
		return "error"
	case tryFailed:
		return "unreachable"
	case tries:
	}
	return "invalid"
}

// result is one try.
type result struct {
	kind try
	err  error // why not tryOK; it names no URL
}

// deliveryID is the same for every try of an event, and for no other.
func deliveryID(e events.Event) string { return e.Sidecar + "-" + strconv.FormatUint(e.ID, 10) }

// send makes one request.
func (h *hook) send(ctx context.Context, d *delivery) result {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(d.body))
	if err != nil {
		return result{tryRefused, errors.New("its address is no URL")} // err would name it
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", h.agent)
	req.Header.Set(HeaderEvent, d.kind)
	req.Header.Set(HeaderDelivery, d.id)
	req.Header.Set(HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	if h.Secret != "" {
		req.Header.Set(HeaderSignature, Sign(h.Secret, now, d.body))
	}
	if u := req.URL.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		return result{tryFailed, h.plain(err)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // the status has said it all
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return result{kind: tryOK}
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return result{tryAnswered, fmt.Errorf("it answers %d", code)}
	case code >= 300 && code < 400:
		return result{tryRefused, fmt.Errorf("it answers %d: redirects are not followed, set the url to where it leads", code)}
	default:
		return result{tryRefused, fmt.Errorf("it answers %d", code)}
	}
}

// plain returns what an error says. It repeats nothing that the receiver sent, which knows
// our address for it, and that may hold a secret.
func (h *hook) plain(err error) error {
	if n, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && n.Timeout() {
		return fmt.Errorf("no answer within %v", h.Timeout)
	}
	if c, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return c
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it closed the connection without an answer")
	}
	return errors.New("what it answers is not HTTP, or not TLS")
}

// transport returns what sends over TCP.
func transport(h Hook) (http.RoundTripper, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if h.CA != nil {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(h.CA) {
			return nil, errors.New("its ca_file holds no certificate")
		}
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            new(net.Dialer).DialContext, // bounded by the request's context
		TLSClientConfig:        conf,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           1,
		MaxConnsPerHost:        1,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeaders,
	}, nil
}
