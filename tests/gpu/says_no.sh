#!/usr/bin/env bash
# says_no.sh SOURCE BUILD: without a device, check.sh and run_gpu.sh each print one line, "no CUDA device: not measured ...", and exit 77.
set -u
source=$1 build=$2
[ -n "$(find "$build" -name bench_gpu -type f -perm -u+x | head -1)" ] || { echo "bench_gpu is not built: not measured"; exit 77; }
export CUDA_VISIBLE_DEVICES=-1
for script in tests/gpu/check.sh bench/run_gpu.sh; do
    said=$("$source/$script" "$build" 2>&1)
    rc=$?
    [ "$rc" = 77 ] || { echo "$script: exit $rc, not 77: $said"; exit 1; }
    [ "$(wc -l <<<"$said")" = 1 ] && [[ "$said" == "no CUDA device: not measured"* ]] || { echo "$script said: $said"; exit 1; }
done
