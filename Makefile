# Everything a newcomer needs: `make demo` and `make test`. PIP_ARGS is passed to pip, for example
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
# In two processes, file by file, since a file's tests share what they set up (xdist's loadgroup does not group with
# pytest 9.2).
TEST := $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
DEMO := demo

.PHONY: demo test test-all fuzz lint docs install install-dev clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   install, render the demo corpus, encode it, evaluate it, and search it"
	@echo "make test   install and run the tests, but for those that take long by nature"
	@echo "make test-all  all tests: killed jobs, lost nodes, submitted jobs, trainings too"
	@echo "make fuzz   encode 2,000 damaged files of all containers and codecs at hand; the summary goes to docs/fuzz.md"
	@echo "make lint   install and run ruff, mypy and the contracts of imports"
	@echo "make docs   make docs/reference.md and the picture of the rooms from the code"

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

define install
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[$(1)]"
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install,jobs)
	touch $@

# What jobs need is among it: one run of pip, on a fresh clone too.
$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(call install,dev)
	touch $(VENV)/.installed $@

demo: install
	$(RUN) jobs/render_demo.py --output $(DEMO) --videos 40 --seed 0
	$(RUN) jobs/encode_corpus.py --videos $(DEMO)/videos --index $(DEMO)/index
	$(RUN) jobs/evaluate_retrieval.py --index $(DEMO)/index --queries $(DEMO)/queries.jsonl --output $(DEMO)/report
	@for query in "a flamingo" "a phoenix" "a dragon and a sponge"; do \
	  echo; echo "search: $$query"; \
	  $(RUN) jobs/search_corpus.py --index $(DEMO)/index --top-k 3 "$$query" || exit 1; \
	done
	@echo; echo "Now open $(DEMO)/report/index.html, or search and watch at http://127.0.0.1:8765 once this runs:"
	@echo "  $(RUN) jobs/serve_search.py --index $(DEMO)/index"

test: install-dev
	$(TEST) -m "not slow"

test-all: install-dev
	$(TEST) --durations 30

fuzz: install-dev
	$(RUN) benchmarks/fuzz.py --output docs/fuzz.md

lint: install-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy --num-workers 2
	$(VENV)/bin/lint-imports

docs: install-dev
	$(RUN) docs/make_reference.py
	$(RUN) docs/make_architecture.py

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
