#!/usr/bin/env python3
"""One outer step of gradient matching (DC, DSA, IDC), by PyTorch autograd in float64.

    python tests/golden/grad/generate.py tests/golden/grad

Per case: the image gradient ("<case>.gx", NHWC) and the distance of each class ("<case>.d"). Weights and images come from
the integer hash of ../generate.py (`set_weights`; images 900 synthetic, 910 real), so the file holds results and the rows of
the augmentation only: "color" [classes,3], "affine" [classes,6], "box" [classes,4], multiples of 1/1024 so that float32
holds them exactly. An affine row says where output pixel (i, j) reads: row a0 i + a1 j + a2, column a3 i + a4 j + a5.
"""
import os
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from generate import ConvNet, fill, set_statistics, set_weights, write  # noqa: E402

C, SYN, REAL, SIZE, WIDTH = 3, 2, 4, 8, 6
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]  # as float32 numbers below


def pixels(key, n, unit):
    v = fill(key, n * SIZE * SIZE * 3, 0.5, 0.5) if unit else fill(key, n * SIZE * SIZE * 3)
    return torch.from_numpy(v).reshape(n, SIZE, SIZE, 3).permute(0, 3, 1, 2).contiguous()


IDENTITY = {"color": [[0.0, 1.0, 1.0]] * C, "affine": [[1.0, 0, 0, 0, 1.0, 0]] * C, "box": [[0.0] * 4] * C}
c0 = (SIZE - 1) / 2


def about_centre(p, q, r, s):
    """Output (i, j) reads row s i + r j, column q i + p j about the centre."""
    return [s, r, c0 - s * c0 - r * c0, q, p, c0 - q * c0 - p * c0]


OPS = {
    "color": {"color": [[0.25, 1.5, 0.75], [-0.375, 0.25, 1.25], [0.125, 0.0, 0.5]]},
    "crop": {"affine": [[1, 0, 1, 0, 1, -1], [1, 0, 0, 0, 1, 1], [1, 0, -1, 0, 1, 0]]},
    "cutout": {"box": [[2, 6, 3, 7], [0, 2, 4, 8], [5, 8, 0, 1]]},
    "flip": {"affine": [[1, 0, 0, 0, -1, SIZE - 1], [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, -1, SIZE - 1]]},
    "scale": {"affine": [about_centre(0.875, 0, 0, 1.125), about_centre(1.1875, 0, 0, 0.9375), about_centre(1.0625, 0, 0, 1.0)]},
    "rotate": {"affine": [about_centre(0.984375, -0.1875, 0.1875, 0.984375), about_centre(0.96875, 0.25, -0.25, 0.96875),
                          about_centre(1.0, -0.0625, 0.0625, 1.0)]},
}
IDC = {"color": OPS["color"]["color"], "affine": [[1, 0, 1, 0, -1, 6], [1, 0, -1, 0, 1, 1], [1, 0, 0, 0, -1, 8]],
       "box": OPS["cutout"]["box"]}


def rows_of(op):
    d = dict(IDENTITY, **op)
    return {k: (torch.tensor(v, dtype=torch.float64) * 1024).round() / 1024 for k, v in d.items()}


def augment(x, rows, c):
    b, s, k = rows["color"][c]
    x = x + b
    m = x.mean(1, keepdim=True)
    x = (x - m) * s + m
    m = x.mean((1, 2, 3), keepdim=True)
    x = (x - m) * k + m
    a = rows["affine"][c]
    i, j = torch.meshgrid(torch.arange(SIZE, dtype=x.dtype), torch.arange(SIZE, dtype=x.dtype), indexing="ij")
    row, col = a[0] * i + a[1] * j + a[2], a[3] * i + a[4] * j + a[5]
    g = torch.stack((2 * col / (SIZE - 1) - 1, 2 * row / (SIZE - 1) - 1), -1).expand(x.shape[0], -1, -1, -1)
    x = F.grid_sample(x, g, align_corners=True)  # -1 and 1 at pixel centres: exactly the rows
    r0, r1, q0, q1 = (int(v) for v in rows["box"][c])
    keep = torch.ones(SIZE, SIZE)
    keep[r0:r1, q0:q1] = 0
    return x * keep


def decode(x, f):
    """Multi-formation: tiles row by row, all images of the first tile first, each enlarged bilinearly."""
    if f == 1:
        return x
    t = SIZE // f
    tiles = [x[:, :, i * t:(i + 1) * t, j * t:(j + 1) * t] for i in range(f) for j in range(f)]
    return torch.cat([F.interpolate(v, size=(SIZE, SIZE), mode="bilinear", align_corners=False) for v in tiles])


def distance(kind, real, syn):
    total = 0
    if kind == "cos":
        r, s = (torch.cat([t.reshape(-1) for t in v]) for v in (real, syn))
        return 1 - (r * s).sum() / (r.norm() * s.norm() + 1e-6)
    for r, s in zip(real, syn):
        if kind == "cosine" and r.dim() >= 2:
            r, s = r.reshape(r.shape[0], -1), s.reshape(s.shape[0], -1)
            total = total + (1 - (r * s).sum(1) / (r.norm(dim=1) * s.norm(dim=1) + 1e-6)).sum()
        elif kind == "mse":
            total = total + ((s - r) ** 2).sum()
        elif kind == "conv_l2" and r.dim() == 4:
            total = total + ((s - r) ** 2).sum()
        elif kind == "conv_l1" and r.dim() == 4:
            total = total + (s - r).abs().sum()
    return total


def case(out, name, kind, op, norm="instance", unit=False, factor=1):
    net = ConvNet(2, WIDTH, C, SIZE, norm)
    set_weights(net)
    if norm == "batch":
        set_statistics(net)
        net.eval()  # frozen statistics
    rows = rows_of(op)
    mean, std = (torch.tensor(v, dtype=torch.float32).double().view(1, 3, 1, 1) for v in (MEAN, STD))
    syn, real = pixels(900, C * SYN, unit).requires_grad_(), pixels(910, C * REAL, unit)

    def gradient(x, c, create):
        x = (x - mean) / std if unit else x
        y = net(augment(x, rows, c))
        loss = F.cross_entropy(y, torch.full((y.shape[0],), c))
        return torch.autograd.grad(loss, list(net.parameters()), create_graph=create)

    d = []
    for c in range(C):
        r = [t.detach() for t in gradient(real[c * REAL:(c + 1) * REAL], c, False)]
        d.append(distance(kind, r, gradient(decode(syn[c * SYN:(c + 1) * SYN], factor), c, True)))
    gx, = torch.autograd.grad(sum(d), syn)
    out[f"{name}.gx"] = gx.permute(0, 2, 3, 1)
    out[f"{name}.d"] = torch.stack(d)
    for k, v in rows.items():
        out[f"{name}.{k}"] = v


def loop(out, name, distance_kind):
    """One network of DC: three matching steps, momentum on the images, two epochs of plain SGD on all images in between.

    Image i of 30 has class i % 3 and bytes floor(128 + 127 u) of hash 920; class c's real batch at step t is the images
    3 ((4 t + j) % 10) + c, j = 0..3."""
    n, lr, momentum, lr_net, outer, inner = 30, 0.5, 0.5, 0.25, 3, 2
    px = torch.from_numpy(fill(920, n * SIZE * SIZE * 3, 127.0, 128.0)).floor().reshape(n, SIZE, SIZE, 3).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v, dtype=torch.float32).double().view(1, 3, 1, 1) for v in (MEAN, STD))
    px = (px / 255 - mean) / std
    net = ConvNet(2, WIDTH, C, SIZE)
    set_weights(net)
    x, v, label = pixels(900, C * SYN, False), 0, torch.arange(C * SYN) // SYN
    for t in range(outer):
        x.requires_grad_()
        total = 0
        for c in range(C):
            idx = [3 * ((4 * t + j) % 10) + c for j in range(REAL)]
            r = torch.autograd.grad(F.cross_entropy(net(px[idx]), torch.full((REAL,), c)), list(net.parameters()))
            s = torch.autograd.grad(F.cross_entropy(net(x[c * SYN:(c + 1) * SYN]), torch.full((SYN,), c)),
                                    list(net.parameters()), create_graph=True)
            total = total + distance(distance_kind, r, s)
        g, = torch.autograd.grad(total, x)
        v = momentum * v + g
        x = (x - lr * v).detach()
        if t + 1 < outer:
            for _ in range(inner):
                g = torch.autograd.grad(F.cross_entropy(net(x), label), list(net.parameters()))
                for p, d in zip(net.parameters(), g):
                    p.data -= lr_net * d
    out[f"{name}.images"] = x.permute(0, 2, 3, 1)


def loop_idc(out, name, in_turn):
    """One network of IDC: three sweeps on images in [0,1] with 2 x 2 tiles, augmented by the rows of IDC; a step of the whole
    tensor after every class (in_turn), or one per sweep. Real batches as in loop(); the network is not trained."""
    n, lr, momentum = 30, 0.1, 0.5
    px = torch.from_numpy(fill(920, n * SIZE * SIZE * 3, 127.0, 128.0)).floor().reshape(n, SIZE, SIZE, 3).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v, dtype=torch.float32).double().view(1, 3, 1, 1) for v in (MEAN, STD))
    net, rows = ConvNet(2, WIDTH, C, SIZE), rows_of(IDC)
    set_weights(net)
    kernels = [p for p in net.parameters() if p.dim() == 4]
    x, v = pixels(900, C * SYN, True), torch.zeros(C * SYN, 3, SIZE, SIZE)

    def gradient(y, c, create):
        y = net(augment((y - mean) / std, rows, c))
        return torch.autograd.grad(F.cross_entropy(y, torch.full((y.shape[0],), c)), kernels, create_graph=create)

    for t in range(3):
        total = torch.zeros_like(v)
        for c in range(C):
            x.requires_grad_()
            r = gradient(px[[3 * ((4 * t + j) % 10) + c for j in range(REAL)]], c, False)
            s = gradient(decode(x[c * SYN:(c + 1) * SYN], 2), c, True)
            g, = torch.autograd.grad(distance("conv_l2", r, s), x)
            x = x.detach()
            total += g
            if in_turn or c == C - 1:
                v = momentum * v + (g if in_turn else total)
                x = x - lr * v
    out[f"{name}.images"] = x.permute(0, 2, 3, 1)


def main(folder):
    out = {}
    loop_idc(out, "loop_idc_class", True)
    loop_idc(out, "loop_idc_joint", False)
    loop(out, "loop_cosine", "cosine")
    loop(out, "loop_mse", "mse")
    case(out, "dc_cosine", "cosine", {})
    case(out, "dc_mse", "mse", {})
    case(out, "dc_cos", "cos", {})
    case(out, "dc_batch_norm", "cosine", {}, norm="batch")
    for op in OPS:
        case(out, f"dsa_{op}", "cosine", OPS[op])
    case(out, "idc_l2", "conv_l2", IDC, unit=True)
    case(out, "idc_l1", "conv_l1", IDC, unit=True)
    case(out, "idc_multi", "conv_l2", IDC, unit=True, factor=2)
    write(f"{folder}/match.safetensors", out)


main(sys.argv[1])
