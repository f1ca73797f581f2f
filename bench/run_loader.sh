#!/bin/sh
# Ours and Pillow by turns on the same shard, so that both meet the same machine: run_loader.sh BUILD SHARD PYTHON [threads]
set -eu
build=$1 shard=$2 python=$3 threads=${4:-2}
here=$(dirname "$0")
for turn in 1 2 3; do
    "$build/bench/bench_loader" "$shard" "$threads" 5
    "$python" "$here/loader_pil.py" "$shard" "$threads" 3
done
