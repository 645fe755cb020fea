# `make demo` and `make test` install what they need into .venv and run the demo, or every test.
PYTHON ?= python3.11
VENV := .venv
INSTALLED := $(VENV)/.installed
# The C library then asks for large memory pages: an eighth less time on a CPU, and nothing where it cannot.
HUGE_PAGES := GLIBC_TUNABLES=glibc.malloc.hugetlb=1

.PHONY: help install demo test lint clean

help:
	@echo "make install   a virtual environment in $(VENV) with all that the project needs"
	@echo "make demo      install, train and evaluate on an embedded data set, write pictures to runs/demo"
	@echo "make test      install, check the style, run every test (set SIMPROPNET_DATA to add those on real images)"
	@echo "make lint      the style alone"
	@echo "make clean     remove $(VENV) and caches"

install: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(HUGE_PAGES) $(VENV)/bin/python demo.py

test: $(INSTALLED) lint
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(INSTALLED)
	$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
