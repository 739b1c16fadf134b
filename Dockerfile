# The image of sentinelproxy: one static binary, certificates of the public
# authorities, and nothing else. docs/docker.md tells how to use and to build it.
#
# Each stage can be had from elsewhere: --build-arg GO_IMAGE=…
ARG GO_IMAGE=golang:1.26.8
FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
# Set by BuildKit for another platform; empty is that of the builder.
ARG TARGETOS=
ARG TARGETARCH=
ARG VERSION=
ARG REVISION=
# The same source, version and Go make the same binary, byte for byte. A vendor
# directory, where there is one, is used instead of fetching modules.
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} GOFLAGS=-buildvcs=false \
    go build -trimpath -ldflags "-s -w -buildid= -X main.linkedVersion=${VERSION} -X main.linkedRevision=${REVISION}" \
    -o /out/sentinelproxy ./cmd/sentinelproxy

FROM scratch
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="sentinelproxy" \
      org.opencontainers.image.description="A Redis sidecar that follows Sentinel and makes a failover a pause" \
      org.opencontainers.image.source="https://github.com/sentinelproxy/sentinelproxy" \
      org.opencontainers.image.documentation="https://github.com/sentinelproxy/sentinelproxy/blob/main/docs/docker.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/sentinelproxy /sentinelproxy
USER 65532:65532
EXPOSE 6379 9180 9181
# Readiness, so that what depends on it starts when Redis can be reached through it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=2 CMD ["/sentinelproxy", "healthcheck"]
ENTRYPOINT ["/sentinelproxy"]
CMD ["run"]
