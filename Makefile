# `make demo` and `make test` install what they need into .venv and run the demo, or every test.
# A Python from 3.11 to 3.13: python3.11, else python3, else a newer one. make PYTHON=/usr/bin/python3.12 chooses another.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(or $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c '$(FITS)' > /dev/null 2>&1 && echo $$python && break; done),python3)
VENV := .venv
INSTALLED := $(VENV)/.installed
# In the tested versions; what the lock file does not name is free.
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock
PYTEST := $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0
# Without trainings and with few networks to compile.
QUICK := test_structure.py test_commands.py cli config datasets episodes io report runtime sweeps \
	evaluation/test_metrics.py evaluation/test_results.py
# The C library then asks for large memory pages: an eighth less time on a CPU, and nothing where it cannot.
HUGE_PAGES := GLIBC_TUNABLES=glibc.malloc.hugetlb=1

.PHONY: help install demo test quick lint types docs coverage clean

help:
	@echo "make install   a virtual environment in $(VENV) with all that the project needs (Python 3.11 to 3.13)"
	@echo "make demo      install, train and evaluate on an embedded data set, write pictures to runs/demo"
	@echo "make test      install, check the style, run every test (set SIMPROPNET_DATA to add those on real images)"
	@echo "make quick     tests of data, configs, commands, files and reports: under two minutes on two cores"
	@echo "make lint      the style alone"
	@echo "make types     check the types of the public API"
	@echo "make docs      build the documentation site in site/, strictly: every link must lead somewhere"
	@echo "make coverage  run every test and print which share of the lines they run"
	@echo "make clean     remove $(VENV) and caches"

install: $(INSTALLED)

$(INSTALLED): requirements.txt requirements.lock pyproject.toml setup.py
	@version=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2> /dev/null); \
	$(PYTHON) -c '$(FITS)' > /dev/null 2>&1 || { \
		echo "error: $(PYTHON) is $${version:-not installed}, but this needs Python 3.11, 3.12 or 3.13;" \
			"name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }; \
	echo "Installing into $(VENV) with Python $$version. This fetches about 1 GB: two to ten minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e '.[dev]'
	@touch $@
	@echo "Installed: $(VENV)/bin/simpropnet --help lists what it can do."

demo: $(INSTALLED)
	$(HUGE_PAGES) $(VENV)/bin/simpropnet demo

test: $(INSTALLED) lint
	$(PYTEST)

quick: $(INSTALLED)
	$(PYTEST) -m 'not slow' $(QUICK:%=tests/%)

lint: $(INSTALLED)
	$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check .

types: $(INSTALLED)
	@$(PIP) -e '.[types]'
	$(VENV)/bin/pyright

docs: $(INSTALLED)
	@$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict

coverage: $(INSTALLED)
	$(PYTEST) --cov

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .coverage build dist site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
