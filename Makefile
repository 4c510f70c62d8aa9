# One command each; what they need, they set up in .venv (and .envs) inside this folder. Only relative paths, so that
# the folder's name may hold blanks. `make help` lists the commands.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-torch lint bench docs clean

PY := .venv/bin/python

help:
	@echo "make demo [DATA=DIR] [KEEP=1]  start a cluster, store a data set, read it back, train on it"
	@echo "make test                      everything a change has to pass (format, lint, types, tests)"
	@echo "make test-long                 kill loops, soaks and fuzzing besides"
	@echo "make test-torch                the tests that need PyTorch"
	@echo "make lint                      format, lint and types only"
	@echo "make bench                     ours and the official SDK side by side"
	@echo "make docs                      the documentation as a site, in site/"
	@echo "make clean                     remove what these commands made"

# DATA reaches the recipe through the environment: a folder's name may hold anything.
demo: export DATA := $(value DATA)
demo:
	@tools/setup demo
	@$(PY) examples/demo.py $(if $(DATA),--data "$$DATA") $(if $(KEEP),--keep)

test: lint
	@$(PY) -m bench.environments
	@$(PY) -m bench.peers
	$(PY) -m pytest -n auto $(ARGS)

test-long:
	@tools/setup demo dev
	@$(PY) -m bench.environments
	$(PY) -m pytest -n auto -m "long or hypothesis" --hypothesis-profile=search $(ARGS)

test-torch:
	@tools/setup demo dev pytorch
	@$(PY) -c "import torchdata, lhotse" 2>/dev/null || $(PY) -m pip install -qq --disable-pip-version-check -c tools/constraints.txt torchdata lhotse
	$(PY) -m pytest -n auto tests/pytorch tests/test_surface.py "tests/test_docs.py::test_page_runs[docs/howto/pytorch.md]" \
		"tests/test_docs.py::test_page_runs[docs/tutorial-training.md]" $(ARGS)

lint:
	@tools/setup demo dev
	@$(PY) -m ruff format --check . || { echo "run: .venv/bin/ruff format ." >&2; exit 1; }
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy --no-error-summary

bench:
	@tools/setup demo dev pytorch
	@$(PY) -m bench.environments 2.0.0 2.0.0-torch
	@$(PY) -m bench.peers s3
	@$(PY) -m bench $(ARGS)

docs:
	@tools/setup docs
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "site/index.html"

clean:
	rm -rf .venv .envs site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/.hypothesis
