# Every command of the project. Needs Python 3.11 or newer, make and git; `make` alone lists the commands.

HOST     ?= 127.0.0.1
PORT     ?= 3000
SERVICE  ?= service.service:Attentive
DEVICE   ?= cpu# cpu or gpu: which lock file the serving environment is made from
GRACE    ?= 5# seconds a stopping server gives its last replies to reach their readers
KEEP_ALIVE ?= 75# seconds until a connection without requests is closed; more than load balancers keep theirs
DURATION ?= 60# seconds of load
USERS    ?= 8
P95      ?= 1000# milliseconds
EXAMPLES ?= 1000# generated requests for each operation
BACKEND  ?= docker# or podman, buildah, ...: what builds the container image
OUTPUT   ?= $(RUN)/package

PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV   := .venv
SERVE  := .venv-$(DEVICE)
RUN_PY := $(VENV)/bin/python

ifeq ($(DEVICE),gpu)
export ATTENTIVE_PROVIDER ?= CUDAExecutionProvider
endif
# Weights and caches on large pages, where the kernel grants them: fewer look-ups of addresses (docs/engine.md).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
export BENTOML_DO_NOT_TRACK := True
export BENTOML_HOME := $(CURDIR)/.bentoml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test contract check format data train export evaluate robustness consistency bench limit \
	arrivals soak companions operators timeline loadtest overload steady disruption \
	students students-speed docs bento image lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The server keeps its metrics under BENTOML_HOME and empties them when it starts, so each port has its own.
serve: export BENTOML_HOME := $(CURDIR)/.bentoml/$(PORT)
serve: $(SERVE)/ready  ## serve the shipped packages on HOST:PORT; DEVICE=gpu for onnxruntime-gpu
	@$(SERVE)/bin/python -m service.client.listen $(HOST) $(PORT)
	$(SERVE)/bin/bentoml serve $(SERVICE) --host $(HOST) --port $(PORT) \
		--timeout-graceful-shutdown $(GRACE) --timeout-keep-alive $(KEEP_ALIVE)

test: $(VENV)/ready  ## run all tests that need no GPU
	$(RUN_PY) -m pytest $(ARGS)

contract: $(VENV)/ready $(SERVE)/ready  ## EXAMPLES generated requests for each operation of the OpenAPI
	EXAMPLES=$(EXAMPLES) $(RUN_PY) -m pytest tests/test_served.py -k openapi $(ARGS)

check: $(VENV)/ready  ## ruff, mypy, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(RUN_PY) -m pytest -q tests/test_imports.py

format: $(VENV)/ready  ## let ruff mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

data: $(VENV)/ready  ## clean and tokenise parallel text: CONFIG=... DATA=... FILES="a.tsv.xz b.tsv.xz"
	$(call need,CONFIG DATA FILES)
	$(RUN_PY) -m models.data --config $(CONFIG) --output $(DATA) $(ARGS) $(FILES)

# Without these, glibc gives the large tensors of every step back to the system: 15 % of a CPU's time went to page faults.
train: export MALLOC_MMAP_THRESHOLD_ := 8589934592
train: export MALLOC_TRIM_THRESHOLD_ := 17179869184
train: $(VENV)/ready  ## train on all GPUs or the CPU (PROCESSES=2), or go on: CONFIG=... DATA=... RUN=... ARGS="--max-minutes 60"
	$(call need,CONFIG DATA RUN)
	$(if $(PROCESSES),$(RUN_PY) -m models.launch $(PROCESSES),$(VENV)/bin/accelerate launch -m) models.train --config $(CONFIG) --data $(DATA) --run $(RUN) $(ARGS)

export: $(VENV)/ready  ## write the model package of a trained run: RUN=... SENTENCES="dev.en-fr.tsv ..." OUTPUT=RUN/package
	$(call need,RUN SENTENCES)
	$(RUN_PY) -m export $(RUN) --output $(OUTPUT) $(addprefix --sentences ,$(SENTENCES)) $(ARGS)

evaluate: $(VENV)/ready $(if $(URL),,$(SERVE)/ready)  ## BLEU, speed and alignment of the served packages over HTTP: EVAL=directory
	$(call need,EVAL)
	$(RUN_PY) -m loadtests.evaluate $(if $(URL),--url $(URL)) $(ARGS) $(EVAL)

robustness: $(VENV)/ready $(if $(URL),,$(SERVE)/ready)  ## what the served packages make of odd input, over HTTP
	$(RUN_PY) -m loadtests.robustness $(if $(URL),--url $(URL)) $(ARGS)

consistency: $(VENV)/ready $(if $(URL),,$(SERVE)/ready)  ## is a sentence translated the same in any company: SETS="test.en-fr.tsv ..."
	$(call need,SETS)
	$(RUN_PY) -m loadtests.consistency $(if $(URL),--url $(URL)) $(ARGS) $(SETS)

bench: $(VENV)/ready  ## the engine beside CTranslate2 and PyTorch, same weights: SET=test.en-fr.tsv, RUNS="runs/a runs/b" or random ones, SHAPES="opus-mt student"
	$(call need,$(if $(SHAPES),,RUNS) SET)
	$(RUN_PY) -m loadtests.offline $(addprefix --run ,$(RUNS)) $(addprefix --shape ,$(SHAPES)) $(ARGS) $(SET)

limit: $(VENV)/ready  ## the least time that products with a model's weights take on this machine: PACKAGE=models/trained/...
	$(call need,PACKAGE)
	$(RUN_PY) -m loadtests.limit $(ARGS) $(PACKAGE)

arrivals: $(VENV)/ready  ## how long short sentences wait for long ones, beside static batches: SETS="test.en-fr.tsv ..."
	$(call need,SETS)
	$(RUN_PY) -m loadtests.arrivals $(ARGS) $(SETS)

soak: $(VENV)/ready  ## does memory grow while the engine translates 200,000 sentences
	$(RUN_PY) -m loadtests.soak $(ARGS)

companions: $(VENV)/ready  ## does the engine translate 3,000 sentences under load as alone: SETS="test.en-fr.tsv ..."
	$(call need,SETS)
	$(RUN_PY) -m loadtests.companions $(ARGS) $(SETS)

operators: $(VENV)/ready  ## where the time of the graphs goes, operator by operator: SETS="test.en-fr.tsv ..."
	$(call need,SETS)
	$(RUN_PY) -m loadtests.operators $(ARGS) $(SETS)

timeline: $(VENV)/ready  ## draw docs/engine-timeline.png, sentences joining and leaving: SETS="test.en-fr.tsv ..."
	$(call need,SETS)
	$(RUN_PY) -m loadtests.timeline --output docs/engine-timeline.png $(ARGS) $(SETS)

loadtest: $(VENV)/ready $(if $(URL),,$(SERVE)/ready)  ## Locust for DURATION seconds with USERS users, limit P95 ms; URL=... for a running server
	$(RUN_PY) -m loadtests.run --users $(USERS) --duration $(DURATION) --p95 $(P95) $(if $(URL),--url $(URL)) $(ARGS)

overload: $(VENV)/ready $(if $(URL),,$(SERVE)/ready)  ## what the server does with 1, 2, 4 and 8 times its capacity; URL=... for a running server
	$(RUN_PY) -m loadtests.overload $(if $(URL),--url $(URL)) $(ARGS)

steady: $(VENV)/ready $(SERVE)/ready  ## memory, errors and latency in half an hour at four fifths of the capacity
	$(RUN_PY) -m loadtests.steady $(ARGS)

disruption: $(VENV)/ready $(SERVE)/ready  ## what clients notice when the server is stopped, and when a worker is killed
	$(RUN_PY) -m loadtests.disruption $(ARGS)

students: $(VENV)/ready  ## two Firefox students beside the engine they were made for: SET=newstest2014.en-fr.tsv
	$(call need,SET)
	$(RUN_PY) -m loadtests.students $(ARGS) $(SET)

students-speed: $(VENV)/ready  ## their speed on one core, beside that engine: SET=newstest2014.en-fr.tsv
	$(call need,SET)
	$(RUN_PY) -m loadtests.students_speed $(ARGS) $(SET)

docs: $(VENV)/ready $(if $(URL),,$(SERVE)/ready)  ## renew what the documentation measured, from reports/ and the shipped packages
	$(RUN_PY) -m loadtests.docs $(if $(URL),--url $(URL)) $(ARGS)

bento: $(VENV)/ready  ## build the bento
	$(VENV)/bin/bentoml build

image: bento  ## build the container image with BACKEND
	$(VENV)/bin/bentoml containerize attentive:latest --backend $(BACKEND) --image-tag attentive:latest

# pip must find a CPU build of torch (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL), or CUDA's libraries end up in dev.lock.
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/pip-compile --quiet --upgrade --strip-extras --allow-unsafe \
	--no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --extra serve pyproject.toml
lock: $(VENV)/ready  ## compile the lock files anew from pyproject.toml
	$(COMPILE) --extra client --extra cpu --extra train --extra load --extra bench --extra dev --output-file requirements/dev.lock
	sed 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements/dev.lock > $(VENV)/dev.lock && mv $(VENV)/dev.lock requirements/dev.lock
	$(COMPILE) --extra cpu --constraint requirements/dev.lock --output-file requirements/cpu.lock
	$(COMPILE) --extra gpu --constraint requirements/dev.lock --output-file requirements/gpu.lock

clean:  ## remove environments, caches and built bentos; trained runs and reports stay
	rm -rf .venv .venv-cpu .venv-gpu .bentoml .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/ready: requirements/dev.lock
	$(call install)

$(SERVE)/ready: requirements/$(DEVICE).lock
	$(call install)

# $(call need,NAMES): stop with a message where a variable that the command needs is empty.
need = @$(foreach name,$(1),$(if $($(name)),:,echo "make $@ needs $(name)=..."; exit 2);)

# A fresh environment from the lock file that the target depends on; the target itself marks it as complete.
define install
@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found"; exit 2; }
@echo "Setting up $(@D) from $<, a minute or two ..."
@$(PYTHON) -m venv --clear $(@D)
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
@touch $@
endef
