# `make repro` runs the experiment on all cores, `make test` the tests; either sets up what it needs. `make TORCH=cpu …`
# takes the CPU build of torch (smaller, no CUDA libraries) from PyTorch's own package index; WORKERS=1 runs one stage at
# a time.
PYTHON ?= python3
TORCH ?= default
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# uv installs into this one, whatever is active in the shell
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: repro estimate experiment atlas test check format benchmark lock plots-page clean-work

repro: $(VENV)/ready
	@python -m pcam_agreement.pipeline.parallel $(if $(WORKERS),--workers $(WORKERS))
	@python -m pcam_agreement.pipeline.table

# What a run will need, beforehand: disk, memory, hours; SET and WORKERS as below.
estimate: $(VENV)/ready
	@python -m pcam_agreement.pipeline.estimate $(SET) $(if $(WORKERS),--workers $(WORKERS))

# `make experiment SET="train.lr=1e-4 explain.patches=100" NAME=slower`: as `dvc exp run -S …`, on all cores.
experiment: $(VENV)/ready
	@python -m pcam_agreement.pipeline.experiment $(SET) --name $(NAME) $(if $(WORKERS),--workers $(WORKERS))
	@python -m pcam_agreement.pipeline.table

# The page to look at patches; `make atlas REV=<experiment>` puts another revision's beside this run's.
atlas: $(VENV)/ready
	dvc repro atlas
ifdef REV
	@python -m pcam_agreement.pipeline.compare_atlases $(REV)
else
	@python -c 'from pathlib import Path; print("open", Path("data/atlas/index.html").resolve().as_uri())'
endif

# A process a core, a thread a process: threads of several processes would wait for each other. The longest file first.
test: $(VENV)/ready
	OMP_NUM_THREADS=1 pytest --numprocesses auto --maxprocesses 8 --dist loadfile \
	  --no-loadscope-reorder tests/pipeline/test_pipeline.py tests

check: $(VENV)/ready
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: $(VENV)/ready
	ruff check --fix .
	ruff format .

# Ratios, on the networks of the last run or on made-up heatmaps (minutes; the machine should have nothing else to do).
benchmark: $(VENV)/ready
	python benchmarks/explain.py --network resnet34
	python benchmarks/explain.py --network alexnet
	python benchmarks/quality.py --network resnet34
	python benchmarks/beside_captum.py
	python benchmarks/agreement.py
	python benchmarks/atlas.py
	python benchmarks/data.py
	python benchmarks/startup.py

# The page that `dvc plots` fills, with its scripts inside.
plots-page: $(VENV)/ready
	python .dvc/make_plots_page.py

# The exact versions, for every platform, without index addresses.
lock: $(VENV)/ready
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate --no-header \
	  --no-emit-index-url --upgrade pyproject.toml --output-file requirements.lock

clean-work:
	rm -rf data/work

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}; set PYTHON=")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
ifeq ($(TORCH),cpu)
	grep -vE '^(nvidia|cuda|triton)' requirements.lock > $(VENV)/requirements.txt
	uv pip install --quiet --compile-bytecode --torch-backend cpu --requirement $(VENV)/requirements.txt
else
	uv pip install --quiet --compile-bytecode --requirement requirements.lock
endif
	uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
