# Each target sets up what it needs, in the active environment or else in .venv.
SHELL := bash
STACK ?=
VENV ?= $(or $(VIRTUAL_ENV),$(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX)),.venv)
PYTHON := $(VENV)/bin/python
WORK_DIR ?= work_dirs/demo
PYTEST_ARGS ?= -n 2

.PHONY: install demo test lint lock clean

install: ## the package with all its extras, editable
	tools/install.sh --venv "$(VENV)" --extras vis,test,dev $(if $(STACK),--stack $(STACK))

demo: install ## pre-train a small ViT on the embedded images, with report
	$(PYTHON) tools/demo.py --work-dir "$(WORK_DIR)"

test: install
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PYTEST_ARGS)

lint: install
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(VENV)/bin/codespell
	$(VENV)/bin/shellcheck -x -P SCRIPTDIR tools/*.sh .ci/run

# Pins of all that the extras bring, for every Python and platform; torch is left to
# install.sh, which keeps the one that is there.
lock: install
	for stack in onedl openmmlab; do \
	    UV_CUSTOM_COMPILE_COMMAND='make lock' $(VENV)/bin/uv pip compile setup.cfg \
	        --quiet --universal --python-version 3.10 --python $(PYTHON) \
	        --no-build-isolation --no-annotate \
	        --extra $$stack --extra vis --extra test --extra dev \
	        --override requirements/overrides.txt \
	        --override <(printf '%s; sys_platform == "never"\n' torch torchvision) \
	        --no-emit-package torch --no-emit-package torchvision \
	        --no-emit-package opencv-python \
	        --output-file requirements/$$stack.txt >/dev/null || exit; \
	done

clean: ## caches and build products; never data, work dirs or environments
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find mmpospretrain tests tools configs -name __pycache__ -prune -exec rm -rf {} +
