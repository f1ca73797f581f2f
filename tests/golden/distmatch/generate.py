#!/usr/bin/env python3
"""DataDAM and NCFM, computed independently with PyTorch autograd in float64 from the formulas of the papers.

    python generate.py datadam.safetensors ncfm.safetensors

Every draw is in the files (real images, initial images, network weights, real batches, DSA parameters, frequencies), so that
tests/methods/distill can feed them to the methods. ConvNet-2, width 6, 16x16, 3 classes, 2 images per class, 4 real images per
class and iteration. Augmentation: colour, then an affine resampling in pixel coordinates, then a box of zeros, one draw per
class shared by real and synthetic images.

Gradients of one outer step are float64 ("grad_*"); images after steps are float32 ("images_*").
"""
import json
import math
import struct
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(11)
C, IPC, B, SIZE, W, ITS, N, K = 3, 2, 4, 16, 6, 2, 30, 16
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]))
DIM = W * (SIZE // 4) ** 2
P = W * 27 + 3 * W + W * W * 9 + 3 * W + C * DIM + C


def grid(t, q):
    """Values that float32 holds exactly."""
    return (t * q).round() / q


def filled(key, n, scale, offset):
    """tests/support/session.h: offset + scale u, u in [-1, 1) from a hash of (key, index)."""
    out = []
    for i in range(n):
        h = (i + 0x9E3779B9 * (key + 1)) & 0xFFFFFFFF
        h ^= h >> 16
        h = h * 0x85EBCA6B & 0xFFFFFFFF
        h ^= h >> 13
        h = h * 0xC2B2AE35 & 0xFFFFFFFF
        h ^= h >> 16
        out.append(offset + scale * ((h >> 8) / 8388608.0 - 1.0))
    return torch.tensor(out).float().double()


def augment(x, d, it, c):
    n = x.shape[0]
    b, s, k = (d["dsa_color"][it, c, i] for i in range(3))
    a = d["dsa_affine"][it, c]
    x = x + b
    m = x.mean(1, keepdim=True)
    x = (x - m) * s + m
    m = x.mean((1, 2, 3), keepdim=True)
    x = (x - m) * k + m
    i, j = torch.meshgrid(torch.arange(SIZE, dtype=x.dtype), torch.arange(SIZE, dtype=x.dtype), indexing="ij")
    row, col = a[0] * i + a[1] * j + a[2], a[3] * i + a[4] * j + a[5]
    at = torch.stack((2 * col / (SIZE - 1) - 1, 2 * row / (SIZE - 1) - 1), -1).expand(n, -1, -1, -1)
    x = F.grid_sample(x, at, mode="bilinear", padding_mode="zeros", align_corners=True)
    r0, r1, c0, c1 = (int(v) for v in d["dsa_box"][it, c])
    keep = torch.ones_like(x)
    keep[:, :, max(r0, 0):max(r1, 0), max(c0, 0):max(c1, 0)] = 0
    return x * keep


def network(x, theta):
    """ReLU outputs, features, logits."""
    at, maps = 0, []

    def take(*shape):
        nonlocal at
        count = math.prod(shape)
        at += count
        return theta[at - count:at].view(shape)

    for k in range(2):
        w, b, gamma, beta = take(W, 3 if k == 0 else W, 3, 3), take(W), take(W), take(W)
        x = F.relu(F.group_norm(F.conv2d(x, w, b, padding=1), W, gamma, beta, 1e-5))
        maps.append(x)
        x = F.avg_pool2d(x, 2)
    f = x.flatten(1)
    logits = F.linear(f, take(C, DIM), take(C))
    assert at == P
    return maps, f, logits


def draws():
    return {
        "theta": grid(torch.randn(ITS, P) * 0.2, 4096),
        "dsa_color": grid(torch.rand(ITS, C, 3) * 0.8, 256) + 0.25,
        "dsa_affine": torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]) + grid(torch.randn(ITS, C, 6) * 0.1, 1024),
        "dsa_box": torch.tensor([[[2.0, 7.0, 5.0, 12.0], [-3.0, 4.0, 9.0, 20.0], [0.0, 0.0, 0.0, 0.0]]]).repeat(ITS, 1, 1),
    }


def real_batches():
    return torch.stack([torch.stack([torch.randperm(N // C)[:B] * C + c for c in range(C)]) for _ in range(ITS)])


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous()


# --- DataDAM ---------------------------------------------------------------------------------------------------------------

def datadam(power, last, d, real, px, x0, its, lr, momentum, lam=0.01, scale=100.0):
    x, v, first = x0.clone(), torch.zeros_like(x0), None
    for it in range(its):
        x.requires_grad_()
        loss = 0
        for c in range(C):
            mr, fr, _ = network(augment(px[real[it, c]], d, it, c), d["theta"][it])
            ms, fs, _ = network(augment(x[c * IPC:(c + 1) * IPC], d, it, c), d["theta"][it])
            for r, s in list(zip(mr, ms))[:len(mr) if last else len(mr) - 1]:
                ar, as_ = (F.normalize(m.abs().pow(power).sum(1).flatten(1)) for m in (r, s))
                loss = loss + scale * ((ar.mean(0) - as_.mean(0)) ** 2).sum()
            loss = loss + scale * lam * ((fr.mean(0) - fs.mean(0)) ** 2).sum()
        g, = torch.autograd.grad(loss, x)
        first = g if first is None else first
        v = momentum * v + g
        x = (x - lr * v).detach()
    return first, x, loss


def make_datadam(path):
    px = torch.randint(0, 256, (N, SIZE, SIZE, 3), dtype=torch.uint8)
    real, d, init = real_batches(), draws(), grid(torch.randn(C * IPC, SIZE, SIZE, 3), 64)
    real_px = (px.permute(0, 3, 1, 2).double() / 255 - MEAN) / STD
    x0 = init.permute(0, 3, 1, 2)
    out = dict(d, px=px, init=init, real=real)
    for name, power, last in (("p4", 4, False), ("p1", 1, False), ("p3_last", 3, True)):
        g, x, loss = datadam(power, last, d, real, real_px, x0, ITS, 0.1, 0.5)
        out["grad_" + name], out["images_" + name] = nhwc(g), nhwc(x).float()
        print(name, "loss", loss.item(), "largest gradient", g.abs().max().item())
    write(path, out)


# --- NCFM ------------------------------------------------------------------------------------------------------------------

def decode(x):
    """Four tiles, each enlarged; all images of the first tile first."""
    t = SIZE // 2
    tiles = [x[:, :, i * t:(i + 1) * t, j * t:(j + 1) * t] for i in range(2) for j in range(2)]
    return F.interpolate(torch.cat(tiles), size=(SIZE, SIZE), mode="bilinear", align_corners=False)


def phi(f, t):
    p = f @ t.T
    return p.cos().mean(0), p.sin().mean(0)


def cf_loss(cr, sr, cs, ss, alpha, beta):
    ar, as_ = (cr ** 2 + sr ** 2).sqrt(), (cs ** 2 + ss ** 2).sqrt()
    phase = torch.clamp(2 * (ar * as_ - cr * cs - sr * ss), min=1e-12)
    return 300 * (alpha * (ar - as_) ** 2 + beta * phase).sqrt().mean()


class Ncfm:
    def __init__(self, d, real, px):
        self.d, self.real, self.px = d, real, px

    def view(self, x, it, c, dsa):
        return augment(x, self.d, it, c) if dsa else x

    def match(self, x, it, c, dsa, alpha, beta):
        d, t = self.d, self.d["frequencies"][it]
        fr = F.normalize(network(self.view(self.px[self.real[it, c]], it, c, dsa), d["theta"][it])[1])
        s = (decode(x[c * IPC:(c + 1) * IPC]) - MEAN) / STD
        fs = F.normalize(network(self.view(s, it, c, dsa), d["theta"][it])[1])
        return cf_loss(*phi(fr, t), *phi(fs, t), alpha, beta)

    def calibrate(self, x, it, c):
        s = (decode(x[c * IPC:(c + 1) * IPC]) - MEAN) / STD
        logits = network(s, self.d["trained"][it])[2]
        return F.cross_entropy(logits, torch.full((len(s),), c))

    def run(self, x, its, make, joint, dsa, calibration, alpha=0.5, beta=0.5):
        """Images after its iterations and the joint gradient of the first one, at the clamped images."""
        x, first = x.clone().requires_grad_(), None
        opt = make([x])
        for it in range(its):
            with torch.no_grad():
                x.clamp_(0, 1)
            terms = [lambda c=c: self.match(x, it, c, dsa, alpha, beta) for c in range(C)]
            if calibration:
                terms += [lambda c=c: calibration * self.calibrate(x, it, c) for c in range(C)]
            if first is None:
                first, = torch.autograd.grad(sum(f() for f in terms), x)
            for group in ([terms] if joint else [[f] for f in terms]):
                opt.zero_grad()
                sum(f() for f in group).backward()
                opt.step()
        return first, x.detach().clamp(0, 1)


def make_ncfm(path):
    px = torch.randint(0, 256, (N, SIZE, SIZE, 3), dtype=torch.uint8)
    real, d = real_batches(), draws()
    init = grid(torch.rand(C * IPC, SIZE, SIZE, 3) * 1.2 - 0.1, 256)  # some pixels for the clamp
    d["trained"] = grid(torch.randn(ITS, P) * 0.2, 4096)
    d["frequencies"] = grid(torch.randn(ITS, K, DIM), 4096)
    m = Ncfm(d, real, (px.permute(0, 3, 1, 2).double() / 255 - MEAN) / STD)
    x0 = init.permute(0, 3, 1, 2)
    out = dict(d, px=px, init=init, real=real)
    sgd = lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.5)
    adamw = lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=5e-4)
    for name, its, opt, joint, dsa, calibration, ab in (
            ("joint", 2, sgd, True, True, 0.0, (0.5, 0.5)), ("weights", 1, sgd, True, True, 0.0, (0.7, 0.2)),
            ("classwise", 2, sgd, False, False, 1.0, (0.5, 0.5)), ("adamw", 2, adamw, False, False, 1.0, (0.5, 0.5))):
        g, x = m.run(x0, its, opt, joint, dsa, calibration, *ab)
        out["grad_" + name], out["images_" + name] = nhwc(g), nhwc(x).float()
        print(name, "largest gradient", g.abs().max().item(), "moved", (x - x0.clamp(0, 1)).abs().max().item())

    # the sampling network, dimension 12, and its ascent direction on the distance of two sets of rows
    dim, layers = 12, 3
    theta = filled(31, layers * (dim * dim + 3 * dim), 0.5, 0.1).requires_grad_()
    noise, fr, fs = filled(32, K * dim, 1, 0).view(K, dim), filled(33, 8 * dim, 0.5, 0).view(8, dim), filled(34, 6 * dim, 0.5, 0.1).view(6, dim)
    x, at = noise, 0
    for k in range(layers):
        w, b, gamma, beta = (theta[at + o:at + o + n] for o, n in ((0, dim * dim), (dim * dim, dim), (dim * dim + dim, dim), (dim * dim + 2 * dim, dim)))
        at += dim * dim + 3 * dim
        x = F.batch_norm(F.linear(x, w.view(dim, dim), b), None, None, gamma, beta, True, 0.0, 1e-5)
        x = F.leaky_relu(x, 0.2) if k + 1 < layers else torch.tanh(x)
    loss = cf_loss(*phi(fr, x), *phi(fs, x), 0.5, 0.5)
    g, = torch.autograd.grad(loss, theta)
    out.update(psi_t=x.detach(), psi_grad=g, psi_loss=loss.detach().view(1))
    write(path, out)


def write(path, out):
    header, blob = {}, b""
    size = {torch.int64: 0, torch.float64: 1, torch.float32: 2, torch.uint8: 3}
    exact = ("grad_", "psi_")
    out = {k: t.float() if t.dtype == torch.float64 and not k.startswith(exact) else t for k, t in out.items()}
    for k, t in sorted(out.items(), key=lambda kv: size[kv[1].dtype]):
        raw = t.contiguous().numpy().tobytes()
        name = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}[t.dtype]
        header[k] = {"dtype": name, "shape": list(t.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)


if __name__ == "__main__":
    make_datadam(sys.argv[1])
    make_ncfm(sys.argv[2])
