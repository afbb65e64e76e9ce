# Thin wrappers around the lines README.md shows. Everything is installed inside the checkout (.venv),
# except that `make test` may install system packages; it names them first (see scripts/system-packages).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test fast endurance lint bench pins clean

$(VENV)/demo.stamp: requirements/demo.txt pyproject.toml
	scripts/install demo
$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml
	scripts/install dev

demo: $(VENV)/demo.stamp
	$(BIN)/dragoman demo

test: $(VENV)/dev.stamp
	scripts/system-packages
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not endurance"

fast: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not endurance and not real_client and not browser and not postgres"

endurance: $(VENV)/dev.stamp
	scripts/system-packages
	$(BIN)/python -m pytest -m endurance --timeout 3600 --hypothesis-profile search

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

pins:
	scripts/pins

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build
