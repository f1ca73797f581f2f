"""Whole constructions of DWA, DELT, FADRM and CV-DD over a few iterations, computed with PyTorch autograd in float64 from the
formulas of the papers (blocks, shared views, statistics loss, Adam, clip), apart from the code they are compared with.

    python methods.py methods.safetensors

Weights, running statistics and initial images are made by the hash of ../generate.py and not stored; views are drawn here and
stored as <case>.view [blocks, iterations, 8] = (row, column, height, width, flip, down, right, 0), the images that come out
as <case>.images. Made with PyTorch 2.15.0 (CPU).
"""
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from generate import ConvNet, ResNet, fill, images, set_statistics, set_weights, write  # noqa: E402

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
MEAN, STD = MEAN.float().double(), STD.float().double()
CLASSES, SIZE = 3, 16
rng = np.random.default_rng(5)


def teacher(net, j=0):
    """Teacher j: the hash's weights, moved by a hash of its own; eval mode."""
    set_weights(net)
    set_statistics(net)
    if j:
        move = torch.from_numpy(fill(700 + j, sum(p.numel() for p in net.parameters()), 0.0625))
        at = 0
        for p in net.parameters():
            p.data = (p.data + move[at:at + p.numel()].reshape(p.shape)).float().double()
            at += p.numel()
    return net.eval()


def convnet(j=0):
    return teacher(ConvNet(2, 4, CLASSES, SIZE, "batch"), j)


def draw_views(blocks, iterations, sides):
    """Crops of at least half the side, flips and shifts, inside images of sides[t]."""
    v = np.zeros((blocks, iterations, 8))
    for b in range(blocks):
        for t in range(iterations):
            s = sides[t]
            h, w = rng.integers(s // 2, s + 1, 2)
            v[b, t, :7] = (rng.integers(0, s - h + 1), rng.integers(0, s - w + 1), h, w, rng.integers(0, 2),
                           rng.integers(0, 5), rng.integers(0, 5))
    return v


def resize(x, side):
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def look(x, v):
    r, c, h, w, flip, down, right = (int(k) for k in v[:7])
    y = resize(x[:, :, r:r + h, c:c + w], x.shape[-1])
    y = y.flip(3) if flip else y
    return torch.roll(y, (down, right), (2, 3))


def statistics_loss(net, x, first=10.0, r_var=1.0):
    """Logits, and the sum over BatchNorm layers of w (|mean - running mean| + r_var |var - running var|)."""
    terms, hooks = [], []

    def hook(m, inp, out):
        z = inp[0]
        mu, var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
        terms.append((mu - m.running_mean).norm() + r_var * (var - m.running_var).norm())

    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            hooks.append(m.register_forward_hook(hook))
    z = net(x)
    for h in hooks:
        h.remove()
    return z, sum(k * (first if i == 0 else 1.0) for i, k in enumerate(terms))


class Adam:
    def __init__(self, shape):
        self.m, self.v, self.t = torch.zeros(shape), torch.zeros(shape), 0

    def step(self, x, g, lr):
        """One update of every image; those without gradient stay where they are, and the step counts for all."""
        self.t += 1
        self.m = 0.5 * self.m + 0.5 * g
        self.v = 0.9 * self.v + 0.1 * g * g
        m, v = self.m / (1 - 0.5 ** self.t), self.v / (1 - 0.9 ** self.t)
        x = x - lr * m / (v.sqrt() + 1e-8)
        lo, hi = (-MEAN / STD).view(1, 3, 1, 1), ((1 - MEAN) / STD).view(1, 3, 1, 1)
        return torch.minimum(torch.maximum(x, lo), hi)


def rate(lr, t, total):
    return 0.5 * (1 + math.cos(math.pi * t / total)) * lr


def block(x, y, views, total, lr, loss_of, active=None, stages=None, residual=0.5):
    """Iterations of one block: loss_of(view, labels, t) -> scalar; active(t): the first so many take part; stages: (side, end)."""
    start, t = x.clone(), 0
    for k, (side, end) in enumerate(stages or [(x.shape[-1], total)]):
        if stages:
            x = resize(start, side) if k == 0 else residual * resize(x, side) + (1 - residual) * resize(start, side)
        opt = Adam(x.shape)
        while t < end:
            n = active(t) if active else len(y)
            p = x.clone().requires_grad_()
            g, = torch.autograd.grad(loss_of(look(p[:n], views[t]), y[:n], t), p)
            x = opt.step(x, g, rate(lr, t, total))
            t += 1
    return x


def plain(net, r_bn, r_var=1.0):
    def loss(view, y, t):
        z, r = statistics_loss(net, view, r_var=r_var)
        return F.cross_entropy(z, y) + r_bn * r
    return loss


def by_rank(ipc, batch):
    """Blocks of SRe2L: for every rank, `batch` consecutive classes; images as class * ipc + rank."""
    return [[c * ipc + r for c in range(at, min(at + batch, CLASSES))] for r in range(ipc) for at in range(0, CLASSES, batch)]


def start_images(ipc):
    return images(CLASSES * ipc, SIZE)


def dwa(accumulate):
    ipc, total, steps, rho, r_bn, r_var, lr = 2, 3, 4, 0.5, 0.01, 2.0, 0.25
    blocks = by_rank(ipc, 2)
    views = draw_views(len(blocks), total, [SIZE] * total)
    x = start_images(ipc)
    out = x.clone()
    net = convnet()
    for b, idx in enumerate(blocks):
        if not accumulate or b % 2 == 0:
            net = convnet()
        y = torch.tensor([i // ipc for i in idx])
        seen = look(x[idx], views[b, 0])
        for _ in range(steps):
            g = torch.autograd.grad(F.cross_entropy(net(seen), y), list(net.parameters()))
            norm = math.sqrt(sum(float((k * k).sum()) for k in g))
            for p, k in zip(net.parameters(), g):
                p.data += rho / steps * k / (norm + 1e-12)
        out[idx] = block(x[idx], y, views[b], total, lr, plain(net, r_bn, r_var))
    return views, out


def delt():
    """Three images a class in two rounds (2 join in round 0, 1 in round 1), two classes a block."""
    ipc, total, rounds, r_bn, lr = 3, 4, 2, 0.01, 0.25
    joins = [0, 0, 1]
    x, net = start_images(ipc), convnet()
    out = x.clone()
    blocks = [[0, 1], [2]]
    views = draw_views(len(blocks), total, [SIZE] * total)
    for b, classes in enumerate(blocks):
        idx = [c * ipc + i for j in range(rounds) for c in classes for i in range(ipc) if joins[i] == j]
        y = torch.tensor([i // ipc for i in idx])
        first = sum(j == 0 for j in joins) * len(classes)
        out[idx] = block(x[idx], y, views[b], total, lr, plain(net, r_bn), active=lambda t: first if t < 2 else len(idx))
    return views, out


def fadrm(net, stages):
    ipc, total, r_bn, lr = 1, stages[-1][1], 0.01, 0.25
    x = start_images(ipc)
    out = x.clone()
    blocks = by_rank(ipc, 2)
    sides = [s for k, (s, end) in enumerate(stages) for _ in range(end - (stages[k - 1][1] if k else 0))]
    views = draw_views(len(blocks), total, sides)
    for b, idx in enumerate(blocks):
        y = torch.tensor([i // ipc for i in idx])
        out[idx] = block(x[idx], y, views[b], total, lr, plain(net, r_bn), stages=stages)
    return views, out


def cvdd():
    """Ranks 0, 1, 2 see pairs (0,1), (0,2), (1,2) of three teachers with priors 60, 52.5, 55."""
    ipc, total, r_bn, lr, priors, temperature = 3, 3, 0.01, 0.25, [60.0, 52.5, 55.0], 5.0
    nets, pairs = [convnet(j) for j in range(3)], [(0, 1), (0, 2), (1, 2)]
    x = start_images(ipc)
    out = x.clone()
    blocks = by_rank(ipc, 2)
    views = draw_views(len(blocks), total, [SIZE] * total)
    for b, idx in enumerate(blocks):
        pair = pairs[b // 2]
        w = torch.softmax(torch.tensor([priors[j] for j in pair]) / temperature, 0)
        y = torch.tensor([i // ipc for i in idx])
        losses = [plain(nets[j], r_bn) for j in pair]
        out[idx] = block(x[idx], y, views[b], total, lr, lambda v, y, t: sum(k * f(v, y, t) for k, f in zip(w, losses)))
    return views, out


def main(path):
    out = {}
    cases = {"dwa": lambda: dwa(False), "dwa_accumulate": lambda: dwa(True), "delt": delt,
             "fadrm": lambda: fadrm(convnet(), [(SIZE, 1), (SIZE, 3), (SIZE, 5)]),
             "fadrm_resized": lambda: fadrm(teacher(ResNet([2, 2, 2, 2], False, CLASSES, True)), [(12, 2), (SIZE, 4)]),
             "cvdd": cvdd}
    for name, make in cases.items():
        views, x = make()
        out[name + ".view"] = views
        out[name + ".images"] = x.permute(0, 2, 3, 1).contiguous()
        print(name, "moved by up to", float((x.detach() - start_images(x.shape[0] // CLASSES)).abs().max()))
    write(path, out)


main(sys.argv[1])
