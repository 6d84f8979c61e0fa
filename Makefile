# Everything here sets itself up: a virtual environment in .venv, from pinned versions, on a machine with only
# Python 3.11 or later and make.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test check lint format types simulate coverage bench load overload recovery crash sigterm powerloss iofaults zones years debian clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch .venv/ready

setup: .venv/ready ## make the virtual environment

demo: .venv/ready ## kill a busy shop with SIGKILL, again and again, and count what was lost (30 s)
	$(BIN)/python -m examples.shop.demo

serve: .venv/ready ## run the shop and its dashboard on http://127.0.0.1:8000 (PORT=8050 make serve: on another port)
	@$(BIN)/python -m examples.shop.serve --port $(or $(PORT),8000)

test: .venv/ready ## run all tests
	$(BIN)/python -m pytest

lint: .venv/ready ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready ## mypy and pyright, strict
	$(BIN)/mypy
	$(BIN)/pyright

check: test lint types ## what a change must pass

format: .venv/ready ## let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

simulate: .venv/ready ## run the scheduler in virtual time under 20,000 seeds of faults and crashes (40 min)
	$(BIN)/python -m tests.simulation --seeds 20000 --heavy

coverage: .venv/ready ## which branches of the scheduler the tests inside one process take (7 min)
	$(BIN)/python -m coverage run --branch --source=actor_scheduler --omit="actor_scheduler/testing/*" -m pytest \
		tests/rules tests/store tests/runtime tests/faults tests/maintenance tests/simulation/test_limits_machine.py
	$(BIN)/python -m coverage report --skip-covered --show-missing

bench: .venv/ready ## ours as ratios of the raw ceiling, measured in one run
	$(BIN)/python -m benchmarks

load: .venv/ready ## 500 durable jobs a second for ten minutes: lateness, loop lag, memory
	$(BIN)/python -m benchmarks.load --seconds 600

overload: .venv/ready ## ten times the capacity for a minute: what is refused, and how soon it is over
	$(BIN)/python -m benchmarks.overload --seconds 60

recovery: .venv/ready ## start after a crash with 100,000 and 1,000,000 jobs pending
	$(BIN)/python -m benchmarks.recovery --large

crash: .venv/ready ## the long kill -9 campaign: 2,000 kills, its figures
	$(BIN)/python -m tests.crash --kills 2000

sigterm: .venv/ready ## stop a real server under load 300 times, its figures
	$(BIN)/python -m tests.shutdown --cycles 300

powerloss: .venv/ready ## cut the power at every change of the files, 50,000 images (4 min)
	$(BIN)/python -m tests.powerloss --images 50000

iofaults: .venv/ready ## fail every I/O call of every scenario, once and for ever (3 min)
	$(BIN)/python -m tests.iofaults

zones: .venv/ready ## every change of every time zone, 2000 to 2040, against a scan of every minute (15 min)
	$(BIN)/python -m tests.crons.dst

years: .venv/ready ## simulated years of crons: crashes, outages, clock steps, deploys
	$(BIN)/python -m tests.crons.years --seeds 2000

debian: ## install Chromium, in which the dashboard is tested (Debian; root or sudo)
	tests/debian/install chromium

clean: ## remove what was set up
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
