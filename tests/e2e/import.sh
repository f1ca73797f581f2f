#!/usr/bin/env bash
# Published sets in every layout become sets that eval takes; sets for other classes, of unequal classes or with damaged images
# are refused in three lines with the exit code of the table.
. "$(dirname "$0")/lib.sh"
tiny "$work/t.yaml" "$work/run"
sed -i -e 's/^methods:.*/methods: {names: [random], set_seeds: 1}/' -e 's/^metrics:.*/metrics: {enabled: false}/' "$work/t.yaml"
t=$work/t.yaml
must 'teach' teach "$t"
must 'build' build "$t"

# layout FOLDER FORMAT: two images of every class in folders numbered by FORMAT
layout() {
    local i=0 class
    for class in "$data"/train/*/; do
        local to
        to=$work/$1/$(printf "$2" $i)
        mkdir -p "$to"
        find "$class" -type f | LC_ALL=C sort | head -2 | xargs cp -t "$to"
        i=$((i + 1))
    done
}
layout sre2l 'new%03d'
layout rded '%05d'
cp -r "$work/sre2l" "$work/named"
i=0
for class in "$data"/train/*/; do
    mv "$work/named/$(printf 'new%03d' $i)" "$work/named/$(basename "$class")"
    i=$((i + 1))
done

must 'SRe2L layout' import "$t" "$work/sre2l" --method sre2l-released
check 'says that numbers decide' grep -q 'folder numbers' "$work/out"
check 'says what the teacher makes of it' grep -q 'teacher net0 puts' "$work/out"
must 'RDED layout' import "$t" "$work/rded" --method rded-x --out "$work/rded-set"
must 'named layout' import "$t" "$work/named" --method named --out "$work/named-set"
check 'says that names decide' grep -q 'names of the classes' "$work/out"
for other in "$work/rded-set" "$work/named-set"; do
    check "the same images in $(basename "$other")" diff -rq "$work/run/imported/sre2l-released-ipc2/images" "$other/images"
done
must 'verify' verify "$work/run/imported"
must 'eval' eval "$t" "$work/run/imported/sre2l-released-ipc2"
check 'has a result' test -n "$(find "$work/run/evals" -path '*sre2l-released-ipc2*' -name result.json)"
must 'the grid with a foreign set' bench "$t" --set set.foreign="$work/run/imported/sre2l-released-ipc2,$work/named-set"
check 'has it in the table' grep -qE '^sre2l-released +2 ' "$work/out"
check 'and its images on the page' grep -q 'sre2l-released' "$work/run/report/index.html"
check 'and no construction cost' sh -c "! grep 'sre2l-released' '$work/run/report/costs.csv' | grep -q '^build'"
refused 66 'nowhere' 'a foreign set that is not there' eval "$t" --set set.foreign="$work/nowhere"
must 'one image a class' import "$t" "$work/rded" --method rded-x --ipc 1
check 'is ipc1' test -d "$work/run/imported/rded-x-ipc1"

# A map says it all, and may say more; the reversed map gives the reversed set.
ls "$data/train" | tac > "$work/reversed"
ls "$work/sre2l" | paste -d' ' - "$work/reversed" > "$work/map"
echo 'new999 '"$(head -1 "$work/reversed")" >> "$work/map"
must 'map' import "$t" "$work/sre2l" --method reversed --map "$work/map"
first=$(ls "$work/run/imported/reversed-ipc2/images" | head -1) last=$(ls "$work/run/imported/sre2l-released-ipc2/images" | tail -1)
check 'turns the classes round' diff -rq "$work/run/imported/reversed-ipc2/images/$first" "$work/run/imported/sre2l-released-ipc2/images/$last"

# Tensors: one of our own sets, read as a foreign one, comes back to the bit.
set=$work/run/sets/random-ipc2-s0
must 'tensors' import "$t" "$set/set.safetensors" --method tensors --space normalised
check 'the same images' diff -rq "$set/images" "$work/run/imported/tensors-ipc2/images"
refused 64 'does not say which' 'tensors of unknown space' import "$t" "$set/set.safetensors" --method x
refused 65 'is not in [0,1]' 'normalised tensors as unit' import "$t" "$set/set.safetensors" --method x --space unit
refused 65 'data.size is 8' 'tensors of another size' import "$t" "$set/set.safetensors" --method x --space normalised --set data.size=8
head -c 3000 "$set/set.safetensors" > "$work/cut.safetensors"
refused 65 'cut.safetensors' 'truncated tensors' import "$t" "$work/cut.safetensors" --method x --space normalised

# What is refused.
refused 73 'exists' 'a set that is there' import "$t" "$work/sre2l" --method sre2l-released
must 'unless forced' import "$t" "$work/sre2l" --method sre2l-released --force
refused 64 'what is this set called' 'no name' import "$t" "$work/sre2l"
refused 64 'is a method of this program' 'a name of ours' import "$t" "$work/sre2l" --method herding
refused 64 'short name' 'a name with a slash' import "$t" "$work/sre2l" --method a/b
refused 66 'nowhere' 'no such set' import "$t" "$work/nowhere" --method x
mv "$work/rded/00003" "$work/rded/00013"
refused 65 'are neither the 10 classes' 'a number past the classes' import "$t" "$work/rded" --method x
mv "$work/rded/00013" "$work/rded/0001"
refused 65 'the same number' 'one number twice' import "$t" "$work/rded" --method x
mv "$work/rded/0001" "$work/rded/00003"
cls=$(ls "$work/named" | head -1)
mv "$work/named/$cls" "$work/named/dragon"
refused 65 "folder 'dragon' is not a class" 'a class of elsewhere' import "$t" "$work/named" --method x
rm -r "$work/named/dragon"
refused 65 'has 0 images' 'a class too few' import "$t" "$work/named" --method x
sed -i 's/^new003 .*/new003 dragon/' "$work/map"
refused 65 "map:4: 'dragon' is not a class" 'a map to a class of elsewhere' import "$t" "$work/sre2l" --method x --map "$work/map"
sed -i '/^new003/d' "$work/map"
refused 65 "nothing about the folder 'new003'" 'a map with a gap' import "$t" "$work/sre2l" --method x --map "$work/map"
rm "$(find "$work/rded/00004" -type f | head -1)"
refused 65 'has 1 images, class' 'unequal classes' import "$t" "$work/rded" --method x
refused 65 'needs 2 of every class' 'more than there are' import "$t" "$work/rded" --method x --ipc 2
victim=$(find "$work/sre2l/new005" -type f | head -1)
head -c 40 "$victim" > "$victim.cut" && mv "$victim.cut" "$victim"
refused 65 'new005' 'a damaged image' import "$t" "$work/sre2l" --method x
check 'nothing is left of what was refused' test ! -e "$work/run/imported/x-ipc2"
finish
