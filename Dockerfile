FROM rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libpulse-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin plugnmeet-recorder

FROM debian:bookworm-slim
# The fonts are for what participants write, in Latin, Chinese, Japanese and Korean scripts and in emoji;
# jq and curl are for the post-processing scripts.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates chromium curl ffmpeg jq libnss3-tools pulseaudio tini xvfb \
        fonts-dejavu-core fonts-liberation fonts-noto-cjk fonts-noto-color-emoji \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/recorder --shell /usr/sbin/nologin recorder \
    && install -d -o recorder -g recorder /recordings /logs \
    # Root owns the directory of the X sockets; Xvfb, which is not root, could only make one of its own and complain.
    && install -d -m 1777 /tmp/.X11-unix
COPY --from=build /src/target/release/plugnmeet-recorder /usr/local/bin/plugnmeet-recorder
COPY post_processing_scripts /opt/plugnmeet-recorder/post_processing_scripts
USER recorder
# Relative paths of the configuration (./post_processing_scripts, ./logs) begin here.
WORKDIR /opt/plugnmeet-recorder
# tini reaps what Chrome leaves behind and passes SIGTERM on to the recorder alone, which ends its children itself.
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/plugnmeet-recorder", "--config", "/config/config.yaml"]
