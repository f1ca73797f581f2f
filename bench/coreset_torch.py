#!/usr/bin/env python3
"""The work of bench/coreset.c in vectorised NumPy and PyTorch: the same features, the same picks.

    coreset_torch.py [rows] [dims] [budget] [runs] [threads]

Two versions of each selector, as one would write them: one matrix-vector product per pick with running norms (float64, and
float32 as most code uses it). The time of normalising the rows is included, as in ours. One JSON line per version; equal
`picks` means the same selection in the same order.
"""
import json
import statistics
import sys
import time

import numpy as np
import torch

rows, dims, budget, runs, threads = [int(v) for v in sys.argv[1:] + ["1300", "512", "130", "21", "2"][len(sys.argv) - 1:]]
torch.set_num_threads(threads)


def features():
    """The generator of bench/coreset.c: s = a s + c (mod 2^64) by jumps, so that NumPy can do it in blocks."""
    a, c, mask = 6364136223846793005, 1442695040888963407, (1 << 64) - 1
    block, out, s = 4096, [], 1
    mult, add = [], []
    m, b = 1, 0
    for _ in range(block):
        m, b = m * a & mask, (b * a + c) & mask
        mult.append(m)
        add.append(b)
    mult, add = np.array(mult, np.uint64), np.array(add, np.uint64)
    for _ in range(0, rows * dims, block):
        v = np.uint64(s) * mult + add
        out.append(v)
        s = int(v[-1])
    v = (np.concatenate(out)[: rows * dims] >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return (np.maximum(v, 0) / 8388608).astype(np.float32).reshape(rows, dims)


class Numpy:
    def __init__(self, dtype):
        self.name, self.dtype = f"numpy {np.__version__} {np.dtype(dtype).name}", dtype

    def open(self, x):
        x = x.astype(self.dtype)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def mean(self, x): return x.mean(0)
    def norms(self, x): return (x * x).sum(1)
    def full(self, x, v): return np.full(len(x), v, self.dtype)
    def minimum(self, a, b): return np.minimum(a, b)


class Torch(Numpy):
    def __init__(self, dtype):
        self.name, self.dtype = f"torch {torch.__version__} {str(dtype).split('.')[-1]}", dtype

    def open(self, x):
        x = torch.from_numpy(x).to(self.dtype)
        return x / x.norm(dim=1, keepdim=True)

    def full(self, x, v): return torch.full((len(x),), v, dtype=self.dtype)
    def minimum(self, a, b): return torch.minimum(a, b)


def herding(lib, raw):
    x = lib.open(raw)
    q, mu = lib.norms(x), lib.mean(x)
    target, taken, picks = mu * 0, lib.full(x, 0.0), []
    for _ in range(budget):
        target = target + mu
        j = int((q - 2 * (x @ target) + taken).argmin())
        picks.append(j)
        taken[j] = float("inf")
        target = target - x[j]
    return picks


def kcenter(lib, raw):
    x = lib.open(raw)
    q, mu = lib.norms(x), lib.mean(x)
    j, delta, picks = int((q - 2 * (x @ mu)).argmin()), lib.full(x, float("inf")), []
    for _ in range(budget):
        picks.append(j)
        delta = lib.minimum(delta, q + q[j] - 2 * (x @ x[j]))
        delta[j] = -1
        j = int(delta.argmax())
    return picks


raw = features()
for select in (herding, kcenter):
    for lib in (Numpy(np.float64), Numpy(np.float32), Torch(torch.float64), Torch(torch.float32)):
        ms, picks = [], select(lib, raw)
        for _ in range(runs):
            t = time.perf_counter()
            picks = select(lib, raw)
            ms.append(1e3 * (time.perf_counter() - t))
        total = 0
        for p in picks:
            total = (total * 31 + p + 1) % 1000000007
        print(json.dumps({"workload": select.__name__, "engine": lib.name, "rows": rows, "dims": dims, "budget": budget,
                          "threads": threads, "median_ms": round(statistics.median(ms), 2), "min_ms": round(min(ms), 2),
                          "max_ms": round(max(ms), 2), "picks": total}))
