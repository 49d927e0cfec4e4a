# Tidegauge. `make help` lists the targets. Variables: SOURCES=live | RECORDINGS=../shared/recordings (default: the simulated market).
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
PY := PYTHONPATH=. $(BIN)/python
export SOURCES RECORDINGS
unexport PYTHONDONTWRITEBYTECODE
# What a person types (Q, WHY, ...) reaches the recipes as variables of the shell ("$$Q"), never as text of the command: quotes stay quotes.

.PHONY: help install run up down wipe trace sql known quarantine release reject airflow test lint bench calibrate env lock docs

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/installed: requirements.lock tools/bootstrap.sh
	@bash tools/bootstrap.sh "$(PYTHON)"

install: .venv/installed ## everything into .venv, hash-pinned, bytecode compiled

run: install ## the main job: bring the lake up to date through Airflow, print the reading, stop
	@$(PY) -m plugins.cli run

up: install ## Airflow with its UI and everything else, until Ctrl-C
	@$(PY) -m plugins.cli up

down: install ## stop what `make up` left running
	@$(PY) -m plugins.cli down

wipe: install ## stop, and remove everything the markets keep (var/)
	@$(PY) -m plugins.cli down --wipe

trace: install ## the way of a number back to its bytes: make trace ASSET=BTC [INDEX=F] [CADENCE=1d] [AT=2026-05-01T12:00] [FEATURE=momentum]
	@$(PY) -m plugins.cli trace --asset "$${ASSET:-BTC}" --index "$${INDEX:-S}" --cadence "$${CADENCE:-1h}" --at "$$AT" --feature "$$FEATURE"

sql: install ## a DuckDB query over the Iceberg tables: make sql Q="select asset, as_of, s, f, x, regime from index.readings limit 5"
	@$(PY) -m plugins.cli sql "$$Q"

known: install ## a table as it was known: make known AT=2026-05-01T12:00 TABLE=stablecoin_supply [WHERE="stablecoin = 'ALL'"]
	@$(PY) -m plugins.cli known --at "$$AT" --table "$$TABLE" --where "$$WHERE"

quarantine: install ## what is put aside and open, and why: make quarantine [SOURCE=binance] [TABLE=funding] [REASON=VALUE] [LIMIT=20]
	@$(PY) -m plugins.cli quarantine --source "$$SOURCE" --table "$$TABLE" --reason "$$REASON" --limit "$${LIMIT:-20}"

release: install ## a row from quarantine into core: make release ID=3f2a9c1b WHY="the exchange confirmed it" [WHO=name]
	@$(PY) -m plugins.cli decide release --id "$$ID" --why "$$WHY" $${WHO:+--who "$$WHO"}

reject: install ## close a quarantined row for good: make reject ID=3f2a9c1b WHY="a test row of the exchange" [WHO=name]
	@$(PY) -m plugins.cli decide reject --id "$$ID" --why "$$WHY" $${WHO:+--who "$$WHO"}

airflow: install ## Airflow's command line on the stack that `make up` runs: make airflow DO="dags list-runs derive"
	@$(PY) -m plugins.cli airflow $(DO)

test: install ## all tests; those on recordings pass over themselves where ../shared is not there, and say so
	@bash tools/test.sh

lint: install ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

.venv/peers: requirements-bench.lock | install
	@$(BIN)/uv pip install --quiet --no-deps --require-hashes --target .venv/peers -r requirements-bench.lock && touch .venv/peers

bench: install .venv/peers ## measure as ratios against named peers; writes docs/bench.md
	@$(PY) -m tests.bench

calibrate: install ## choose the regime thresholds again on ../shared/recordings; writes docs/calibration.md, changes nothing else
	@$(PY) -m tests.calibration

docs: install ## regenerate docs/dictionary.md and docs/method.md
	@$(PY) -m transforms.dictionary > docs/dictionary.md.new && mv docs/dictionary.md.new docs/dictionary.md
	@$(PY) -m transforms.method > docs/method.md.new && mv docs/method.md.new docs/method.md

env: ## a .env with fresh secrets for docker compose: make env [MARKET=live]
	@tools/make-env.sh $(MARKET)

lock: ## compile requirements.in into requirements.lock
	@$(BIN)/uv pip compile requirements.in -o requirements.lock --python-version 3.11 --universal --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet
