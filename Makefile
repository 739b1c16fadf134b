# make help lists the targets. Their work is in scripts/, so it can be done
# without make too.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 10s
DEMOTIME ?= 20s
DIFFTEST ?= 200000
SOAK ?= 200
SOAKSLO ?=
DRILL ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/sentinelproxy
	go build -trimpath -o bin/sentinelproxy ./cmd/sentinelproxy

.PHONY: test
test: ## run all tests with the race detector, on real Redis too (installs it if it can)
	@scripts/test

.PHONY: race
race: ## run all tests often, in changing order, to find races: make race COUNT=5
	@scripts/test -count=$(or $(COUNT),5) -shuffle=on ./...

.PHONY: fuzz
fuzz: ## fuzz every parser for FUZZTIME (10s) each
	@scripts/fuzz $(FUZZTIME)

.PHONY: difftest
difftest: ## send DIFFTEST (200 000) random commands to Redis directly and through the sidecar, and compare
	go test ./proxy -run TestDifferential -v -timeout 1h -difftest.commands $$(( $(DIFFTEST) / 2 ))

.PHONY: suites
suites: ## run other projects' test suites directly and through the sidecar, and compare; for hours, not in CI
	@scripts/outside-suites

.PHONY: cover
cover: ## measure test coverage into coverage.html
	@scripts/test -coverprofile=coverage.out -coverpkg=./... ./...
	go tool cover -html=coverage.out -o coverage.html
	go tool cover -func=coverage.out | tail -n 1

.PHONY: bench
bench: bench-cells bench-tls bench-values bench-subscribers ## the four below, one after the other: every row beside HAProxy, 50 minutes

.PHONY: bench-cells
bench-cells: ## measure beside direct, HAProxy and twemproxy, half an hour, into bench/results/latest.md
	go run ./bench

.PHONY: bench-short
bench-short: ## the same for the cells with a target, under two minutes, into bench/results/short.md
	go run ./bench --short

.PHONY: bench-tls
bench-tls: ## measure beside HAProxy, both terminating TLS, five minutes, into bench/results/tls.md
	go run ./bench tls

.PHONY: bench-values
bench-values: ## measure values of 1 KiB to 1 MiB beside HAProxy, six minutes, into bench/results/values.md
	go run ./bench values

.PHONY: bench-subscribers
bench-subscribers: ## measure 1 000 subscribers beside HAProxy, six minutes, into bench/results/subscribers.md
	go run ./bench subscribers

.PHONY: bench-scrape
bench-scrape: ## measure what a scrape of /metrics every second costs commands, into bench/results/scrape.md
	go run ./bench --candidates haproxy,haproxy-again,haproxy-1thread,sentinelproxy,sentinelproxy-unscraped --cells c50P1/64,c500P1/64,c50P16/64 --out bench/results/scrape.md

.PHONY: bench-idle
bench-idle: ## measure memory and backend connections under 10 000 idle clients
	go run ./bench idle

.PHONY: bench-outage
bench-outage: ## measure latencies while every Sentinel, then every Redis, is gone, 11 minutes
	go run ./bench outage

.PHONY: demo
demo: ## watch failovers from a client's side, for DEMOTIME (20s), nothing to install
	go run ./cmd/sentinelproxy demo --for $(DEMOTIME)

.PHONY: demo-up demo-down
demo-up: ## start the compose demo: Redis, Sentinels, sentinelproxy, a gateway (docs/docker.md)
	@scripts/demo up
demo-down: ## end it; with DRILL=-v its data goes, too
	@scripts/demo down $(DRILL)

.PHONY: demo-failover demo-sleep demo-crash demo-partition demo-redis-down
demo-failover: ## a planned failover in the compose demo; COMPOSE_PROFILES=compare: beside HAProxy; DRILL: more flags
	@scripts/demo failover $(DRILL)
demo-sleep: ## DEBUG SLEEP 30 of its master
	@scripts/demo sleep $(DRILL)
demo-crash: ## a crash of its master
	@scripts/demo crash $(DRILL)
demo-partition: ## its master is taken off the network
	@scripts/demo partition $(DRILL)
demo-redis-down: ## all of its Redis stops answering: what a gateway does that fails closed, and one that fails open
	@scripts/demo redis-down $(DRILL)

.PHONY: docker-images
docker-images: ## make the images of docker-compose.yml without a registry, by debootstrap
	@scripts/docker-images

.PHONY: docker-ci docker-test docker-test-full
docker-ci: ## test the image and the compose demo as far as .ci/run does: up, what the gateway answers, failovers and faults
	@scripts/docker-test -short -run '^(TestImage|TestComposeConfig|TestBuildContext|TestCompose)$$/^(answers|confined|failover_beside_HAProxy|docker_.*)$$'
docker-test: ## test the compose demo on a real Docker engine, briefly
	@scripts/docker-test -short
docker-test-full: ## the same, with the long drills and restarts of all of it
	@scripts/docker-test

.PHONY: soak
soak: ## drill SOAK (200) failovers of mixed kinds on real Redis, half an hour, and look for growth; SOAKSLO replaces objectives
	go run ./cmd/sentinelproxy drill soak --ephemeral --quick --times $(SOAK) --slo "$(SOAKSLO)"

.PHONY: examples
examples: ## check the Kubernetes manifests and the workflow, in a module of its own
	cd examples/validate && go vet ./... && go test ./...

.PHONY: rules
rules: ## check the metrics' names, Prometheus' rules and Grafana's dashboard, with promtool (installs it if it can)
	@scripts/need promtool
	go test ./internal/metricspage ./examples/prometheus ./examples/grafana
	go test ./cmd/sentinelproxy -run '^TestMetrics'

.PHONY: screenshots
screenshots: ## make the pictures of docs/status-page.md, of a real group in Chromium
	@scripts/need redis-server redis-sentinel chromium
	mkdir -p docs/images
	go test ./cmd/sentinelproxy -count=1 -run '^TestScreenshots$$' -v -screenshots $(CURDIR)/docs/images

.PHONY: man
man: ## write the manual pages into bin/man
	go run ./cmd/sentinelproxy man --dir bin/man

.PHONY: fmt
fmt: ## format the code
	@scripts/lint fmt ./...

.PHONY: fmt-check
fmt-check: ## fail if gofmt would change a file
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not formatted (make fmt):"; echo "$$files"; exit 1; }

.PHONY: vet
vet: ## run go vet, here and as on macOS and Windows
	go vet ./...
	GOOS=darwin go build ./...
	GOOS=windows go vet ./...

.PHONY: lint
lint: ## run golangci-lint (builds it the first time)
	@scripts/lint

.PHONY: tools
tools: ## install what the other targets use
	@scripts/need redis-server redis-sentinel redis-benchmark gcc haproxy nutcracker promtool prometheus chromium
	@scripts/lint version

.PHONY: check
check: SOAK = 10
check: SOAKSLO = max-pause=any
check: fmt-check vet lint examples rules test fuzz demo soak ## everything CI runs, in its order

.PHONY: clean
clean: ## remove what was built
	rm -rf bin bench/.work coverage.out coverage.html
