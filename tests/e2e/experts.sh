#!/usr/bin/env bash
# Expert files that are missing, damaged or of another run are refused in three lines with the exit code of the table; once the
# cause is gone the construction goes on from its checkpoint and ends with the bytes of one that was never disturbed.
. "$(dirname "$0")/lib.sh"
tiny "$work/t.yaml" "$work/run"
sed -i -e 's/^methods:.*/methods: {names: [mtt], set_seeds: 1}/' \
    -e 's/^dm:.*/mtt: {iterations: 8, steps: 3, max_start: 2}\nexperts: {count: 2, epochs: 5, batch: 50}/' \
    -e 's/^metrics:.*/metrics: {enabled: false}/' "$work/t.yaml"
t=$work/t.yaml

refused 66 'expert0' 'a construction without experts' build "$t"
refused 78 'experts.epochs is 2' 'experts that end too early' teach "$t" --set experts.epochs=2
must 'experts' teach "$t"
check 'no teacher was trained: nothing needs one' test ! -e "$work/run/teacher/net0"
check 'only what is read is kept: epochs 0 to 3' test "$(ls "$work/run/experts/expert0" | grep -c theta)" = 4
must 'a set' build "$t"
content "$work/run" sets > "$work/want.sets"
content "$work/run" experts > "$work/want.experts"
check 'its cost shows the experts apart' grep -q experts_wall_s "$work/run/sets/mtt-ipc2-s0/run.json"
must 'teach again' teach "$t"
check 'changes nothing' test "$(content "$work/run" experts)" = "$(cat "$work/want.experts")"

# Nothing of what a method read before is trained again for a smaller window; for a larger one it is, for keep: all too.
stamp=$(stat -c %Y%i "$work/run/experts/expert0")
must 'a smaller window' teach "$t" --set mtt.max_start=1
check 'keeps the experts' test "$(stat -c %Y%i "$work/run/experts/expert0")" = "$stamp"
cp -r "$work/run" "$work/all"
must 'all snapshots' teach "$t" --set experts.keep=all --set run.dir="$work/all"
check 'are kept: epochs 0 to 5' test "$(ls "$work/all/experts/expert1" | grep -c theta)" = 6
check 'of which the first are the same bytes' cmp "$work/all/experts/expert1/theta-0003.safetensors" "$work/run/experts/expert1/theta-0003.safetensors"
must 'verify' verify "$work/run/experts/expert0"

# Trained two at once they are the same experts; a folder that has them keeps them.
cp -r "$work/run" "$work/pair"
rm -r "$work/pair/experts"
must 'two at once' teach "$t" --set experts.parallel=2 --set run.dir="$work/pair"
check 'make the same weights' test "$(content "$work/pair" experts | grep theta)" = "$(grep theta "$work/want.experts")"
must 'one by one again' teach "$t" --set run.dir="$work/pair"
check 'keeps them' grep -q '"trained_together": 2' "$work/pair/experts/expert0/manifest.json"

# --- foreign ones ---------------------------------------------------------------------------------------------------------------
refused 65 'another network' 'experts of another width' build "$t" --set network.width=8
refused 65 'other settings' 'experts of another rate' build "$t" --set experts.lr=0.02
refused 65 'keeps snapshots 0 to 3' 'a window beyond the snapshots' build "$t" --set mtt.max_start=3
refused 65 'another ZCA' 'experts of images that were not whitened' build "$t" --set data.zca=true
cp -r "$data" "$work/renamed"
mv "$work/renamed/train/$(ls "$work/renamed/train" | tail -1)" "$work/renamed/train/zz"
mv "$work/renamed/test/$(ls "$work/renamed/test" | tail -1)" "$work/renamed/test/zz"
refused 65 'another class list' 'experts of other classes' build "$t" --set data.train="$work/renamed/train" --set data.test="$work/renamed/test"

# --- damage while a construction is under way ---------------------------------------------------------------------------------------
long=(--set mtt.iterations=60 --set mtt.steps=20 --set mtt.lr_pixel=1 --set mtt.lr_step=0)
cp -r "$work/run" "$work/whole"
rm -r "$work/whole/sets"
cp -r "$work/whole" "$work/half"
must 'an undisturbed construction' build "$t" --set run.dir="$work/whole" "${long[@]}"
"$retort" build "$t" --set run.dir="$work/half" --set run.checkpoint_seconds=0 "${long[@]}" > "$work/out" 2> "$work/err" &
pid=$!
for ((i = 0; i < 2000; i++)); do ls "$work/half/sets/"*.ckpt/0*/manifest.json > "$work/check" 2>&1 && break; sleep 0.02; done
kill -TERM $pid
wait $pid
code=$?
check 'a construction that is stopped exits with 75' test $code = 75
half=(--set run.dir="$work/half" "${long[@]}")
step() { ls "$work/half/sets/"*.ckpt | sort | tail -1; }
begun=$(step)
victim=$work/half/experts/expert1
damaged() { # damaged TEXT WHAT: refused, the checkpoint still there
    refused 65 "$1" "$2" build "$t" "${half[@]}"
    check "$2: the checkpoint stays" test "$(step)" '>' 0 -a ! "$(step)" '<' "$begun"
    grep -qF 'retort teach' "$work/err" && pass || fail "$2: the remedy does not say how to train it again"
    rm -r "$victim"
    cp -r "$work/run/experts/expert1" "$victim"
}
for e in 0 1 2 3; do printf 'x' | dd of="$victim/theta-000$e.safetensors" bs=1 seek=500 conv=notrunc status=none; done
damaged 'checksum' 'flipped bytes'
truncate -s 100 "$victim/theta-0002.safetensors"
damaged 'theta-0002' 'a truncated snapshot'
rm "$victim/theta-0001.safetensors"
damaged 'theta-0001' 'a missing snapshot'
truncate -s 50 "$victim/manifest.json"
damaged 'manifest.json' 'a truncated manifest'
rm -r "$victim"
refused 66 'expert1' 'a missing expert' build "$t" "${half[@]}"
must 'the expert is trained again' teach "$t" --set run.dir="$work/half"
check 'to the same bytes' test "$(content "$work/half" experts)" = "$(cat "$work/want.experts")"
must 'and the construction goes on' build "$t" "${half[@]}"
check 'to the bytes of one that was never disturbed' test "$(content "$work/half" sets)" = "$(content "$work/whole" sets)"
finish
