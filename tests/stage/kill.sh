#!/usr/bin/env bash
# kill.sh RETORT N [STAGE...]: kills constructions, an evaluation and the training of teachers and experts with SIGKILL at N random
# moments each, resumes, and compares every byte (except run.json: clocks and host) with an undisturbed run. Also: SIGTERM commits
# and exits 75. `unroll` is a construction by trajectory matching, which is killed inside its unrolls; `pool` are constructions by
# NCFM, with its pool of networks and its sampling network, and by DataDAM.
set -u
retort=$1 n=$2
shift 2
stages=${*:-build eval teach experts unroll pool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
RANDOM=20260612

cat > "$work/k.yaml" <<YAML
version: 1
name: kill
seed: 5
data: {kind: demo, size: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
network: {arch: convnet, depth: 2, width: 32}
teach: {epochs: 3, batch: 64, runs: 1, el2n_epoch: 1}
set: {ipc: [2]}
methods: {names: [dm], set_seeds: 1, snapshots: [60]}
dm: {iterations: 150, batch_real: 32}
eval: {protocols: [p1_classic], seeds: 1, epochs_classic: 300, full_data: false}
metrics: {enabled: false}
run: {dir: $work/base, checkpoint_seconds: 0.05}
YAML

sed -e 's/^methods:.*/methods: {names: [datm], set_seeds: 1}/' \
    -e 's/^dm:.*/datm: {iterations: 12, steps: 5, batch: 10, first_max_start: 1, max_start: 2, grow: 6}/' \
    -e 's/^teach:.*/experts: {count: 3, epochs: 4, batch: 64, gsam_rho: 0.01, parallel: 2}/' "$work/k.yaml" > "$work/x.yaml"
sed -e 's/^methods:.*/methods: {names: [ncfm, datadam], set_seeds: 1, snapshots: [7]}/' -e 's/^set:.*/set: {ipc: [1]}/' \
    -e 's/^network:.*/network: {arch: convnet, depth: 3, width: 16}/' \
    -e 's/^dm:.*/ncfm: {iterations: 14, batch_real: 16, frequencies: 64, networks: 2, pretrain_epochs: 3, sampling_net: true}/' \
    -e 's/^teach:.*/datadam: {iterations: 30, batch_real: 16}/' "$work/k.yaml" > "$work/p.yaml"
declare -A verb=([build]=build [eval]=eval [teach]=teach [experts]=teach [unroll]=build [pool]=build)
declare -A yaml=([build]=k [eval]=k [teach]=k [experts]=x [unroll]=x [pool]=p)
declare -A part=([build]=sets [eval]=evals [teach]=teacher [experts]=experts [unroll]=sets [pool]=sets) # what a stage makes
declare -A from=([eval]=sets [unroll]=experts)                                          # and what it stands on
run_stage() { "$retort" ${verb[$1]} "$work/${yaml[$1]}.yaml" --set run.dir="$2" > "$work/log" 2>&1; }

fail() { echo "FAIL: $*"; exit 1; }
content() { (cd "$1" && find . -type f ! -name run.json -print0 | sort -z | xargs -0 sha256sum); }

"$retort" index "$work/k.yaml" > "$work/log" 2>&1 || { cat "$work/log"; fail "index"; } # generates the images once
cp -r "$work/base" "$work/fresh"

# undisturbed reference, with the time each stage takes; x.yaml and p.yaml have folders of their own, as all make sets
for stage in build eval teach experts unroll pool; do
    base=$work/base${yaml[$stage]#k}
    [ -d "$base" ] || cp -r "$work/fresh" "$base"
    begun=$(date +%s%N)
    run_stage $stage "$base" || { cat "$work/log"; fail "$stage"; }
    declare "took_$stage=$((($(date +%s%N) - begun) / 1000000))"
    content "$base/${part[$stage]}" > "$work/want.$stage"
    declare "base_$stage=$base"
done
echo "undisturbed: build ${took_build} ms, eval ${took_eval} ms, teach ${took_teach} ms, experts ${took_experts} ms, unroll ${took_unroll} ms, pool ${took_pool} ms"

for stage in $stages; do
    took=took_$stage base=base_$stage
    killed=0
    for ((i = 0; i < n; i++)); do
        run=$work/trial
        rm -rf "$run"
        cp -r "$work/fresh" "$run"
        [ -n "${from[$stage]:-}" ] && cp -r "${!base}/${from[$stage]}" "$run/${from[$stage]}"
        exec_stage() { exec "$retort" ${verb[$stage]} "$work/${yaml[$stage]}.yaml" --set run.dir="$run" > "$work/log" 2>&1; }
        exec_stage &
        pid=$!
        ms=$((RANDOM * (${!took} + 100) / 32768))
        sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
        kill -9 $pid 2> /dev/null && killed=$((killed + 1))
        wait $pid 2> /dev/null
        run_stage $stage "$run" || { cat "$work/log"; fail "$stage after a kill at $ms ms"; }
        content "$run/${part[$stage]}" | diff - "$work/want.$stage" > "$work/diff" || { head "$work/diff"; fail "$stage killed at $ms ms: other bytes"; }
        [ -z "$(find "$run" -name '*.tmp' -o -name '*.old' -o -name '*.ckpt' | head -1)" ] || fail "$stage left work files behind"
    done
    echo "$stage: $n runs, $killed killed before they were done, all end with the bytes of an undisturbed run"
    [ $n -lt 5 ] || [ $killed -gt 0 ] || fail "no run was hit: the test showed nothing"
done

# SIGTERM: commit, exit 75, resume
run=$work/term
cp -r "$work/fresh" "$run"
"$retort" build "$work/k.yaml" --set run.dir="$run" --set run.checkpoint_seconds=1000 > "$work/log" 2>&1 &
pid=$!
for ((i = 0; i < 1000; i++)); do grep -q '\] dm ' "$work/log" && break; sleep 0.02; done # the first iteration is done
kill -TERM $pid
wait $pid
code=$?
[ $code = 75 ] || { cat "$work/log"; fail "SIGTERM: exit $code, want 75"; }
[ -n "$(find "$run" -name manifest.json -path '*ckpt*')" ] || fail "SIGTERM left no checkpoint"
"$retort" build "$work/k.yaml" --set run.dir="$run" > "$work/log" 2>&1 || { cat "$work/log"; fail "resume after SIGTERM"; }
content "$run/sets" | diff -q - "$work/want.build" > /dev/null || fail "SIGTERM: other bytes"
echo "SIGTERM: committed, exit 75, resumed to the same bytes"
