# make app   opens the dashboard on the bundled model
# make test  installs what the tests need and runs them all
# make bench times the tool side by side with what it is measured against: make bench BENCH=--quick for a look
PYTHON ?= python3
BIN := .venv/bin

.PHONY: app test bench

app: .venv/.app
	$(BIN)/streamlit run app.py

test: .venv/.tests
	@sh .ci/chromium
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadscope --no-loadscope-reorder

bench: .venv/.tests
	@sh .ci/chromium
	$(BIN)/python -m benchmarks --json build/benchmarks.json $(BENCH)

.venv/.app: requirements.txt pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps -e .
	@echo "Fitting the bundled model once, so that the dashboard opens with it."
	$(BIN)/python -m ui.session.kept_study
	@touch $@

.venv/.tests: requirements-dev.txt .venv/.app
	$(BIN)/pip install --quiet -r requirements-dev.txt
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "DeTox Explorer needs Python 3.11 or newer; name one with: make app PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "No virtual environment could be made; on Debian install python3-venv."; exit 1; }
