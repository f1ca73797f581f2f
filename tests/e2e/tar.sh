#!/usr/bin/env bash
# tar.sh RETORT DATA SHARED: WebDataset shards through the program. Shards that were damaged, or made to escape, are refused with
# their reason; nothing is ever written outside the run folder but the index beside a good shard. SHARED (or
# $RT_SHARED_DATA): where real shards would be.
. "$(dirname "$0")/lib.sh" "$1" "$2"
shared=${RT_SHARED_DATA:-$3}

shards=$work/in/shards src=$work/src
mkdir -p "$shards" "$src"
i=0
while read -r file; do # 10 samples s0 .. s9 of classes 0 1 2
    cp "$file" "$src/s$i.jpg"
    echo $((i % 3)) > "$src/s$i.cls"
    i=$((i + 1))
done < <(find "$data/train" -name '*.jpg' | LC_ALL=C sort | awk 'NR % 20 == 1')
printf 'a\nb\nc\n' > "$work/in/classes.txt"
cat > "$work/wds.yaml" <<YAML
version: 1
name: wds
backend: {threads: 1}
data: {kind: wds, train: "$shards/good.tar", test: "$shards/good.tar", classes: "$work/in/classes.txt", size: 16}
methods: {names: [random], set_seeds: 1}
set: {ipc: [2]}
network: {depth: 2}
run: {dir: "$work/run"}
YAML

make() { # make NAME TAR_ARGS...: a shard of samples s0 .. s3, with the extra arguments of tar
    local name=$1
    shift
    tar --format=ustar -cf "$shards/$name.tar" -C "$src" "$@"
}
samples=(s0.cls s0.jpg s1.cls s1.jpg s2.cls s2.jpg s3.cls s3.jpg)

tar --format=ustar -cf "$shards/good.tar" -C "$src" $(cd "$src" && ls)
must 'a good shard is indexed' index "$work/wds.yaml"
check 'its counts are recorded' grep -q '"count":10' <(tr -d ' \n' < "$work/run/dataset/manifest.json")
check 'the index lies beside the shard' grep -q '^v1.2 10$' "$shards/good.idx"
must 'and a set is built from it' build "$work/wds.yaml"
must 'in a second run folder from its index file' index "$work/wds.yaml" --set run.dir="$work/run2"
check 'both runs agree' cmp "$work/run/dataset/manifest.json" "$work/run2/dataset/manifest.json"

# hostile CODE TEXT NAME [--set ...]: indexing shard NAME is refused, and the folder of shards stays as it was
hostile() {
    local want=$1 text=$2 name=$3
    shift 3
    find "$work/in" "$work/outside" -printf '%p %s\n' 2> /dev/null | grep -v "$name.idx" | sort > "$work/before"
    refused "$want" "$text" "shard $name" index "$work/wds.yaml" --set run.dir="$work/hostile" --set data.train="$shards/$name.tar" \
        --set data.test="$shards/$name.tar" "$@"
    find "$work/in" "$work/outside" -printf '%p %s\n' 2> /dev/null | grep -v "$name.idx" | sort > "$work/after"
    check "shard $name: nothing written outside the run folder" cmp "$work/before" "$work/after"
}
mkdir -p "$work/outside"
size=$(stat -c %s "$shards/good.tar")
head -c $((size / 2 + 100)) "$shards/good.tar" > "$shards/cut.tar"
hostile 65 'runcated' cut
head -c $(($(awk '{ print $6; exit }' <(tail -n +2 "$shards/good.idx")) + 100)) "$shards/good.tar" > "$shards/cut_content.tar"
hostile 65 'runcated' cut_content
make border "${samples[@]}"
size=$(stat -c %s "$shards/border.tar")
while [ "$(tail -c 512 "$shards/border.tar" | tr -d '\0' | wc -c)" = 0 ]; do truncate -s -512 "$shards/border.tar"; done
hostile 65 'truncated: no end-of-archive block' border
make dotdot -P --transform 's,^s1,../s1,' "${samples[@]}"
hostile 65 "climbs out of its folder" dotdot
make deep_dotdot -P --transform 's,^s1,a/b/../../../s1,' "${samples[@]}"
hostile 65 "climbs out of its folder" deep_dotdot
make absolute -P --transform "s,^s1,$work/outside/s1," "${samples[@]}"
hostile 65 'absolute path' absolute
ln -s /etc/passwd "$src/link.jpg"
make symlink "${samples[@]}" link.jpg
hostile 65 'symbolic link' symlink
ln "$src/s0.jpg" "$src/hard.jpg"
make hardlink "${samples[@]}" hard.jpg
hostile 65 'hard link' hardlink
mkfifo "$src/fifo.jpg"
make fifo "${samples[@]}" fifo.jpg
hostile 65 'FIFO' fifo
cp "$src/s0.jpg" "$src/s0.JPG"
make twice s0.cls s0.jpg s0.JPG s1.cls s1.jpg
hostile 65 "two images" twice
make twice_other s0.cls s0.jpg
tar --format=ustar -rf "$shards/twice_other.tar" -C "$src" s0.cls # named twice at once, tar would store a hard link
hostile 65 "two labels" twice_other
make no_cls s0.cls s0.jpg s1.jpg s2.cls s2.jpg
hostile 65 "sample 's1' has no label" no_cls
make no_image s0.cls s0.jpg s1.cls s2.cls s2.jpg
hostile 65 "sample 's1' has no image" no_image
for case in 'high 3' 'negative -1' 'word cat' 'long 12345678901' 'space 1 2' 'empty'; do
    printf '%s' "$(cut -s -d' ' -f2- <<< "$case")" > "$src/s1.cls"
    make "label_${case%% *}" "${samples[@]}"
    hostile 65 "s1" "label_${case%% *}"
done
echo 1 > "$src/s1.cls"
gzip -c "$shards/good.tar" > "$shards/gz.tar"
hostile 65 'gz.tar' gz
: > "$shards/empty.tar"
hostile 65 'empty.tar' empty
head -c 10240 /dev/zero > "$shards/zeros.tar"
hostile 66 'no samples' zeros
cp "$src/s0.jpg" "$shards/not_tar.tar"
hostile 65 'not_tar.tar' not_tar
hostile 66 'none.tar' none
hostile 78 'classes' good --set data.classes=
# A stale or forged index file is not believed.
cp "$shards/good.tar" "$shards/forged.tar"
sed 's/^# tar.*/# tar 1 1/; s/jpg [0-9]*/jpg 0/' "$shards/good.idx" > "$shards/forged.idx"
must 'a forged index is made anew' index "$work/wds.yaml" --set run.dir="$work/run3" --set data.train="$shards/forged.tar"
check 'with the right offsets' cmp <(sed '/^#/d' "$shards/good.idx") <(sed '/^#/d' "$shards/forged.idx")

# A sample that is listed but does not decode: refused by default, listed under `skip`.
cp "$src/s3.jpg" "$work/keep.jpg"
printf 'no image at all' > "$src/s3.jpg"
make undecodable "${samples[@]}"
mv "$work/keep.jpg" "$src/s3.jpg"
u=(--set data.train="$shards/undecodable.tar" --set methods.names=random --set set.ipc=1)
refused 65 's3' 'a sample that does not decode' build "$work/wds.yaml" --set run.dir="$work/u" "${u[@]}"
must 'the same with on_bad_sample: skip' build "$work/wds.yaml" --set run.dir="$work/u" "${u[@]}" --set data.on_bad_sample=skip \
    --set data.max_bad=0.5 && check 'lists it' grep -q 's3' "$work/u/bad_samples.jsonl"
refused 65 '' 'more bad samples than max_bad' build "$work/wds.yaml" --set run.dir="$work/u2" "${u[@]}" --set data.on_bad_sample=skip

# --- real shards -------------------------------------------------------------------------------------------------------------------
if [ ! -f "$shared/imagenette-val-000000.tar" ]; then skip 'real ImageNette shards: not here'; else
    mkdir "$work/real" # the index files come beside the links, not beside the real shards
    ln -s "$shared"/imagenette-*.tar "$work/real"
    must 'ImageNette is indexed' index "$work/wds.yaml" --set run.dir="$work/run4" --set data.train="$work/real/imagenette-train-{000000..000001}.tar" \
        --set data.test="$work/real/imagenette-val-000000.tar" --set data.classes="$shared/imagenette-classes.txt"
    tr -d ' \n' < "$work/run4/dataset/manifest.json" > "$work/m"
    check '2,000 training and 1,000 evaluation images' grep -q '"test":{"count":1000,.*"train":{"count":2000,' "$work/m"
    check '200 and 100 of each class' test "$(grep -oE '"n[0-9]+":200' "$work/m" | wc -l) $(grep -oE '"n[0-9]+":100' "$work/m" | wc -l)" = '10 10'
fi
finish
