#!/bin/sh
# Ours and NumPy / PyTorch by turns, so that both meet the same machine: run_coreset.sh BUILD PYTHON [threads]
set -eu
build=$1 python=$2 threads=${3:-2}
here=$(dirname "$0")
for turn in 1 2 3; do
    "$build/bench/bench_coreset" 1300 512 130 21 "$threads"
    OPENBLAS_NUM_THREADS=$threads "$python" "$here/coreset_torch.py" 1300 512 130 11 "$threads"
done
