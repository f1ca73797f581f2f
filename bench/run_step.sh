#!/usr/bin/env bash
# Training step, side by side: bench_step and PyTorch alternate so that a busy neighbour hits both.
#   bench/run_step.sh BUILD_DIR PYTHON [pairs] [batch] [threads]
# JSON lines on standard output; the last line is the ratio of medians and the worst pair.
set -euo pipefail
build=$1 python=$2 pairs=${3:-5} batch=${4:-256} threads=${5:-0}
here=$(dirname "$0")
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for _ in $(seq "$pairs"); do
  "$build/bench/bench_step" "$batch" 10 "$threads" | tee -a "$out"
  for layout in contiguous channels_last; do
    MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 \
      "$python" "$here/step_torch.py" "$batch" 10 "$threads" "$layout" | tee -a "$out"
  done
done
"$python" - "$out" <<'PY'
import json, statistics, sys
rows = [json.loads(l) for l in open(sys.argv[1])]
ours = [r["median_ms"] for r in rows if not r["engine"].startswith("torch")]
torch = [min(a["median_ms"], b["median_ms"]) for a, b in zip(*[iter(r for r in rows if r["engine"].startswith("torch"))] * 2)]
print(json.dumps({"pairs": len(ours), "ratio_of_medians": round(statistics.median(torch) / statistics.median(ours), 2),
                  "worst_pair": round(min(t / o for t, o in zip(torch, ours)), 2)}))
PY
