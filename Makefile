# The front door. Needs python3 >= 3.11 with its venv module, make and git; everything else comes from PyPI, also the
# compiler (the ziglang wheel) where there is no cc. A second call does only what changed.
#
#   make demo           two tenants share a simulated GPU, live, then asked against got
#   make test           lint, the C tests (plain and under sanitizers), the Python tests
#   make lint           what `make test` checks first
#   make stress         tenants and agents killed at random, for GPUSLICE_STRESS_SECONDS (600)
#   make bench          the figures in docs/performance.md
#   make cluster-bench  those of them that need a cluster, see tests/cluster/README.md
#   make gpu-test       tests and benches on this machine's GPU, see docs/gpu-tests.md
#   make gpu-bundle     dist/gpu-bundle: the same for a machine that has a GPU and no way out
#   make cluster        Kubernetes on this machine with the agent on a simulated node; left running
#   make cluster-down   ends it without a trace
#   make cluster-test   tests on such a cluster
#   make release-shim   dist/libgpuslice-{x86_64,aarch64}.so, for glibc 2.17 and everything newer

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test lint lint-python lint-c lint-generated test-native test-sanitizers test-python stress bench cluster-bench release-shim \
        cluster cluster-down cluster-test gpu-bundle gpu-test install clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
export PATH := $(CURDIR)/$(BIN):$(PATH)

HAVE_CC := $(shell command -v cc || command -v gcc || command -v clang)
ifeq ($(HAVE_CC),)
export CC := $(CURDIR)/build/zig/cc
export CMAKE_ARGS := -DCMAKE_AR=$(CURDIR)/build/zig/ar -DCMAKE_RANLIB=$(CURDIR)/build/zig/ranlib
COMPILER := build/zig/cc
endif

# Named in every installation, so that nothing replaces the headers that we build with.
BUILD_REQUIRES = $$($(BIN)/python -c 'import tomllib; \
    print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')

NATIVE_SOURCES := $(shell git ls-files native)

demo: install
	$(BIN)/gpuslice demo

install: $(VENV)/.installed

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# What pip would fetch for each build, kept instead, so that a rebuild is incremental and needs no network.
$(VENV)/.build-tools: pyproject.toml $(VENV)/bin/pip
	$(PIP) install --upgrade pip
	$(PIP) install cmake ninja $(BUILD_REQUIRES)
	touch $@

$(VENV)/.installed: pyproject.toml $(NATIVE_SOURCES) $(VENV)/.build-tools $(COMPILER)
	$(PIP) install --no-build-isolation --editable .
	touch $@

$(VENV)/.dev-tools: pyproject.toml $(VENV)/.build-tools
	$(PIP) install --group dev --group clients $(BUILD_REQUIRES)
	touch $@

$(VENV)/.ziglang: pyproject.toml $(VENV)/.build-tools
	$(PIP) install --group release
	touch $@

build/zig/cc: native/release/zig-tool.sh $(VENV)/.ziglang
	native/release/zig-tool.sh $(CURDIR)/$(BIN)/python build/zig

# -- lint ------------------------------------------------------------------------------------------------------------

lint: lint-python lint-c lint-generated

lint-python: $(VENV)/.installed $(VENV)/.dev-tools
	ruff check
	ruff format --check
	mypy
	pyright
	lint-imports

lint-c: $(VENV)/.dev-tools
	git ls-files 'native/*.c' 'native/*.h' | xargs clang-format --dry-run -Werror

# Generated files are committed; here they are made again and must come out the same.
lint-generated: $(VENV)/.installed $(VENV)/.dev-tools
	python native/symbols/generate.py --compiler "$${CC:-cc}" --check
	python native/symbols/generate_nvml.py --check
	python native/symbols/document.py --check \
	    "$$(python -c 'from gpuslice_agent import native_files as n; print(n.simulation() / "libcuda.so.1")')"
	python bench/document.py --check
	rm -rf build/proto && mkdir -p build && cp -r proto build/proto
	PYTHON=$(CURDIR)/$(BIN)/python build/proto/regenerate.sh
	diff -r --exclude=__pycache__ proto build/proto

# -- test ------------------------------------------------------------------------------------------------------------

test: lint test-native test-sanitizers test-python

test-native: $(VENV)/.dev-tools $(COMPILER)
	cmake -S native -B build/native -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python $(CMAKE_ARGS) >build/native.log
	ninja -C build/native --quiet
	ctest --test-dir build/native --output-on-failure --parallel 2

# zig's clang comes without these run times.
test-sanitizers: $(VENV)/.dev-tools
ifeq ($(HAVE_CC),)
	@echo 'make: no gcc or clang here, so the sanitizer builds are left out (CI runs them)'
else
	for sanitizers in address,undefined thread; do \
	    build=build/native-$${sanitizers%%,*}; \
	    cmake -S native -B $$build -G Ninja -DGPUSLICE_SANITIZE=$$sanitizers \
	        -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python >$$build.log; \
	    ninja -C $$build --quiet; \
	    ctest --test-dir $$build --output-on-failure --parallel 2; \
	done
endif

# Prometheus and promtool, for the tests of /metrics: unpacked only, for an installation would start a service.
build/prometheus:
	rm -rf build/prometheus.new && mkdir -p build/prometheus.new
	cd build/prometheus.new && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; }
	dpkg-deb --extract build/prometheus.new/prometheus_*.deb build/prometheus.new
	mv build/prometheus.new $@

test-python: $(VENV)/.installed $(VENV)/.dev-tools release-shim
	pytest -rs

# Part of `make test` too, but shorter there.
stress: $(VENV)/.installed $(VENV)/.dev-tools
	GPUSLICE_STRESS_SECONDS=$${GPUSLICE_STRESS_SECONDS:-600} pytest -s tests/stress

# -- Kubernetes: needs root; see tests/cluster/README.md ----------------------------------------------------------------

NAME ?= gpuslice
PROFILE ?= 2xa100-80g
KUBE ?= 1.36
cluster: $(VENV)/.installed $(VENV)/.dev-tools
	python -m tests.cluster.up $(NAME) $(PROFILE) $(KUBE)

cluster-down: $(VENV)/.installed $(VENV)/.dev-tools
	python -m tests.cluster.down $(NAME)

# What takes minutes the first time is built before the tests, which have to end in time.
# Seven programs of Kubernetes on a loaded machine miss a deadline now and then: what fails twice has failed, and what was run
# again is named at the end.
cluster-test: $(VENV)/.installed $(VENV)/.dev-tools
	python -m tests.cluster.build $(KUBE)
	GPUSLICE_KUBE=$(KUBE) pytest -rsR --reruns 1 tests/cluster tests/deploy

# -- the rest --------------------------------------------------------------------------------------------------------

# Each bench prints for people on stderr and leaves its figures in bench/results. Those of a real GPU: gpu-test.
BENCHES = $(filter-out gpu_% kubernetes_%,$(basename $(notdir $(shell grep -l pairs.report bench/*.py))))
bench: $(VENV)/.installed $(VENV)/.dev-tools release-shim
	mkdir -p bench/results build/bench
	for bench in $(BENCHES); do \
	    python bench/$$bench.py >build/bench/$$bench.json; \
	    mv build/bench/$$bench.json bench/results/; \
	done
	python bench/document.py

cluster-bench: BENCHES = kubernetes_cost kubernetes_rest kubernetes_watches
cluster-bench: export PYTHONPATH = $(CURDIR)
cluster-bench: bench

release-shim: $(VENV)/.installed $(VENV)/.ziglang
	native/release/build.sh $(CURDIR)/$(BIN)/python

gpu-bundle: $(VENV)/.installed $(VENV)/.ziglang
	tests/gpu/bundle.sh $(CURDIR)/$(BIN)/python 3.12

# GPU_PYTHON is the python that has PyTorch, where there is one.
GPU_PYTHON ?= $(PYTHON)
gpu-test: $(VENV)/.installed $(VENV)/.ziglang
	tests/gpu/bundle.sh $(CURDIR)/$(BIN)/python \
	    $$($(GPU_PYTHON) -c 'import sys; print(*sys.version_info[:2], sep=".")')
	mkdir -p bench/results
	PYTHON=$(GPU_PYTHON) tests/gpu/run.sh dist/gpu-bundle build/gpu-results; status=$$?; \
	    cp build/gpu-results/*.json bench/results/ && exit $$status

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache $(VENV)/.installed
