package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// failMode is what becomes of a request that Redis could not be asked about.
type failMode string

// The modes.
const (
	failClosed failMode = "closed" // 503
	failOpen   failMode = "open"   // it passes unchecked
)

// config is the environment. Nothing changes it.
type config struct {
	Listen   string
	Redis    string // host:port, a single one
	Upstream *url.URL
	FailMode failMode
	// RedisTimeout bounds all that one request waits for Redis: longer than a failover
	// takes, shorter than clients wait.
	RedisTimeout time.Duration
	PoolSize     int // connections to Redis at most
	MaxInFlight  int // requests at once; more are answered 503
	// Seed are keys that are made at the start, unless they are there.
	Seed []string
	// SeedRate is how many requests a second a seeded key is good for.
	SeedRate int
}

// settings are the variables and their defaults.
func defaults() map[string]string {
	return map[string]string{
		"GATEWAY_LISTEN":        ":8080",
		"GATEWAY_REDIS":         "127.0.0.1:6379",
		"GATEWAY_UPSTREAM":      "http://127.0.0.1:8081",
		"GATEWAY_FAIL_MODE":     string(failClosed),
		"GATEWAY_REDIS_TIMEOUT": "8s",
		"GATEWAY_POOL_SIZE":     "100",
		"GATEWAY_MAX_IN_FLIGHT": "5000",
		"GATEWAY_SEED":          "",
		"GATEWAY_SEED_RATE":     "5000",
	}
}

// readConfig reads the variables. The error has a line for each mistake.
func readConfig(environ []string) (config, error) {
	vars := defaults()
	var errs []error
	for _, kv := range environ {
		name, v, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "GATEWAY_") || v == "" {
			continue
		}
		if _, known := vars[name]; !known {
			errs = append(errs, fmt.Errorf("%s: no such setting", name))
		}
		vars[name] = v
	}
	bad := func(name, want string) {
		errs = append(errs, fmt.Errorf("%s: found %q; want %s", name, vars[name], want))
	}
	number := func(name string) int {
		n, err := strconv.Atoi(vars[name])
		if err != nil || n < 1 {
			bad(name, "a number above 0")
		}
		return n
	}
	c := config{
		Listen: vars["GATEWAY_LISTEN"], Redis: vars["GATEWAY_REDIS"], FailMode: failMode(vars["GATEWAY_FAIL_MODE"]),
		PoolSize: number("GATEWAY_POOL_SIZE"), MaxInFlight: number("GATEWAY_MAX_IN_FLIGHT"), SeedRate: number("GATEWAY_SEED_RATE"),
	}
	for _, name := range []string{"GATEWAY_LISTEN", "GATEWAY_REDIS"} {
		if _, _, err := net.SplitHostPort(vars[name]); err != nil {
			bad(name, "host:port")
		}
	}
	var err error
	if c.Upstream, err = url.Parse(vars["GATEWAY_UPSTREAM"]); err != nil || c.Upstream.Scheme != "http" || c.Upstream.Host == "" {
		bad("GATEWAY_UPSTREAM", "http://host:port")
	}
	if c.FailMode != failClosed && c.FailMode != failOpen {
		bad("GATEWAY_FAIL_MODE", "open or closed")
	}
	if c.RedisTimeout, err = time.ParseDuration(vars["GATEWAY_REDIS_TIMEOUT"]); err != nil || c.RedisTimeout <= 0 {
		bad("GATEWAY_REDIS_TIMEOUT", "a duration such as 8s")
	}
	for key := range strings.SplitSeq(vars["GATEWAY_SEED"], ",") {
		if key = strings.TrimSpace(key); key == "" {
			continue
		}
		if !validKey(key) {
			bad("GATEWAY_SEED", "keys of letters, digits, - and _, with commas between")
			break
		}
		c.Seed = append(c.Seed, key)
	}
	return c, errors.Join(errs...)
}

// loopback returns where a process of this machine reaches a listener.
func loopback(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}
	return net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port)
}
