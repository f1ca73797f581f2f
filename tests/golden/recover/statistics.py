"""Statistics of a teacher's layers over a small training set (decoupled.md 2.4, 2.6, 2.11), by PyTorch in float64.

    python tests/golden/recover/statistics.py tests/golden/recover

20 8-bit images of three classes (image i: class i mod 3), in batches of 8, 8 and 4, through eval-mode ConvNets with BatchNorm:
two blocks at 24 pixels (maps of 24 and 12: enlarged to four tiles, one tile inside 16x16), three at 32 (32, 16 and 8).
"""
import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from generate import ConvNet, fill, set_statistics, set_weights, write  # noqa: E402

N, BATCH, CLASSES, WIDTH = 20, 8, 3, 5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(size):
    p = torch.from_numpy(fill(910 + size, N * size * size * 3, 127.5, 127.5)).floor().clamp(0, 255)
    m, s = torch.tensor(MEAN, dtype=torch.float32).double(), torch.tensor(STD, dtype=torch.float32).double()
    return ((p.reshape(N, size, size, 3) / 255 - m) / s).permute(0, 3, 1, 2)


def tiles(x):
    """[images, tiles, values of a tile]"""
    b, c, h, w = x.shape
    up = [(v + 15) // 16 * 16 for v in (h, w)]
    x = F.interpolate(x, up, mode="bilinear", align_corners=False)
    x = x.reshape(b, c, up[0] // 16, 16, up[1] // 16, 16).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, up[0] * up[1] // 256, -1)


def pooled(x):
    """Mean and biased variance per channel of a batch, and per tile."""
    t = tiles(x).transpose(0, 1).reshape(tiles(x).shape[1], -1)
    return x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False), t.mean(1), t.var(1, unbiased=False)


def within(x):
    t = tiles(x)
    return x.mean((2, 3)), x.var((2, 3), unbiased=False), t.mean(2), t.var(2, unbiased=False)


def collect(size, depth, out):
    net = ConvNet(depth, WIDTH, CLASSES, size, "batch").eval()
    set_weights(net)
    set_statistics(net)
    seen = {}
    for name, m in net.named_modules():
        if isinstance(m, (nn.Conv2d, nn.BatchNorm2d)):
            m.register_forward_hook(lambda m, i, o, name=name: seen.setdefault(name, []).append(i[0]))
    label = torch.arange(N) % CLASSES
    with torch.no_grad():
        for part in pictures(size).split(BATCH):
            net(part)
    names = ("mean", "var", "patch_mean", "patch_var")
    for layer, batches in seen.items():
        add = lambda key, v: out.__setitem__(f"{size}.{layer}.{key}", v)  # noqa: E731
        whole = torch.cat(batches)
        for k, key in enumerate(names):
            add(key, sum(pooled(b)[k] * len(b) / N for b in batches))
            add("within." + key, torch.stack([within(whole)[k][label == c].mean(0) for c in range(CLASSES)]))
            add("together." + key, torch.stack([pooled(whole[label == c])[k] for c in range(CLASSES)]))
            running = torch.full((CLASSES,) + pooled(whole)[k].shape, float(k % 2))
            for part, l in zip(batches, label.split(BATCH)):
                for c in range(CLASSES):
                    running[c] = 0.9 * running[c] + 0.1 * pooled(part[l == c])[k]
            add("running." + key, running)


if __name__ == "__main__":
    result = {}
    collect(24, 2, result)
    collect(32, 3, result)
    write(f"{sys.argv[1]}/statistics.safetensors", result)
