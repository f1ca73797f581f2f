#!/usr/bin/env bash
# budget.sh SOURCE_DIR [NVCC]: compiles every kernel for sm_80, sm_90 and sm_100, reports registers, stack and spills as ptxas
# counts them, and compares with kernels/budget.txt. Exit 0: within; 1: over, or a kernel or a line without its counterpart;
# 77: no nvcc. A budget that must grow is changed there, where a reviewer sees it.
set -eu
src=$1
nvcc=${2:-$(command -v nvcc || true)}
[ -n "$nvcc" ] || { for d in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /opt/cuda; do [ -n "$d" ] && [ -x "$d/bin/nvcc" ] && nvcc=$d/bin/nvcc && break; done; }
[ -n "$nvcc" ] || { echo "no nvcc: registers and spills not measured"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
known=$("$nvcc" --list-gpu-arch)
for arch in 80 90 100; do
    grep -qx "compute_$arch" <<<"$known" || { echo "this nvcc does not know sm_$arch: not measured"; exit 77; }
done
for file in "$src"/kernels/*.cu; do
    name=$(basename "$file" .cu)
    # The flags of kernels/CMakeLists.txt.
    if ! "$nvcc" -std=c++17 -O3 -I"$src/kernels" -fmad=false --Werror all-warnings -Xptxas -v \
        -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_100,code=sm_100 \
        -c "$file" -o "$work/out.o" 2>"$work/log"; then
        cat "$work/log"
        exit 1
    fi
    # One line per kernel, architecture and template instance: name arch registers stack spills.
    awk -v file="$name" '
        /Compiling entry function/ {
            split($0, part, "\x27")
            mangled = part[2]
            arch = part[4]
            kernel = mangled
            if (match(mangled, /[0-9]+k_/)) {
                len = substr(mangled, RSTART, RLENGTH - 2) + 0
                kernel = substr(mangled, RSTART + RLENGTH - 2, len)
            }
        }
        /bytes stack frame/ && kernel != "" { stack = $1; spill = $5 + $9 }
        /Used [0-9]+ registers/ && kernel != "" {
            for (i = 1; i < NF; i++) if ($i == "Used") regs = $(i + 1)
            print file "." kernel, arch, regs, stack, spill
            kernel = ""
        }' "$work/log" >>"$work/found"
done
awk '
    FNR == NR {
        if ($0 ~ /^#/ || NF == 0) next
        n++
        pattern[n] = $1
        gsub(/\*/, ".*", $1)
        expr[n] = "^" $1 "$"
        regs[n] = $2
        stack[n] = $3
        spill[n] = $4
        next
    }
    {
        seen++
        for (i = 1; i <= n; i++) if ($1 ~ expr[i]) break
        if (i > n) { printf "%s: no line in kernels/budget.txt (%s: %d registers, %d bytes of stack, %d of spills)\n", $1, $2, $3, $4, $5; bad = 1; next }
        used[i] = 1
        key = i SUBSEP $2
        if ($3 > most[key]) most[key] = $3
        if ($4 > deep[i]) deep[i] = $4
        if ($5 > worst[i]) worst[i] = $5
        if ($3 > regs[i] || $4 > stack[i] || $5 > spill[i]) {
            printf "%s on %s: %d registers (budget %d), %d bytes of stack (%d), %d of spills (%d)\n", $1, $2, $3, regs[i], $4, stack[i],
                $5, spill[i]
            bad = 1
        }
    }
    END {
        printf "%-30s %8s %6s %6s %7s %6s %7s\n", "kernels", "budget", "sm_80", "sm_90", "sm_100", "stack", "spills"
        for (i = 1; i <= n; i++) {
            if (!used[i]) { printf "%s: a line of kernels/budget.txt that no kernel matches\n", pattern[i]; bad = 1; continue }
            printf "%-30s %8d %6d %6d %7d %6d %7d\n", pattern[i], regs[i], most[i, "sm_80"], most[i, "sm_90"], most[i, "sm_100"], deep[i],
                worst[i]
        }
        printf "%d kernels counted\n", seen
        exit bad || !seen
    }' "$src/kernels/budget.txt" "$work/found"
