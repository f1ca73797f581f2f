#!/usr/bin/env bash
# Everything that only a GPU can show, under ten minutes: tests/gpu/check.sh PROGRAMS
#   PROGRAMS  folder that holds the programs (a build folder, or a bundle's bin)
#   SANITIZER compute-sanitizer to use (default: from PATH or /usr/local/cuda/bin); without one those lines say so
# One line per check, PASS or FAIL or "not measured"; details in gpu-check.log in the current folder. Exit 0 all passed, 1 one failed,
# 77 (and one line) no device.
set -u
programs=$1 log=${LOG:-gpu-check.log}
program() { find "$programs" -name "$1" -type f -perm -u+x | head -1; }
gpu=$(program bench_gpu) ops=$(program test_ops_cpu) memory=$(program test_gpu_memory) opens=$(program test_cuda_open) retort=$(program retort)
for p in "$gpu" "$ops" "$memory" "$opens" "$retort"; do
    [ -n "$p" ] || { echo "a program is missing under $programs: build everything first" >&2; exit 66; }
done
about=$("$gpu" device) || { rc=$?; echo "$about"; exit "$rc"; }
echo "$about"
: >"$log"
failed=0
check() {
    local what=$1 t=$SECONDS rc=0
    shift
    echo "=== $what: $*" >>"$log"
    "$@" >>"$log" 2>&1 || rc=$?
    case $rc in
    0) printf 'PASS  %-58s %4d s\n' "$what" $((SECONDS - t)) ;;
    77) printf 'not measured: %s\n' "$what" ;;
    *) printf 'FAIL  %-58s %4d s, exit %d (%s)\n' "$what" $((SECONDS - t)) "$rc" "$log"; failed=1 ;;
    esac
}
# One process, not one per case: a device cannot be used across a fork, and opening it takes a while.
export CK_FORK=no RT_BACKEND=cuda
check "device opens" "$opens"
check "every op against ref, f32: derivatives, repeats, capture = direct" env RT_PRECISION=f32 "$ops"
check "every op against ref, tf32" env RT_PRECISION=tf32 "$ops"
check "every op against ref, bf16" env RT_PRECISION=bf16 "$ops"
check "out of memory is an error, and passes" "$memory"
run=$(mktemp -d)
check "a whole study of made-up images on the device" "$retort" demo --set backend.device=cuda --set backend.capture=verify --set "run.dir=$run/demo"
rm -rf "$run"
sanitizer=${SANITIZER:-$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)}
if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck; do
        check "compute-sanitizer $tool on the op suite" env RT_MODE=grad "$sanitizer" --tool "$tool" --error-exitcode 1 "$ops"
        check "compute-sanitizer $tool, second derivatives" env RT_MODE=grad2 "$sanitizer" --tool "$tool" --error-exitcode 1 "$ops"
    done
else
    echo "not measured: compute-sanitizer memcheck and racecheck (no compute-sanitizer found)"
fi
exit $failed
