# The daemon and the helper, for a sidecar or a DaemonSet (docs/containers.md): docker build -t domo-token:0.1.0 .
FROM rust:1.95.0-slim-bookworm AS build
# The image's toolchain, without the components that rust-toolchain.toml adds for developers.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN packaging/build

FROM debian:bookworm-slim
# The CA certificates that Domo is verified with; no version is pinned, so that they are current.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=65532 --group=65532 /run/domo-token
COPY --from=build /src/target/package/domo-tokend /src/target/package/domo-token /usr/bin/
# The volume with the socket is mounted there, in both containers. It is a path, not a secret.
# hadolint ignore=DL3064
ENV DOMO_TOKEN_SOCKET=/run/domo-token/broker.sock
# A number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
ENTRYPOINT ["domo-tokend"]
