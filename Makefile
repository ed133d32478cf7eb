# `make test` and `make demo` need nothing but Python, make and a package index; the other targets are for development.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONSTRAINTS ?= constraints.txt
WORKERS ?= 2

# One thread a worker: the tests run side by side.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
RUNS := OMP_NUM_THREADS=1 $(BIN)/python -m conformance.runs triton --check --workers $(WORKERS)

.PHONY: help env test triton kernels check format lint types imports doctest docs demo checkpoints bench aot readme clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

env: $(STAMP) ## build .venv, once for each change of pyproject.toml or constraints.txt

$(STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@

test: env ## run the tests, but for those of Triton kernels
	$(PYTEST) -n $(WORKERS) --ignore=tests/incref_kernels/triton

triton: env ## fetch Triton (900 MB) and run the tests of its kernels: compiled for the CPU, and interpreted
	$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[native]'
	$(PYTEST) -n $(WORKERS) tests/incref_kernels/triton

# The interpreter adds bfloat16 as if it were integers, so of products it gets those of integers.
INTERPRETED := encode decode compute_scale quantize_affine dequantize_affine quantize_float dequantize_float \
	quantize_mx dequantize_mx pack unpack int8_matmul gptq_update

# Level 1 of every operation compiled for the CPU, level 0 of most in the interpreter, a call a kind of product for three GPUs.
kernels: env ## fetch Triton, judge its kernels without a GPU, and run a part of `make aot`
	$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[native]'
	$(RUNS) --level 1
	TRITON_INTERPRET=1 PYTHONWARNINGS=ignore::RuntimeWarning $(RUNS) --level 0 $(addprefix --op ,$(INTERPRETED))
	$(BIN)/python -m conformance.aot --targets sm_90 sm_100 gfx942 --only 'int8_matmul, 5 rows' 'per token, 5 rows' \
		'scaled blocks, 5 rows' 'encode float8_e4m3fn from float32' 'quantize_mx mxfp4 float32'

check: lint types imports docs test kernels ## everything that has to pass before a change is merged

format: env ## rewrite the sources in the house style
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

lint: env ## check the house style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: env ## check the types
	$(BIN)/mypy

imports: env ## check that imports go down the layers
	$(BIN)/lint-imports --no-logo

doctest: env ## run the examples in docstrings alone
	$(PYTEST) incref

docs: env ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

readme: env ## bring the tables of README.md up to date
	$(BIN)/python docs/hooks/update_readme.py

demo: env ## compare formats on a small model, in a few minutes
	$(BIN)/python -m benchmarks.demo

# Its wheel is only unpacked: the package can't be installed without CUDA, and its layers need nothing of it.
build/autogptq: | env
	$(BIN)/python -m pip install -qq --no-deps --no-compile --target $@ auto-gptq==0.7.1

checkpoints: env build/autogptq ## compare GPTQ checkpoints with the layers of AutoGPTQ (23 MB)
	$(PYTEST) tests/checkpoints/test_autogptq.py

bench: env ## measure the speed of conversions, after checking that they are right; PEERS=DIR has other libraries
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m benchmarks.speed $(PEERS) --json benchmarks/results/speed.json --plot benchmarks/results/speed.png

aot: env ## compile the Triton kernels for every GPU, without one, and check their machine code
	$(BIN)/python -m conformance.aot --json conformance/results/aot.json

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
