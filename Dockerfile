# The daemon and the helper, for a sidecar or a DaemonSet (docs/containers.md): docker build -t domo-token:0.1.0 .
FROM rust:1.95.0-slim-bookworm AS build
# Uses the image's toolchain, without the developer components of rust-toolchain.toml.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN packaging/build

FROM debian:bookworm-slim
# The CA certificates for Domo: always the newest version.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=65532 --group=65532 /run/domo-token
COPY --from=build /src/target/package/domo-tokend /src/target/package/domo-token /usr/bin/
# Both containers mount the volume with the socket here. The value is a path, not a secret.
# hadolint ignore=DL3064
ENV DOMO_TOKEN_SOCKET=/run/domo-token/broker.sock
# Numeric, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
ENTRYPOINT ["domo-tokend"]
