# Two stages: the build needs Rust, a C++ compiler and libclang; what runs is a slim Debian and one binary.
#
#   docker build -t ottla . && docker run -p 9092:9092 -v ottla:/var/lib/kafka/data ottla
#
# BuildKit (Docker's own since 23) keeps what cargo downloaded and built: only the first build compiles RocksDB.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    cargo build --release --locked -p ottla --target-dir /target && install -D /target/release/ottla /out/ottla

FROM debian:bookworm-slim
# The user and the folder of Kafka's own images. A number, so that Kubernetes can see that it is not root.
RUN useradd --uid 1000 --user-group --no-create-home --shell /usr/sbin/nologin appuser \
    && install -d -o appuser -g appuser -m 0700 /var/lib/kafka/data
COPY --from=build /out/ottla /usr/local/bin/ottla
# The image's defaults. KAFKA_* variables win over them, `--override key=value` over both; a file mounted in its place
# replaces them.
COPY config/container.properties /etc/ottla/server.properties
USER 1000:1000
VOLUME ["/var/lib/kafka/data"]
EXPOSE 9092 9644
# Asks /readyz. bash opens the connection: the image has no HTTP client.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/9644 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r answer <&3 && [[ $answer == *' 200 '* ]]"]
ENTRYPOINT ["/usr/local/bin/ottla", "/etc/ottla/server.properties"]
