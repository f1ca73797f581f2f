#!/usr/bin/env python3
"""Two iterations of distribution matching, computed independently with PyTorch autograd in float64.

    python generate.py dm.safetensors

Every draw is in the file (real images, initial images, network weights, real batches, DSA parameters), so that
tests/methods/dm can feed them to the method and compare the images that come out. ConvNet-2, width 6, 16x16, 3 classes,
IPC 2, 4 real images per class and iteration, lr 30 (so that the images move visibly), momentum 0.5. DSA here: colour, then an affine resampling in pixel
coordinates, then a box of zeros (one stage with every part active, a harder case than any single draw).
"""
import json
import struct
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
C, IPC, B, SIZE, W, ITS, N = 3, 2, 4, 16, 6, 2, 30
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
LR, MOMENTUM = 30.0, 0.5


def color(x, p):
    b, s, k = (p[:, i].view(-1, 1, 1, 1) for i in range(3))
    x = x + b
    m = x.mean(1, keepdim=True)
    x = (x - m) * s + m
    m = x.mean((1, 2, 3), keepdim=True)
    return (x - m) * k + m


def affine(x, a):
    n, _, h, w = x.shape
    i, j = torch.meshgrid(torch.arange(h, dtype=x.dtype), torch.arange(w, dtype=x.dtype), indexing="ij")
    row = a[:, 0].view(-1, 1, 1) * i + a[:, 1].view(-1, 1, 1) * j + a[:, 2].view(-1, 1, 1)
    col = a[:, 3].view(-1, 1, 1) * i + a[:, 4].view(-1, 1, 1) * j + a[:, 5].view(-1, 1, 1)
    grid = torch.stack((2 * col / (w - 1) - 1, 2 * row / (h - 1) - 1), -1)  # align_corners: pixel centres at -1 and 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def box(x, b):
    keep = torch.ones_like(x)
    for n in range(x.shape[0]):
        r0, r1, c0, c1 = (int(v) for v in b[n])
        keep[n, :, max(r0, 0):max(r1, 0), max(c0, 0):max(c1, 0)] = 0
    return x * keep


def view(x, d, it, c):
    n = x.shape[0]
    rep = lambda t: t[it, c].expand(n, -1)
    return box(affine(color(x, rep(d["dsa_color"])), rep(d["dsa_affine"])), rep(d["dsa_box"]))


def features(x, theta):
    at = 0
    for k in range(2):
        cin = 3 if k == 0 else W
        parts = []
        for shape in ((W, cin, 3, 3), (W,), (W,), (W,)):  # conv weight, conv bias, norm weight, norm bias
            count = torch.Size(shape).numel()
            parts.append(theta[at:at + count].view(shape))
            at += count
        x = F.conv2d(x, parts[0], parts[1], padding=1)
        x = F.avg_pool2d(F.relu(F.group_norm(x, W, parts[2], parts[3], 1e-5)), 2)
    return x.flatten(1), at


def main(path):
    n_features = W * (SIZE // 4) ** 2
    n_params = W * 27 + 3 * W + W * W * 9 + 3 * W + C * n_features + C
    px = torch.randint(0, 256, (N, SIZE, SIZE, 3), dtype=torch.uint8)
    label = torch.arange(N) % C
    d = {
        "init": (torch.randn(C * IPC, SIZE, SIZE, 3) * 64).round() / 64,
        "theta": (torch.randn(ITS, n_params) * 0.2 * 4096).round() / 4096,
        "dsa_color": (torch.rand(ITS, C, 3) * 0.8 * 256).round() / 256 + 0.25,
        "dsa_affine": torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]) + (torch.randn(ITS, C, 6) * 0.1 * 1024).round() / 1024,
        "dsa_box": torch.tensor([[[2.0, 7.0, 5.0, 12.0], [-3.0, 4.0, 9.0, 20.0], [0.0, 0.0, 0.0, 0.0]]]).repeat(ITS, 1, 1),
    }
    real = torch.stack([torch.stack([torch.randperm(N // C)[:B] * C + c for c in range(C)]) for _ in range(ITS)])
    x = d["init"].permute(0, 3, 1, 2).clone()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    real_px = (px.permute(0, 3, 1, 2).double() / 255 - mean) / std
    velocity = torch.zeros_like(x)
    losses = []
    for it in range(ITS):
        x.requires_grad_()
        loss = 0
        for c in range(C):
            fr, used = features(view(real_px[real[it, c]], d, it, c), d["theta"][it])
            fs, _ = features(view(x[c * IPC:(c + 1) * IPC], d, it, c), d["theta"][it])
            loss = loss + ((fr.mean(0) - fs.mean(0)) ** 2).sum()
        assert used + C * n_features + C == n_params
        g, = torch.autograd.grad(loss, x)
        velocity = MOMENTUM * velocity + g
        x = (x - LR * velocity).detach()
        losses.append(loss.item())
    out = dict(d, real=real, px=px, label=label, images=x.permute(0, 2, 3, 1).contiguous(), losses=torch.tensor(losses))
    header, blob = {}, b""
    for k, t in sorted(out.items(), key=lambda kv: {"int64": 0, "float32": 2, "uint8": 5}.get(
            str(kv[1].dtype).split(".")[1], 2)):
        t = t.float() if t.dtype == torch.float64 else t
        raw = t.contiguous().numpy().tobytes()
        name = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}[t.dtype]
        header[k] = {"dtype": name, "shape": list(t.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)
    print("losses", losses)


main(sys.argv[1])
