# `make help` prints itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SYSTEM_PACKAGES := calculix-ccx orthanc dcmtk dicom3tools postgresql libpixelmed-java libsaxonhe-java default-jre-headless poppler-utils chromium \
	orthanc-dicomweb rsyslog rsyslog-openssl rsyslog-gnutls $(if $(wildcard /usr/bin/npm),,npm)

.PHONY: help setup system demo run test check verify soak bench migration format clean

help: ## show this help
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## virtual environment in .venv with the product and its development tools

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { sh docker/system-packages.sh python3-venv && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

system: ## native counterparts for the tests (Orthanc, DCMTK, dicom3tools, PostgreSQL, PixelMed), through apt
	sh docker/system-packages.sh $(SYSTEM_PACKAGES)

demo: setup ## run the main job on a real CT and show the results
	$(BIN)/osteonode demo --out build/demo

run: setup ## run the node with its defaults
	$(BIN)/osteonode serve

test: setup system ## every test, against the real counterparts
	CI=true $(BIN)/python -m pytest -q -n 2 --dist loadfile tests

check: setup ## format, lint, types, import rules and unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n auto tests/unit -m "not real_data and not needs_binary"

verify: setup ## the numerical proof
	$(BIN)/python -m pytest -q tests/verification

soak: setup system ## kill, starve and soak the node for MINUTES=60 and count what was lost
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),60)

bench: setup ## benchmarks beside their peers; AREA=deid runs one
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m tests.benchmark $(AREA)

migration: setup ## new migrations from the tables; m="what changes"
	$(BIN)/python -m dicom_node.db.revision "$(m)"

format: setup ## format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what was built
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
