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
.PHONY: help install extension demo test sanitize bench docs lint clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1  /p' $(MAKEFILE_LIST)

install: $(STAMP)  ## make the environment in $(VENV), if it is not up to date

SOURCES := $(wildcard piip_d2/csrc/*.* piip_d2/csrc/cpu/*.* piip_d2/csrc/cuda/*.*)

$(STAMP): setup.py $(SOURCES) $(wildcard requirements/*.*)
	@$(PYTHON) requirements/install.py --venv $(VENV)
	@touch $@

# For changes that no file tells of, as of the compiler, the CUDA toolkit or FORCE_CUDA.
extension: $(STAMP)  ## compile the operators once more; what is missing is an error
	PATH="$(BIN):$$PATH" PIIP_D2_BUILD=required $(BIN)/python setup.py build_ext --inplace

# What Detectron2 and fvcore make the pinned setuptools and PyTorch warn of at every start.
demo: export PYTHONWARNINGS = ignore:pkg_resources is deprecated,ignore:`torch.jit.script` is
demo: $(STAMP)  ## train, evaluate and draw a small detector; DATA=trees (default) or DATA=scenes
	$(BIN)/python train_net.py --config-file $(CONFIG_$(DATA)) --resume train.output_dir=$(RUN_DIR)
	$(BIN)/python tools/summarize_run.py --config-file $(CONFIG_$(DATA)) --run-dir $(RUN_DIR)

test: $(STAMP)  ## run the tests, but for those marked slow
	$(BIN)/python -m pytest

# Libraries of the sanitizers have to be loaded before Python, which is built without them.
SANITIZED := build/sanitized
SANITIZERS := -O1 -g1 -fno-omit-frame-pointer -fno-sanitize-recover=all \
    -fsanitize=address,undefined,float-cast-overflow
sanitize: $(STAMP)  ## run the tests of the operators under AddressSanitizer and UBSan
	PATH="$(BIN):$$PATH" FORCE_CUDA=0 PIIP_D2_BUILD=required PIIP_D2_CXXFLAGS="$(SANITIZERS)" \
	    $(BIN)/python setup.py build_ext --build-lib $(SANITIZED) --build-temp $(SANITIZED)/temp
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	    PIIP_D2_EXTENSION_DIR=$(SANITIZED)/piip_d2 $(BIN)/python -m pytest --capture=sys tests/ops \
	    --ignore tests/ops/test_compile.py --ignore tests/ops/test_cuda_on_host.py

# Within a quarter of an hour on two idle cores; what finds no time is listed in the results.
BENCH_RESULTS := benchmarks/results/cpu.json
BENCH_OPTIONS := --device cpu --output $(BENCH_RESULTS)
bench: $(STAMP)  ## measure this CPU with operator, backbones, growth and data; write the tables
	$(BIN)/python -W ignore -m benchmarks.ceilings $(BENCH_OPTIONS)
	$(BIN)/python -W ignore -m benchmarks.operator_speed $(BENCH_OPTIONS) --budget 60
	$(BIN)/python -W ignore -m benchmarks.backbone_speed $(BENCH_OPTIONS) --budget 420
	$(BIN)/python -W ignore -m benchmarks.growth $(BENCH_OPTIONS) --budget 140 \
	    --plot docs/images/growth.png
	$(BIN)/python -W ignore -m benchmarks.data_loading $(BENCH_OPTIONS) --num-images 12 \
	    --model piip_tsb_1120_896_448
	$(BIN)/python -W ignore -m benchmarks.performance

docs: $(STAMP)  ## make the documentation as a site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(STAMP)  ## check format, style, types, docstrings and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pydoclint piip_d2
	$(BIN)/codespell
	find piip_d2/csrc tests benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o \
	    -name '*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror

clean:  ## remove the environment and what was built; data sets and training runs stay
	rm -rf $(VENV) build dist *.egg-info piip_d2/_C*.so .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
