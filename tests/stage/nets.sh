#!/usr/bin/env bash
# nets.sh RETORT: students trained one by one, all at once, two of them first and the rest later, and killed and resumed, give the
# same result files to the byte (strict mode on the cpu).
set -u
retort=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/n.yaml" <<YAML
version: 1
name: nets
seed: 5
data: {kind: demo, size: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
network: {arch: convnet, depth: 2, width: 32}
teach: {epochs: 1, runs: 1}
committee: {archs: [network, mlp]}
set: {ipc: [2]}
methods: {names: [random], set_seeds: 1}
eval: {protocols: [p1_classic, p1, p2_fixed, p3], students: [convnet, mlp], seeds: 4, epochs_classic: 150, epochs_p1: 60, epochs_p2: 60, epochs_p3: 60, check_every: 15, full_data: false}
metrics: {enabled: false}
run: {dir: $work/base, checkpoint_seconds: 0.02}
YAML

fail() { echo "FAIL: $*"; cat "$work/log"; exit 1; }
run_in() { local dir=$1; shift; "$retort" "$@" --set run.dir="$dir" > "$work/log" 2>&1; }
results() { (cd "$1/evals" && find . -name result.json -print0 | sort -z | xargs -0 sha256sum); }

for verb in index teach build; do run_in "$work/base" $verb "$work/n.yaml" || fail "$verb"; done
for side in off on more kill; do cp -r "$work/base" "$work/$side"; done

run_in "$work/off" eval "$work/n.yaml" --set eval.batched=off || fail "one by one"
results "$work/off" > "$work/want"
[ "$(wc -l < "$work/want")" = 32 ] || fail "32 students wanted, $(wc -l < "$work/want") there"

run_in "$work/on" eval "$work/n.yaml" --set eval.batched=on || fail "at once"
results "$work/on" | diff "$work/want" - || fail "at once: other results"

run_in "$work/more" eval "$work/n.yaml" --set eval.batched=on --set eval.seeds=2 || fail "two seeds"
run_in "$work/more" eval "$work/n.yaml" --set eval.batched=on || fail "two more seeds"
results "$work/more" | diff "$work/want" - || fail "two seeds more: other results"

killed=0
for ((i = 1; i <= 12; i++)); do
    "$retort" eval "$work/n.yaml" --set eval.batched=on --set run.dir="$work/kill" > "$work/log" 2>&1 &
    pid=$!
    sleep "0.$((i * 7 % 3))$((i * 3 % 10))"
    kill -9 $pid 2> /dev/null && killed=$((killed + 1))
    wait $pid 2> /dev/null
done
run_in "$work/kill" eval "$work/n.yaml" --set eval.batched=on || fail "after kills"
results "$work/kill" | diff "$work/want" - || fail "after $killed kills: other results"
[ "$killed" -ge 3 ] || fail "only $killed of 12 kills hit a running evaluation"
left=$(find "$work/kill/evals" -name '*.ckpt' | wc -l)
[ "$left" = 0 ] || fail "$left checkpoints left behind"

echo "one by one, at once, in two parts and after $killed kills: the same results"
