# Everything that is built, checked or shown, as commands; `make help` lists them. .ci/run calls `make test`.
#
# One virtual environment, `.venv`, holds all of it. Stamp files in it and in `dist` say what is done, so that a second
# `make` only does what has changed. uv, installed into the environment, is there because it installs torch and its
# libraries from its cache within seconds; without a cache it downloads them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt

WHEEL_SOURCES := Cargo.toml Cargo.lock pyproject.toml LICENSE README.md CHANGELOG.md \
	$(shell find rust python -type f ! -path '*/__pycache__/*' ! -path 'rust/fuzz/*' ! -name '*.so')

.PHONY: help venv wheel demo feedback-demo zephyr-tiny test test-rust test-python lint lint-rust lint-python format bench fuzz constraints clean
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.wheel ## Set up, build, prepare the bundled sample into demo/ and show two packed rows
	$(BIN)/zephyr-data prepare examples/chats.jsonl --tokenizer examples/tokenizer --out demo
	$(BIN)/zephyr-data show demo --rows 2

feedback-demo: $(VENV)/.feedback $(VENV)/.wheel ## Answers, a rule as judge, pairs and packed rows, without a key or a network
	rm -rf feedback-demo
	$(BIN)/zephyr-data feedback complete examples/feedback/prompts.jsonl --models examples/feedback/models.yaml \
		--per-prompt 4 --seed 1 --out feedback-demo/store
	$(BIN)/zephyr-data feedback judge feedback-demo/store --judge examples/feedback/judge.yaml --mode rule
	$(BIN)/zephyr-data feedback binarize feedback-demo/store --score overall --rejected random --out feedback-demo/pairs.parquet
	$(BIN)/zephyr-data prepare feedback-demo/pairs.parquet --tokenizer examples/tokenizer --out feedback-demo/prepared \
		--kind preference

zephyr-tiny: $(VENV)/.checks $(VENV)/.wheel ## The whole recipe with the paper's ablation at toy size, on two CPU cores, into zephyr-tiny/
	$(BIN)/python training/recipes/tiny/run.py --out zephyr-tiny

test: lint test-rust test-python ## Set up and run all that CI checks: formats, lints, types, Rust and Python tests

wheel: dist/.built ## Build the abi3 wheel and the sdist into dist/
	@ls -l dist

venv: $(VENV)/.checks ## Make .venv with all that the tests need (torch among it)

format: $(VENV)/.checks ## Format Rust and Python
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

lint: lint-rust lint-python ## Formats, clippy, rustdoc, ruff, mypy, stubtest

lint-rust: $(VENV)/.checks
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || { \
		echo 'cannot check the Rust code: rustfmt or clippy is missing' >&2; \
		echo 'hint: `rustup component add rustfmt clippy`, or the packages of your distribution' >&2; exit 1; }
	cargo fmt --all --check
	cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --quiet --no-deps --package zephyr-data-core

lint-python: $(VENV)/.checks $(VENV)/.wheel
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml zephyr_data._core

test-rust: ## Unit tests, property tests and examples of the core
	cargo test --locked --quiet --package zephyr-data-core

test-python: $(VENV)/.checks $(VENV)/.wheel ## The Python tests, against the installed wheel
	$(BIN)/python -m pytest

bench: $(VENV)/.checks $(VENV)/.wheel ## Run the benchmarks on the shared data (ZEPHYR_DATA_SHARED) and print their figures
	for program in benches/*.py; do $(BIN)/python "$$program" || exit 1; done

# What cargo-fuzz does, by cargo alone and on the stable toolchain: the flags count edges and comparisons for libFuzzer. For
# `read` they are given to its own program alone: Arrow and Parquet would take a quarter of an hour to build with them.
FUZZ_TARGET ?= encode
FUZZ_SECONDS ?= 600
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_CARGO := --release --locked --quiet --target-dir target --features $(FUZZ_TARGET) --bin $(FUZZ_TARGET)
FUZZ_BUILD_encode = RUSTFLAGS='$(FUZZ_FLAGS)' cargo build $(FUZZ_CARGO) --target $$(rustc -vV | sed -n 's/^host: //p')
FUZZ_BUILD_read = cargo rustc $(FUZZ_CARGO) -- $(FUZZ_FLAGS)
FUZZ_PROGRAM_encode := target/*/release/encode
FUZZ_PROGRAM_read := target/release/read
FUZZ_LIMITS_read := -rss_limit_mb=2048 -timeout=20

fuzz: ## Look for wrong ids (FUZZ_TARGET=encode) or for files that make a reader panic (=read), led by coverage
	@test -n '$(FUZZ_PROGRAM_$(FUZZ_TARGET))' || { echo 'there is no fuzz target of this name: `$(FUZZ_TARGET)`' >&2; \
		echo 'hint: it is one of `encode`, `read`' >&2; exit 1; }
	mkdir -p rust/fuzz/corpus/$(FUZZ_TARGET) rust/fuzz/artifacts
	cd rust/fuzz && $(FUZZ_BUILD_$(FUZZ_TARGET))
	cd rust/fuzz && $(FUZZ_PROGRAM_$(FUZZ_TARGET)) corpus/$(FUZZ_TARGET) -artifact_prefix=artifacts/ \
		-dict=$(FUZZ_TARGET).dict -max_total_time=$(FUZZ_SECONDS) -max_len=512 $(FUZZ_LIMITS_$(FUZZ_TARGET)) \
		-print_final_stats=1

constraints: $(VENV)/.made ## Move the pins of constraints.txt to the newest versions that pyproject.toml allows
	{ sed -n '/^#/p' constraints.txt; $(BIN)/uv pip compile pyproject.toml --extra feedback --extra train --extra dev \
		--universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url --quiet; } > constraints.new
	mv constraints.new constraints.txt

clean: ## Remove what was built, but not .venv
	rm -rf target dist demo feedback-demo zephyr-tiny .pytest_cache .ruff_cache .mypy_cache .hypothesis

# ---- the environment ----

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.implementation.name != "cpython")' || { \
		echo 'cannot use this Python, CPython 3.11 or later is needed: `$(PYTHON)`' >&2; \
		echo 'hint: name another one: `make PYTHON=python3.12 demo`' >&2; exit 1; }
	@command -v cargo >/dev/null || { \
		echo 'cannot build the extension: there is no `cargo`' >&2; \
		echo 'hint: install Rust, for example with rustup' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	@touch $@

# What the package needs at run time, and maturin to build it: enough for the demo, without torch.
$(VENV)/.runtime: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -r pyproject.toml maturin
	@touch $@

$(VENV)/.feedback: $(VENV)/.runtime
	$(INSTALL) -r pyproject.toml --extra feedback
	@touch $@

$(VENV)/.checks: $(VENV)/.runtime
	$(INSTALL) -r pyproject.toml --extra feedback --extra train --extra dev
	@touch $@

# ---- the wheel ----

dist/.built: $(WHEEL_SOURCES) | $(VENV)/.runtime
	rm -rf dist
	$(BIN)/maturin build --quiet --interpreter $(BIN)/python --out dist
	$(BIN)/maturin sdist --out dist
	@touch $@

# The tests must see what users get, so the wheel is installed, not the source tree.
$(VENV)/.wheel: dist/.built | $(VENV)/.runtime
	$(INSTALL) --no-deps --reinstall-package zephyr-data dist/*.whl
	@touch $@
