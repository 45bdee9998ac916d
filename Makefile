# Every target works on a fresh clone: it makes its own virtual environment first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOGS   := data/worldmodel/offline
TRACKERS := $(VENV)/trackers
RUN    := PATH="$(CURDIR)/$(BIN):$$PATH"
BASE   ?= origin/main
JOBS   ?= 1

.PHONY: help repro data train export validate runs reproduce test check check-logs smoke bench bench-logs bench-memory
.PHONY: rho-study report export-mlflow export-tensorboard peers sweep fresh gate pr-report hooks proto pins remote
.PHONY: merge-driver clean

help:  ## what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

repro: $(VENV)/runtime  ## run what changed of the pipeline, show metrics and the bundle
	$(RUN) dvc repro
	$(RUN) dvc metrics show artifacts/metrics.json
	@echo "bundle: $$(ls -d artifacts/worldmodel/*/)"

data: $(VENV)/runtime  ## dreams, prepare, normalize
	$(RUN) dvc repro normalize

train: $(VENV)/runtime  ## the pipeline up to the trained model
	$(RUN) dvc repro train

export: $(VENV)/runtime  ## the pipeline up to the ONNX bundle
	$(RUN) dvc repro export

validate: $(VENV)/runtime  ## the pipeline up to the metrics
	$(RUN) dvc repro validate

report: $(VENV)/runtime  ## one HTML page about the trained model, runs/report.html (OUT=file), from what is here
	$(RUN) python model_report/build.py $(if $(OUT),--out "$(OUT)")

runs: $(VENV)/runtime  ## what ran, when, where, and how it ended
	$(RUN) python scripts/list_runs.py

reproduce: $(VENV)/runtime  ## clone HEAD, run its pipeline from nothing, compare all md5 with the committed ones
	$(RUN) python scripts/reproduce.py

test: $(VENV)/dev  ## the whole test suite
	$(RUN) pytest

check: $(VENV)/dev  ## lint, format, types, generated code
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) scripts/generate_proto.sh --check

check-logs: $(VENV)/runtime  ## what logs hold, or which rows are wrong: make check-logs LOGS=path
	@$(RUN) python scripts/check_logs.py "$(LOGS)"

smoke: $(VENV)/runtime  ## all six stages with ten training steps, in a temporary copy
	$(RUN) scripts/smoke.sh

fresh: $(VENV)/runtime  ## fails where dvc.lock does not belong to the files here; needs no data
	$(RUN) python review/fresh.py

gate: $(VENV)/runtime  ## fails where a metric breaks gates.yaml, against the merge base with BASE=origin/main
	$(RUN) python review/gate.py --base "$(BASE)"

pr-report: $(VENV)/runtime  ## what changes against the merge base with BASE=origin/main, as Markdown (OUT=file)
	@$(RUN) python review/pr_report.py --base "$(BASE)" $(if $(OUT),--out "$(OUT)")

sweep: $(VENV)/dev  ## every combination of S="train.rho=0,0.3 train.seed=0,1,2", JOBS=2 at once (call it again to go on)
	$(RUN) python studies/sweep.py $(S) --jobs $(JOBS)

export-mlflow: $(TRACKERS)/ready  ## runs and results into runs/mlflow.db, or TO=an address of MLflow
	$(TRACKERS)/bin/python scripts/export_runs.py mlflow $(if $(TO),--to "$(TO)")

export-tensorboard: $(TRACKERS)/ready  ## runs and results into runs/tensorboard, or TO=another folder
	$(TRACKERS)/bin/python scripts/export_runs.py tensorboard $(if $(TO),--to "$(TO)")

bench: $(VENV)/runtime  ## how fast training is, beside a bare loop, a plain network and a matrix product
	$(RUN) dvc repro normalize
	$(RUN) python studies/bench.py

bench-logs: $(VENV)/runtime  ## how fast logs are read, beside json.loads and bare parsers on the same lines
	$(RUN) python studies/bench_logs.py

bench-memory: $(VENV)/runtime  ## peak memory and time of each stage for SIZE=50 megabytes of logs, and for 10 times as many
	$(RUN) python studies/bench_memory.py --megabytes $(or $(SIZE),50)

rho-study: $(VENV)/dev  ## every rho at several sizes of the log with several seeds (hours; call it again to go on)
	$(RUN) python studies/rho.py

peers: $(VENV)/runtime  ## ours beside five published models on each log file of LOGS=folder (hours; call it again to go on)
	TQDM_DISABLE=1 $(RUN) python studies/peers/table.py --logs $(LOGS)

hooks: $(VENV)/dev  ## let git call `make check` before each commit
	$(RUN) pre-commit install

proto: $(VENV)/dev  ## make the Python code of proto/worldmodel.proto anew
	$(RUN) scripts/generate_proto.sh

pins:  ## after requirements*.txt were changed: install them, write constraints.txt and versions.yaml anew
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(RUN) python scripts/pins.py
	touch $(VENV)/runtime $(VENV)/dev

remote: $(VENV)/runtime  ## URL=s3://bucket/path [ENDPOINT=http://host:port] [KEYS=keep]: the DVC remote, tried out first
	$(RUN) python scripts/remote.py "$(URL)" --endpoint "$(ENDPOINT)" $(if $(filter keep,$(KEYS)),--keep-keys)

merge-driver: $(VENV)/runtime  ## let git merge dvc.lock stage by stage in this clone
	$(RUN) python scripts/merge_lock.py --install

clean:  ## remove the virtual environment and tool caches, keep data and artifacts
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/runtime: requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/dev: requirements-dev.txt constraints.txt $(VENV)/runtime
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	touch $@

# Apart: what trackers need never decides what stages run with.
$(TRACKERS)/ready: requirements-trackers.txt
	test -x $(TRACKERS)/bin/python || $(PYTHON) -m venv $(TRACKERS)
	$(TRACKERS)/bin/pip install --quiet --disable-pip-version-check -r requirements-trackers.txt
	touch $@
