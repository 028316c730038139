# chromad in an image that holds nothing but the binary: no shell, no package manager, no libraries.
#
#   docker build -t chromad .
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges --stop-timeout 50 \
#     -v chroma:/data -v "$PWD/certs:/certs:ro" -p 8000:8000 \
#     chromad run --path /data --host 0.0.0.0 --tls-cert /certs/server.pem --tls-key /certs/server.key
#
# As anywhere else, an address that others can reach needs TLS and users, or --insecure (docs/security.md). Users are made before, on the volume:
# docker run --rm -v chroma:/data chromad users add /data ada --role admin --key. Certificates must be readable by user 65532 and by nobody else.
# Pin the base image by digest in builds that are to be reproduced: --build-arg GO=golang:1.26@sha256:...
ARG GO=golang:1.26
FROM ${GO} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download && go mod verify
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/chromad ./cmd/chromad
# What scratch has not: an empty folder that the server's user owns, and public authorities for identity providers and key services.
RUN mkdir /out/data && cp /etc/ssl/certs/ca-certificates.crt /out/

FROM scratch
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build /out/chromad /chromad
USER 65532:65532
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# With TLS, say where and whom to trust: --health-cmd '/chromad ping https://localhost:8000 --ca /certs/ca.pem'
HEALTHCHECK --interval=30s --timeout=6s --start-period=30s CMD ["/chromad", "ping"]
ENTRYPOINT ["/chromad"]
CMD ["run", "--path", "/data"]
