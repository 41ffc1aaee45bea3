# Two stages: the build needs Rust, a C++ compiler and libclang; what runs is a slim Debian and one binary.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p ottla --target-dir /target

FROM debian:bookworm-slim
RUN useradd --system --uid 1000 --user-group --create-home --shell /bin/bash appuser \
    && install -d -o appuser -g appuser -m 0700 /var/lib/kafka/data
COPY --from=build /target/release/ottla /usr/local/bin/ottla
USER appuser
EXPOSE 9092
VOLUME ["/var/lib/kafka/data"]
# In a container the broker listens on all its interfaces; clients outside are told the address of the published port.
ENV KAFKA_LISTENERS=PLAINTEXT://:9092 \
    KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092 \
    KAFKA_LOG_DIRS=/var/lib/kafka/data
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/ottla"]
