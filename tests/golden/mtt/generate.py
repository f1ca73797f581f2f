#!/usr/bin/env python3
"""One outer step of trajectory matching by PyTorch's double backward through a real unroll, in float64.

    python generate.py unroll.safetensors

Everything an unroll draws is in the file: six images, labels, start and target weights, the batches of four inner steps
(two images, then four, twice: six cut into fours with the remainder first) and their DSA parameters, colour, affine
resampling and box of zeros all active. ConvNet-2, width 8, 16x16, 3 classes, step size 0.05. Three computations:

    hard     one-hot labels, exact gradient of pixels and step size (MTT)
    logits   label logits through softmax, exact gradient of pixels, step size and logits (DATM)
    frozen   one-hot labels, every inner weight vector taken as a constant (TESLA, without the released code's half)

Vectors are stored in float32.
"""
import json
import struct
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(11)
C, N, SIZE, W, STEPS, BETA = 3, 6, 16, 8, 4, 0.05
SHAPES = [(W, 3, 3, 3), (W,), (W,), (W,), (W, W, 3, 3), (W,), (W,), (W,), (C, W * (SIZE // 4) ** 2), (C,)]
SIZES = [torch.Size(s).numel() for s in SHAPES]


def rounded(t):
    return t.float().double()


def color(x, p):
    b, s, k = (p[:, i].view(-1, 1, 1, 1) for i in range(3))
    x = x + b
    m = x.mean(1, keepdim=True)
    x = (x - m) * s + m
    m = x.mean((1, 2, 3), keepdim=True)
    return (x - m) * k + m


def affine(x, a):
    _, _, h, w = x.shape
    i, j = torch.meshgrid(torch.arange(h, dtype=x.dtype), torch.arange(w, dtype=x.dtype), indexing="ij")
    i, j = i.unsqueeze(0), j.unsqueeze(0)
    a = a.view(-1, 6, 1, 1)
    row, col = a[:, 0] * i + a[:, 1] * j + a[:, 2], a[:, 3] * i + a[:, 4] * j + a[:, 5]
    grid = torch.stack((2 * col / (w - 1) - 1, 2 * row / (h - 1) - 1), -1)  # pixel centres at -1 and 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def box(x, b):
    keep = torch.ones_like(x)
    for n, (r0, r1, c0, c1) in enumerate(b.int().tolist()):
        keep[n, :, max(r0, 0):max(r1, 0), max(c0, 0):max(c1, 0)] = 0
    return x * keep


def network(x, theta):
    p = [v.view(s) for v, s in zip(theta.split(SIZES), SHAPES)]
    for i in range(2):
        w, b, gamma, beta = p[4 * i:4 * i + 4]
        x = F.avg_pool2d(F.relu(F.group_norm(F.conv2d(x, w, b, padding=1), W, gamma, beta, 1e-5)), 2)
    return F.linear(x.flatten(1), p[8], p[9])


def step_loss(d, t, x, q, theta):
    idx = d["index"][t]
    view = box(affine(color(x[idx], d["color"][t]), d["affine"][t]), d["box"][t])
    return -(q[idx] * F.log_softmax(network(view, theta), 1)).sum(1).mean()


def outer(d, logits, frozen):
    x = d["images"].permute(0, 3, 1, 2).clone().requires_grad_()
    beta = torch.tensor(BETA, requires_grad=True)
    u = d["logits"].clone().requires_grad_()
    q = F.softmax(u, 1) if logits else d["hard"]
    theta = d["theta"].clone().requires_grad_()
    total = 0
    for t in range(STEPS):
        at = theta.detach().requires_grad_() if frozen else theta
        g, = torch.autograd.grad(step_loss(d, t, x, q, at), at, create_graph=True)
        total = total + g
        theta = d["theta"] - beta * total if frozen else theta - beta * g
    loss = ((theta - d["target"]) ** 2).sum() / ((d["theta"] - d["target"]) ** 2).sum()
    loss.backward()
    return {"loss": loss.detach(), "d_images": x.grad.permute(0, 2, 3, 1), "d_step_size": beta.grad, "d_logits": u.grad}


def main(path):
    order = [torch.randperm(N) for _ in range(STEPS // 2)]
    d = {
        "images": rounded(torch.randn(N, SIZE, SIZE, 3)),
        "logits": rounded(torch.randn(N, C)),
        "theta": rounded(torch.cat([0.3 * torch.randn(k) for k in SIZES])),
        "index": [part for o in order for part in (o[4:], o[:4])],
    }
    d["hard"] = F.one_hot(torch.arange(N) % C, C).double()
    d["target"] = rounded(d["theta"] + 0.03 * torch.randn(sum(SIZES)))
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    d["color"] = [rounded(torch.rand(len(i), 3) * 0.8 + 0.25) for i in d["index"]]
    d["affine"] = [rounded(identity + 0.1 * torch.randn(len(i), 6)) for i in d["index"]]
    d["box"] = [torch.randint(-3, 9, (len(i), 2)).double().repeat_interleave(2, 1) + torch.tensor([0., 6., 0., 7.])
                for i in d["index"]]
    out = {k: d[k] for k in ("images", "logits", "hard", "theta", "target")}
    out["index"] = torch.cat(d["index"])
    for k in ("color", "affine", "box"):
        out[k] = torch.cat(d[k])
    for name, logits, frozen in (("hard", False, False), ("logits", True, False), ("frozen", False, True)):
        for k, v in outer(d, logits, frozen).items():
            if v is not None:
                out[f"{name}.{k}"] = v
        print(name, out[f"{name}.loss"].item(), out[f"{name}.d_step_size"].item(), out[f"{name}.d_images"].norm().item())
    header, blob = {}, b""
    for k, t in sorted(out.items(), key=lambda kv: kv[1].dtype != torch.int64):
        t = t.float() if t.dtype == torch.float64 else t
        raw = t.contiguous().numpy().tobytes()
        name = {torch.float32: "F32", torch.int64: "I64"}[t.dtype]
        header[k] = {"dtype": name, "shape": list(t.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)


main(sys.argv[1])
