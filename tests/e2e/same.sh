#!/usr/bin/env bash
# same.sh RETORT DATA: equal runs give equal bytes. Every artefact of two runs of the whole grid in two folders agrees in every file
# but run.json (clocks, host); and what is selected from given scores does not depend on the number of threads.
. "$(dirname "$0")/lib.sh" "$1" "$2"

tiny "$work/t.yaml" "$work/a"
g=("$work/t.yaml" --set methods.set_seeds=2 --set set.ipc=1,3)
must 'the grid' bench "${g[@]}"
must 'the grid in another folder' bench "${g[@]}" --set run.dir="$work/b"
for part in dataset teacher sets evals measures; do
    content "$work/a" $part > "$work/want"
    content "$work/b" $part | diff "$work/want" - > "$work/diff" && pass || { fail "$part differs between two runs"; head -6 "$work/diff"; }
    check "$part holds something" test -s "$work/want"
done
check 'fourteen sets: 2 sizes x (3 chosen + 2 drawn twice)' test "$(ls -d "$work"/a/sets/*/ | wc -l)" = 14
for s in random dm; do
    cmp -s "$work"/a/sets/$s-ipc3-s[01]/set.safetensors && fail "two constructions of $s are the same" || pass
done

# Given the same teacher, another number of threads selects the same images in the same order with the same pixels.
mkdir "$work/c"
cp -r "$work/a/teacher" "$work/c"
must 'sets on two threads' build "${g[@]}" --set run.dir="$work/c" --set backend.threads=2 --set methods.names=random,herding,kcenter,el2n
check 'the teacher was taken over' test -z "$(find "$work/c/teacher" -newer "$work/c/LOCK" -type f | head -1)"
for s in "$work"/c/sets/*/; do
    s=$(basename "$s")
    check "$s: the same selection" cmp "$work/a/sets/$s/index.csv" "$work/c/sets/$s/index.csv"
    check "$s: the same pixels" cmp "$work/a/sets/$s/set.safetensors" "$work/c/sets/$s/set.safetensors"
done
# Draws of a construction do not depend on it either: the initial images of DM are its result after no iteration.
must 'DM without iterations' build "${g[@]}" --set run.dir="$work/d1" --set methods.names=dm --set dm.iterations=0
must 'the same on two threads' build "${g[@]}" --set run.dir="$work/d2" --set methods.names=dm --set dm.iterations=0 --set backend.threads=2
check 'the same initial images' cmp "$work/d1/sets/dm-ipc3-s1/set.safetensors" "$work/d2/sets/dm-ipc3-s1/set.safetensors"

# Another seed is another run.
must 'another seed' build "${g[@]}" --set run.dir="$work/e" --set seed=12 --set methods.names=random,dm
for s in random dm; do
    cmp -s "$work/a/sets/$s-ipc3-s0/set.safetensors" "$work/e/sets/$s-ipc3-s0/set.safetensors" && fail "$s does not depend on the seed" || pass
done
finish
