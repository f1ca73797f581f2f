#!/usr/bin/env bash
# data.sh RETORT DATA: fills DATA with a part of the generated set: train/<class>/20 images, test/<class>/10 images. Made once
# per build folder for all end-to-end scripts (a ctest fixture), anew when the program is newer.
set -eu
retort=$1 data=$2
[ -f "$data/.done" ] && [ ! "$retort" -nt "$data/.done" ] && exit 0
rm -rf "$data"
mkdir -p "$data"
cat > "$data/demo.yaml" <<YAML
version: 1
name: data
seed: 3
data: {kind: demo, size: 16}
run: {dir: "$data/demo"}
YAML
"$retort" index "$data/demo.yaml"
for split in train test; do
    n=20
    [ $split = test ] && n=10
    for class in "$data/demo/data/$split"/*/; do
        mkdir -p "$data/$split/$(basename "$class")"
        find "$class" -type f | LC_ALL=C sort | head -$n | xargs cp -t "$data/$split/$(basename "$class")"
    done
done
rm -rf "$data/demo"
[ "$(find "$data/train" -type f | wc -l)" = 200 ] && [ "$(find "$data/test" -type f | wc -l)" = 100 ]
touch "$data/.done"
