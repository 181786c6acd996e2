# Every target builds what it needs into $(VENV), and does nothing twice: a stamp in there says what
# is installed, and cargo keeps its own account of the Rust half.

PYTHON ?= python3
# `make test PYTHON=python3.13` gets an environment of its own beside the usual one.
VENV ?= .venv$(if $(filter command line,$(origin PYTHON)),-$(notdir $(PYTHON)))
# Versions for `make matrix`; empty means all that the project supports.
PYTHONS ?=
# More arguments for pytest, the benchmark or the demo: make test ARGS="-k cancel -x"
ARGS ?=

BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# PyO3 and maturin must build for this environment's Python, whatever else is active.
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(BIN)/python)
unexport CONDA_PREFIX PYTHONHOME

ENGINE_SOURCES := $(shell find crates -type f \( -name '*.rs' -o -name '*.c' -o -name '*.h' -o -name Cargo.toml \)) \
	$(wildcard Cargo.toml Cargo.lock .cargo/config.toml) pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-rust check format docs bench bench-net bench-rust bench-worlds memory matrix neighbours compatibility conformance \
	soak sanitize semver oldest-rust wheels refusals aarch64 build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'make test PYTHON=python3.13        with another Python, in an environment of its own'
	@echo 'make test ARGS="-k cancel -x"      arguments for pytest (or for the demo, or the benchmark)'
	@echo 'make matrix PYTHONS="3.13 3.14d"   some versions only; d is a debug build of CPython,'
	@echo '                                   g runs functions on greenlets, j turns the JIT on, p is'
	@echo '                                   our build for a CPython whose thread state is not known'

demo: build ## the first program: threads, asyncio, unchanged on each loop; then 10,000 at once
	$(BIN)/python examples/demo.py $(ARGS)

test: build $(STAMPS)/test ## the tests: the Rust crates', then the package's
	cargo test --quiet --package verdigris-fiber --package verdigris-await --features verdigris-await/full
	$(BIN)/python -m pytest $(ARGS)

# Stable Rust checks the codes of compile_fail under this variable only.
test-rust: ## more tests of the Rust crates: without unwinding, every order of locks, what must not compile and why
	cargo run --quiet --package verdigris-await --example dropped_without_unwinding
	RUSTFLAGS='--cfg verdigris_loom' cargo test --quiet --package verdigris-await --lib --target-dir target/loom
	RUSTC_BOOTSTRAP=1 cargo test --quiet --package verdigris-await --features full --doc --target-dir target/unstable

check: build $(STAMPS)/test $(STAMPS)/check ## formatting, lints and types, of Rust and of Python
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo clippy --quiet --package verdigris-await --features full --all-targets -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict python examples tests/types
	MYPYPATH=python $(BIN)/python -m mypy.stubtest verdigris._engine

format: $(STAMPS)/check ## format everything that `make check` looks at
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: build $(STAMPS)/docs ## the documentation as a site, in build/docs; a warning is an error
	$(BIN)/sphinx-build --nitpicky --fail-on-warning --quiet --jobs 2 docs build/docs

bench: build $(STAMPS)/bench ## measure against native async/await and every peer, in one run
	$(BIN)/python benchmarks/run.py $(ARGS)
	$(BIN)/python benchmarks/page.py

bench-net: build $(STAMPS)/bench ## measure client libraries made for threads, with every peer, against real servers
	$(BIN)/python benchmarks/net_run.py $(ARGS)

bench-rust: ## measure the Rust crate against every other way to await in sync code
	cargo bench --quiet --package verdigris-await --features full $(if $(ARGS),-- $(ARGS))

bench-worlds: build $(STAMPS)/bench ## measure calls between blocking and async code, with every peer
	$(BIN)/python benchmarks/worlds_run.py $(ARGS)
	$(BIN)/python benchmarks/page.py

memory: build ## what a process holds after 100,000 and after 1,000,000 calls of each kind
	$(BIN)/python benchmarks/flat.py $(ARGS)

soak: build $(STAMPS)/test ## random programs against a model, for minutes (ARGS="--minutes 60"); PYTHONS: on cells of the matrix
	$(BIN)/python soak/run.py $(if $(PYTHONS),--cells "$(PYTHONS)") $(ARGS)

sanitize: ## the fiber crate's tests under AddressSanitizer and under valgrind (ARGS=address)
	scripts/sanitize $(ARGS)

semver: ## whether the Rust crates' public API kept its promises since the last tag (ARGS=REVISION: since that)
	scripts/semver $(ARGS)

oldest-rust: ## the Rust crates' tests with the oldest Rust that they promise (as root, on Debian)
	scripts/oldest-rust $(ARGS)

matrix: ## the tests on every supported CPython and on debug builds, at the end a table
	scripts/matrix $(PYTHONS) $(if $(ARGS),-- $(ARGS))

neighbours: build $(STAMPS)/test ## the tests with other releases of greenlet and SQLAlchemy, at the end a table
	$(BIN)/python scripts/neighbours $(if $(ARGS),-- $(ARGS))

compatibility: build $(STAMPS)/test ## the sync libraries of docs/compatibility.md on every loop, against real servers
	$(BIN)/python scripts/compatibility --check $(if $(ARGS),-- $(ARGS))

conformance: build $(STAMPS)/bench ## CPython's own tests over the green modules, at the end a table (ARGS="--ci": a part)
	$(BIN)/python conformance/run.py $(ARGS)

wheels: ## a wheel for each CPython of this machine and the sdist, into dist/; each is tried alone
	scripts/wheels $(PYTHONS)

refusals: build $(STAMPS)/test ## interpreters and systems that are refused: real ones, and builds for them
	scripts/free-threaded
	VERDIGRIS_REFUSED_BUILDS=1 $(BIN)/python -m pytest tests/test_platforms.py tests/test_refused_builds.py \
		tests/test_unsupported.py $(ARGS)

aarch64: ## the engine's tests on emulated aarch64 (as root, on x86-64 Linux)
	scripts/aarch64 test $(PYTHONS)

build: $(STAMPS)/engine ## the extension, into the environment, as an editable install

clean: ## delete what was built here; matrix and neighbours keep theirs in a cache (scripts/... --clean)
	rm -rf .venv .venv-* target build dist .mypy_cache .pytest_cache .ruff_cache
	find python tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/verdigris/*.so

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Name one: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMPS): | $(BIN)/python
	mkdir -p $@

$(STAMPS)/%: requirements/%.txt requirements/constraints.txt | $(STAMPS)
	$(BIN)/python -m pip install --quiet --requirement $<
	@touch $@

$(STAMPS)/engine: $(ENGINE_SOURCES) $(STAMPS)/build
	@command -v cargo >/dev/null || { echo 'The engine is Rust, and there is no cargo here. Install Rust 1.85 or newer (rustup is the usual way).' >&2; exit 1; }
	PATH="$(abspath $(BIN)):$$PATH" maturin develop --release --quiet
	@touch $@
