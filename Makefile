# `make demo` runs the whole loop; every target first sets up .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed

.PHONY: demo test test-slow torture test-any-processor check check-native fuzz docs format setup clean

demo: setup
	$(BIN)/qrft run recipes/tiny.yaml

# A worker for each core, with one thread each: models this small are slower with more. A file stays with one worker,
# which shares what its tests share.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST)

test-slow: setup
	$(PYTEST) -m "not torture"

# The campaigns of docs/reliability.md with all their trials, half an hour on two cores; the last lines are its table.
torture: setup
	$(PYTEST) -m torture tests/torture

# The numerical tests with torch, MKL and oneDNN held back to what any x86-64 processor has: other kernels add up in
# another order, and a tolerance that fits one machine alone shows.
test-any-processor: setup
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST) \
	  tests/training/test_packing.py tests/commands/test_loss.py tests/sampling/test_picking.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files 'csrc/*.c' 'csrc/*.h')

# The C core and its tests alone, under the address and undefined-behaviour sanitizers. Needs no Python.
check-native:
	cmake -S . -B build/native -DQRFT_SANITIZE=ON -DQRFT_WERROR=ON
	cmake --build build/native
	ctest --test-dir build/native --output-on-failure

# libFuzzer on each property, FUZZ_SECONDS each; needs Clang. What it finds stops it and lies in build/fuzz.
FUZZ_SECONDS ?= 600
fuzz:
	cmake -S . -B build/fuzz -DQRFT_FUZZ=ON -DQRFT_SANITIZE=ON -DQRFT_WERROR=ON -DCMAKE_C_COMPILER=clang
	cmake --build build/fuzz
	set -e; cd build/fuzz; for name in fuzz_grade fuzz_equation fuzz_pick fuzz_select; do \
	  mkdir -p corpus/$$name; \
	  ./$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=4096 corpus/$$name; \
	done

# The pages as a site in build/site, every link checked.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.c' 'csrc/*.h')

setup: $(SETUP)

# llama.cpp's kernels for Intel's AMX crash as GCC 12 builds them, and run as Clang does: where there are both, Clang builds
# it, and keeps its wheel apart from that of other compilers. The sampler tries the kernels before it uses them.
HAS_AMX_AND_CLANG := $(shell grep -qw amx_int8 /proc/cpuinfo 2>/dev/null && command -v clang++ >/dev/null && echo yes)
AMX_FLAGS := -DCMAKE_C_FLAGS=-D__AMX_INT8__=1 -DCMAKE_CXX_FLAGS=-D__AMX_INT8__=1
BY_CLANG := $(if $(HAS_AMX_AND_CLANG),CC=clang CXX=clang++ CMAKE_ARGS="$(AMX_FLAGS)")
OWN_WHEEL := $(if $(HAS_AMX_AND_CLANG),--cache-dir $(HOME)/.cache/qrft/pip-clang --no-binary llama-cpp-python)
INSTALL := $(BIN)/pip install -c constraints.txt

# Without build isolation, so that an editable install can rebuild the C core with the same tools when it is imported.
# llama.cpp comes first and not quietly: minutes of silence look like a fault.
$(SETUP): pyproject.toml constraints.txt CMakeLists.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV). First llama.cpp, which is compiled once: about four minutes on two cores."
	$(BY_CLANG) $(INSTALL) $(OWN_WHEEL) llama-cpp-python
	@echo "Now torch, transformers and the rest, and the C core."
	$(INSTALL) --quiet scikit-build-core cffi ninja
	$(INSTALL) --quiet --no-build-isolation -e '.[dev,latex]'
	touch $@

clean:
	rm -rf build $(VENV)
