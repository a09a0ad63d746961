# make demo, make test: install what is missing, then run. "make help" lists everything.

VENV = .venv
PYTHONS = python3.11 python3.12 python3.13 python3
PYTHON = $(or $(shell for name in $(PYTHONS); do command -v $$name && break; done),python3)
DATA = trees

BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.installed
CONFIG_trees := configs/quick/faster_rcnn_trees.py
CONFIG_scenes := configs/quick/mask_rcnn_scenes.py
RUN_DIR := output/quick/$(DATA)
ifndef CONFIG_$(DATA)
$(error DATA=$(DATA) is unknown: choose DATA=trees or DATA=scenes)
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test bench lint clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1  /p' $(MAKEFILE_LIST)

install: $(STAMP)  ## make the environment in $(VENV), if it is not up to date

$(STAMP): setup.py $(wildcard requirements/*.* piip_d2/csrc/* piip_d2/csrc/*/*)
	@$(PYTHON) requirements/install.py --venv $(VENV)
	@touch $@

# What Detectron2 and fvcore make the pinned setuptools and PyTorch warn of at every start.
demo: export PYTHONWARNINGS = ignore:pkg_resources is deprecated,ignore:`torch.jit.script` is
demo: $(STAMP)  ## train, evaluate and draw a small detector; DATA=trees (default) or DATA=scenes
	$(BIN)/python train_net.py --config-file $(CONFIG_$(DATA)) --resume train.output_dir=$(RUN_DIR)
	$(BIN)/python tools/summarize_run.py --config-file $(CONFIG_$(DATA)) --run-dir $(RUN_DIR)

test: $(STAMP)  ## run the tests, but for those marked slow
	$(BIN)/python -m pytest

bench: $(STAMP)  ## compare the speed of PIIP with that of a single ViT
	$(BIN)/python benchmarks/backbone_speed.py --output benchmarks/results/backbone_speed.json

lint: $(STAMP)  ## check format, style, types, docstrings and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pydoclint piip_d2
	$(BIN)/codespell

clean:  ## remove the environment and what was built; data sets and training runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
