# The commands that people and CI share; make help lists them.
PYTHON   ?= python3
VENV     ?= .venv
PORTRAIT ?= examples/astronaut.jpg
BIN      := $(VENV)/bin
PIP      := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
GPU      := $(shell nvidia-smi -L 2>/dev/null | head -1)
CODE     := topos_rt models export training benchmarks

# The studio's page, which the server serves from inside the package.
PAGE     := topos_rt/server/page/index.html
PAGE_OF  := $(wildcard studio/*.* studio/public/* studio/src/*.* studio/src/*/*.*)

.PHONY: help demo studio page wheel test lint format bench lowest fuzz faults soak clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     install into $(VENV) and turn $(PORTRAIT) into out/head.glb"
	@echo "make studio   install into $(VENV), build the page with npm and open it in the browser"
	@echo "make page     build the studio's page with npm"
	@echo "make wheel    build the page and, into dist/, a wheel that contains it"
	@echo "make test     install the test extras, then run everything CI runs"
	@echo "make lint     ruff, import-linter and mypy"
	@echo "make format   let ruff fix and format"
	@echo "make bench    time the pipeline on this machine"
	@echo "make lowest   test the runtime with the oldest packages that pyproject.toml allows"
	@echo "make fuzz     give every reader damaged files for MINUTES=10, or INPUTS=1000000 of them"
	@echo "make faults   kill processes that write, KILLS=1000 times"
	@echo "make soak     make HEADS=10000 heads and watch memory, descriptors and bytes"
	@echo "make clean    remove $(VENV) and everything built"

demo: $(VENV)/.runtime
	$(BIN)/topos-rt generate $(PORTRAIT) -o out/head.glb --preview out/head.png

studio: $(VENV)/.serve page
	$(BIN)/topos-rt studio

# A prerequisite only where there is npm, so that a machine without it can still test the rest.
page: $(if $(shell command -v npm),$(PAGE))
	@test -f $(PAGE) || echo "npm not found: the studio's page is not built"

wheel: page | $(BIN)/python
	$(BIN)/python -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .

test: $(VENV)/.test $(VENV)/.js page lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy $(CODE)

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.runtime
	$(BIN)/topos-rt bench $(PORTRAIT)

fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz.run $(if $(INPUTS),--inputs $(INPUTS),--minutes $(or $(MINUTES),10)) \
	    $(if $(TARGETS),--targets $(TARGETS))

faults: $(VENV)/.test
	$(BIN)/python -m tests.faults.run --kills $(or $(KILLS),1000)

soak: $(VENV)/.test
	$(BIN)/python -m benchmarks.soak --heads $(or $(HEADS),10000)

lowest:
	.ci/lowest $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build dist out tests/js/node_modules studio/node_modules $(dir $(PAGE)) \
	    .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml CMakeLists.txt constraints.txt $(wildcard csrc/* sdk/src/*) | $(BIN)/python
	@echo "installing topos-rt into $(VENV)$(if $(GPU),, without its CUDA kernels: no NVIDIA GPU was found)"
	$(PIP) -e . -C cmake.define.TOPOS_KERNELS=$(if $(GPU),ON,OFF)
	@touch $@

$(VENV)/.serve: pyproject.toml CMakeLists.txt constraints.txt $(wildcard csrc/* sdk/src/*) | $(BIN)/python
	@echo "installing topos-rt and its service into $(VENV)"
	$(PIP) -e '.[serve]' -C cmake.define.TOPOS_KERNELS=$(if $(GPU),ON,OFF)
	@touch $@ $(VENV)/.runtime

$(VENV)/.test: pyproject.toml CMakeLists.txt constraints.txt $(wildcard csrc/* sdk/src/*) | $(BIN)/python
	@echo "installing topos-rt and its test extras into $(VENV); the CUDA kernels take some minutes to compile"
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.runtime

$(PAGE): $(PAGE_OF) studio/node_modules/.package-lock.json
	@echo "building the studio's page"
	@cd studio && npm run --silent build -- --logLevel warn

studio/node_modules/.package-lock.json: studio/package-lock.json
	@cd studio && npm ci --silent --no-audit --no-fund && touch node_modules/.package-lock.json

# The Khronos glTF validator and three.js; without them their tests skip, or fail in CI.
$(VENV)/.js: tests/js/package-lock.json | $(BIN)/python
	@if command -v npm >/dev/null; then cd tests/js && npm ci --silent --no-audit --no-fund; \
	else echo "npm not found: the glTF validator and three.js are not installed"; fi
	@touch $@
