#!/usr/bin/env bash
# retort repro: a gate that passes, gates that fail, the reporting rules, and configs that are no recipes.
here=$(dirname "$0")
. "$here/lib.sh" "$@"

tiny "$work/c.yaml" "$work/run"
cat > "$work/r.yaml" <<YAML
$(sed -e 's/^methods:.*/methods: {names: [random, dm], set_seeds: 1, snapshots: [4, 8]}/' -e 's/^metrics:.*/metrics: {enabled: false}/' "$work/c.yaml" |
    sed -e 's/seeds: 1, epochs_classic: 4/seeds: 2, epochs_classic: 4/')
repro: {published: 1, tolerance: 0.5, source: "a table of nowhere", protocol: p1_classic}
YAML
says() { grep -qF -- "$1" "$work/out" || { fail "$2: no line says: $1"; cat "$work/out"; }; }
holds() { grep -q "$1" "$work/run/repro.json" || { fail "repro.json: no $1"; cat "$work/run/repro.json"; }; }

must 'a gate that passes' repro "$work/r.yaml"
says 'tiny: dm on imagefolder, 2 images per class' 'heading'
says '2 networks on 1 construction, last epoch' 'what the figure is'
says 'a table of nowhere; tolerance 0.50 points' 'the source'
says 'published - tolerance: pass by' 'the gate'
says 'random' 'the baseline'
says 'cost       construction' 'the cost'
grep -q changed "$work/out" && fail 'nothing was changed on the command line'
holds '"passed": true' && holds '"published": 1.0'
sets=$(content "$work/run" sets evals)

refused 3 'misses its gate' 'a published figure out of reach' repro "$work/r.yaml" --set repro.published=99
says 'published - tolerance: FAIL by' 'the missed gate'
says 'changed    repro.published=99' 'what the command line changed'
holds '"passed": false'
[ "$sets" = "$(content "$work/run" sets evals)" ] || fail 'repro built again what was there'

refused 3 'misses both gates' 'two gates' repro "$work/r.yaml" --set repro.published=99 --set repro.above_random=90
says 'above random: FAIL by' 'the gate against random'
# Five epochs on ten images may end below random: what counts is which gate is asked for.
run repro "$work/r.yaml" --set repro.published=99 --set repro.above_random=0.0001 \
    --set "repro.shortened=10 of 20,000 iterations" --set dm.lr=0.5
[ $code = 0 ] || [ $code = 3 ] && pass || fail "a shortened recipe: exit $code"
says 'above random: ' 'the gate of a shortened recipe'
says 'shortened  10 of 20,000 iterations; not a reproduction of the published figure' 'the shortening'
grep -q 'published - tolerance' "$work/out" && fail 'a shortened recipe was held against the published figure'

# best over checks: the highest mean over the finished set and its snapshots is never below the last epoch's
must 'best over checks' repro "$work/r.yaml" --set repro.report=best --set eval.check_every=1 --set dm.lr=1
says 'best over checks:' 'the rule'
best=$(sed -n 's/.*"accuracy": \([0-9.]*\),*/\1/p' "$work/run/repro.json")
must 'last epoch again' repro "$work/r.yaml" --set eval.check_every=1 --set dm.lr=1
last=$(sed -n 's/.*"accuracy": \([0-9.]*\),*/\1/p' "$work/run/repro.json")
awk -v b="$best" -v l="$last" 'BEGIN { exit !(b >= l && l > 0) }' && pass || fail "best $best below last $last"
grep -q '"best": 0\.' "$work"/run/evals/dm-ipc2-s0/p1_classic-convnet-n0/result.json && pass || fail 'result.json has no best'

refused_at_once 78 'is no recipe' 'a config without gates' repro "$work/c.yaml"
refused_at_once 78 'asks for nothing' 'shortened without a gate' repro "$work/r.yaml" --set repro.shortened=x
refused_at_once 78 'a recipe is about one' 'two methods' repro "$work/r.yaml" --set methods.names=dm,herding
refused_at_once 78 'compares a method with random' 'no random' repro "$work/r.yaml" --set methods.names=dm --set repro.above_random=1
refused_at_once 78 'a published figure is of one' 'two sizes' repro "$work/r.yaml" --set set.ipc=1,2
refused_at_once 78 'does not run' 'a protocol that is not run' repro "$work/r.yaml" --set repro.protocol=p1_mtt
refused_at_once 78 'repro.tolerance' 'a negative tolerance' repro "$work/r.yaml" --set repro.tolerance=-1
must 'random alone is a recipe' repro "$work/r.yaml" --set methods.names=random
says 'tiny: random on imagefolder' 'heading of random'
finish
