# `make` alone lists the targets. Everything runs in .venv, which is made by the first that needs it.
PROFILE = quick
DATA_ROOT = data
SEEDS =
DEVICE = auto
WORKERS =
MODE =
ALL =
FRESH =
DATASET = camvid
RECIPE = PI + HO + CW_f
NETWORK =
SEED = 0
SPLIT = test
LOG =
ADDRESS =
LAB =
OFFLINE =
PYTHON = $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && \
	echo $$p && break; done)

RUN = .venv/bin/python
PIP = $(RUN) -m pip --disable-pip-version-check -qq
REPRODUCE = $(RUN) -m cwd reproduce --data-root "$(DATA_ROOT)" --device "$(DEVICE)" --seeds "$(SEEDS)"
# ALL=1 and FRESH=1 are short for MODE=all and MODE=fresh; two of them, or ALL=maybe, are no mode
mode = $(if $(filter 1 yes true on,$($(1))),$(2),$(filter-out 0 no false off,$($(1))))
MODES = --mode "$(sort $(MODE) $(call mode,ALL,all) $(call mode,FRESH,fresh))"
# an option for a variable that was given: those that have a default, too
given = $(if $(filter command,$(origin $(1))),--$(2) "$($(1))")
# the kernel named python3 is .venv's, whatever kernels the user has elsewhere
export JUPYTER_PREFER_ENV_PATH = 1

.PHONY: help first plan reproduce train report readme smoke test lint lab data rehearse submission bench publish slides badges lock clean distclean

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables: PROFILE=$(PROFILE) DATA_ROOT=$(DATA_ROOT) SEEDS=0,1,2 DEVICE=$(DEVICE)" \
		"WORKERS=$(WORKERS) MODE=core|all|fresh DATASET=$(DATASET) PYTHON=$(PYTHON)"

first: .venv/.installed ## a first table beside the paper's, trained in minutes
	@$(RUN) -m cwd first --profile "$(PROFILE)" $(if $(WORKERS),--workers "$(WORKERS)") \
		--data-root "$(DATA_ROOT)" --device "$(DEVICE)" --seeds "$(SEEDS)" $(MODES)

reproduce: .venv/.installed ## all notebooks under PROFILE; ALL=1 trains all, FRESH=1 without the record
	@$(REPRODUCE) --profile "$(PROFILE)" $(if $(WORKERS),--workers "$(WORKERS)") $(MODES)

# RECIPE has a default for `submission`; given here, it means one run
ONE = $(or $(call given,RECIPE,recipe),--study all) $(call given,NETWORK,network) $(call given,SEED,seed)

train: .venv/.installed ## all runs of PROFILE, WORKERS at once; with RECIPE, NETWORK, SEED one; LOG=tensorboard
	@$(RUN) -m cwd train $(ONE) --profile "$(PROFILE)" $(if $(WORKERS),--workers "$(WORKERS)") \
		--data-root "$(DATA_ROOT)" --device "$(DEVICE)" --seeds "$(SEEDS)" --log "$(LOG)"

plan: .venv/.installed ## what PROFILE would train: runs, hours, disk, downloads
	@$(RUN) -m cwd plan --profile "$(PROFILE)" --data-root "$(DATA_ROOT)" --seeds "$(SEEDS)" \
		--device "$(DEVICE)"

report: .venv/.installed ## tables, figures and verdicts of all recorded results, without training
	@$(RUN) -m cwd report

readme: .venv/.installed ## README's tables, from data/results
	@$(RUN) -m cwd readme

smoke: .venv/.installed ## all notebooks in minutes, with numbers that mean nothing
	@$(REPRODUCE) --profile smoke

PARALLEL = --numprocesses auto --maxprocesses 4
# starts two processes, once for all its tests
SEVERAL = tests/training/test_distributed.py
# Unit tests in processes of one thread, with the datasets of DATA_ROOT; then the notebooks, whose
# small scenes are drawn into data/ because DATA_ROOT may be read-only.
test: lint ## lint, unit tests, and what the notebooks print
	CWD_DATA_ROOT="$(DATA_ROOT)" OMP_NUM_THREADS=1 $(RUN) -m pytest $(PARALLEL) --ignore $(SEVERAL)
	CWD_DATA_ROOT="$(DATA_ROOT)" OMP_NUM_THREADS=1 $(RUN) -m pytest $(SEVERAL)
	CWD_PROFILE=smoke OMP_NUM_THREADS=1 $(RUN) -m pytest $(PARALLEL) --dist loadscope \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=600 notebooks

lint: .venv/.installed ## ruff (rules and format, notebooks too), and which room imports which
	$(RUN) -m ruff check --quiet .
	$(RUN) -m ruff format --quiet --check .
	@said=$$(.venv/bin/lint-imports --no-cache --no-logo 2>&1) || { echo "$$said"; exit 1; }

# Copies, so that a checkout stays clean; those that are there already are the reader's own work.
lab: .venv/.installed ## JupyterLab on working copies of the notebooks, in build/lab/
	@mkdir -p build/lab && for book in notebooks/*.ipynb; do \
		test -e "build/lab/$${book##*/}" || cp "$$book" build/lab/; done
	@cd build/lab && ../../$(RUN) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

data: .venv/.installed ## get DATASET into DATA_ROOT, or check the one that is there
	@$(RUN) -m cwd data "$(DATASET)" --data-root "$(DATA_ROOT)"

rehearse: .venv/.installed ## PROFILE's networks for two steps on generated full-size images
	@$(RUN) -m cwd rehearse --profile "$(PROFILE)" --device "$(DEVICE)"

submission: .venv/.installed ## the zip for Cityscapes' server, of PROFILE's student with RECIPE
	@$(RUN) -m cwd submission --profile "$(PROFILE)" --recipe "$(RECIPE)" --seed "$(SEED)" \
		--network "$(NETWORK)" --split "$(SPLIT)" --data-root "$(DATA_ROOT)" --device "$(DEVICE)"

bench: .venv/.installed ## speed of loss, training step and loader, as ratios
	@$(RUN) -m cwd bench

publish: .venv/.installed ## put the outputs of build/PROFILE into the committed notebooks
	@$(RUN) -m cwd publish --profile "$(PROFILE)"

# What turns slides and draws equations comes from the network when the page is opened; with OFFLINE=1
# it is fetched now, which needs npm, and the folder build/slides is all that a talk needs.
MODULES = reveal.js@4.0.2 requirejs@2.3.7 mathjax@2.7.9
slides: .venv/.installed ## a talk from the notebooks' tagged cells; OFFLINE=1 for a room without network
	@$(if $(OFFLINE),npm install --silent --no-save --prefix build/slides $(MODULES))
	@$(RUN) -m cwd slides $(if $(OFFLINE),--modules node_modules)

# The links that open the first notebook in a browser need the address of a public repository, and so
# does that notebook where it is a single file.
badges: ## links of Colab, Kaggle and Binder in README, for ADDRESS=https://github.com/OWNER/NAME
	@echo "$(ADDRESS)" | grep -Eq '^https://github\.com/[^/]+/[^/]+$$' || { \
		echo "error: ADDRESS is https://github.com/OWNER/NAME, the public repository" >&2; exit 1; }
	@sed -i 's|ADDRESS = \\"[^"]*\\"|ADDRESS = \\"$(ADDRESS)\\"|' notebooks/start.ipynb
	@mkdir -p build && place="$(ADDRESS:https://github.com/%=%)" && book=blob/main/notebooks/start.ipynb && \
	badge() { echo "[![$$1](https://img.shields.io/badge/open%20in-$$1-blue)]($$2)"; } && { \
		badge Colab "https://colab.research.google.com/github/$$place/$$book"; \
		badge Kaggle "https://kaggle.com/kernels/welcome?src=$(ADDRESS)/$$book"; \
		badge Binder "https://mybinder.org/v2/gh/$$place/main?labpath=notebooks/start.ipynb"; \
	} > build/badges.md && sed -i -e '/^<!-- badges -->$$/r build/badges.md' \
		-e '/^\[!\[\(Colab\|Kaggle\|Binder\)\]/d' README.md

lock: ## renew requirements.lock from pyproject.toml (LOCK_WITH="torch==...")
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip -qq install -e '.[detection,export,log,notebooks,slurm,test,weights]' setuptools $(LOCK_WITH)
	grep '^#' requirements.lock > build/lock/new
	build/lock/bin/python -m pip freeze --all --exclude-editable \
		| grep -viE '^(nvidia-|cuda-|triton|pip=)' | sed 's/+.*//' >> build/lock/new
	! grep -n '@' build/lock/new
	mv build/lock/new requirements.lock && rm -rf build/lock

clean: ## remove results, keep trained runs, decoded datasets and build/lab
	@for folder in build/*; do case "$$folder" in build/runs|build/cache|build/lab) ;; *) rm -rf "$$folder";; esac; done

distclean: ## remove results, trained runs, decoded datasets and .venv
	rm -rf .venv build *.egg-info

# The stamp is written last and holds the checkout's place. A .venv without it was interrupted, and
# one with another place was copied: both are made anew.
ifndef INSTALLING
# two that begin at once install one after the other: the second finds all there
.venv/.installed: requirements.lock pyproject.toml
	@mkdir -p build && INSTALLING=1 $(if $(shell command -v flock),flock build/.installing) \
		$(MAKE) --silent .venv/.installed
else
.venv/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { \
		echo "error: no Python 3.11 to 3.13 found: install one, or name it: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "error: $(PYTHON) isn't Python 3.11 to 3.13: name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) has no venv module: install it (Debian: python3.11-venv)" >&2; exit 1; }
	@echo "installing into .venv, once (several minutes when PyTorch has to be downloaded)"
	@test "$$(cat .venv/.installed 2>/dev/null)" = "$(CURDIR)" || $(PYTHON) -m venv --clear .venv
	@rm -f .venv/.installed
	@$(PIP) install -r requirements.lock && \
		$(PIP) install --no-deps --no-build-isolation -e . || { \
		echo "error: pip failed, see above; the same command tries again" >&2; exit 1; }
	@echo "$(CURDIR)" > .venv/.installed
endif

ifneq ($(shell test -x $(RUN) && cat .venv/.installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/.installed
endif
