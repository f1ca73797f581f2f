#!/usr/bin/env bash
# bench.sh RETORT DATA PARSE: a run as its user sees it. bench skips what is done and extends a grid; the report is whole and needs
# nothing from outside; plan, show, verify and doctor do what they say. PARSE reads exports strictly (parse.c).
. "$(dirname "$0")/lib.sh" "$1" "$2"
parse=$3 r=$work/run

tiny "$work/t.yaml" "$r"
few=("$work/t.yaml" --set methods.names=random,herding)
must 'plan' plan "$work/t.yaml"
for row in phase 'teach convnet' 'build dm ipc 2' 'eval p1_classic convnet ipc 2' all memory: disk:; do
    check "plan has the row: $row" grep -q "^$row " "$work/out"
done
check 'plan leaves no artefact' test -z "$(find "$r" -name manifest.json | head -1)"

must 'bench of two methods' bench "${few[@]}"
check 'the table has both' test "$(grep -cE '^ *(random|herding) ' <(tr 'A-Z|' 'a-z ' < "$work/out"))" = 2
check 'it names the report' grep -q "^report: $r/report/index.html$" "$work/out"
page=$r/report/index.html
check 'which is there' test -s "$page"
sleep 0.02 # later files are newer than the mark, whatever the clock's grain
touch "$work/mark"
sleep 0.02
changed() { find "$r" -newer "$work/mark" \( -name manifest.json -o -name '*.ckpt' -o -name '*.tmp' \) | sort; }
begun=$(date +%s%N)
must 'bench again' bench "${few[@]}"
ms=$((($(date +%s%N) - begun) / 1000000))
check "the second run makes nothing: $(changed | head -1)" test -z "$(changed)"
grep -qE 'constructed|decode|load images' "$work/err" && fail "the second run works: $(grep -E 'constructed|decode|load images' "$work/err" | head -1)" || pass
check "the second run takes $ms ms" test $ms -lt 10000
must 'bench of the run folder' bench "$r"
check 'nor does a run of the folder' test -z "$(changed)"
must 'bench of all methods' bench "$work/t.yaml"
check 'the grid is extended' test -d "$r/sets/dm-ipc2-s0" -a -d "$r/evals/dm-ipc2-s0" -a -d "$r/measures/dm-ipc2-s0"
check "what was done stays: $(changed | grep -E 'random|herding|teacher' | head -1)" test -z "$(changed | grep -E 'random|herding|teacher')"
content "$r" sets evals > "$work/want"
rm -rf "$r/sets/dm-ipc2-s0" "$r/evals/kcenter-ipc2-s0"
must 'bench makes what is missing' bench "$work/t.yaml"
check 'with the same bytes' cmp <(content "$r" sets evals) "$work/want"

# A grid grows in every direction without doing again what it has.
grow() { # grow WHAT NEW_FOLDER ARGS...: bench with ARGS makes NEW_FOLDER and leaves the other artefacts but those named in $also
    local what=$1 new=$2
    shift 2
    sleep 0.02
    touch "$work/mark"
    find "$r" -name manifest.json | sort > "$work/there"
    must "$what" bench "$work/t.yaml" "$@"
    check "$what: makes $new" test -f "$r/$new/manifest.json"
    again=$(changed | grep -Fx -f "$work/there" | grep -vE "${also:-^$}" | head -1)
    check "$what: but nothing again: $again" test -z "$again"
}
grow 'one more seed' evals/dm-ipc2-s0/p1_classic-convnet-n1 --set eval.seeds=2
grow 'one more protocol' evals/dm-ipc2-s0/p1_plain-convnet-n0 --set eval.seeds=2 --set eval.protocols=p1_classic,p1_plain --set eval.epochs_plain=3
grow 'one more student' evals/dm-ipc2-s0/p1_classic-mlp-n0 --set eval.seeds=2 --set eval.students=convnet,mlp
grow 'one more size' evals/dm-ipc1-s0/p1_classic-convnet-n0 --set eval.seeds=2 --set set.ipc=1,2
also='el2n|/measures/' grow 'one more teacher' teacher/net1 --set eval.seeds=2 --set teach.runs=2 # EL2N averages over them
must 'back to the first grid' bench "$work/t.yaml" --set eval.seeds=2

# Draws can be given as files, and such a file counts by its bytes: DM from given images without an iteration is those images.
given=("$work/t.yaml" --set run.dir="$work/given" --set methods.names=dm --set dm.iterations=0 --set set.init_images="$work/init.safetensors")
for s in random herding; do
    cp "$r/sets/$s-ipc2-s0/set.safetensors" "$work/init.safetensors"
    must "DM from the images of $s" build "${given[@]}"
    check "is the images of $s" diff -r "$r/sets/$s-ipc2-s0/images" "$work/given/sets/dm-ipc2-s0/images"
done

# --- the report ------------------------------------------------------------------------------------------------------------------
for s in random herding kcenter el2n dm; do check "the page shows $s" grep -qi "$s" "$page"; done
# Addresses may only name XML namespaces; whatever a browser loads must be inside the page.
loads=$(grep -oE "(src|srcset|poster|action|xlink:href)=[\"'][^\"']{0,60}" "$page" | grep -vE "=[\"'](data:|#)" | head -1)
check "the page loads nothing: $loads" test -z "$loads"
loads=$(grep -oE "url\([^)]{0,40}" "$page" | grep -vE "url\([\"']?(data:|#)" | head -1)
check "its styles load nothing: $loads" test -z "$loads"
loads=$(grep -oE '<(link|script|iframe|object|embed|base)[ >].{0,60}|@import.{0,40}' "$page" | grep -vE '^<script>' | head -1)
check "it embeds nothing from outside: $loads" test -z "$loads"
loads=$(grep -oE "https?://[^\"' <)]{0,60}" "$page" | grep -v '^http://www\.w3\.org/' | head -1)
check "it names no address: $loads" test -z "$loads"
links=$(grep -oE 'href="[^"#][^"]*"' "$page" | sed 's/^href="//; s/"$//' | sort -u)
for l in $links; do check "its link leads somewhere: $l" test -f "$r/report/$l"; done
check 'exports parse' "$parse" "$r"/report/*.csv "$r"/report/*.jsonl
check 'one row a student' test "$(grep -c '"set_id":"dm-ipc2-s0"' <(tr -d ' ' < "$r/report/evals.jsonl"))" = \
    "$(ls -d "$r"/evals/dm-ipc2-s0/*/ | wc -l)"
rm -rf "$r/report"
must 'report of a run folder' report "$r"
check 'makes the page again' test -s "$page"

# --- show, verify, doctor ----------------------------------------------------------------------------------------------------------
must 'show' show "$r/sets/dm-ipc2-s0" --out "$work/dm.png" --zoom 2 --scale sd
check 'writes a PNG' cmp <(head -c 8 "$work/dm.png") <(printf '\211PNG\r\n\032\n')
refused_at_once 73 'dm.png exists' 'show over an existing file' show "$r/sets/dm-ipc2-s0" --out "$work/dm.png"
must 'verify' verify "$r"
check 'finds no damage' grep -q ' 0 damaged' "$work/out"
must 'verify --json' verify "$r" --json
cp "$work/out" "$work/verify.json"
run doctor
[ $code = 0 ] || [ $code = 3 ] && pass || { fail "doctor: exit $code"; grep '^red' "$work/out"; }
run doctor --json
cp "$work/out" "$work/doctor.json"
check 'JSON parses' "$parse" "$work/verify.json" "$work/doctor.json"
finish
