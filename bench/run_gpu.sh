#!/usr/bin/env bash
# The GPU workloads, ours and PyTorch by turns on one device: bench/run_gpu.sh PROGRAMS [PYTHON] [OUT]
#   PROGRAMS  folder that holds bench_gpu, bench_coreset, bench_loader (a build folder or a bundle's bin)
#   PYTHON    an interpreter with torch (default python3); without one only our side runs
#   OUT       folder for <device>.jsonl and <device>.md (default bench/results beside this script, else the current folder)
#   PAIRS=5 SHARD=tar-of-JPEGs SMOKE=yes DEVICE=cuda WORKLOADS='regular expression'
# Exit 77 and one line when there is no device.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) programs=$1 python=${2:-python3} pairs=${PAIRS:-5} device=${DEVICE:-cuda} shard=${SHARD:-}
out=${3:-$here/results}
[ -d "$out" ] || out=$PWD
program() { find "$programs" -name "$1" -type f -perm -u+x | head -1; }
gpu=$(program bench_gpu)
[ -n "$gpu" ] || { echo "no bench_gpu under $programs" >&2; exit 66; }
smoke=
[ "${SMOKE:-no}" = yes ] && smoke=--smoke
about=$("$gpu" --device "$device" device) || { rc=$?; echo "$about"; exit "$rc"; }
name=$(sed 's/^[a-z]*: //; s/^device [0-9]* //; s/[,;(].*//; s/ *$//; s/[^A-Za-z0-9]\+/-/g' <<<"$about" | tr 'A-Z' 'a-z')
lines=$out/$name.jsonl
: >"$lines"
torch=no
"$python" -c 'import torch' 2>/dev/null && torch=yes
[ "$torch" = yes ] || echo "no PyTorch in $python: only our side" >&2
say() { tee -a "$lines"; }

# One workload by turns: our precision, then what both sides call it.
turns() {
    local precision=$1 mode fd
    shift
    [[ "$*" =~ ${WORKLOADS:-.} ]] || return 0
    local pids=() ins=() outs=()
    if [ "$torch" = yes ]; then
        for mode in tuned eager; do
            local to from
            to=$(mktemp -u) from=$(mktemp -u)
            mkfifo "$to" "$from"
            "$python" "$here/gpu_torch.py" $smoke "--turns=$pairs" "$1" "$mode" "${@:2}" <"$to" >"$from" 2>/dev/null &
            pids+=($!)
            exec {fd}>"$to"
            ins+=("$fd")
            exec {fd}<"$from"
            outs+=("$fd")
            rm -f "$to" "$from"
        done
    fi
    for pair in $(seq "$pairs"); do
        "$gpu" --device "$device" --precision "$precision" $smoke "$@" | sed "s/^{/{\"pair\":$pair,/" | say || echo "ours failed: $*" >&2
        for k in "${!pids[@]}"; do
            local line=
            { echo >&"${ins[$k]}"; } 2>/dev/null || true
            IFS= read -r line <&"${outs[$k]}" || true
            [ -n "$line" ] && sed "s/^{/{\"pair\":$pair,/" <<<"$line" | say || echo "PyTorch failed: $*" >&2
        done
    done
    for k in "${!pids[@]}"; do
        fd=${ins[$k]}
        exec {fd}>&-
        fd=${outs[$k]}
        exec {fd}<&-
        wait "${pids[$k]}" || true
    done
}

trap '' PIPE
own=bf16
[ "$device" = cuda ] || own=f32
for p in f32 tf32 bf16; do
    [ "$device" = cuda ] || [ "$p" = f32 ] || continue
    "$gpu" --device "$device" --precision "$p" $smoke floor | say
done
[ "$torch" = yes ] && "$python" "$here/gpu_torch.py" $smoke floor | say
for batch in 10 100 256 1024; do turns "$own" step convnet 32 "$batch"; done
turns "$own" step convnet 32 100 20 # evaluation: a step of 20 networks at ten images per class
turns "$own" dm 10
turns "$own" dm 50
turns "$own" step resnet18 224 1024
turns "$own" step resnet50 224 512
if [ -z "$smoke" ]; then
    coreset=$(program bench_coreset) loader=$(program bench_loader)
    [ -n "$coreset" ] && "$coreset" 1300 512 130 21 | say
    [ "$torch" = yes ] && "$python" "$here/coreset_torch.py" 1300 512 130 11 "$(nproc)" | say
    if [ -n "$shard" ] && [ -n "$loader" ]; then
        "$loader" "$shard" "$(nproc)" 5 | say
        "$python" "$here/loader_pil.py" "$shard" "$(nproc)" 3 | say || true
    else
        echo "no SHARD: the loader is not measured" >&2
    fi
    "$gpu" --device "$device" --precision "$own" floor | say # the floor again: did the clocks hold?
fi
if command -v "$python" >/dev/null; then
    "$python" "$here/gpu_table.py" "$lines" "bench/run_gpu.sh PROGRAMS PYTHON" "$about" >"$out/$name.md"
    echo "wrote $lines and $out/$name.md" >&2
fi
