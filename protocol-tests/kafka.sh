#!/usr/bin/env bash
# Apache Kafka 4.3.1 from Maven Central, one node (KRaft, combined mode), to run the same tests against.
#
#   kafka.sh libs                          fetches the jars once and prints the class path
#   kafka.sh start DIR PORT [key=value…]   formats DIR and starts a broker on 127.0.0.1:PORT; returns when it serves
#   kafka.sh stop DIR                      stops the broker of DIR and waits for its end
#   kafka.sh pid DIR                       prints its process id
#
# OTTLA_CACHE (default ~/.cache/ottla) holds the jars. KAFKA_JVM (default -Xmx512m) goes to the broker's java.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${OTTLA_CACHE:-$HOME/.cache/ottla}/kafka-4.3.1

fail() { echo "kafka.sh: $*" >&2; exit 1; }

libs() {
  if [ ! -f "$cache/complete" ]; then
    command -v mvn >/dev/null || fail "mvn is not installed; on Debian: apt-get install maven default-jdk-headless"
    mkdir -p "$cache"
    mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$cache/libs" >&2 || fail "mvn could not fetch Apache Kafka"
    touch "$cache/complete"
  fi
  echo "$cache/libs/*"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The controller's listener stands on a port of its own, away from the one that was asked for.
controller_port() {
  local candidate=$((($1 + 7000) % 20000 + 20000))
  until port_is_free "$candidate"; do candidate=$((candidate + 1)); done
  echo "$candidate"
}

# Later lines win in a properties file, so what the caller gives comes last.
settings() {
  local dir=$1 port=$2 controller=$3; shift 3
  cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
num.partitions=1
auto.create.topics.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
END
  printf '%s\n' "$@"
}

logging() {
  cat <<END
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
END
}

start() {
  [ $# -ge 2 ] || fail "start needs DIR and PORT"
  local dir=$1 port=$2; shift 2
  port_is_free "$port" || fail "port $port is in use"
  local classes; classes=$(libs)
  mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
  settings "$dir" "$port" "$(controller_port "$port")" "$@" >"$dir/server.properties"
  logging >"$dir/log4j2.properties"
  local java=(java "-Dlog4j2.configurationFile=$dir/log4j2.properties" -cp "$classes")
  if [ ! -f "$dir/data/meta.properties" ]; then
    local id; id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '=')
    "${java[@]}" kafka.tools.StorageTool format --standalone -t "$id" -c "$dir/server.properties" \
      >"$dir/format.log" 2>&1 || fail "format failed: $(tail -3 "$dir/format.log")"
  fi
  # shellcheck disable=SC2086 # several options in one variable
  "${java[0]}" ${KAFKA_JVM:--Xmx512m} "${java[@]:1}" kafka.Kafka "$dir/server.properties" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  disown
  until grep -q 'Kafka Server started' "$dir/server.log"; do
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || fail "the broker ended: $(tail -5 "$dir/server.log")"
    sleep 0.2
  done
}

stop() {
  [ $# -eq 1 ] || fail "stop needs DIR"
  local pid; pid=$(cat "$1/pid") || fail "nothing was started in $1"
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  rm -f "$1/pid"
}

case ${1:-} in
  libs) libs ;;
  start) shift; start "$@" ;;
  stop) shift; stop "$@" ;;
  pid) cat "${2:?DIR}/pid" ;;
  *) fail "unknown command '${1:-}': libs, start DIR PORT [key=value…], stop DIR, pid DIR" ;;
esac
