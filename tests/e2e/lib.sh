# Helpers of the end-to-end scripts: sourced as `. lib.sh RETORT DATA`, not run. They drive the program as a user does and
# judge it by its exit code, its standard error and the files it leaves. DATA is the folder that data.sh filled.
set -u
retort=$1 data=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=0 failed=0 code=0

pass() { checks=$((checks + 1)); }
fail() {
    checks=$((checks + 1)) failed=$((failed + 1))
    echo "FAIL: $*"
}
# check WHAT COMMAND...: the command must succeed
check() {
    local what=$1
    shift
    if "$@" > "$work/check" 2>&1; then pass; else
        fail "$what"
        head -5 "$work/check"
    fi
}
skip() { echo "skipped: $*"; }
finish() {
    echo "$checks checks, $failed failed"
    [ $checks -gt 0 ] && [ $failed = 0 ]
    exit
}

# One run of the program: its exit code in $code, its output in $work/out and $work/err.
run() {
    "$retort" "$@" > "$work/out" 2> "$work/err"
    code=$?
}
# must WHAT ARGS...: the run ends with exit code 0
must() {
    local what=$1
    shift
    run "$@"
    [ $code = 0 ] && { pass; return 0; }
    fail "$what: exit $code"
    tail -5 "$work/err"
    return 1
}
# An error is exactly three lines: what, where, what to do; nothing follows it, and there is no second one.
three_lines() {
    local want=$1 n
    n=$(wc -l < "$work/err")
    [ "$n" -ge 3 ] && [ "$(grep -c '^error\[' "$work/err")" = 1 ] &&
        tail -3 "$work/err" | awk -v c="error[$want]: " '
            NR == 1 { ok = index($0, c) == 1 && length($0) > length(c) }
            NR == 2 { ok = ok && /^  retort/ }
            NR == 3 { ok = ok && /^  fix: ./ }
            END { exit !(NR == 3 && ok) }'
}
# refused CODE TEXT WHAT ARGS...: that exit code, a three-line error, and TEXT (fixed string) in its first line
refused() {
    local want=$1 text=$2 what=$3
    shift 3
    run "$@"
    if [ $code != "$want" ]; then
        fail "$what: exit $code, want $want"
    elif ! three_lines "$want"; then
        fail "$what: not three lines"
    elif ! tail -3 "$work/err" | head -1 | grep -qF -- "$text"; then
        fail "$what: the message does not say: $text"
    else
        pass
        return 0
    fi
    tail -5 "$work/err"
    return 1
}
# the same where nothing may precede the error: standard error holds the three lines and no other
refused_at_once() {
    refused "$@" || return 1
    [ "$(wc -l < "$work/err")" = 3 ] || fail "$3: $(wc -l < "$work/err") lines on standard error, want 3"
}

# Every file below the folders given (relative to $1) with its hash; run.json holds clocks and the host and is left out.
content() {
    (cd "$1" && shift && find "$@" -type f ! -name run.json -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum)
}

# tiny FILE RUN_DIR: the smallest config that goes through every stage; 10 classes, 20 + 10 images each
tiny() {
    cat > "$1" <<YAML
version: 1
name: tiny
seed: 11
backend: {threads: 1}
data: {kind: imagefolder, train: "$data/train", test: "$data/test", size: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
network: {arch: convnet, depth: 2, width: 16}
teach: {epochs: 1, batch: 50}
set: {ipc: [2]}
methods: {names: [random, herding, kcenter, el2n, dm], set_seeds: 1}
dm: {iterations: 10, batch_real: 16}
eval: {protocols: [p1_classic], seeds: 1, epochs_classic: 4, full_data: false}
metrics: {k: [2]}
run: {dir: "$2"}
YAML
}
