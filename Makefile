# Ottla. Plain `make` explains the targets. Everything is built in one profile (release), so that RocksDB is compiled once;
# ccache and a target directory outside the checkout keep it for other clones, and nothing needs either.

CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/ottla
# Outside the checkout when that can be written, else ./target.
export CARGO_TARGET_DIR ?= $(shell mkdir -p "$(CACHE)/target" 2>/dev/null && [ -w "$(CACHE)/target" ] && echo "$(CACHE)/target" || echo "$(CURDIR)/target")
export OTTLA_CACHE ?= $(CACHE)
# The same words in every call: a build script runs again when they change.
CCACHE := $(shell command -v ccache 2>/dev/null || true)
ifneq ($(CCACHE),)
export CC := ccache gcc
export CXX := ccache g++
endif
export OTTLA_BIN := $(CARGO_TARGET_DIR)/release/ottla
CARGO ?= cargo
ARGS ?=

.PHONY: help build run test check fix bench compat image-test readme-test
help: ## what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## builds the broker (installs what is missing first)
	@.ci/setup build
	@$(MAKE) --no-print-directory compile
.PHONY: compile
compile:
	$(CARGO) build --release --locked -p ottla

run: build ## builds and starts a broker on localhost:9092, data in ./data (ARGS="FILE --override key=value")
	$(OTTLA_BIN) $(ARGS)

test: ## builds and runs all tests: units, properties, protocol conformance (TARGET=host:port: that broker; ARGS="-p PACKAGE NAME": some)
	@.ci/setup test
	@$(MAKE) --no-print-directory run-tests
.PHONY: run-tests
run-tests: compile
	$(CARGO) test --release --locked $(if $(filter -p% --package%,$(ARGS)),,--workspace) $(ARGS)

check: ## formatting, lints, architecture rules; changes no file of the checkout
	@.ci/setup test
	@$(MAKE) --no-print-directory run-check
.PHONY: run-check
run-check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --release --locked -p ottla --lib -- tidy::

fix: ## formats, and applies what clippy can fix by itself
	$(CARGO) fmt --all
	$(CARGO) clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged

bench: ## Apache Kafka and Ottla side by side, figures as ratios (ARGS=store: the storage driver alone)
	@.ci/setup compat
	@$(MAKE) --no-print-directory compile
	$(CARGO) run --release --locked -p ottla-bench --bin $(if $(filter store,$(ARGS)),store -- $(filter-out store,$(ARGS)),compare -- $(ARGS))

compat: ## real clients and Kafka's own tools against Ottla, a table (ARGS=fast: what CI runs)
	@.ci/setup compat
	@$(MAKE) --no-print-directory compile
	$(CARGO) run --release --locked -p ottla-compat -- $(ARGS)

image-test: ## builds the container image and tries it: from the host, on its volume, configured in every way
	@.ci/setup image
	compat/image.sh $(ARGS)

readme-test: ## types what README.md says into a clean clone with empty caches, and compares what is printed (ARGS=COMMIT)
	@.ci/setup readme
	compat/readme.sh $(ARGS)
