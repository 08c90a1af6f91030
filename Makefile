# Two commands are all the set-up there is:  make demo   and   make test
PYTHON ?= python3
BIN := .venv/bin
HOME_FOLDER := neurogloss-home
INSTALLED := .venv/.installed

.PHONY: demo test slow lint bench clean

demo: $(INSTALLED)  ## describe units of the built-in model, then show what was found
	$(BIN)/neurogloss --home $(HOME_FOLDER) campaign run demo --yes

test: $(INSTALLED)  ## the tests, but for the slow ones
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 -q

slow: $(INSTALLED)  ## the slow tests
	$(BIN)/python -m pytest -m "slow" -q

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## the README's questions, asked of the built-in model; some minutes
	$(BIN)/python benchmarks/rule_length.py --subject pycode --corpus stdlib: --units 'mlp:1:0-99' --limit 300 --out rule-length
	$(BIN)/python benchmarks/shuffled_weights.py --sample 8 --max-tokens 300000
	$(BIN)/python benchmarks/kill.py --kills 10

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv $(HOME_FOLDER)
