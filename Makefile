# make demo: install and answer two questions. make test: install and run what CI runs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test lint slow soak hostile offline gpu gpu-bench bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

install: $(STAMP)

# Two questions of sample_docs/: one answered with its page and quote, one that is not found.
demo: $(STAMP)
	$(BIN)/docqa ask "Which torque do the casing cover bolts of the TWX 40 need?" sample_docs --library .demo
	@echo
	$(BIN)/docqa ask "Who designed the control room chairs?" sample_docs --library .demo; test $$? -eq 5

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)
	$(BIN)/python -m pytest -m 'not slow and not gpu'

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Hours: every step of every operation broken, 1,000 kills, ten minutes of everything at once, and two
# hours of adds, questions and removals in one process.
soak: $(STAMP)
	$(BIN)/python -m pytest -m slow tests/docqa/durability
	$(BIN)/python -m docqa.bench.soak --minutes $(or $(MINUTES),120)

# An hour: every bomb, lines of a gigabyte, 5,000 mutated PDFs and 5,000 mutated GGUF headers.
hostile: $(STAMP)
	$(BIN)/python -m pytest -m slow tests/hostile

# The whole suite and the demo where there is no network interface (Linux), then a trace of the
# commands, which shows that none of them tries.
offline: $(STAMP)
	unshare -rn $(MAKE) test demo
	$(BIN)/docqa doctor --offline-proof

gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

# All figures of the engine, on a GPU; `make gpu-bench BENCH=--dry` tries it on a CPU.
gpu-bench: $(STAMP)
	$(BIN)/python -m docqa.bench.engine --all $(BENCH)

clean:
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache
