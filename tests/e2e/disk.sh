#!/usr/bin/env bash
# disk.sh RETORT DATA SHIM: a disk that fills up while a stage works. The stage ends with 74 and three lines, what was committed
# before is intact, and with room again the same command ends with the bytes of an undisturbed run. SHIM (tests/artefact/shim.c,
# preloaded) makes file operations fail with ENOSPC from the k-th on; where a small tmpfs may be mounted it is filled for real too.
. "$(dirname "$0")/lib.sh" "$1" "$2"
shim=$3
full=5 once=3 die=1 # modes of the shim

tiny "$work/t.yaml" "$work/base"
# A checkpoint after every iteration, so that checkpoints are hit as well as commits.
t=("$work/t.yaml" --set run.checkpoint_seconds=0 --set set.ipc=1 --set dm.iterations=4 --set metrics.enabled=false)
must 'index' index "${t[@]}"
must 'teach' teach "${t[@]}"
cp -r "$work/base" "$work/untaught"
rm -rf "$work/untaught/teacher"
must 'the state before' build "${t[@]}" --set methods.names=random,herding
cp -r "$work/base" "$work/fresh"
must 'an undisturbed construction' build "${t[@]}"
must 'an undisturbed evaluation' eval "${t[@]}"
for part in teacher sets evals; do content "$work/base" $part > "$work/want.$part"; done
content "$work/fresh" sets > "$work/old.sets"

faulty() { # faulty MODE K VERB ARGS...
    local fault=$1:$2
    shift 2
    LD_PRELOAD=$shim RT_SHIM=$fault RT_SHIM_COUNT_FILE=$work/count "$retort" "$@" > "$work/out" 2> "$work/err"
    code=$?
}
# start STAGE RUN: a run folder in which STAGE comes next
start() {
    rm -rf "$2"
    case $1 in
    teach) cp -r "$work/untaught" "$2" ;;
    build) cp -r "$work/fresh" "$2" ;;
    eval) cp -r "$work/base" "$2" && rm -rf "$2/evals" ;;
    esac
}
part_of() { case $1 in teach) echo teacher ;; build) echo sets ;; eval) echo evals ;; esac; }

# trial STAGE MODE K: fails there, keeps what was there, resumes to the same bytes
trial() {
    local stage=$1 mode=$2 k=$3 r=$work/trial part what
    what="$stage, mode $mode at operation $k"
    part=$(part_of "$stage")
    start "$stage" "$r"
    content "$r" . | grep -v '/\(LOCK\|progress.json\|resolved.yaml\|algorithms.jsonl\)$' > "$work/before"
    faulty "$mode" "$k" "$stage" "${t[@]}" --set run.dir="$r"
    if [ $code = 0 ] && [ "$mode" = $once ]; then pass # the operation was one that may fail, such as keeping timings
    elif [ $code = 74 ] && three_lines 74; then pass
    else
        fail "$what: exit $code, want 74"
        tail -4 "$work/err"
    fi
    (cd "$r" && sha256sum --quiet -c "$work/before") > "$work/check" 2>&1 || fail "$what: what was committed is not intact: $(head -1 "$work/check")"
    run verify "$r"
    [ $code = 0 ] || { [ "$stage" = teach ] && [ $code = 66 ]; } || fail "$what: verify says $code: $(tail -3 "$work/err" | head -1)"
    run "$stage" "${t[@]}" --set run.dir="$r"
    [ $code = 0 ] || { fail "$what: with room again: exit $code"; tail -3 "$work/err"; }
    content "$r" "$part" | diff - "$work/want.$part" > "$work/diff" || { fail "$what: other bytes after resuming"; head -3 "$work/diff"; }
    check "$what: no work files left" test -z "$(find "$r" -name '*.tmp' -o -name '*.old' -o -name '*.ckpt' | head -1)"
}

if ldd "$retort" 2> /dev/null | grep -q 'lib[at]san'; then skip 'preloaded faults: a sanitizer wants to come first'; else
    declare -A operations
    for stage in build eval teach; do
        start $stage "$work/count_run"
        faulty 0 0 $stage "${t[@]}" --set run.dir="$work/count_run"
        [ $code = 0 ] || fail "$stage under the shim: exit $code"
        n=$(cat "$work/count")
        operations[$stage]=$n
        [ "$n" -gt 20 ] || fail "$stage: only $n file operations"
        points=6
        [ $stage = build ] || points=3
        for ((i = 1; i <= points; i++)); do trial $stage $full $((1 + (n * 8 / 10) * (i - 1) / (points - 1))); done # the last ones only remove
        trial $stage $once $((n / 2))
        echo "$stage: $n file operations, $points of them on a full disk"
    done
    # The newest checkpoint of a killed run is damaged: an older one, or the beginning, serves.
    for stage in build eval teach; do
        start $stage "$work/trial"
        faulty $die $((operations[$stage] * 6 / 10)) $stage "${t[@]}" --set run.dir="$work/trial"
        newest=$(find "$work/trial" -path '*.ckpt/*' -name '*.safetensors' -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
        [ $code = 137 ] && [ -n "$newest" ] && pass || fail "$stage killed half way: exit $code, checkpoint '$newest'"
        printf 'damage' | dd of="$newest" bs=1 seek=$(($(stat -c %s "$newest") / 2)) conv=notrunc status=none
        must "$stage from a damaged checkpoint" $stage "${t[@]}" --set run.dir="$work/trial"
        part=$(part_of $stage)
        check "$stage from a damaged checkpoint: the same bytes" cmp <(content "$work/trial" "$part") "$work/want.$part"
    done
    # Replacing what is there: the old set stays whole until the new one is.
    for k in 30 60; do
        rm -rf "$work/trial"
        cp -r "$work/base" "$work/trial"
        faulty $full $k build "${t[@]}" --force --set run.dir="$work/trial"
        [ $code = 74 ] && pass || fail "build --force on a full disk: exit $code"
        content "$work/trial" $(cd "$work/trial" && echo sets/*-s? ) | diff - "$work/want.sets" > "$work/diff" && pass ||
            { fail 'build --force on a full disk lost the old set'; head -3 "$work/diff"; }
        must 'verify after it' verify "$work/trial"
    done
fi

mkdir "$work/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=2m tmpfs "$work/small" 2> /dev/null; then
    trap 'umount "$work/small"; rm -rf "$work"' EXIT
    r=$work/small/run
    cp -r "$work/fresh" "$r"
    filler=$work/small/filler
    head -c 10m /dev/zero > "$filler" 2> /dev/null
    truncate -s -100k "$filler"
    refused 74 'disk full' 'a full tmpfs' build "${t[@]}" --set run.dir="$r"
    must 'verify on the full tmpfs' verify "$r"
    check 'what was committed is intact' cmp <(content "$r" sets/random-ipc1-s0 sets/herding-ipc1-s0) "$work/old.sets"
    rm "$filler"
    must 'with room again' build "${t[@]}" --set run.dir="$r"
    check 'the bytes of an undisturbed run' cmp <(content "$r" sets) "$work/want.sets"
else skip 'a real full disk: no tmpfs can be mounted here'; fi
finish
