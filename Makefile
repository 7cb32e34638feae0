# make demo                an arm learns to reach while you watch; launch arguments may follow, as in
#                          `make demo gui:=true seed:=3`, or in ARGS
# make demo-grasp          an arm lifts cubes from the first minute, with a pretrained model, and goes on learning
# make test                the whole test suite, in two processes; pytest's options in ARGS, as in ARGS='-n 0 test/unit'
# make lint                style
# make bench-peers         planning and training time beside the libraries that people would otherwise use; options in ARGS
# make bench-pets          returns over steps of learning, beside mbrl-lib's PETS; options in ARGS
# make bench-ablations     what each part of learning a task is worth, left out or changed in turn; options in ARGS
# make compare             learning curves beside model-free ones, `mbrl-ros compare`; its options in ARGS
# make clean               forget the environments

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready
COMPARE := .venv-compare
COMPARE_READY := $(COMPARE)/.ready
# `name:=value` on make's command line is a variable to make; pass it on as the launch argument that it was meant to be.
LAUNCH_ARGS = $(foreach given,$(MAKEOVERRIDES),$(if $(filter ARGS=% PYTHON=%,$(given)),,$(given))) $(ARGS)

.PHONY: demo demo-grasp test lint bench-peers bench-pets bench-ablations compare clean
.DELETE_ON_ERROR:

demo: $(READY)
	@$(BIN)/mbrl-ros launch demo.launch.yaml $(LAUNCH_ARGS)

demo-grasp: $(READY)
	@$(BIN)/mbrl-ros launch demo_grasp.launch.yaml $(LAUNCH_ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check .

bench-peers: $(PEERS_READY)
	@PYTHONPATH=. $(PEERS)/bin/python bench/peers.py $(ARGS)

bench-pets: $(PEERS_READY)
	@PYTHONPATH=. $(PEERS)/bin/python bench/pets.py $(ARGS)

bench-ablations: $(READY)
	@PYTHONPATH=. $(BIN)/python bench/ablations.py $(ARGS)

compare: $(COMPARE_READY)
	@$(COMPARE)/bin/python -m mbrl_ros.cli.main compare $(ARGS)

clean:
	rm -rf $(VENV) $(PEERS) $(COMPARE)

$(READY): $(filter-out %/peers.txt %/compare.txt %/gpu.txt,$(wildcard requirements/*)) setup.py $(wildcard mbrl_ros/models/ensemble/kernels/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo 'needs Python 3.10 to 3.13; name one with PYTHON=python3.12' >&2; exit 1; }
	@echo 'Setting up $(VENV), once (some minutes):'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo 'on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@requirements/install.sh $(BIN)
	@touch $@

$(PEERS_READY): $(READY) requirements/peers.txt bench/install.sh
	@echo 'Setting up $(PEERS), once:'
	@bench/install.sh $(PEERS) $(VENV) requirements/peers.txt
	@touch $@

$(COMPARE_READY): $(READY) requirements/compare.txt bench/install.sh
	@echo 'Setting up $(COMPARE), once:'
	@bench/install.sh $(COMPARE) $(VENV) requirements/compare.txt
	@$(COMPARE)/bin/python -c 'import stable_baselines3'
	@touch $@
