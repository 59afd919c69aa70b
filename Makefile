# make demo | make test | make lint | make gate | make clean
#
# PYTHON=python3.12   another interpreter (3.11 or newer)
# TORCH_INDEX=URL     an extra package index to take PyTorch's CPU wheels from; without it the default index decides, which may mean CUDA

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test lint gate clean

demo: $(READY)
	$(VENV)/bin/optimize demo --out demo

test: $(READY)
	$(VENV)/bin/python -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The project's own gate: a network against itself, and against a slower one.
gate: $(READY)
	$(VENV)/bin/python -m benchmarks.gate_check

clean:
	rm -rf $(VENV) build demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: name a newer one, such as: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install python3-venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[openvino,onnxruntime,report,demo,dev]'
	@touch $@
