# Both programs in one image: docker build -t outrigger .
#
# Non-root by default (2112). No shell and no package manager: what is in it is what image/rootfs copies, which image/build uses too.
# The entry point is the proxy; the control plane is /usr/local/bin/outrigger.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils ca-certificates cmake g++ iptables make nftables \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p outrigger-proxy -p outrigger-control-plane --bins \
    && image/rootfs target/release /rootfs

FROM scratch
COPY --from=build /rootfs /
LABEL org.opencontainers.image.title="outrigger" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/outrigger-mesh/outrigger"
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin
WORKDIR /
EXPOSE 9990 9991 9992
USER 2112:2112
ENTRYPOINT ["/usr/local/bin/outrigger-proxy"]
