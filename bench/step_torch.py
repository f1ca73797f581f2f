#!/usr/bin/env python3
"""The comparator of bench_step: the same ConvNet-3 training step in PyTorch, as fast as we can write it.

    step_torch.py [batch] [runs] [threads] [contiguous|channels_last]

Start it with MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592, or glibc returns the activations to
the kernel after every step and the page faults double the time. One JSON line, as bench_step.
"""
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


def cpu_seconds():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def main():
    arg = sys.argv[1:] + [None] * 4
    batch, runs = int(arg[0] or 256), int(arg[1] or 15)
    if arg[2] and int(arg[2]):
        torch.set_num_threads(int(arg[2]))
    layout = arg[3] or "contiguous"
    width, layers, channels = 128, [], 3
    for _ in range(3):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(inplace=True),
                   nn.AvgPool2d(2)]
        channels = width
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 16, 10))
    x, y = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10
    if layout == "channels_last":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)

    def step():
        opt.zero_grad(set_to_none=True)
        F.cross_entropy(net(x), y).backward()
        opt.step()

    ms, cpu = [], []
    for _ in range(runs + 2):
        t, c = time.perf_counter(), cpu_seconds()
        step()
        ms.append(1e3 * (time.perf_counter() - t))
        cpu.append(1e3 * (cpu_seconds() - c))
    ms, cpu = sorted(ms[2:]), sorted(cpu[2:])
    print(json.dumps({"workload": "convnet3 step", "batch": batch,
                      "engine": f"torch {torch.__version__} {layout} {torch.get_num_threads()} threads",
                      "median_ms": round(ms[runs // 2], 2), "min_ms": round(ms[0], 2), "max_ms": round(ms[-1], 2),
                      "cpu_ms": round(cpu[0], 2), "img_s": round(1e3 * batch / ms[0])}))


main()
