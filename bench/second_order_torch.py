#!/usr/bin/env python3
"""The comparator of bench_second_order: the same second-order steps by PyTorch's double backward.

    second_order_torch.py WORKLOAD [batch] [runs] [threads] [steps]

    mtt   an unroll of `steps` inner steps with create_graph, then one backward to pixels and step size; time per step
    dsa   gradient with create_graph, cosine distance to a given gradient, backward to the pixels

Start it with MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592, or glibc returns the activations to
the kernel after every step and the page faults double the time. One JSON line, as bench_second_order.
"""
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

WIDTH, CLASSES = 128, 10


def shapes():
    channels = 3
    for _ in range(3):
        yield from [(WIDTH, channels, 3, 3), (WIDTH,), (WIDTH,), (WIDTH,)]
        channels = WIDTH
    yield from [(CLASSES, WIDTH * 16), (CLASSES,)]


SHAPES = list(shapes())
SIZES = [torch.Size(s).numel() for s in SHAPES]


def network(x, theta):
    p = [v.view(s) for v, s in zip(theta.split(SIZES), SHAPES)]
    for i in range(3):
        w, b, gamma, beta = p[4 * i:4 * i + 4]
        x = F.avg_pool2d(F.relu(F.group_norm(F.conv2d(x, w, b, padding=1), WIDTH, gamma, beta, 1e-5)), 2)
    return F.linear(x.flatten(1), p[12], p[13])


def start():
    parts = []
    for i, s in enumerate(SHAPES):
        if len(s) > 1:
            fan = torch.Size(s[1:]).numel()
            parts.append((torch.rand(s) * 2 - 1).flatten() / fan ** 0.5)
        else:
            norm = i < 12 and i % 4 == 2
            parts.append(torch.ones(s) if norm else torch.zeros(s))
    return torch.cat(parts)


def mtt(x, y, theta0, steps):
    beta = torch.tensor(0.01, requires_grad=True)
    x.grad = None
    target = theta0 + 0.01
    theta = theta0.clone().requires_grad_(True)
    for _ in range(steps):
        g, = torch.autograd.grad(F.cross_entropy(network(x, theta), y), theta, create_graph=True)
        theta = theta - beta * g
    loss = ((theta - target) ** 2).sum() / ((theta0 - target) ** 2).sum()
    loss.backward()


def dsa(x, y, theta, given):
    x.grad = None
    g, = torch.autograd.grad(F.cross_entropy(network(x, theta), y), theta, create_graph=True)
    distance = 0
    for a, b, s in zip(g.split(SIZES), given.split(SIZES), SHAPES):
        if len(s) < 2:
            continue
        a, b = a.view(s[0], -1), b.view(s[0], -1)
        distance = distance + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    distance.backward()


def main():
    arg = sys.argv[1:] + [None] * 5
    work, batch, runs, steps = arg[0] or "mtt", int(arg[1] or 100), int(arg[2] or 10), int(arg[4] or 3)
    if arg[3] and int(arg[3]):
        torch.set_num_threads(int(arg[3]))
    torch.manual_seed(1)
    x, y = torch.randn(batch, 3, 32, 32, requires_grad=True), torch.arange(batch) % CLASSES
    theta = start()
    if work == "mtt":
        def once():
            mtt(x, y, theta, steps)
    else:
        leaf, given = theta.clone().requires_grad_(True), 0.01 * torch.randn_like(theta)

        def once():
            dsa(x, y, leaf, given)
    per = steps if work == "mtt" else 1
    ms, cpu = [], []
    for _ in range(runs + 2):
        t, u = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        once()
        v = resource.getrusage(resource.RUSAGE_SELF)
        ms.append(1e3 * (time.perf_counter() - t) / per)
        cpu.append(1e3 * (v.ru_utime + v.ru_stime - u.ru_utime - u.ru_stime) / per)
    ms, cpu = sorted(ms[2:]), sorted(cpu[2:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"workload": work, "batch": batch, "steps": per,
                      "engine": f"torch {torch.__version__} {torch.get_num_threads()} threads",
                      "median_ms": round(ms[runs // 2], 2), "min_ms": round(ms[0], 2), "max_ms": round(ms[-1], 2),
                      "cpu_ms": round(cpu[0], 2), "peak_rss_mb": round(peak, 1)}))


main()
