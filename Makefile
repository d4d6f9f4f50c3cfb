# Everything works as root and as an ordinary user with sudo. PG_CONFIG names the server to build for, run and test.
PG_CONFIG ?=
export PG_CONFIG

.DEFAULT_GOAL := help
.PHONY: help deps build install cli install-cli packages private run psql stop test test-versions test-packages test-metrics torture fuzz mutants miri asan fmt lint bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "PG_CONFIG=/path/to/pg_config chooses the server (default: the one on PATH)"

deps: ## install what is missing to build and run: PostgreSQL and its headers, libclang
	@scripts/deps.sh

build: deps ## compile the extension in release mode
	@scripts/build.sh

install: deps ## build, and install into the server of PG_CONFIG; what else is here uses a private copy of that server
	@scripts/install.sh --system

cli: ## compile the command sequin, which needs no PostgreSQL, to target/cli/sequin
	@cargo build --profile cli -p sequin-cli

install-cli: cli ## the same, and install it with its manual pages and completions; PREFIX=/usr/local
	@scripts/install_cli.sh

packages: deps ## Debian packages postgresql-NN-sequin for 14 to 18, in target/packages; or scripts/packages.sh 15
	@scripts/packages.sh

private: deps # into the private copy
	@scripts/install.sh

run: private ## start a private cluster, and take a tour: publish, receive, ack
	@scripts/run.sh

psql: ## connect to the cluster that `make run` started
	@scripts/psql.sh

stop: ## stop and remove the cluster that `make run` started
	@scripts/stop.sh

test: ## everything: format, lints, unit, in-server, SQL, isolation and black-box tests
	@scripts/deps.sh test
	@scripts/test.sh

test-versions: ## SQL, isolation and some black-box tests on PostgreSQL 14, 16, 17 and 18, which it fetches
	@scripts/deps.sh versions
	@scripts/test_versions.sh

test-packages: ## what users do with the packages, in bare systems made by mmdebstrap, as root
	@scripts/test_packages.sh

test-metrics: private ## scrape a server with Debian's exporters by the files of contrib/, and have promtool check the rules
	@scripts/test_metrics.sh

torture: private ## clients' histories under faults, judged; SECONDS_TO_RUN=600 SEED=n
	@scripts/torture.sh

fmt: ## format the Rust sources
	@cargo fmt --all

lint: deps ## rustfmt and clippy, warnings are errors
	@scripts/test.sh lint

fuzz: ## feed the pure code with whatever bytes; TARGET=filters SECONDS_TO_RUN=60, or all for 20 s each
	@scripts/fuzz.sh $(TARGET)

miri: ## the tests of the pure code under Miri
	@scripts/miri.sh

asan: ## the same under AddressSanitizer, where there is no Miri
	@scripts/miri.sh asan

mutants: ## change the dispatcher's rules in one place after the other: does a test notice? Some hours
	@scripts/mutants.sh $(ARGS)

bench: private ## measure, side by side with plain SQL; ARGS are passed on
	@scripts/cargo.sh bench --bench bench -- $(ARGS)

clean: stop ## remove everything that was built
	@cargo clean
