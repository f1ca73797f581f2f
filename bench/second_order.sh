#!/usr/bin/env bash
# Second-order steps, side by side: bench_second_order and PyTorch's double backward alternate so that a busy neighbour hits
# both. One inner step of trajectory matching (mtt) and one matching step (dsa), batches of 10, 100 and 256.
#   bench/second_order.sh BUILD_DIR PYTHON [pairs] [threads] [batches] [steps]
# JSON lines on standard output; one summary line per workload and batch: ratio of medians, worst pair, ratio of processor
# time. PyTorch runs with glibc told to keep its pages.
set -euo pipefail
build=$1 python=$2 pairs=${3:-3} threads=${4:-0} batches=${5:-10 100 256} steps=${6:-3}
here=$(dirname "$0")
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for work in mtt dsa; do
  for batch in $batches; do
    : > "$out"
    runs=$((batch > 50 ? 5 : 15))
    for _ in $(seq "$pairs"); do
      "$build/bench/bench_second_order" "$work" "$batch" "$runs" "$threads" "$steps" | tee -a "$out"
      MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 \
        "$python" "$here/second_order_torch.py" "$work" "$batch" "$runs" "$threads" "$steps" | tee -a "$out"
    done
    "$python" - "$out" <<'PY'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
torch, ours = ([r for r in rows if r["engine"].startswith("torch") == t] for t in (True, False))
ratio = [t["median_ms"] / o["median_ms"] for t, o in zip(torch, ours)]
med = lambda side, key: statistics.median(r[key] for r in side)
print(json.dumps({"workload": rows[0]["workload"], "batch": rows[0]["batch"], "pairs": len(ratio),
                  "ratio_of_medians": round(med(torch, "median_ms") / med(ours, "median_ms"), 2),
                  "worst_pair": round(min(ratio), 2), "ratio_of_cpu": round(med(torch, "cpu_ms") / med(ours, "cpu_ms"), 2)}))
PY
  done
done
