#!/usr/bin/env bash
# Dependencies point one way (README "Map"): a file may include headers of its own part and of parts of a lower rank.
# Prints every violation; exit 1 when there is one.
set -u
cd "$1/src" || exit 1
declare -A rank=([base]=0 [graph]=1 [ops]=1 [backend]=2 [exec]=3 [data]=3 [artefact]=4 [nn]=5 [optim]=5 [teacher]=6
                 [methods]=7 [eval]=7 [metrics]=7 [report]=8 [config]=1 [stage]=9 [cli]=10)
bad=0
for part in */; do
    part=${part%/}
    [ -n "${rank[$part]:-}" ] || { echo "src/$part has no rank in tests/repo/includes.sh"; bad=1; continue; }
    while IFS=: read -r file line include; do
        other=$(sed -E 's/.*"([a-z]+)\/.*/\1/' <<<"$include")
        [ "$other" = "$part" ] && continue
        [ "$other" = math ] || [ "$other" = retort ] && continue
        if [ -z "${rank[$other]:-}" ]; then echo "src/$file:$line: unknown part in $include"; bad=1; continue; fi
        # peers of one rank may not include each other, except graph and ops, which define each other
        if [ "${rank[$other]}" -gt "${rank[$part]}" ] ||
           { [ "${rank[$other]}" -eq "${rank[$part]}" ] && [ "$part$other" != graphops ] && [ "$part$other" != opsgraph ]; }; then
            echo "src/$file:$line: $part may not include $other: $include"
            bad=1
        fi
    done < <(grep -rnE '^#include "[a-z]+/' "$part" --include='*.c' --include='*.h')
done
[ $bad = 0 ] && echo "includes: every part looks down only"
exit $bad
