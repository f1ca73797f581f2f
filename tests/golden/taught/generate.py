#!/usr/bin/env python3
"""Steps of students that learn from teachers, by PyTorch autograd in float64.

    python tests/golden/taught/generate.py tests/golden/taught

Per case and step: "<case>.loss", "<case>.theta" and "<case>.buffers" (running mean and variance, in the order of the network)
after the last step; "<case>.ema" where there is an average. Weights, statistics and images come from the integer hash of
../generate.py, so the file holds results only. Teachers differ from the student in depth and width.
"""
import os
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from generate import ConvNet, flat, images, set_statistics, set_weights, write  # noqa: E402

BATCH, SIZE, CLASSES = 6, 8, 5
SHAPES = [(1, 6), (2, 4)]  # depth, width of the teachers


def network(depth, width):
    net = ConvNet(depth, width, CLASSES, SIZE, "batch")
    set_weights(net)
    set_statistics(net)
    return net


def logits_of(teacher, x, parts, batch_stats):
    """Running statistics are restored after every look: nothing of a teacher changes."""
    kept = [b.clone() for b in teacher.buffers()]
    teacher.train(batch_stats)
    with torch.no_grad():
        z = torch.cat([teacher(p) for p in x.tensor_split([BATCH * i // parts for i in range(1, parts)])])
    for b, k in zip(teacher.buffers(), kept):
        b.copy_(k)
    return z


def target(zs, weights, equalised):
    if equalised:
        norms = torch.stack([z.norm() for z in zs])
        zs = [z / n * norms.mean() for z, n in zip(zs, norms)]
    w = torch.tensor(weights) / sum(weights)
    return sum(k * z for k, z in zip(w, zs))


def kl(s, t, temperature, squared):
    loss = F.kl_div(F.log_softmax(s / temperature, 1), F.softmax(t / temperature, 1), reduction="batchmean")
    return loss * temperature ** 2 if squared else loss


def run(case, n_teachers, loss, weights=(1.0, 1.0), equalised=False, batch_stats=False, parts=1, ema=0.0, steps=1, adamw=False):
    student, teachers = network(2, 8), [network(*s) for s in SHAPES[:n_teachers]]
    x, y = images(BATCH, SIZE), torch.arange(BATCH) % CLASSES
    kernels = [p for p in student.parameters() if p.dim() >= 2]
    rest = [p for p in student.parameters() if p.dim() < 2]
    groups = [{"params": kernels, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    opt = torch.optim.AdamW(groups, lr=1e-3, eps=1e-4) if adamw else torch.optim.SGD(groups, lr=0.5)
    average, out = [p.detach().clone() for p in student.parameters()], {}
    for step in range(steps):
        t = target([logits_of(k, x, parts, batch_stats) for k in teachers], weights[:n_teachers], equalised)
        student.train()
        s = torch.cat([student(p) for p in x.tensor_split([BATCH * i // parts for i in range(1, parts)])])
        value = loss(s, t, y)
        opt.zero_grad()
        value.backward()
        opt.step()
        average = [ema * a + (1 - ema) * p.detach() for a, p in zip(average, student.parameters())]
        out[f"{case}.loss{step}"] = value.reshape(1)
    out[f"{case}.theta"] = flat(list(student.parameters()))
    out[f"{case}.buffers"] = flat([b for n, b in student.named_buffers() if "running" in n])
    if ema:
        out[f"{case}.ema"] = flat(average)
    return out


def mse_gt(gamma):
    return lambda s, t, y: F.mse_loss(s, t) + gamma * F.cross_entropy(s, y)


if __name__ == "__main__":
    all_cases = {}
    all_cases |= run("kl", 1, lambda s, t, y: kl(s, t, 20.0, False))
    all_cases |= run("kl_squared", 1, lambda s, t, y: kl(s, t, 4.0, True))
    all_cases |= run("mse_gt", 2, mse_gt(0.025), weights=(1.0, 3.0), ema=0.9, steps=2, adamw=True)
    all_cases |= run("equalised", 2, mse_gt(0.1), equalised=True)
    all_cases |= run("bssl", 2, lambda s, t, y: kl(s, t, 20.0, False), batch_stats=True, parts=2)
    write(os.path.join(sys.argv[1], "taught.safetensors"), all_cases)
