# docker build .                    the recorder
# docker build --target standin .   the stand-in for a plugNmeet server, for development: docker-compose_sample.yaml
# `make image-test` builds both from a base of its own, and records a meeting with them.

# Names of images are complete: podman looks in no registry that it was not told.
FROM docker.io/library/rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libpulse-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin plugnmeet-recorder \
    && install -D --strip target/release/plugnmeet-recorder /programs/plugnmeet-recorder

FROM build AS build-standin
RUN cargo build --release --locked --example standin \
    && install -D --strip target/release/examples/standin /programs/standin

FROM docker.io/library/nats:2.11-alpine AS nats

FROM docker.io/library/debian:bookworm-slim AS runtime
COPY packaging/image/dpkg.cfg /etc/dpkg/dpkg.cfg.d/plugnmeet-recorder
# The fonts are for what participants write, in Latin, Chinese, Japanese and Korean scripts and in emoji;
# jq and curl are for the post-processing scripts, and curl asks for the health.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates chromium curl ffmpeg jq libnss3-tools pulseaudio tini xvfb \
        fonts-dejavu-core fonts-liberation fonts-noto-cjk fonts-noto-color-emoji \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old \
    && useradd --uid 10001 --create-home --home-dir /var/lib/recorder --shell /usr/sbin/nologin recorder \
    && install -d -o recorder -g recorder /recordings /logs \
    # Root owns the directory of the X sockets; Xvfb, which is not root, could only make one of its own and complain.
    && install -d -m 1777 /tmp/.X11-unix
USER 10001:10001

FROM runtime AS standin
COPY --from=nats /usr/local/bin/nats-server /usr/local/bin/nats-server
COPY --from=build-standin /programs/standin /usr/local/bin/standin
WORKDIR /var/lib/recorder
VOLUME ["/tmp", "/recordings"]
EXPOSE 8088 8090
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/standin"]
CMD ["--page", "0.0.0.0:8090", "--meetings", "0.0.0.0:8088", "--recordings", "/recordings"]

FROM runtime AS recorder
COPY --from=build /programs/plugnmeet-recorder /usr/local/bin/plugnmeet-recorder
COPY post_processing_scripts /opt/plugnmeet-recorder/post_processing_scripts
# Relative paths of the configuration (./post_processing_scripts, ./logs) begin here.
WORKDIR /opt/plugnmeet-recorder
# All that is written: profiles of Chrome and sockets; what a node remembers; recordings; logs. The root file system may be
# read-only (docker run --read-only).
VOLUME ["/tmp", "/var/lib/recorder", "/recordings", "/logs"]
# The admin listener answers as long as the program's runtime lives. Without one (admin.listen: "") use --no-healthcheck.
EXPOSE 8089
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8089/healthz"]
# tini reaps what Chrome leaves behind and passes SIGTERM on to the recorder alone, which ends its children itself.
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/plugnmeet-recorder", "--config", "/config/config.yaml"]
