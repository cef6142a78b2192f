# Everything a person or the CI does with this repository. `make` alone prints what there is.
# All that is installed goes to .venv and target/; `make clean` removes both.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, each of the thousands of processes that tests start would compile our sources anew.
unexport PYTHONDONTWRITEBYTECODE
CARGO := cargo
export PYO3_PYTHON := $(abspath $(BIN)/python)

# The newest Python on the PATH that is new enough; `make PYTHON=...` picks another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed) README.md

.PHONY: help
help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------- set-up

define NEEDED
	@missing() { printf '\nmake: %s\n      %s\n\n' "$$1" "$$2" >&2; exit 1; }; \
	[ "$$(uname -s)" = Linux ] || missing "streamfn runs on Linux only for now" "this is $$(uname -s)"; \
	[ -n "$(PYTHON)" ] || missing "Python 3.11 or newer was not found on the PATH" \
		"install it (Debian: apt install python3 python3-venv), or say make PYTHON=/path/to/python"; \
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || missing "$(PYTHON) cannot make virtual environments" \
		"install its venv module (Debian: apt install python3-venv)"; \
	command -v cargo >/dev/null || missing "cargo, the Rust tool chain, was not found on the PATH" \
		"install it from https://rustup.rs (Rust 1.87 or newer)"; \
	command -v cc >/dev/null || missing "cc, a C compiler, was not found on the PATH" \
		"install one (Debian: apt install gcc libc6-dev)"
endef

$(VENV)/.made:
	$(NEEDED)
	@echo "making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=25.1' 'maturin>=1.14,<2'
	@touch $@

$(VENV)/.tools: $(VENV)/.made pyproject.toml
	@echo "installing the tools for tests and lints"
	@$(PIP) --group test --group lint
	@touch $@

$(VENV)/.peers: $(VENV)/.tools pyproject.toml
	@echo "installing the peers of the benches"
	@$(PIP) --group bench || echo "make: not all peers can be had here; the table will name them" >&2
	@touch $@

$(VENV)/.built: $(VENV)/.made $(RUST_SOURCES) pyproject.toml
	@echo "building the extension (release); the first build takes a minute or two"
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --locked
	@rm -f $(VENV)/.built-for-tests; touch $@

# One is installed at a time. That for tests shares its build with the tests of Rust, and checks more.
$(VENV)/.built-for-tests: $(VENV)/.made $(RUST_SOURCES) pyproject.toml
	@echo "building the extension for tests (with assertions; make demo and make bench build the quick one)"
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --locked
	@rm -f $(VENV)/.built; touch $@

.PHONY: setup tools build demo
tools: $(VENV)/.tools ## make .venv with the tools for tests and lints

setup: $(VENV)/.tools $(VENV)/.built ## make .venv with the package and all tools

build: $(VENV)/.built ## build the extension (release) into .venv

demo: $(VENV)/.built ## put real flights through real functions: a bug, its dead letters, the repair
	@$(BIN)/streamfn demo

# ---------------------------------------------------------------- tests

# Processes that run the Python tests; WORKERS=0 runs them in one, one after the other.
WORKERS ?= $(shell nproc)

.PHONY: test test-rust test-python
test: ## run every test; prints how many ran, and fails if that is none
	@.ci/stage "tests of Rust" $(MAKE) test-rust
	@.ci/stage "tests of Python" $(MAKE) test-python
	@rust=$$(cat target/tests-rust) python=$$(cat target/tests-python); \
	echo; echo "ran $$rust Rust tests and $$python Python tests"

test-rust: $(VENV)/.made ## run the Rust tests
	@mkdir -p target; rm -f target/tests-rust
	@$(CARGO) test --package streamfn-core --package streamfn-front --locked 2>&1 | tee target/tests-rust.log
	@awk '/^test result:/ {ran += $$4 + $$6} END {print ran + 0; exit !ran}' target/tests-rust.log >target/tests-rust \
		|| { echo "make: no Rust test ran" >&2; exit 1; }

test-python: $(VENV)/.tools $(VENV)/.built-for-tests ## run the Python tests
	@mkdir -p target; rm -f target/tests-python
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal --junit-xml=target/tests.xml tests
	@$(BIN)/python -m pytest --junit-xml=target/tests-benches.xml benches
	@$(BIN)/python tests/count_tests.py target/tests.xml target/tests-benches.xml >target/tests-python \
		|| { echo "make: no Python test ran" >&2; exit 1; }

PROFILE ?= release
.PHONY: fuzz
fuzz: ## damage the input of every decoder, ten million times each (DECODER=segment: of this one; STREAMFN_FUZZ_SECONDS=30: so long each)
	@$(if $(DECODER),export STREAMFN_FUZZ_DECODER='$(DECODER)';) \
	[ -n "$${STREAMFN_FUZZ_SECONDS:-}" ] || export STREAMFN_FUZZ_EXECUTIONS=$${STREAMFN_FUZZ_EXECUTIONS:-10000000}; \
	$(CARGO) test --profile $(PROFILE) --package streamfn-core --locked --test fuzz -- --nocapture --test-threads 1 no_decoder

KILLS ?= 1000
SEED ?= 1
.PHONY: chaos
chaos: $(VENV)/.tools $(VENV)/.built-for-tests ## kill the processes around a log KILLS=1000 times, check what each of them saw
	@$(BIN)/python tests/chaos --seed $(SEED) --kills $(KILLS)

.PHONY: poison
poison: $(VENV)/.tools $(VENV)/.built-for-tests ## put 1, 3 and 50 bad records of five kinds in a batch of 1,000, count the calls (minutes)
	@$(BIN)/python tests/poison --seed $(SEED)

HANDLERS ?= 2000
.PHONY: unruly
unruly: $(VENV)/.tools $(VENV)/.built-for-tests ## run HANDLERS=2000 random unruly handlers beside calm ones, see that no innocent is harmed
	@$(BIN)/python tests/unruly --seed $(SEED) --handlers $(HANDLERS)

CALLS ?= 100000
.PHONY: logs
logs: $(VENV)/.tools $(VENV)/.built-for-tests ## make CALLS=100000 calls fail, and see what the log of their worker has of them
	@$(BIN)/python tests/logs --calls $(CALLS)

# Of `make requests`; `make logs` makes more calls by default.
requests: CALLS := $(if $(filter command line environment,$(origin CALLS)),$(CALLS),10000)
requests: KILLS := $(if $(filter command line environment,$(origin KILLS)),$(KILLS),100)
.PHONY: requests
requests: $(VENV)/.tools $(VENV)/.built-for-tests ## make CALLS=10000 calls by request, some of which end their processes; then kill KILLS=100 processes meanwhile
	@$(BIN)/python tests/requests --seed $(SEED) --calls $(CALLS) --kills $(KILLS)

.PHONY: loom hand-overs
loom: ## try every interleaving of the control page's protocol, one preemption deeper than make test
	@STREAMFN_LOOM_DEEPER=$${STREAMFN_LOOM_DEEPER:-1} \
	$(CARGO) test --release --package streamfn-core --locked --test loom -- --nocapture

hand-overs: ## hand a turn to and fro between two processes, ten million times, and count lost wake-ups
	@STREAMFN_HAND_OVERS=$${STREAMFN_HAND_OVERS:-10000000} \
	$(CARGO) test --release --package streamfn-core --locked --test hand_over -- --nocapture no_wake_up

STEPS ?= 100000
.PHONY: model
model: $(VENV)/.tools $(VENV)/.built-for-tests ## try the engine STEPS=100000 times against a model of its promises, windows a fifth of that
	@STREAMFN_MODEL_STEPS=$(STEPS) STREAMFN_WINDOW_MODEL_STEPS=$$(($(STEPS) / 5)) \
	$(BIN)/python -m pytest --quiet --capture=no tests/testing/test_against_a_model.py \
		tests/testing/test_windows_against_a_model.py

PAIRS ?= 1000000
.PHONY: filters
filters: $(VENV)/.tools $(VENV)/.built-for-tests ## compare filters with a naive matcher on PAIRS=1000000 random patterns and events
	@STREAMFN_FILTER_PAIRS=$(PAIRS) STREAMFN_FILTER_SEED=$$RANDOM$$RANDOM \
	$(BIN)/python -m pytest --quiet tests/filter/test_against_naive_matcher.py --override-ini=timeout=0

.PHONY: crash
crash: $(VENV)/.made ## stop the machine everywhere, fail every call, flip every bit: the full size (minutes)
	@STREAMFN_CRASH_FULL=1 $(CARGO) test --package streamfn-core --locked --quiet --test all -- --nocapture \
		crash:: reshard:: remove_stream:: io_errors:: bit_rot:: torn_tail::

.PHONY: mutants
mutants: $(VENV)/.tools ## build the core with each seeded bug of tests/mutants, and see its tests catch it
	@$(BIN)/python tests/mutants/run_mutants.py

# ---------------------------------------------------------------- what CI asks

.PHONY: check check-full fmt fmt-check lint types
check: ## fmt-check, lint, types, test; says how long each took
	@.ci/stage "formatting" $(MAKE) fmt-check
	@.ci/stage "lints" $(MAKE) lint
	@.ci/stage "the extension" $(MAKE) $(VENV)/.built-for-tests
	@.ci/stage "types" $(MAKE) types
	@$(MAKE) test

check-full: check ## check, and the campaigns in full (hours)
	@.ci/stage "crash points" $(MAKE) crash
	@.ci/stage "kills" $(MAKE) chaos
	@.ci/stage "unruly handlers" $(MAKE) unruly
	@.ci/stage "failures in the log" $(MAKE) logs
	@.ci/stage "calls by request" $(MAKE) requests
	@.ci/stage "mutants" $(MAKE) mutants
	@.ci/stage "poison" $(MAKE) poison
	@.ci/stage "a model of the engine" $(MAKE) model
	@.ci/stage "damaged inputs" $(MAKE) fuzz
	@.ci/stage "interleavings" $(MAKE) loom
	@.ci/stage "hand-overs" $(MAKE) hand-overs
	@.ci/stage "filters" $(MAKE) filters

fmt: $(VENV)/.tools ## format Rust and Python
	$(CARGO) fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only --quiet

fmt-check: $(VENV)/.tools ## fail if something is not formatted
	$(CARGO) fmt --all --check
	$(BIN)/ruff format --check

lint: $(VENV)/.tools ## clippy and ruff, warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	$(BIN)/ruff check

types: $(VENV)/.tools $(VENV)/.built-for-tests ## mypy, strict
	$(BIN)/mypy

# ---------------------------------------------------------------- wheel, benches

.PHONY: wheel wheel-for-tests bench bench-quick bench-full
define BUILD_WHEEL
	@rm -rf dist
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin build $(1) --locked --out dist
	@ls dist/*-abi3-*.whl
endef

wheel: $(VENV)/.made $(RUST_SOURCES) $(PYTHON_SOURCES) ## build the wheel (one for Python 3.11 and all later) into dist/
	$(call BUILD_WHEEL,--release)

# On a slow machine: the same wheel, but for the extension in it.
wheel-for-tests: $(VENV)/.built-for-tests $(PYTHON_SOURCES)
	$(call BUILD_WHEEL)

BENCH := $(BIN)/python -m pytest --quiet --benchmark-enable --benchmark-quiet --benchmark-disable-gc \
	--benchmark-json=target/bench.json --override-ini=timeout=0

bench: $(VENV)/.peers $(VENV)/.built ## measure against SQLite, LMDB and NATS, and the storage engine by itself (under ten minutes)
	@$(BENCH) benches/python --full

bench-quick: $(VENV)/.peers $(VENV)/.built ## the comparison alone, with fewer records (under 90 seconds)
	@$(BENCH) benches/python/test_append_consume.py benches/python/test_latency.py \
		benches/python/test_requests.py --quick

# A table names the peers that are not there, so this may fail; it is tried again the next time.
target/kafka/.made: benches/kafka/pom.xml
	@echo "getting the jars of Apache Kafka"
	@rm -rf target/kafka; mkdir -p target/kafka
	@{ command -v java && command -v mvn && mvn --batch-mode --file $< dependency:copy-dependencies \
			-DincludeScope=runtime -DoutputDirectory=$(abspath target/kafka) && \
		java -cp 'target/kafka/*' kafka.tools.StorageTool random-uuid; } >target/kafka.log 2>&1 && touch $@ || \
		echo "make: no Apache Kafka here, which takes Java 17 and mvn (target/kafka.log); the table will name it" >&2

bench-full: $(VENV)/.peers $(VENV)/.built target/kafka/.made ## all of make bench with every peer, and more records for the servers (longer)
	@$(BENCH) benches/python --full --every-peer

.PHONY: bench-core instructions instructions-baseline
bench-core: ## measure the core by itself, with criterion (two minutes)
	@$(CARGO) bench --quiet --package streamfn-bench --locked

instructions: ## count the instructions of a record's way; fail if they grew by more than 5 %
	@python3 benches/instructions.py

instructions-baseline: ## make the counts of now the ones that the next are compared with
	@python3 benches/instructions.py --write

.PHONY: clean
clean: ## remove all that was built or installed
	rm -rf $(VENV) target dist python/streamfn/*.so
