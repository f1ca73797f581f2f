#!/usr/bin/env bash
# MTT against TESLA at equal cost: accuracy of both, and what a step of each costs.
#   bench/mtt_tesla.sh BUILD_DIR [iterations of MTT] [more flags for retort]
# TESLA gets as many more iterations as its steps are cheaper by the op rows. Experts are trained once and serve both.
set -euo pipefail
build=$1 iterations=${2:-400}
shift; shift || true
here=$(dirname "$0")
gflop() { "$build/bench/bench_second_order" "$1" 10 3 0 20 | tee /dev/stderr | sed -E 's/.*"gflop":([0-9.]+).*/\1/'; }
mtt=$(gflop mtt) tesla=$(gflop tesla)
more=$(awk -v n="$iterations" -v a="$mtt" -v b="$tesla" 'BEGIN { printf "%d", n * a / b + 0.5 }')
echo "a step costs $mtt GFLOP exactly, $tesla without the Hessian: $iterations iterations against $more"
"$build/src/cli/retort" bench "$here/mtt_tesla.yaml" --set mtt.iterations="$iterations" --set tesla.iterations="$more" "$@"
