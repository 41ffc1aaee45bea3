#!/usr/bin/env bash
# Runs what README.md tells a newcomer to type, in a clean clone with empty caches, and says how long the first build takes.
#
#   readme.sh [COMMIT]     a clone of COMMIT (HEAD without one) of this repository; what is not committed is not in it
#
# The ```sh blocks run in order, each in a shell of its own at the top of the clone, and must exit with 0. Where a ```text
# block follows one directly, its lines must be the last ones that were printed. A block whose first line is `make run` is
# the broker: it runs in the background from then on, and the blocks after it meet it serving. At the end it gets SIGTERM
# and must end with 0. Blocks of another kind (```console) are not run.
#
# HOME is an empty folder, so every cache is empty: cargo's registry, build products, ccache, pip's. Nothing of the
# environment is passed on but PATH and how this machine reaches its registries. Given, as on a newcomer's machine, are
# the Rust toolchain and the packages that are installed: `make run` finds what it needs there, or installs it.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && git rev-parse --show-toplevel)
commit=$(git -C "$repository" rev-parse --verify "${1:-HEAD}^{commit}")
# How many seconds the broker may take to serve (the first build is in it), and any other block.
patience=${README_PATIENCE:-5400}
block_patience=600

fail() { echo "readme.sh: $*" >&2; exit 1; }

place=$(mktemp -d)
make_pid=
cleanup() {
  if [ -n "$make_pid" ]; then kill -KILL -- "-$make_pid" 2>/dev/null || true; fi
  rm -rf "$place"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# What the blocks take as given; better missed now than after the build.
for command in cargo kcat python3 pgrep timeout; do
  command -v "$command" >/dev/null || fail "$command is missing"
done

# How this machine reaches its registries is no cache.
reaches='_proxy=|_PROXY=|_CERT|CERT_|_CA_|^PIP_|^CARGO_(HTTP|NET|REGISTR|SOURCE)'
mapfile -d '' -t passed < <(env -0 | grep -zE "$reaches" || true)
passed+=("PATH=$PATH" "LANG=${LANG:-C.UTF-8}" "HOME=$place/home" "RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}")
clean() { # clean COMMAND…: in the clone, with empty caches
  (cd "$place/clone" && exec env -i "${passed[@]}" "$@")
}

git clone -q --no-hardlinks "$repository" "$place/clone"
git -C "$place/clone" checkout -q --detach "$commit"
mkdir -p "$place/home" "$place/blocks"
copy() { # copy FROM TO: a file of settings, if there is one
  if [ -f "$1" ]; then mkdir -p "$(dirname "$2")" && cp "$1" "$2"; fi
}
for file in config.toml config; do copy "${CARGO_HOME:-$HOME/.cargo}/$file" "$place/home/.cargo/$file"; done
for file in .config/pip/pip.conf .pip/pip.conf; do copy "$HOME/$file" "$place/home/$file"; done

# One file per block, numbered in order, named by the line where it begins; its expected output beside it.
awk -v out="$place/blocks" '
  inside && /^```[[:space:]]*$/           { inside = 0; close(file); next }
  inside                                  { print > file; next }
  /^```sh[[:space:]]*$/                   { inside = 1; file = block = sprintf("%s/%05d", out, NR + 1); printf "" > file; next }
  /^```text[[:space:]]*$/ && block != ""  { inside = 1; file = block ".text"; printf "" > file; next }
  NF                                      { block = "" }
' "$place/clone/README.md"
mapfile -t blocks < <(find "$place/blocks" -type f ! -name '*.text' | sort)
[ "${#blocks[@]}" -gt 0 ] || fail "README.md has no \`\`\`sh block"

label() { echo "README.md:$((10#$(basename "$1")))"; }

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
  local broker code=0 asked=$SECONDS
  broker=$(pgrep -g "$make_pid" -x ottla) || fail "the broker is gone: $(tail -5 "$place/broker.log")"
  kill -TERM "$broker"
  while kill -0 "$make_pid" 2>/dev/null; do
    [ $((SECONDS - asked)) -lt 60 ] || fail "SIGTERM did not end it within 60 s"
    sleep 0.2
  done
  wait "$make_pid" || code=$?
  make_pid=
  [ "$code" -eq 0 ] || { tail -5 "$place/broker.log" >&2; fail "\`make run\` ended with $code after SIGTERM"; }
  echo "ok   SIGTERM ends it with 0"
}

run_block() { # run_block BLOCK
  local block=$1 code=0
  clean timeout -k 10 "$block_patience" bash -euo pipefail "$block" >"$place/output" 2>"$place/errors" </dev/null || code=$?
  if [ "$code" -ne 0 ]; then
    cat "$block" "$place/output" "$place/errors" >&2
    fail "$(label "$block") ended with $code"
  fi
  if [ -f "$block.text" ] && ! tail -n "$(wc -l <"$block.text")" "$place/output" | cmp -s - "$block.text"; then
    cat "$place/output" >&2
    fail "$(label "$block") does not end with what README.md says: $(cat "$block.text")"
  fi
  echo "ok   $(label "$block"): $(head -1 "$block")"
  tail -12 "$place/output" | sed 's/^/     | /'
}

for block in "${blocks[@]}"; do
  if [ "$(head -1 "$block")" = "make run" ]; then
    [ -z "$make_pid" ] || fail "$(label "$block"): a broker runs already"
    start_broker "$block"
  else
    run_block "$block"
  fi
done
[ -n "$make_pid" ] || fail "README.md starts no broker"
stop_broker
