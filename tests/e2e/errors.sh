#!/usr/bin/env bash
# errors.sh RETORT DATA: what the program says about bad input. Every case has its documented exit code and an error of three
# lines; a config's error names file, line and column.
. "$(dirname "$0")/lib.sh" "$1" "$2"

# --- malformed configs ---------------------------------------------------------------------------------------------------------
# bad POSITION TEXT CONFIG (printf escapes)
bad() {
    printf '%b' "$3" > "$work/bad.yaml"
    refused_at_once 78 "bad.yaml:$1: " "config $3" plan "$work/bad.yaml" && { grep -qF -- "$2" "$work/err" || fail "config $3: does not say: $2"; }
}
bad 1:1 'empty' ''
bad 1:1 'got a single value' 'hello\n'
bad 1:1 'got a list' '- version\n- 1\n'
bad 1:1 '`version` is missing' 'name: x\n'
bad 1:10 'out of range: 2' 'version: 2\n'
bad 2:1 'duplicate key `version`' 'version: 1\nversion: 1\n'
bad 4:3 'duplicate key `teach.lr`' 'version: 1\nteach:\n  lr: 0.1\n  lr: 0.2\n'
bad 2:1 'did you mean `teach`?' 'version: 1\ntaech:\n  lr: 3\n'
bad 3:3 'did you mean `teach.epochs`?' 'version: 1\nteach:\n  epocs: 3\n'
bad 3:3 'did you mean `set.ipc`?' 'version: 1\nteach:\n  ipc: 3\n'
bad 2:1 'unknown key `teach.lr`' 'version: 1\nteach.lr: 3\n'
bad 2:8 'must be a map of keys, got a single value' 'version: 1\nteach: 5\n'
bad 2:17 'must be an integer, got `5x`' 'version: 1\nteach: {epochs: 5x}\n'
bad 2:17 'must be an integer, got `3.7`' 'version: 1\nteach: {epochs: 3.7}\n'
bad 2:17 'must be an integer, got `010`' 'version: 1\nteach: {epochs: 010}\n'
bad 2:17 'out of range: 0' 'version: 1\nteach: {epochs: 0}\n'
bad 2:7 'out of range: 9223372036854775808' 'version: 1\nseed: 9223372036854775808\n'
bad 2:17 'must be a single value, got a list' 'version: 1\nteach: {epochs: [1]}\n'
bad 2:13 'must be a number, got `nan`' 'version: 1\nteach: {lr: nan}\n'
bad 2:13 'out of range: 1e999' 'version: 1\nteach: {lr: 1e999}\n'
bad 2:19 'must be true or false, got `yes`' 'version: 1\nteach: {nesterov: yes}\n'
bad 2:20 'did you mean `sgd`?' 'version: 1\nteach: {optimiser: sdg}\n'
bad 2:31 'lists `dm` twice' 'version: 1\nmethods: {names: [dm, random, dm]}\n'
bad 2:12 'must be a list, got a map' 'version: 1\nset: {ipc: {a: 1}}\n'
bad 2:19 'out of range: 0' 'version: 1\ndata: {std: [0.1, 0, 0.2]}\n'
bad 2:7 'quote it' 'version: 1\nname: null\n'
bad 2:7 'anchors and aliases' 'version: 1\nname: &n x\n'
bad 2:7 'tags are not supported' 'version: 1\nname: !!str x\n'
bad 2:1 'second YAML document' 'version: 1\n---\nversion: 1\n'
bad 3:1 'not YAML' 'version: 1\nteach:\n\tlr: 1\n'
bad 2:7 'not YAML' 'version: 1\nname: \0377\0376\n'
bad 2:26 'less than the centre crop' 'version: 1\ndata: {train: t, resize: 16, size: 32}\n'
bad 1:1 '`data.train` is not given' 'version: 1\ndata: {kind: wds}\n'
bad 3:18 'halves 32 pixels to nothing' 'version: 1\ndata: {train: t}\nnetwork: {depth: 6}\n'
bad 3:11 'names no augmentation: `crob`' 'version: 1\ndata: {train: t}\ndm: {dsa: color_crob}\n'
tiny "$work/t.yaml" "$work/run"
refused_at_once 78 'unknown key `teach.epocs`' 'a --set with an unknown key' plan "$work/t.yaml" --set teach.epocs=3
refused_at_once 78 'out of range' 'a --set out of range' plan "$work/t.yaml" --set teach.lr=-1
check 'refused configs create no run folder' test ! -e "$work/run" -a ! -e "$work/runs"

# --- usage, missing input, devices, locks -------------------------------------------------------------------------------------
refused_at_once 64 'no verb `bulid`' 'unknown verb' bulid
refused_at_once 64 'no flag --frobnicate' 'unknown flag' build "$work/t.yaml" --frobnicate
refused_at_once 64 '--set needs a value' 'flag without its value' build "$work/t.yaml" --set
refused_at_once 64 '' 'missing argument' show
refused_at_once 64 'no config given' 'missing config' build
refused_at_once 66 'none.yaml' 'missing config file' build "$work/none.yaml"
refused_at_once 66 'nowhere' 'verify of nothing' verify "$work/nowhere"
mkdir "$work/plain"
refused_at_once 66 'not a run folder' 'a folder that is no run' bench "$work/plain"
refused_at_once 66 'no results.db' 'a report of it' report "$work/plain"
refused 66 'none' 'missing data' index "$work/t.yaml" --set data.train="$work/none"
refused 66 'none.st' 'missing initial images' build "$work/t.yaml" --set methods.names=dm --set set.init_images="$work/none.st"
refused 66 'not constructed yet' 'evaluation before construction' eval "$work/t.yaml"
refused 66 'nowhere' 'evaluation of a set that is not there' eval "$work/t.yaml" "$work/nowhere"

if [ -e /dev/nvidia0 ]; then skip 'device cuda without a GPU: there is one'; else
    refused 69 'CUDA' 'device cuda without a GPU' build "$work/t.yaml" --set backend.device=cuda
fi

mkdir -p "$work/locked"
exec 8> "$work/locked/LOCK"
if flock -n 8; then
    refused 73 'in use' 'a locked run folder' index "$work/t.yaml" --set run.dir="$work/locked"
    exec 8>&-
    must 'the same when the lock is gone' index "$work/t.yaml" --set run.dir="$work/locked"
else fail 'flock'; fi

touch "$work/file"
run index "$work/t.yaml" --set run.dir="$work/file/run"
if [ $code != 0 ] && three_lines $code; then pass; else fail "a run folder below a file: exit $code"; fi
if [ "$(id -u)" = 0 ]; then skip 'unwritable run folder (77): root may write everywhere'; else
    mkdir -m 555 "$work/readonly"
    refused 77 'readonly' 'unwritable run folder' index "$work/t.yaml" --set run.dir="$work/readonly/run"
fi

refused 79 'loss is' 'a learning rate that diverges' teach "$work/t.yaml" --set network.norm=none --set teach.lr=1000 --set teach.epochs=5
refused 79 'matching loss is' 'a construction that diverges' build "$work/t.yaml" --set methods.names=dm --set network.norm=none --set dm.lr=100000
refused 78 'images, 21 per class are asked for' 'more images than a class has' build "$work/t.yaml" --set methods.names=random --set set.ipc=21
"$retort" help > /dev/full 2> "$work/err"
code=$?
[ $code = 74 ] && three_lines 74 && pass || fail "a full standard output: exit $code"

# --- malformed safetensors -----------------------------------------------------------------------------------------------------
# Written into $work/bad.safetensors, then met where users meet such files: as given initial images, network weights or batch
# order of a construction, and by verify.
u64() { # little-endian
    local v=$1 i
    for ((i = 0; i < 8; i++)); do printf "\\x$(printf %02x $(((v >> (8 * i)) & 255)))"; done
}
zeros() { head -c "$1" /dev/zero; }
st() { # st WHAT TEXT HEADER(printf escapes) DATA_BYTES [ADDED_TO_LENGTH]
    local header n key
    header=$(printf '%b.' "$3") header=${header%.}
    n=$(LC_ALL=C bash -c 'printf %s "${#1}"' - "$header")
    { u64 $((n + ${5:-0})); printf %s "$header"; zeros "$4"; } > "$work/bad.safetensors"
    meet "$1" "$2"
}
n_st=0 keys=(init_images network_weights batch_order)
meet() {
    refused 65 "$2" "safetensors, verify: $1" verify "$work/bad.safetensors"
    refused 65 "$2" "safetensors, ${keys[$((n_st % 3))]}: $1" build "$work/t.yaml" --set methods.names=dm \
        --set set.${keys[$((n_st % 3))]}="$work/bad.safetensors"
    n_st=$((n_st + 1))
}
one() { printf '{"a":{"dtype":"%s","shape":%s,"data_offsets":%s}}' "$1" "$2" "$3"; }
e='"dtype":"F32","shape":[1],"data_offsets":[0,4]'

: > "$work/bad.safetensors"; meet 'empty file' 'too few'
printf 'abc' > "$work/bad.safetensors"; meet 'three bytes' 'too few'
rm "$work/bad.safetensors"; mkfifo "$work/bad.safetensors"
refused 65 'not a regular file' 'a FIFO as initial images' build "$work/t.yaml" --set methods.names=dm --set set.init_images="$work/bad.safetensors"
rm "$work/bad.safetensors"
st 'length beyond the file' 'header of' "$(one F32 [1] [0,4])" 4 1000
st 'length beyond the cap' 'at most 100000000' "$(one F32 [1] [0,4])" 4 100000001
st 'length cuts the object' 'bad.safetensors' "$(one F32 [1] [0,4])" 4 -1
st 'length takes a data byte' "after the header's object" "$(one F32 [1] [0,4])" 4 1
st 'empty header' 'does not begin' '' 0
st 'leading space' 'does not begin' ' {}' 0
st 'list at the top' 'does not begin' '[]' 0
st 'two objects' 'bad.safetensors' '{}{}' 0
st 'not JSON' 'bad.safetensors' '{"a"}' 0
st 'trailing comma' 'bad.safetensors' '{"__metadata__":{},}' 0
st 'name not UTF-8' 'bad.safetensors' "{\"\\0377\":{$e}}" 4
st 'lone surrogate' 'bad.safetensors' "{\"\\\\ud800\":{$e}}" 4
st 'duplicate tensor' 'duplicate' "{\"a\":{$e},\"a\":{$e}}" 4
st 'metadata is a list' '__metadata__' '{"__metadata__":[]}' 0
st 'metadata value is a number' 'not a string' '{"__metadata__":{"k":1}}' 0
st 'unknown dtype' 'unknown dtype' "$(one F33 [1] [0,4])" 4
st 'float offset' 'not an integer' "$(one F32 [1] [0,4.0])" 4
st 'negative offset' 'signed' "$(one F32 [1] [-4,0])" 4
st 'negative dimension' 'signed' "$(one F32 [-1] [0,4])" 4
st 'number beyond 64 bits' 'bad.safetensors' "$(one F32 [99999999999999999999] [0,4])" 4
st 'dimension of 2^48' '2^48-1' "$(one F32 [281474976710656] [0,4])" 4
st 'shape product overflows' 'overflows' "$(one F32 [281474976710655,281474976710655] [0,4])" 4
st 'overflow hidden by a zero' 'overflows' "$(one F32 [281474976710655,281474976710655,0] [0,0])" 0
st 'end before begin' 'offsets' "$(one F32 [1] [4,0])" 4
st 'size differs from shape' 'for 8 bytes' "$(one F32 [2] [0,4])" 4
st 'end beyond the data' 'the buffer at 4' "$(one F32 [2] [0,8])" 4
st 'trailing bytes' 'the buffer at 5' "$(one F32 [1] [0,4])" 5
st 'first tensor not at zero' 'a hole' "$(one F32 [1] [4,8])" 8
st 'overlap' 'an overlap' '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}' 8
st 'unknown field' 'not exactly' "{\"a\":{$e,\"x\":1}}" 4
st 'entry is a list' 'not exactly' '{"a":[1,2]}' 0
st 'nested dimension' 'nested deeper' "$(one F32 [[1]] [0,4])" 4
check 'at least thirty malformed safetensors' test $n_st -ge 30

# Well-formed files that are not what was asked for.
n_st=0
wrong() {
    local key=$1
    shift
    { u64 ${#2}; printf %s "$2"; zeros "$3"; } > "$work/bad.safetensors"
    refused 65 "$4" "$key: $1" build "$work/t.yaml" --set methods.names=dm --set set.$key="$work/bad.safetensors"
}
wrong init_images 'no tensor of that name' "$(one F32 [1] [0,4])" 4 "no tensor 'images'"
wrong init_images 'wrong shape' '{"images":{"dtype":"F32","shape":[20,8,8,3],"data_offsets":[0,15360]}}' 15360 "'images' must be"
wrong network_weights 'too few networks' '{"theta":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]}}' 16 "'theta' must be"
wrong batch_order 'too few batches' '{"real":{"dtype":"I64","shape":[1,1,1],"data_offsets":[0,8]}}' 8 "'real' must be"
h='{"images":{"dtype":"F32","shape":[20,16,16,3],"data_offsets":[0,61440]}}'
{ u64 ${#h}; printf %s "$h"; zeros 61440 | tr '\0' '\377'; } > "$work/bad.safetensors"
refused 65 'not finite' 'init_images: not numbers' build "$work/t.yaml" --set methods.names=dm --set set.init_images="$work/bad.safetensors"
check 'a refused construction leaves no set' test -z "$(find "$work/run/sets" -mindepth 1 -name 'dm*' 2> /dev/null | head -1)"

# --- artefacts ---------------------------------------------------------------------------------------------------------------------
must 'a set' build "$work/t.yaml" --set methods.names=random
must 'verify it' verify "$work/run"
good=$work/run/sets/random-ipc2-s0
flip() { # one bit in the middle of the file
    local at=$(($(stat -c %s "$1") / 2)) b
    b=$(od -An -tu1 -j $at -N 1 "$1")
    printf "\\x$(printf %02x $((b ^ 16)))" | dd of="$1" bs=1 seek=$at conv=notrunc status=none
}
for name in set.safetensors manifest.json run.json classes.txt index.csv "$(cd "$good" && find images -name '*.png' | head -1)"; do
    rm -rf "$work/bad"
    cp -r "$good" "$work/bad"
    flip "$work/bad/$name"
    refused 65 "bad" "a flipped bit in $name" verify "$work/bad"
done
rm -rf "$work/bad"; cp -r "$good" "$work/bad"; rm "$work/bad/index.csv"
refused 65 'index.csv' 'a missing file' verify "$work/bad"
refused 65 'index.csv' 'evaluation of a set with a missing file' eval "$work/t.yaml" "$work/bad"
rm -rf "$work/bad"; cp -r "$good" "$work/bad"; truncate -s -1 "$work/bad/set.safetensors"
refused 65 'set.safetensors' 'evaluation of a truncated set' eval "$work/t.yaml" "$work/bad"
rm -rf "$work/bad"; cp -r "$good" "$work/bad"; printf '{' > "$work/bad/manifest.json"
refused 65 'manifest.json' 'evaluation of a set with a broken manifest' eval "$work/t.yaml" "$work/bad"
refused 65 'manifest.json' 'show of a set with a broken manifest' show "$work/bad" --out "$work/x.png"
check 'a refused show writes nothing' test ! -e "$work/x.png"
rm -rf "$work/bad"; cp -r "$good" "$work/bad"; rm "$work/bad/manifest.json"
refused 66 'bad' 'a set without a manifest does not exist' eval "$work/t.yaml" "$work/bad"

rm -rf "$work/bad"; cp -r "$good" "$work/bad"; flip "$work/bad/set.safetensors"
refused 65 'SHA-256' 'evaluation of a set with a flipped bit' eval "$work/t.yaml" "$work/bad"
head -c 4096 /dev/urandom > "$work/run/results.db"
refused_at_once 65 'results.db' 'a report from a damaged results.db' report "$work/run"
rm "$work/run/results.db"

# Sets of elsewhere: their results stay inside the run folder, apart from those of the run's own set of that name.
must 'the own set' eval "$work/t.yaml" --set methods.names=random
own=$(content "$work/run" evals)
must 'another of the same name' build "$work/t.yaml" --set methods.names=random --set seed=99 --set run.dir="$work/else"
find "$work/else" -type f | sort > "$work/before"
(cd "$work/run" && "$retort" eval "$work/t.yaml" ../else/sets/random-ipc2-s0/ > "$work/out" 2> "$work/err")
code=$?
check 'is evaluated' test $code = 0
check 'without touching the own one' cmp <(content "$work/run" evals/random-ipc2-s0) - <<< "$own"
check 'inside the run folder' test "$(find "$work/run/evals" -mindepth 2 -maxdepth 2 -type d | wc -l)" = 2
check 'and only there' cmp <(find "$work/else" -type f | sort) "$work/before"

# --- two class orders --------------------------------------------------------------------------------------------------------------
cp -r "$data" "$work/other"
first=$(ls "$work/other/train" | head -1)
for split in train test; do mv "$work/other/$split/$first" "$work/other/$split/zz_last"; done
second=$(ls "$data/train" | sed -n 2p)
refused 65 "$first" 'evaluation over another class order' eval "$work/t.yaml" "$good" --set run.dir="$work/run2" \
    --set data.train="$work/other/train" --set data.test="$work/other/test"
check 'it names the first class of both lists' grep -q "$first.*$second\|$second.*$first" "$work/err"
rm -rf "$work/other/test/zz_last"
refused 65 '' 'splits that disagree on their classes' index "$work/t.yaml" --set run.dir="$work/run3" \
    --set data.train="$work/other/train" --set data.test="$work/other/test"
finish
