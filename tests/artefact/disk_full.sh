#!/usr/bin/env bash
# disk_full.sh RETORT SHIM N: rebuilds a set on a disk that is full from the k-th file operation on (N values of k over the
# whole run), and once with an I/O error at one. Each time: exit 74 with the file named, the previous set intact; with space
# again the same command ends with the bytes of an undisturbed run.
set -u
retort=$1 shim=$2 n=$3
[ -w /dev/shm ] && export TMPDIR=/dev/shm # thousands of fsyncs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=verify_asan_link_order=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}

cat > "$work/k.yaml" <<YAML
version: 1
name: full
seed: 5
data: {kind: demo, size: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
network: {arch: convnet, depth: 2, width: 16}
set: {ipc: [1]}
methods: {names: [dm], set_seeds: 1}
dm: {iterations: 12, batch_real: 8}
run: {dir: $work/run, checkpoint_seconds: 0.01}
YAML

fail() { echo "FAIL: $*"; exit 1; }
content() { (cd "$1" && find . -type f ! -name run.json -print0 | sort -z | xargs -0 sha256sum); }
run() { "$retort" "$@" > "$work/log" 2>&1; }
under() { # MODE:K VERB...: the same with faults
    local fault=$1
    shift
    RT_SHIM=$fault RT_SHIM_COUNT_FILE=$work/count LD_PRELOAD=$shim "$retort" "$@" > "$work/log" 2>&1
}

run index "$work/k.yaml" || { cat "$work/log"; fail "index"; }
run build "$work/k.yaml" || { cat "$work/log"; fail "build"; }
content "$work/run/sets/dm-ipc1-s0" > "$work/old"
new=(--set dm.iterations=13)
cp -r "$work/run" "$work/probe"
under 0:0 build "$work/k.yaml" --set run.dir="$work/probe" "${new[@]}" || { cat "$work/log"; fail "build under the counter"; }
content "$work/probe/sets" > "$work/want"
total=$(cat "$work/count")
[ "$total" -ge 50 ] || fail "only $total file operations: the shim sees nothing"
content "$work/probe/sets/dm-ipc1-s0" | cmp -s - "$work/old" && fail "the two builds do not differ"

full=0
for ((i = 0; i <= n; i++)); do
    mode=5 k=$((1 + i * (total - 1) / n))
    [ "$i" = "$n" ] && mode=4 k=$((total / 2)) # RT_SHIM_EIO
    rm -rf "$work/trial"
    cp -r "$work/run" "$work/trial"
    under $mode:$k build "$work/k.yaml" --set run.dir="$work/trial" "${new[@]}"
    code=$?
    content "$work/trial/sets/dm-ipc1-s0" > "$work/got" # checkpoints beside it may have come and stay
    if [ $code = 74 ]; then
        full=$((full + 1))
        cmp -s "$work/got" "$work/old" || fail "operation $k: exit 74 and the previous set is not intact"
        grep -q "$work/trial" "$work/log" || { cat "$work/log"; fail "operation $k: the message names no file"; }
    elif [ $code != 0 ]; then
        cat "$work/log"
        fail "operation $k of $total: exit $code, expected 74"
    fi
    run build "$work/k.yaml" --set run.dir="$work/trial" "${new[@]}" || { cat "$work/log"; fail "operation $k: does not resume"; }
    content "$work/trial/sets" | diff - "$work/want" > "$work/diff" || { head "$work/diff"; fail "operation $k: other bytes after resuming"; }
done
[ $full -ge $((n / 2)) ] || fail "only $full of $n runs met the full disk"
echo "$total file operations; $full of $((n + 1)) runs ended with exit 74, all resumed to the same bytes"
