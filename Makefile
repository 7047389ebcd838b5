# `make help` says what there is. Flags for `rollcall up` go in ARGS: make run ARGS='--http 127.0.0.1:9000'

SHELL := /bin/sh
.DEFAULT_GOAL := help

CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
CARGO_MACHETE := 0.9.2
SQLX_CLI := 0.9.0

# Queries are checked against the committed .sqlx, whatever DATABASE_URL says; `prepare` alone asks a database.
export SQLX_OFFLINE := true
export PATH := $(CURDIR)/.tools/bin:$(PATH)

# A Postgres of its own for one command. Without the store's queries, which `prepare` may yet have to write down.
WITH_POSTGRES := cargo run --quiet --locked --package rollcall-dev --no-default-features -- with-postgres --

.PHONY: help setup run test check prepare audit openapi clients interop bench fuzz simulate clean tools

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing beyond Rust: Postgres's programs, a C compiler, curl
	@scripts/setup.sh

run: setup ## Start the whole system on this machine, and say what to try (flags: ARGS='--http ...')
	cargo run --locked --package rollcall-dev -- up $(ARGS)

test: setup ## Run every test, on a Postgres of its own and an S3 in process
	$(WITH_POSTGRES) sh -c 'cargo build --locked --workspace --bins && cargo test --locked --workspace $(ARGS)'

check: setup tools ## Run the lints: formatting, clippy, dependencies and licences, unused dependencies, SQL
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo deny --locked --workspace check bans licenses sources
	cargo machete --with-metadata
	$(WITH_POSTGRES) $(MAKE) --no-print-directory sqlx SQLX_FLAGS=--check

prepare: setup tools ## Write down what the store's queries are checked against (.sqlx), after a change of SQL
	$(WITH_POSTGRES) $(MAKE) --no-print-directory sqlx

audit: tools ## Look for known security advisories in the dependencies (fetches the advisory database)
	cargo deny --locked --workspace check advisories

openapi: ## Write openapi/rollcall.json from the code
	cargo run --quiet --locked --package rollcall-api -- openapi > openapi/rollcall.json.new
	mv openapi/rollcall.json.new openapi/rollcall.json

clients: ## Generate clients from openapi/rollcall.json into clients: TypeScript, Python, Rust, Java, Go
	@scripts/setup-interop.sh
	python3 tests/interop/run.py clients

interop: setup ## Talk CoAP with others, and check the OpenAPI document as others use it (generated clients, schemathesis)
	@scripts/setup-interop.sh
	cargo build --quiet --locked --package rollcall-dev
	python3 tests/interop/run.py

bench: setup ## Measure forms, ingest, sources, CoAP, mirrors, the feed, brokers and reading, most against a baseline beside them (ARGS='-- feed'; release build)
	cargo build --locked --release --package rollcall-dev --package rollcall-api --package rollcall-relay
	cargo bench --locked --package rollcall-tests --bench main $(ARGS)

# Without a sanitizer (the code has no unsafe of its own) the instrumentation works with a stable compiler. The first build
# takes some minutes: it instruments every dependency.
FUZZ_SECONDS := 60
FUZZ_TARGETS := fields urlencoded json query datagram dtls ingest
fuzz: .tools/cargo-fuzz-$(CARGO_FUZZ) ## Feed the parsers with rubbish, a minute each (FUZZ_SECONDS=60; needs a C++ compiler)
	set -e; for target in $(FUZZ_TARGETS); do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none --fuzz-dir tests/fuzz $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

# Each seed is a life of its own; one that failed is lived again, and told of, with FROM=<seed> SEEDS=1.
SEEDS := 10000
FROM := 0
simulate: setup ## Live lives of a box, a relay and the cloud on simulated time (SEEDS=10000 FROM=0); `test` lives 1,000
	$(WITH_POSTGRES) sh -c 'SIMULATE_SEEDS=$(SEEDS) SIMULATE_FROM=$(FROM) cargo test --locked --package rollcall-tests --test simulation -- --nocapture'

clean: ## Remove build results; data (.rollcall) and tools (.tools) stay
	cargo clean

# In here DATABASE_URL is a fresh database.
.PHONY: sqlx
sqlx:
	cargo sqlx migrate run --source migrations
	SQLX_OFFLINE=false cargo sqlx prepare --workspace $(SQLX_FLAGS) -- --all-targets

# Tools of exactly these versions, built once into .tools. The empty files say which versions are there.
tools: .tools/cargo-deny-$(CARGO_DENY) .tools/cargo-machete-$(CARGO_MACHETE) .tools/sqlx-cli-$(SQLX_CLI)

.tools/sqlx-cli-$(SQLX_CLI): FEATURES := --no-default-features --features postgres,rustls

.tools/%:
	@echo "Building the tool $* once, into .tools; this takes a minute or a few."
	cargo install --locked --force --root .tools $(FEATURES) \
		--version $(lastword $(subst -, ,$*)) $(patsubst %-$(lastword $(subst -, ,$*)),%,$*)
	@touch $@
