// Command gateway is the API gateway of the compose demo: small, and doing with Redis
// what gateways do. Keys, rate limits and quotas are in Redis; it is asked over a pool
// of connections, in pipelines, and tells the gateway over pub/sub what to forget. It
// knows nothing of Sentinel: GATEWAY_REDIS is one address, as in a configuration that
// was made for a single Redis.
//
//	GET /hello     200 while the process lives, with what it knows of Redis
//	GET /ready     200 once Redis has answered, and the first keys are there
//	GET /metrics   Prometheus
//	anything else  needs the header authorization, and goes to the upstream
//
// A request ends as one of: the upstream's answer; 401 without a key; 403 with an
// unknown one, or when its quota is used up; 429 over its rate; 503 when Redis is away
// and GATEWAY_FAIL_MODE is closed. With open such a request passes unchecked. No
// request waits for Redis longer than GATEWAY_REDIS_TIMEOUT.
//
//	gateway              serves
//	gateway upstream     is something to stand before
//	gateway healthcheck  asks the gateway, or the upstream, that runs here
package main
