# Every target works on a fresh clone: it makes its own virtual environment first.
PYTHON   ?= python3
VENV     ?= .venv
TRACKERS := .venv-trackers
MAKE_VENV = set -f; test -x "$$VENV/bin/python" || $$PYTHON -m venv "$$VENV"
PIP      := bin/pip install --quiet --disable-pip-version-check
LOGS     ?= data/worldmodel/offline
BASE     ?= origin/main
JOBS     ?=
TEXTS    := PYTHON VENV LOGS BASE JOBS SIZE S KEYS URL ENDPOINT OUT TO
export $(TEXTS)
# What a user or a branch's name puts there is text: make looks into it as little as the shell does.
$(foreach name,$(TEXTS),$(eval override $(name) := $$(value $(name))))
ifneq ($(words $(VENV))$(findstring ;,$(VENV))$(findstring :,$(VENV)),1)
$(error VENV=$(VENV): expected one path without blanks, colons and semicolons)
endif
# Named, so that make 3.81, which macOS has, looks for simple commands along this PATH as well.
SHELL := bash
export PATH := $(abspath $(VENV))/bin:$(value PATH)

.PHONY: help files repro data train export validate runs reproduce test test-fast check check-logs smoke bench bench-logs
.PHONY: bench-scale bench-serve rho-study control-study report explorer export-mlflow export-tensorboard peers sweep fresh gate
.PHONY: pr-report hooks proto pins remote merge-driver clean

help:  ## what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ { printf "%-20s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: files  ## run what changed of the pipeline, show metrics and the bundle
	dvc repro
	dvc metrics show artifacts/metrics.json
	@echo "bundle: $$(ls -d artifacts/worldmodel/*/)"

# DVC waits for ever where it comes upon a named pipe or a device.
files: $(VENV)/pipeline
	@worldmodel check-files

data: files  ## dreams, prepare, normalize
	dvc repro normalize

train: files  ## the pipeline up to the trained model
	dvc repro train

export: files  ## the pipeline up to the ONNX bundle
	dvc repro export

validate: files  ## the pipeline up to the metrics
	dvc repro validate

report: $(VENV)/pipeline  ## one HTML page about the trained model, runs/report.html (OUT=file), from what is here
	worldmodel report $${OUT:+--out "$$OUT"}

explorer: $(VENV)/pipeline  ## one HTML page that runs the model, runs/explorer.html (OUT=file): change plans, see futures
	worldmodel report --explorer $${OUT:+--out "$$OUT"}

runs: $(VENV)/pipeline  ## what ran, when, where, and how it ended
	worldmodel runs

reproduce: $(VENV)/pipeline  ## clone HEAD, run its pipeline from nothing, compare all md5 with the committed ones
	worldmodel reproduce

test: $(VENV)/dev  ## the whole test suite
	pytest -n auto --dist worksteal

test-fast: $(VENV)/dev  ## what takes no pipeline and no minute
	pytest -n auto --dist worksteal -m "not dvc and not slow"

check: $(VENV)/dev  ## lint, format, types, generated code
	ruff check .
	ruff format --check .
	mypy
	scripts/generate_proto.sh --check

check-logs: $(VENV)/pipeline  ## what logs hold, or which rows are wrong: make check-logs LOGS=path
	@worldmodel check-logs -- "$$LOGS"

smoke: $(VENV)/pipeline  ## all six stages with ten training steps, in a temporary copy
	scripts/smoke.sh

fresh: $(VENV)/pipeline  ## fails where dvc.lock does not belong to the files here; needs no data
	worldmodel fresh

gate: $(VENV)/pipeline  ## fails where a metric breaks gates.yaml, against the merge base with BASE=origin/main
	worldmodel gate --base "$$BASE"

pr-report: $(VENV)/pipeline  ## what changes against the merge base with BASE=origin/main, as Markdown (OUT=file)
	@worldmodel pr-report --base "$$BASE" $${OUT:+--out "$$OUT"}

sweep: $(VENV)/pipeline  ## every combination of S="train.rho=0,0.3 train.seed=0,1,2", or a search in S="train.rho=0..1", JOBS=2 at once
	set -f; worldmodel sweep $$S $${JOBS:+--jobs "$$JOBS"}

export-mlflow: $(TRACKERS)/ready  ## runs and results into runs/mlflow.db, or TO=an address of MLflow
	$(TRACKERS)/bin/worldmodel track mlflow $${TO:+--to "$$TO"}

export-tensorboard: $(TRACKERS)/ready  ## runs and results into runs/tensorboard, or TO=another folder
	$(TRACKERS)/bin/worldmodel track tensorboard $${TO:+--to "$$TO"}

bench: files $(VENV)/dev  ## how fast training and planning are, beside a bare loop, a plain network and matrix products
	dvc repro normalize
	python -m research.bench

bench-logs: $(VENV)/dev  ## how fast logs are read, beside json.loads and bare parsers on the same lines
	python -m research.bench_logs

bench-scale: $(VENV)/pipeline  ## time and peak memory of each stage for SIZE=50 megabytes of logs, 3 and 10 times as many
	python -m research.bench_scale --megabytes "$${SIZE:-50}"

bench-serve: $(VENV)/dev  ## how fast `worldmodel serve` answers, beside one's own process and a bare FastAPI handler
	python -m research.bench_serve

rho-study: $(VENV)/pipeline  ## every rho at several sizes of the log with several seeds (hours; call it again to go on)
	python -m research.rho

peers: $(VENV)/pipeline  ## ours beside five published models on each log file of LOGS=folder (hours; call it again to go on)
	TQDM_DISABLE=1 python -m research.peers.table --logs "$$LOGS"

control-study: $(VENV)/dev  ## the planner in simulators, beside whatever else could drive (days; call it again to go on)
	"$$VENV"/$(PIP) --editable '.[research]' -c constraints.txt
	"$$VENV"/$(PIP) --no-deps 'd3rlpy>=2.8,<3'
	python -m research.control --jobs "$${JOBS:-1}"

hooks: $(VENV)/dev  ## let git call `make check` before each commit
	pre-commit install

proto: $(VENV)/dev  ## make the Python code of proto/*.proto anew
	scripts/generate_proto.sh

pins:  ## after requirements*.txt were changed: install them, write constraints.txt and versions.yaml anew
	$(MAKE_VENV)
	"$$VENV"/$(PIP) -r requirements-dev.txt
	scripts/pins.sh
	touch "$$VENV/pipeline" "$$VENV/dev"

remote: $(VENV)/pipeline  ## URL=s3://bucket/path [ENDPOINT=http://host:port] [KEYS=keep]: the DVC remote, tried out first
	[ "$$KEYS" != keep ] || set -- --keep-keys; worldmodel remote $${ENDPOINT:+--endpoint "$$ENDPOINT"} "$$@" -- "$$URL"

merge-driver: $(VENV)/pipeline  ## let git merge dvc.lock stage by stage in this clone
	worldmodel merge-driver --install

clean:  ## remove the virtual environments and tool caches, keep data and artifacts
	rm -rf -- "$$VENV" $(TRACKERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/pipeline: requirements.txt constraints.txt pyproject.toml
	$(MAKE_VENV)
	"$$VENV"/$(PIP) -r requirements.txt -c constraints.txt
	"$$VENV"/$(PIP) --no-deps --editable .
	touch "$$VENV/pipeline"

$(VENV)/dev: requirements-dev.txt $(VENV)/pipeline
	"$$VENV"/$(PIP) -r requirements-dev.txt -c constraints.txt
	touch "$$VENV/dev"

# Apart: what trackers need never decides what stages run with.
$(TRACKERS)/ready: requirements-trackers.txt pyproject.toml
	set -f; test -x $(TRACKERS)/bin/python || $$PYTHON -m venv $(TRACKERS)
	$(TRACKERS)/$(PIP) -r requirements-trackers.txt
	$(TRACKERS)/$(PIP) --no-deps --editable .
	touch $@
