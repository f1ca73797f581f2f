"""One step of adaptive GSAM (matching.md 4.7) on a small ConvNet, written out from its formulas, in float64.

    python tests/golden/gsam.py tests/golden
"""
import sys

import torch

from generate import ConvNet, flat, images, labels, set_weights, soft_ce, write

RHO, ALPHA, LR = 0.05, 0.3, 0.01


def gradient(net, x, q):
    loss = soft_ce(net(x), q)
    return loss, flat(torch.autograd.grad(loss, list(net.parameters())))


def load(net, theta):
    at = 0
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(theta[at:at + p.numel()].view_as(p))
            at += p.numel()


if __name__ == "__main__":
    net = ConvNet(2, 8, 10, 16)
    set_weights(net)
    x, q = images(4, 16), labels(4, 10)
    theta = flat(net.parameters()).detach().clone()
    loss, g = gradient(net, x, q)
    e = RHO * theta ** 2 * g / ((theta.abs() * g).norm() + 1e-12)
    load(net, theta + e)
    _, h = gradient(net, x, q)
    cosine = (g @ h) / (g.norm() * h.norm() + 1e-12)
    direction = h - ALPHA * (g - cosine * g.norm() * h / (h.norm() + 1e-12))
    write(f"{sys.argv[1]}/gsam.safetensors",
          {"loss": loss, "grad": g, "ascended": theta + e, "sharp": h, "direction": direction, "theta": theta - LR * direction})
