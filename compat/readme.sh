#!/usr/bin/env bash
# Runs what README.md tells a newcomer to type, in a clean clone with empty caches, and says how long the first build takes.
#
#   readme.sh [COMMIT]     a clone of COMMIT (HEAD without one) of this repository; what is not committed is not in it
#
# The ```sh blocks run in order, each in a shell of its own at the top of the clone, and must exit with 0. A block whose
# first line is `make run` is the broker: it runs in the background from then on, and the blocks after it meet it serving.
# At the end it gets SIGTERM and must end with 0. Blocks of another kind (```console) are not run.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && git rev-parse --show-toplevel)
commit=$(git -C "$repository" rev-parse --verify "${1:-HEAD}^{commit}")
# How long the broker may take to serve: the first build is in it.
patience=${README_PATIENCE:-5400}

fail() { echo "readme.sh: $*" >&2; exit 1; }

place=$(mktemp -d)
make_pid=
cleanup() {
  if [ -n "$make_pid" ]; then kill -KILL -- "-$make_pid" 2>/dev/null || true; fi
  rm -rf "$place"
}
trap cleanup EXIT

# The toolchain is given, as on a machine with Rust; everything else starts from nothing.
toolchain_home=${RUSTUP_HOME:-$HOME/.rustup}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
command -v cargo >/dev/null || fail "cargo is missing"
unset CC CXX CFLAGS CXXFLAGS RUSTFLAGS MAKEFLAGS ARGS TARGET OTTLA_BIN XDG_CACHE_HOME
for variable in $(compgen -e | grep -E '^(CARGO_|KAFKA_|ROCKSDB_|CCACHE_)' || true); do unset "$variable"; done
clean() { # clean COMMAND…: in the clone, with empty caches
  (cd "$place/clone" && exec env RUSTUP_HOME="$toolchain_home" HOME="$place/home" CARGO_HOME="$place/cargo" \
    OTTLA_CACHE="$place/cache" CARGO_TARGET_DIR="$place/target" CCACHE_DIR="$place/ccache" "$@")
}

git clone -q --no-hardlinks "$repository" "$place/clone"
git -C "$place/clone" checkout -q --detach "$commit"
mkdir -p "$place/home" "$place/cargo" "$place/blocks"
# How this machine reaches its registries is no cache.
for file in config.toml config; do
  if [ -f "$cargo_home/$file" ]; then cp "$cargo_home/$file" "$place/cargo/"; fi
done
for file in .config/pip/pip.conf .pip/pip.conf .m2/settings.xml; do
  if [ -f "$HOME/$file" ]; then mkdir -p "$place/home/$(dirname "$file")" && cp "$HOME/$file" "$place/home/$file"; fi
done

# One file per block, numbered in order, named by the line where it begins.
awk -v out="$place/blocks" '
  inside && /^```[[:space:]]*$/ { inside = 0; close(file); next }
  inside                        { print > file; next }
  /^```sh[[:space:]]*$/         { inside = 1; file = sprintf("%s/%05d", out, NR + 1); printf "" > file; next }
' "$place/clone/README.md"
blocks=("$place"/blocks/*)
[ -f "${blocks[0]}" ] || fail "README.md has no \`\`\`sh block"

start_broker() { # start_broker BLOCK
  local started=$SECONDS
  set -m # a process group of its own, so that nothing of it outlives this script
  clean bash -eu "$1" >"$place/broker.log" 2>&1 </dev/null &
  make_pid=$!
  set +m
  until grep -q 'Kafka Server started' "$place/broker.log"; do
    kill -0 "$make_pid" 2>/dev/null || { tail -30 "$place/broker.log" >&2; fail "\`make run\` ended before it served"; }
    [ $((SECONDS - started)) -lt "$patience" ] || { tail -30 "$place/broker.log" >&2; fail "nothing served after $patience s"; }
    sleep 0.2
  done
  echo "ok   $(label "$1"): serves $((SECONDS - started)) s after \`make run\` with empty caches ($(nproc) CPUs)"
}

# SIGTERM for the broker itself: the process of the group whose command is the binary.
stop_broker() {
  local broker code=0
  broker=$(pgrep -g "$make_pid" -x ottla) || fail "the broker is gone: $(tail -5 "$place/broker.log")"
  kill -TERM "$broker"
  wait "$make_pid" || code=$?
  make_pid=
  [ "$code" -eq 0 ] || { tail -5 "$place/broker.log" >&2; fail "\`make run\` ended with $code after SIGTERM"; }
  echo "ok   SIGTERM ends it with 0"
}

label() { echo "README.md:$((10#$(basename "$1")))"; }

for block in "${blocks[@]}"; do
  if [ "$(head -1 "$block")" = "make run" ]; then
    [ -z "$make_pid" ] || fail "$(label "$block"): a broker runs already"
    start_broker "$block"
    continue
  fi
  if ! clean bash -euo pipefail "$block" >"$place/output" 2>&1 </dev/null; then
    cat "$block" "$place/output" >&2
    fail "$(label "$block") failed"
  fi
  echo "ok   $(label "$block"): $(head -1 "$block")"
  sed 's/^/     | /' "$place/output" | tail -12
done
[ -z "$make_pid" ] || stop_broker
