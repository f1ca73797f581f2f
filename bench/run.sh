#!/usr/bin/env bash
# Every benchmark whose comparator is at hand: bench/run.sh BUILD_DIR
#   PYTHON  an interpreter with torch, numpy, Pillow (default .venv/bin/python); without it only our side runs
#   SHARD   a WebDataset shard of JPEGs for the loader (default ../shared/data/imagenet1k-sample-000000.tar)
# JSON lines on standard output. Numbers to keep go to bench/results/ with the command and the device.
set -euo pipefail
build=$1 here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-.venv/bin/python} shard=${SHARD:-$here/../../shared/data/imagenet1k-sample-000000.tar}
if "$python" -c 'import torch' 2> /dev/null; then
    "$here/run_step.sh" "$build" "$python" 5 256 2
    "$here/run_step.sh" "$build" "$python" 5 10 2
    "$here/run_coreset.sh" "$build" "$python" 2
else
    echo "no PyTorch in $python: only our side of the training step and the selectors" >&2
    "$build/bench/bench_step" 256 10 2
    "$build/bench/bench_step" 10 10 2
    "$build/bench/bench_coreset" 1300 512 130 21 2
fi
if [ ! -e "$shard" ]; then
    echo "no shard at $shard: the loader is not measured" >&2
elif "$python" -c 'import PIL' 2> /dev/null; then
    "$here/run_loader.sh" "$build" "$shard" "$python" 2
else
    "$build/bench/bench_loader" "$shard" 2 5
fi
