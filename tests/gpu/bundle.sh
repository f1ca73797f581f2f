#!/usr/bin/env bash
# bundle.sh BUILD OUT: a folder that runs on any x86-64 Linux with glibc 2.36 or later: programs, device tests, benchmarks and the
# libraries they need, CUDA's own left out (found at run time: RT_CUDA_LIBRARIES, the loader's path, /usr/local/cuda, Python's nvidia
# packages). BUILD was configured with -DRT_BUNDLE=ON. Libraries over 8 MB lie compressed; ./run unpacks them the first time.
set -euo pipefail
build=$1 out=$2 here=$(cd "$(dirname "$0")/../.." && pwd)
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib" "$out/bench" "$out/tests/gpu" "$out/configs"
for p in src/cli/retort tests/ops/test_ops_cpu tests/kernels/test_cuda_open tests/gpu/test_gpu_memory bench/bench_gpu bench/bench_coreset \
    bench/bench_loader bench/bench_nets; do
    install -s -m 755 "$build/$p" "$out/bin/"
done
install -s -m 755 "$build/libretort.so" "$out/lib/"
# Everything that the programs load but the C library itself.
ldd "$build/libretort.so" "$out"/bin/* 2>/dev/null | awk '$3 ~ /^\// {print $1, $3}' | sort -u |
    grep -vE '^(libc|libm|libdl|librt|libpthread|ld-linux[^ ]*)\.so|^libretort\.so' | while read -r name path; do
    install -m 644 "$(readlink -f "$path")" "$out/lib/$name"
    [ "$(stat -c %s "$out/lib/$name")" -le 8000000 ] || gzip -9 "$out/lib/$name"
done
cp "$here"/bench/{run_gpu.sh,gpu_torch.py,gpu_table.py,coreset_torch.py,loader_pil.py} "$out/bench/"
cp "$here/tests/gpu/check.sh" "$out/tests/gpu/"
cp "$here"/configs/*.yaml "$out/configs/"
cp "$here/LICENSE" "$out/"
cat >"$out/run" <<'RUN'
#!/bin/sh
# ./run check              everything that only a GPU can show          (tests/gpu/check.sh; SANITIZER=)
# ./run bench [PYTHON]     the workloads, beside PyTorch where it is    (bench/run_gpu.sh; PAIRS= SHARD= SMOKE= DEVICE=)
# ./run PROGRAM ARGS...    one of bin/: retort, bench_gpu, test_ops_cpu, ...
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit 1
for z in "$here"/lib/*.gz; do
    [ -e "$z" ] || continue
    so=${z%.gz}
    [ -e "$so" ] || { gzip -dc "$z" >"$so.$$" && mv "$so.$$" "$so"; } || { echo "cannot unpack $z: is $here writable?" >&2; exit 73; }
done
case ${1:-} in
check) shift; exec bash "$here/tests/gpu/check.sh" "$here/bin" "$@" ;;
bench) shift; exec bash "$here/bench/run_gpu.sh" "$here/bin" "${1:-python3}" "$PWD" ;;
"" | -h | --help) sed -n '2,4s/^# //p' "$0"; exit 64 ;;
*) program=$1; shift; exec "$here/bin/$program" "$@" ;;
esac
RUN
chmod +x "$out/run"
size=$(du -sb "$out" | cut -f1)
printf '%s: %.1f MiB\n' "$out" "$(awk "BEGIN {print $size / 1048576}")"
[ "$size" -le $((40 << 20)) ] || { echo "over 40 MiB" >&2; exit 1; }
newest=$(for f in "$out"/bin/* "$out"/lib/*.so*; do case $f in *.gz) ;; *) objdump -T "$f" 2>/dev/null ;; esac; done | grep -o 'GLIBC_2\.[0-9]*' | sort -uV | tail -1)
echo "needs $newest"
