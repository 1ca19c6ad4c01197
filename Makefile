# Thin by intention: each target calls one command that also works by hand inside `source tools/env.sh`.
# ARGS is passed on:  make train ARGS="episodes:=100 seed:=1"   make test ARGS="-k combine"
SHELL := bash
PYTHON ?= python3
ARGS ?=
RUN := tools/env.sh
# Plugins of a ROS install stay out; conftest.py runs the levels in order, those without ROS first.
PYTEST := PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(RUN) python -m pytest -p timeout --timeout 300

.DEFAULT_GOAL := help
.PHONY: fuzz help setup train test lint clean distclean test-core test-node test-launch test-replay \
	test-robot demos base evaluate docs types format bench-methods

help:  ## this list
	@awk -F ':.*## ' '/^[a-z%*-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## environment and workspace; done once, again where something changed
	@$(PYTHON) tools/setup.py

train: setup  ## the whole loop on the twin, with a report in runs/latest
	@$(RUN) resfit run train $(ARGS)

evaluate: setup  ## blind evaluation of a run's policies: ARGS=run_dir:=runs/latest
	@$(RUN) resfit run evaluate $(ARGS)

demos: setup  ## record the scripted expert's demonstrations through the topics
	@$(RUN) resfit run record $(ARGS)

base: setup  ## train the base policy from demonstrations
	@$(RUN) install/lib/resfit_base/train_base $(ARGS)

test: setup  ## all tests but those that need a robot
	@$(PYTEST) $(ARGS)

test-core: setup  ## level 0: plain Python
	@$(PYTEST) --level core $(ARGS)

test-node: setup  ## level 1: nodes over DDS
	@$(PYTEST) --level node $(ARGS)

test-launch: setup  ## level 2: whole graphs
	@$(PYTEST) --level launch $(ARGS)

test-replay: setup  ## level 3: recorded bags through the live code
	@$(PYTEST) --level replay $(ARGS)

test-robot: setup  ## level 4: on the robot, with a person at the stop
	@$(PYTEST) --level hardware $(ARGS)

test-panel: setup  ## the operator's panel in a real, headless Chromium
	@$(RUN) python tools/panel_browser.py $(ARGS)

lint: setup  ## style, spelling, import layers, YAML, XML, links
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) codespell
	@$(RUN) lint-imports --no-cache --no-logo
	@$(RUN) python tools/check_files.py
	@$(RUN) python tools/interface_docs.py --check

format: setup  ## mend what ruff can mend
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

types: setup  ## mypy, strict on resfit_core
	@$(RUN) mypy $(ARGS) src/resfit_core/resfit_core

docs: setup  ## write docs/interfaces/ from the message definitions
	@$(RUN) python tools/interface_docs.py

bench-methods: setup  ## baselines, ablations and the dip; resumable, docs/benchmarks.md
	@$(RUN) python benchmarks/methods.py $(ARGS)

bench-learner: setup  ## time of a learner update, beside a plain one
	@$(RUN) env OMP_NUM_THREADS=1 python benchmarks/learner_speed.py $(ARGS)

bench-control: setup  ## late ticks and latencies of the real-time loop beside a busy learner, 15 minutes
	@$(RUN) python benchmarks/control_loop.py $(ARGS)

bench-recording: setup  ## late ticks of the control loop with the recorder and without, in turn, 14 minutes
	@$(RUN) python benchmarks/control_recording.py $(ARGS)

bench-operator: setup  ## press to state, state to page, rewards on the right step
	@$(RUN) python benchmarks/operator_panel.py $(ARGS)

bench-replay: setup  ## time of a batch of camera frames and bytes of a transition
	@$(RUN) env OMP_NUM_THREADS=1 python benchmarks/replay_speed.py $(ARGS)

bench-storage: setup  ## bytes of a recorded step and of a transition, over its raw frames and numbers
	@$(RUN) env OMP_NUM_THREADS=1 python benchmarks/storage.py $(ARGS)

fuzz: setup  ## messages of random length, value, stamp and order against the driver, 10 minutes
	@$(RUN) python benchmarks/fuzz.py $(ARGS)

bench-kill: setup  ## 200 SIGKILLs over all nodes of a training run: what is lost; resumable
	@$(RUN) python benchmarks/kill.py $(ARGS)

bench-%: setup  ## run benchmarks/<name>.py
	@$(RUN) python benchmarks/$*.py $(ARGS)

clean:  ## remove what was built; .venv and runs/ stay
	rm -rf build install log .pytest_cache .ruff_cache .mypy_cache
	find src tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## and .venv
	rm -rf .venv .setup.lock
