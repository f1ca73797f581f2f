#!/usr/bin/env python3
"""Golden vectors for the structured ops, from PyTorch in float64.

    python generate.py > torch.txt

One tensor is a line "name dim dim ..." and a line of values; images are written NHWC, weights as torch keeps them.
test_golden (tests/ops/golden.c) reads the file and compares the ref back end with it.
"""
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(20)


def draw(*shape):
    """Values exact in float32, with few digits, so that the file stays small and no input is rounded."""
    return (torch.randn(*shape) * 64).round() / 64


def put(name, t):
    t = t.detach()
    print(name, *t.shape)
    print(*("%.15g" % v for v in t.reshape(-1).tolist()))


def image(t):
    """NCHW to NHWC."""
    return t.permute(0, 2, 3, 1)


def conv(name, x, w, b, stride, pad, groups):
    for t in (x, w, b):
        t.requires_grad_()
    y = F.conv2d(x, w, b, stride, pad, 1, groups)
    gy = draw(*y.shape)
    y.backward(gy)
    put(name + ".stride_pad_groups", torch.tensor([*stride, *pad, groups], dtype=torch.float64))
    for k, t in {"x": image(x), "w": w, "b": b, "y": image(y), "gy": image(gy), "gx": image(x.grad), "gw": w.grad,
                 "gb": b.grad}.items():
        put(f"{name}.{k}", t)


def pools():
    x = draw(1, 2, 6, 7).requires_grad_()
    y, index = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    gy = draw(*y.shape)
    y.backward(gy)
    for k, t in {"x": x, "y": y, "index": index, "gy": gy, "gx": x.grad}.items():
        put("max_pool." + k, image(t))
    x = draw(1, 2, 6, 7).requires_grad_()
    y = F.avg_pool2d(x, 3, 2, 1)
    gy = draw(*y.shape)
    y.backward(gy)
    for k, t in {"x": x, "y": y, "gy": gy, "gx": x.grad}.items():
        put("avg_pool." + k, image(t))


def norm(name, groups, relu, pool):
    """groups 0: batch norm in training mode."""
    x, gamma, beta = draw(2, 4, 4, 6).requires_grad_(), draw(4).requires_grad_(), draw(4).requires_grad_()
    y = F.group_norm(x, groups, gamma, beta, 1e-5) if groups else F.batch_norm(x, None, None, gamma, beta, True, 0, 1e-5)
    y = F.relu(y) if relu else y
    y = F.avg_pool2d(y, 2) if pool else y
    gy = draw(*y.shape)
    gx, = torch.autograd.grad(y, x, gy, create_graph=True)
    # A second derivative: of <v, gx> by x, gamma and gy's direction is enough to catch a missing term.
    v = draw(*x.shape)
    hx, hgamma = torch.autograd.grad((gx * v).sum(), (x, gamma), retain_graph=True)
    ggamma, gbeta = torch.autograd.grad(y, (gamma, beta), gy)
    put(name + ".groups_relu_pool", torch.tensor([groups, relu, pool], dtype=torch.float64))
    for k, t in {"x": image(x), "gamma": gamma, "beta": beta, "y": image(y), "gy": image(gy), "gx": image(gx),
                 "ggamma": ggamma, "gbeta": gbeta, "v": image(v), "hx": image(hx), "hgamma": hgamma}.items():
        put(f"{name}.{k}", t)


def cross_entropy():
    z, q, g = draw(3, 5).requires_grad_(), torch.rand(3, 5).requires_grad_(), draw(3)
    loss = -(q * F.log_softmax(z, 1)).sum(1)
    loss.backward(g)
    for k, t in {"z": z, "q": q, "g": g, "loss": loss, "gz": z.grad, "gq": q.grad}.items():
        put("softmax_ce." + k, t)


def affine(name, align):
    x = draw(2, 2, 5, 6).requires_grad_()
    theta = torch.tensor([[[0.9, -0.25, 0.1], [0.3, 1.15, -0.05]], [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    y = F.grid_sample(x, F.affine_grid(theta, x.shape, align), "bilinear", "zeros", align)
    gy = draw(*y.shape)
    y.backward(gy)
    for k, t in {"x": image(x), "y": image(y), "gy": image(gy), "gx": image(x.grad)}.items():
        put(f"{name}.{k}", t)
    put(name + ".theta", theta)


def color():
    x, p = draw(2, 3, 3, 4).requires_grad_(), torch.tensor([[0.3, 1.7, 0.6], [-0.45, 0.2, 1.4]])
    b, s, k = (p[:, i].view(2, 1, 1, 1) for i in range(3))
    y = x + b
    m = y.mean(1, keepdim=True)
    y = (y - m) * s + m
    m = y.mean((1, 2, 3), keepdim=True)
    y = (y - m) * k + m
    gy = draw(*y.shape)
    y.backward(gy)
    for n, t in {"x": image(x), "p": p, "y": image(y), "gy": image(gy), "gx": image(x.grad)}.items():
        put("color." + n, t)


def optimiser(name, make, steps=3):
    theta = draw(6).requires_grad_()
    put(name + ".theta", theta)
    opt = make([theta])
    for t in range(steps):
        theta.grad = draw(6)
        put(f"{name}.grad{t}", theta.grad)
        opt.step()
        put(f"{name}.theta{t}", theta)


conv("conv_strided", draw(2, 4, 7, 6), draw(4, 2, 3, 3), draw(4), (2, 1), (1, 0), 2)
conv("conv_stem", draw(1, 3, 8, 8), draw(2, 3, 7, 7), draw(2), (2, 2), (3, 3), 1)
pools()
norm("group_norm", 2, 1, 1)
norm("instance_norm", 4, 1, 1)
norm("layer_norm", 1, 0, 0)
norm("batch_norm", 0, 1, 0)
cross_entropy()
affine("affine_corners", True)
affine("affine_centres", False)
color()
optimiser("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.02))
optimiser("nesterov", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.02, nesterov=True))
optimiser("adam", lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.02))
optimiser("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.02))
