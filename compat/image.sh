#!/usr/bin/env bash
# Builds the container image and tries it as its users would: started with nothing set, spoken to from the host through
# the published port, stopped, started again on its volume, configured by variables, by arguments and by a file.
#
#   image.sh [IMAGE]     with IMAGE: tries that one, and builds nothing
#
# DOCKER (default docker) is the command, DOCKER_RUN more options for every `docker run` in place of publishing the port:
# `--network host` where containers cannot have a network of their own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
docker=${DOCKER:-docker}
read -r -a network <<<"${DOCKER_RUN:--p 9092:9092}"
name=ottla-image-test-$$
patience=60

fail() {
  "$docker" logs "$name" 2>&1 | tail -20 >&2 || true
  echo "image.sh: $*" >&2
  exit 1
}
cleanup() {
  "$docker" rm -fv "$name" >/dev/null 2>&1 || true
  "$docker" volume rm "$name" >/dev/null 2>&1 || true
  if [ -n "${place:-}" ]; then rm -rf "$place"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM
place=$(mktemp -d)
ok() { echo "ok   $*"; }

for command in "$docker" kcat; do
  command -v "$command" >/dev/null || { echo "image.sh: $command is missing" >&2; exit 1; }
done
if (exec 3<>/dev/tcp/127.0.0.1/9092) 2>/dev/null; then
  echo "image.sh: something listens at port 9092" >&2
  exit 1
fi

image=${1:-}
if [ -z "$image" ]; then
  image=ottla-image-test
  started=$SECONDS
  DOCKER_BUILDKIT=1 "$docker" build -t "$image" "$here"
  ok "builds in $((SECONDS - started)) s"
fi
bytes=$("$docker" image inspect -f '{{.Size}}' "$image")
ok "$image: $((bytes >> 20)) MiB"

run() { # run [OPTION…] -- [ARGUMENT…]: a container, until it serves
  local options=() deadline=$((SECONDS + patience))
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  "$docker" run -d --name "$name" "${network[@]}" "${options[@]}" "$image" "$@" >/dev/null
  until "$docker" logs "$name" 2>&1 | grep -q 'Kafka Server started'; do
    [ "$("$docker" inspect -f '{{.State.Running}}' "$name")" = true ] || fail "the container ended"
    [ "$SECONDS" -lt "$deadline" ] || fail "does not serve within $patience s"
    sleep 0.2
  done
}
stop() { # with SIGTERM, and within Docker's own ten seconds: 137 would be SIGKILL
  "$docker" stop "$name" >/dev/null
  local code; code=$("$docker" inspect -f '{{.State.ExitCode}}' "$name")
  [ "$code" = 0 ] || fail "docker stop: exit code $code"
  "$docker" rm -v "$name" >/dev/null
}
consume() { timeout "$patience" kcat -b localhost:9092 -C -t image -o beginning -e -q; }
expect() { # expect WHAT WANTED GOT
  [ "$2" = "$3" ] || fail "$1: '$3', not '$2'"
  ok "$1"
}

run -v "$name:/var/lib/kafka/data" --
ok "serves with nothing set"
echo one | timeout "$patience" kcat -b localhost:9092 -P -t image || fail "kcat cannot produce from the host"
expect "what the host produces it can consume" one "$(consume)"
expect "it does not run as root" 1000:1000 "$("$docker" exec "$name" bash -c 'echo "$(id -u):$(id -g)"')"
deadline=$((SECONDS + patience))
until [ "$("$docker" inspect -f '{{.State.Health.Status}}' "$name")" = healthy ]; do
  [ "$SECONDS" -lt "$deadline" ] || fail "the health check does not pass: $("$docker" inspect -f '{{json .State.Health}}' "$name")"
  sleep 0.2
done
ok "the health check passes"
stop
ok "docker stop ends it with 0"

run -v "$name:/var/lib/kafka/data" -e KAFKA_NUM_PARTITIONS=3 -- --override auto.create.topics.enable=false
expect "the volume keeps the records" one "$(consume)"
if echo two | timeout "$patience" kcat -b localhost:9092 -P -t other -X message.timeout.ms=5000 2>/dev/null; then
  fail "--override has no effect: a topic was made"
fi
ok "an argument goes with the image's own settings"
stop

printf '%s\n' 'advertised.listeners=PLAINTEXT://127.0.0.1:9092' 'log.dirs=/var/lib/kafka/data' 'num.partitions=5' >"$place/own.properties"
chmod 644 "$place/own.properties"; chmod 755 "$place"
run -v "$name:/var/lib/kafka/data" -v "$place/own.properties:/etc/ottla/server.properties:ro" --
echo two | timeout "$patience" kcat -b localhost:9092 -P -t five
expect "a file in place of the image's is read" 5 "$(kcat -b localhost:9092 -L -t five | grep -c '  *partition [0-9]')"
stop

run -e KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092 -e KAFKA_NUM_PARTITIONS=2 --
echo two | timeout "$patience" kcat -b localhost:9092 -P -t two
expect "variables are read" 2 "$(kcat -b localhost:9092 -L -t two | grep -c '  *partition [0-9]')"
stop

if answer=$("$docker" run --rm "$image" --override num.partitions=none 2>&1); then fail "a wrong value is accepted"; fi
case $answer in *num.partitions*) ok "a wrong value ends it with a sentence" ;; *) fail "no sentence: $answer" ;; esac
