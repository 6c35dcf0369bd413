# The one way in. Each target first makes its prerequisites, and the stamps below prevent work that is done already.
# `make` alone prints the list of targets.

PYTHON ?= python3
# Tests wait more than they compute, so more of them run at once than there are processors.
JOBS ?= 4
STORE ?= sqlite
ONLY ?=
AGAINST ?=
ARGS ?=
PYTHONS ?=
CASES ?=

VENV := .venv
BENCH_VENV := .venv-bench
RUST_HANDLERS := target/release/rust_handlers
BIN := $(VENV)/bin
QUIETLY := .ci/quietly

RUST_SOURCES := $(shell find src crates -name '*.rs' -o -name '*.sql' -o -name Cargo.toml 2>/dev/null) Cargo.toml Cargo.lock
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi' 2>/dev/null)
# Where the stub and the compiled module may differ, each line with its reason.
STUB_EXCEPTIONS := $(wildcard tests/typing/stubtest-allowlist.txt)
PYTHON_CHECKED := python tests benchmarks docs/examples tools

# PostgreSQL's client speaks TLS through OpenSSL on Linux. Where its headers are missing it is compiled along.
ifeq ($(shell uname -s),Linux)
  ifeq ($(OPENSSL_DIR)$(shell pkg-config --exists openssl 2>/dev/null && echo found),)
    VENDORED := vendored-openssl
  endif
endif
comma := ,
EXTENSION_FEATURES := extension-module$(if $(VENDORED),$(comma)$(VENDORED))
CARGO_FEATURES := $(if $(VENDORED),--features $(VENDORED))

# pip speaks only when something is wrong.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# All of cargo's runs see the same interpreter: another one would compile the crate again.
INTERPRETER := PYO3_PYTHON=$(CURDIR)/$(BIN)/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart build test test-rust test-python test-pythons cases check format format-check lint types audit docs site bench soak clean

help: ## print this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter of a new .venv; ARGS='-k timer' goes to pytest;"
	@echo "  PYTHONS='3.10 3.13' makes test and cases run the Python half on each of these versions that is on PATH or in pyenv;"
	@echo "  STORE=memory|sqlite|postgres, ONLY=W1,memory,idle, FULL=1, PROFILE=1 and AGAINST='dbos huey absurd' go to the benchmarks."

quickstart: build ## build, then take a census of Python's standard library, killing the worker half-way
	@$(BIN)/python docs/examples/census.py

build: $(VENV)/.built ## compile the native half and install the package into .venv
	@:

# With PYTHONS, only the Python half, since the interpreter of the Rust tests does not change.
test: $(if $(PYTHONS),test-pythons,test-rust test-python) ## run the tests of both halves, PostgreSQL included (PYTHONS)

# The test binaries start an interpreter of their own, so they need Python as a shared library. Most of their tests wait
# for leases to end, so many run at once.
test-rust: $(VENV)/.developer
	@if $(BIN)/python .ci/shared_python.py >/dev/null; then \
	  $(INTERPRETER) LD_LIBRARY_PATH="$$($(BIN)/python .ci/shared_python.py):$$LD_LIBRARY_PATH" RUST_TEST_THREADS=8 \
	    $(QUIETLY) "testing the Rust half" $(BIN)/python .ci/with_postgres.py cargo test --workspace $(CARGO_FEATURES); \
	else \
	  echo "the tests of the Rust half are left out: this Python is not there as a shared library"; \
	fi

# Tests marked `alone` measure time or kill processes: they run by themselves, after the others.
test-python: $(VENV)/.developer build
	@$(BIN)/pytest -q -n $(JOBS) --dist worksteal -m "not alone" $(ARGS)
	@$(BIN)/pytest -q -m alone $(ARGS) || [ $$? -eq 5 ]

# Without the tests marked `alone`: they measure time or kill processes, which does not depend on the version of Python.
test-pythons: build
	$(call with_each_python,testing the Python half,"$$python" -m pytest -q -n $(JOBS) --dist worksteal -m "not alone" $(ARGS))

cases: $(VENV)/.developer build ## run each program of the folder CASES; it is right if its exit status is 0 (PYTHONS)
	@[ -d "$(CASES)" ] || { echo "name the folder of the programs: make cases CASES=folder" >&2; exit 2; }
ifeq ($(PYTHONS),)
	@$(BIN)/python tools/run_cases.py "$(CASES)" $(ARGS)
else
	$(call with_each_python,running the cases,"$$python" tools/run_cases.py "$(CASES)" $(ARGS))
endif

# Runs the command $(2), with an interpreter in the shell variable `python`, on each version of PYTHONS that is found here.
# $(1) says what the command does.
define with_each_python
	@found=; failed=; \
	for version in $(PYTHONS); do \
	  if .ci/find_python "$$version" >/dev/null; then found="$$found $$version"; \
	  else echo "Python $$version is left out: it is not on PATH and not in pyenv"; fi; \
	done; \
	[ -n "$$found" ] || { echo "none of these versions of Python was found: $(PYTHONS)" >&2; exit 1; }; \
	for version in $$found; do \
	  $(MAKE) --silent --no-print-directory "$(VENV)-$$version/.tester" || exit 1; \
	  .ci/share_package $(VENV) "$(VENV)-$$version" || exit 1; \
	  python="$(VENV)-$$version/bin/python"; \
	  echo "$(1) on Python $$version"; \
	  $(2) || failed="$$failed $$version"; \
	done; \
	[ -z "$$failed" ] || { echo "$(1) failed on Python$$failed" >&2; exit 1; }
endef

check: format-check lint types site audit test ## everything that a change must pass

format: $(VENV)/.developer ## format all sources
	@cargo fmt --all
	@$(BIN)/ruff check --quiet --fix-only --select I $(PYTHON_CHECKED)
	@$(BIN)/ruff format --quiet $(PYTHON_CHECKED)

format-check: $(VENV)/.developer
	@$(QUIETLY) "checking the format of Rust" cargo fmt --all --check
	@$(QUIETLY) "checking the format of Python" $(BIN)/ruff format --diff $(PYTHON_CHECKED)

lint: $(VENV)/.developer
	@$(QUIETLY) "linting Python" $(BIN)/ruff check $(PYTHON_CHECKED)
	@$(INTERPRETER) $(QUIETLY) "linting Rust" cargo clippy --workspace --all-targets $(CARGO_FEATURES) -- -D warnings

types: $(VENV)/.developer build
	@$(QUIETLY) "types, as mypy sees them" $(BIN)/mypy
	@$(QUIETLY) "types, as pyright sees them" $(BIN)/pyright --warnings
	@$(QUIETLY) "the stub against the compiled module" \
	  $(BIN)/python -m mypy.stubtest duroxide._native $(addprefix --allowlist ,$(STUB_EXCEPTIONS))

# It needs the list of packages that `build` installs. Without a network, it says that it checked nothing.
audit: $(VENV)/.developer build ## look for known vulnerabilities of what is linked, builds or is needed
	@$(BIN)/python tools/audit.py

docs: $(VENV)/.developer build ## run every code block of the README and the docs
	@$(BIN)/pytest -q tests/documentation $(ARGS)

# The reference is rendered from the docstrings. A warning, such as one of a dead link, is an error.
site: $(VENV)/.developer ## build the documentation as a site into site/
	@$(QUIETLY) "building the site" $(BIN)/mkdocs build --strict --quiet

bench: $(BENCH_VENV)/.installed $(RUST_HANDLERS) ## measure W1 to W16 with a release build (STORE, ONLY, AGAINST, FULL=1, PROFILE=1)
	@PYTHONPATH=tests $(BENCH_VENV)/bin/python -m benchmarks --store $(STORE) --rust $(RUST_HANDLERS) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(AGAINST),--against "$(AGAINST)")

soak: $(BENCH_VENV)/.installed ## watch memory, threads and files over 20,000 orchestrations and 50 restarts
	@$(BENCH_VENV)/bin/python -m benchmarks.soak

clean: ## remove all that was made, the virtual environments included
	@rm -rf $(VENV) $(VENV)-* .quickstart .mypy_cache .pytest_cache .ruff_cache dist site python/duroxide/_native*.so
	@find python tests benchmarks docs tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@cargo clean --quiet

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; install Python 3.10 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) -V); Python 3.10 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "no cargo here; install Rust (with rustup, say) first" >&2; exit 1; }
	@$(QUIETLY) "making $(VENV)" $(PYTHON) -m venv --clear $(VENV)
	@# pip reads groups of dependencies from version 25.1 on. Python brings an older one.
	@$(QUIETLY) "renewing pip" $(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.builder: $(VENV)/.created pyproject.toml
	@$(QUIETLY) "installing the builder" $(BIN)/python -m pip install --quiet --group build
	@touch $@

$(VENV)/.developer: $(VENV)/.builder
	@$(QUIETLY) "installing the tools of tests and checks" $(BIN)/python -m pip install --quiet --group check
	@touch $@

# The environment of one version of Python for `make test PYTHONS=...`: the tools of the tests, and what the package
# needs.
$(VENV)-%/.tester: pyproject.toml
	@$(QUIETLY) "making $(@D)" "$$(.ci/find_python $*)" -m venv --clear $(@D)
	@$(QUIETLY) "renewing pip for Python $*" $(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(QUIETLY) "installing the tools of the tests for Python $*" $(@D)/bin/python -m pip install --quiet --group test \
	  $$($(BIN)/python -c 'import importlib.metadata as m; print(*m.requires("duroxide"))')
	@touch $@

$(VENV)/.built: $(VENV)/.builder $(RUST_SOURCES) THIRD-PARTY-LICENSES duroxide.cyclonedx.json
	@[ -e $@ ] || echo "compiling: the first time takes three to five minutes, later ones seconds"
	@$(if $(VENDORED),echo "no OpenSSL headers here: OpenSSL is compiled along")
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(INTERPRETER) \
	  $(QUIETLY) "building duroxide" $(BIN)/maturin develop --features $(EXTENSION_FEATURES)
	@touch $@

# The benchmarks measure the wheel that users install, in a separate environment. So the build of the tests stays as it
# is. The wheel stays on this machine, so the system's libraries are not copied into it.
$(BENCH_VENV)/.installed: $(VENV)/.builder $(RUST_SOURCES) $(PYTHON_SOURCES)
	@[ -e $@ ] || echo "compiling a release build: the first time takes five minutes or more"
	@[ -x $(BENCH_VENV)/bin/python ] || $(QUIETLY) "making $(BENCH_VENV)" $(BIN)/python -m venv --clear $(BENCH_VENV)
	@rm -rf target/bench-wheel
	@$(INTERPRETER) $(QUIETLY) "building a release wheel" \
	  $(BIN)/maturin build --release --auditwheel skip --features $(EXTENSION_FEATURES) --out target/bench-wheel
	@$(QUIETLY) "installing it into $(BENCH_VENV)" $(BIN)/python -m pip --python $(BENCH_VENV)/bin/python install \
	  --quiet --force-reinstall target/bench-wheel/*.whl --group bench
	@touch $@

# It has the features of the wheel, so both share the compiled crates. The linker drops the parts that need Python.
# It is built after the wheel, since cargo runs one build at a time.
$(RUST_HANDLERS): $(wildcard benchmarks/rust_handlers/src/*.rs) $(RUST_SOURCES) | $(BENCH_VENV)/.installed
	@$(INTERPRETER) $(QUIETLY) "building the benchmarks' handlers in Rust" \
	  cargo build --release --package duroxide-python --package rust_handlers --features $(EXTENSION_FEATURES)
	@touch $@
