# make                    the environment, the main job, and where its report is
# make CONFIG=FILE        the same with FILE laid over the default configuration
# make claims             what README and docs state against what this machine measures; measures what is missing
# make claims ONLY=NAME   one claim
# make gpu                check, time and profile an NVIDIA GPU (9 minutes), after make cuda12 or make cuda13
# make cuda13             the environment with CuPy for drivers of CUDA 13, or make cuda12 for those of CUDA 12
# make paper-on-slurm CONFIG=FILE   the same on a whole node of a Slurm cluster; SBATCH="--time=8:00:00" for sbatch
# make slurm-environment  what PROFILE=profiles/slurm needs, installed
# make mpi-environment    what `bench solve --ranks` needs beside an MPI library, installed
# make slurm-node         profiles/slurm/node.json, the description of a compute node
# make test               all tests, linters and type checks
# make test-environment   what these need, installed; then, for example, .venv/bin/python -m pytest tests/unit
# Everything installed goes to .venv, everything computed to results/.

SHELL := /bin/bash
# The last line of `make` is the path of the report, also under another make.
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
PROFILE ?= profiles/default
CONFIG ?=
CONFIGFILE = $(if $(CONFIG),--configfile $(CONFIG))
CORES ?=
# As the workflow's own profile: beside another one Snakemake would read profiles/default too, and take it.
SNAKEMAKE = PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --workflow-profile $(PROFILE) $(if $(CORES),--cores $(CORES)) \
  $(CONFIGFILE)
# Options of sbatch for what runs on one node of a cluster, such as --time=8:00:00.
SBATCH ?=
ALLOCATE = $(BIN)/python -m bench allocate $(if $(SBATCH),--sbatch="$(SBATCH)")

# Every job is a Python process: without bytecode of this package each would compile it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run report claims gpu cuda12 cuda13 test lint environment test-environment slurm-environment mpi-environment \
  slurm-node paper-on-slurm lock clean help
.DEFAULT_GOAL := run

# Where the chosen configuration puts its results. A faulty one ends here, with a sentence.
define find_results
results="$$($(BIN)/python -m bench config results $(CONFIGFILE))" || { \
  echo "The configuration cannot be used: correct it, then run make again."; exit 1; }
endef

# The report is drawn again only when the measurements, tables or figures are newer.
define draw_report
if [ ! -e "$$results/measurements.parquet" ]; then \
  echo "no measurements in $$results yet: see the messages above and $$results/logs"; exit 1; fi; \
if [ ! -e "$$results/report.html" ] || [ -n "$$(find $$results/tables $$results/figures workflow/report \
    -newer $$results/report.html -type f -print -quit)" ]; then \
  PYTHONWARNINGS=ignore::RuntimeWarning $(SNAKEMAKE) --quiet all --report $$results/report.html || exit 1; fi; \
$(BIN)/python -m bench summary --measurements $$results/measurements.parquet || exit 1; \
echo; echo "report: $$results/report.html"
endef

run: environment
	@mkdir -p results
	@$(find_results); status=0; $(SNAKEMAKE) --quiet rules || status=$$?; \
	if [ $$status = 0 ] || [ -e "$$results/measurements.parquet" ]; then ( $(draw_report) ) || status=$$?; fi; \
	if [ $$status != 0 ]; then echo; echo "NOT COMPLETE: see the messages above;"; \
	  echo "the report, if there is one, is of the last complete run."; \
	  echo "Correct what they name, then run make again: what is finished is kept."; fi; \
	exit $$status

report: environment
	@$(find_results); $(draw_report)

# One allocation for one figure: its timed jobs take turns on that node, as on a workstation.
paper-on-slurm: environment
	@if [ -z "$(CONFIG)" ]; then \
	  echo "name the figure: make paper-on-slurm CONFIG=config/papers/freudenberg2023.yaml"; exit 1; fi
	@$(find_results); status=0; \
	$(ALLOCATE) --log $$results/logs/allocation.log -- \
	  sh -c 'make run CONFIG=$(CONFIG) CORES=$$SLURM_CPUS_ON_NODE' || status=$$?; \
	if [ $$status = 0 ]; then echo "report: $$results/report.html"; fi; exit $$status

slurm-node: environment
	@$(ALLOCATE) --log results/slurm-node.log -- $(BIN)/python -m bench machine --out profiles/slurm/node.json

only = $(if $(ONLY),--only $(ONLY))
# The configurations that the claims need and whose measurements are not there, then the verdicts.
claims: environment
	@missing="$$($(BIN)/python -m bench claims --missing $(only))" || exit 1; status=0; \
	for file in $$missing; do $(MAKE) run CONFIG=$$file || status=$$?; done; \
	$(BIN)/python -m bench claims --out results/claims $(only) || status=$$?; exit $$status

# Into results/gpu, or a folder that is committed: make gpu GPU_OUT=results/published/gpu/NAME
GPU_OUT ?= results/gpu
gpu: environment
	$(BIN)/python -m bench gpu --out $(GPU_OUT)

help:
	@sed -n '/^#/!q;s/^# //p' $(MAKEFILE_LIST)

environment: $(VENV)/.run-installed
test-environment: $(VENV)/.test-installed
slurm-environment: $(VENV)/.slurm-installed
mpi-environment: $(VENV)/.mpi-installed

# A lock is installed with hashes checked; the package itself is linked, so that edits count at once.
ifeq ($(UV),)
make_venv = $(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check
uninstall = $(BIN)/python -m pip uninstall --quiet --yes --disable-pip-version-check
else
make_venv = $(UV) venv --quiet --seed --python $(PYTHON) $(VENV)
install = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python
uninstall = $(UV) pip uninstall --quiet --python $(BIN)/python
endif

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version)"; exit 1; }
	$(make_venv)

$(VENV)/.run-installed: envs/run.txt envs/build.txt pyproject.toml | $(BIN)/python
	$(install) --require-hashes -r envs/build.txt
	$(install) --require-hashes -r envs/run.txt
	$(install) --no-deps --no-build-isolation -e .
	@touch $@

# The two exclude each other: installing one takes the other away.
cuda12: other := cupy-cuda13x nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cublas
cuda13: other := cupy-cuda12x nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 nvidia-cublas-cu12
cuda12 cuda13: environment
	$(uninstall) $(other)
	$(install) --require-hashes -r envs/$@.txt

$(VENV)/.test-installed: envs/test.txt $(VENV)/.run-installed
	$(install) --require-hashes -r envs/test.txt
	@touch $@

$(VENV)/.slurm-installed: envs/slurm.txt $(VENV)/.run-installed
	$(install) --require-hashes -r envs/slurm.txt
	@touch $@

$(VENV)/.mpi-installed: envs/mpi.txt $(VENV)/.run-installed
	$(install) --require-hashes -r envs/mpi.txt
	@touch $@

# A worker per core, but no more than four: some tests take 2 GB. Then what needs the machine to itself.
test: test-environment lint
	$(BIN)/python -m pytest -n logical --maxprocesses 4 -m "not alone"
	$(BIN)/python -m pytest -m alone

lint: test-environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/basedpyright
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint --quiet all

# Resolve the dependencies anew (needs uv).
lock:
	for extra in run test slurm mpi; do \
	  uv pip compile pyproject.toml $$([ $$extra = run ] || echo --extra $$extra --constraint envs/run.txt) --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header -o envs/$$extra.txt; done
	for extra in cuda12 cuda13; do \
	  uv pip compile pyproject.toml --extra $$extra --constraint envs/run.txt --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header -o envs/$$extra.txt; done
	printf 'setuptools>=80\nwheel\n' | uv pip compile - --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --no-header -o envs/build.txt

clean:
	rm -rf results/main results/smoke results/real results/claims .snakemake
