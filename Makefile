# The front door. Everything real is in CMakeLists.txt.
#
#   make demo    set up, build, then construct, evaluate, measure and report sets of a generated data set
#   make check   set up, build, then run every test
#
#   make check-gpu  run what only a GPU can show (tests/gpu/check.sh)
#   make bench-gpu  the GPU workloads beside PyTorch (bench/run_gpu.sh; PYTHON names an interpreter with torch)
#   make bundle     dist/retort-gpu: a folder with all of that for another machine (./run check, ./run bench)
#
# All install missing Debian packages first (as root, or through sudo). SETUP=no skips that.

BUILD  ?= build
RUNS   ?= runs
JOBS   ?= $(shell nproc)
SETUP  ?= yes

PACKAGES = build-essential cmake ninja-build pkg-config libdnnl-dev liblapacke-dev libopenblas-dev libjpeg62-turbo-dev \
           libspng-dev libarchive-dev libyaml-dev libjansson-dev libsqlite3-dev liblzma-dev libxxhash-dev libssl-dev \
           zlib1g-dev gnuplot-nox check git

PYTHON ?= .venv/bin/python

.PHONY: all build setup demo check check-asan bench check-gpu bench-gpu bundle clean help

all: build

help:
	@sed -n 's/^#   //p' Makefile

setup:
ifeq ($(SETUP),yes)
	@missing=$$(dpkg-query -W -f '$${Package} $${Status}\n' $(PACKAGES) 2>/dev/null | awk '$$4 == "installed" {print $$1}' | \
	    sort -u > .packages.have; printf '%s\n' $(PACKAGES) | sort -u | comm -23 - .packages.have; rm -f .packages.have); \
	if [ -n "$$missing" ]; then \
	    echo "installing:" $$missing; \
	    run=; [ "$$(id -u)" = 0 ] || run=sudo; \
	    $$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -qq --no-install-recommends $$missing; \
	fi
endif

build: setup
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release > $(BUILD).log 2>&1 || (cat $(BUILD).log; exit 1); \
	grep -E '^-- retort' $(BUILD).log; rm -f $(BUILD).log
	@cmake --build $(BUILD) -j $(JOBS)

demo: build
	@$(BUILD)/src/cli/retort demo --set run.dir=$(abspath $(RUNS))/demo

check: build
	@ctest --test-dir $(BUILD) --output-on-failure -LE slow

check-asan: setup
	@cmake --preset asan > /dev/null && cmake --build --preset asan -j $(JOBS) && ctest --preset asan

bench: build
	@bench/run.sh $(BUILD)

# Exit 77 is "no CUDA device: not measured": said, and no failure of make.
check-gpu: build
	@tests/gpu/check.sh $(BUILD) || [ $$? = 77 ]

bench-gpu: build
	@bench/run_gpu.sh $(BUILD) $(PYTHON) || [ $$? = 77 ]

bundle: setup
	@cmake -S . -B $(BUILD)-bundle -G Ninja -DCMAKE_BUILD_TYPE=Release -DRT_BUNDLE=ON > /dev/null
	@cmake --build $(BUILD)-bundle -j $(JOBS)
	@tests/gpu/bundle.sh $(BUILD)-bundle dist/retort-gpu

clean:
	rm -rf $(BUILD) build-*
