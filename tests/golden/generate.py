"""Golden vectors for tests/golden, computed by PyTorch in float64.

    python tests/golden/generate.py tests/golden

Weights and inputs are not stored: both sides make them from the same integer hash (`fill` here, `filled` in
tests/support/session.h), so the files hold results only. Every value that `fill` returns is a float32 number. The DSA
draws are made here by an own Philox4x32-10 from the published algorithm, so the files also pin the counter layout.

Made with PyTorch 2.15.0 (CPU). Rerunning must reproduce the files up to the last bits of float64.
"""
import json
import math
import struct
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def fill(key, count, scale=1.0, offset=0.0):
    """count values offset + scale * u, u in [-1,1) from a murmur3 finaliser over (key, index); rounded to float32."""
    h = (np.arange(count, dtype=np.uint64) + np.uint64(0x9E3779B9) * np.uint64(key + 1)) & np.uint64(0xFFFFFFFF)
    h = h.astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    u = (h >> np.uint32(8)).astype(np.float64) / 8388608.0 - 1.0
    return (offset + scale * u).astype(np.float32).astype(np.float64)


def write(path, tensors):
    """The safetensors layout: u64 header length, JSON header, data. float64 and int64 only."""
    header, blobs, at = {}, [], 0
    for name in sorted(tensors):
        a = tensors[name]
        a = a.detach().numpy() if isinstance(a, torch.Tensor) else np.asarray(a, dtype=np.float64)
        b = np.ascontiguousarray(a, dtype="<f8").tobytes()
        header[name] = {"dtype": "F64", "shape": list(a.shape), "data_offsets": [at, at + len(b)]}
        blobs.append(b)
        at += len(b)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    print(path, 8 + len(text) + at, "bytes")


def set_weights(net):
    """Parameter k of the network: fan-in scaled for matrices and kernels; near 1 for norm weights, small for biases."""
    for k, (name, p) in enumerate(net.named_parameters()):
        if p.dim() >= 2:
            v = fill(k, p.numel(), math.sqrt(3.0 / (p.numel() / p.shape[0])))
        elif name.endswith("weight"):
            v = fill(k, p.numel(), 0.25, 1.0)
        else:
            v = fill(k, p.numel(), 0.125)
        p.data = torch.from_numpy(v).reshape(p.shape)


def set_statistics(net):
    k = 500
    for name, b in net.named_buffers():
        if name.endswith("running_mean"):
            b.copy_(torch.from_numpy(fill(k, b.numel(), 0.25)))
        elif name.endswith("running_var"):
            b.copy_(torch.from_numpy(fill(k, b.numel(), 0.5, 1.0)))
        else:
            continue
        k += 1


def images(n, size, c=3):
    """NHWC values in hash order, given to torch as NCHW."""
    return torch.from_numpy(fill(900, n * size * size * c)).reshape(n, size, size, c).permute(0, 3, 1, 2).contiguous()


def labels(n, classes):
    """Rows of label weights that sum to 1."""
    u = fill(901, n * classes, 0.5, 0.5).reshape(n, classes)
    return torch.from_numpy(u / u.sum(1, keepdims=True))


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


class ConvNet(nn.Module):
    def __init__(self, depth, width, classes, size, norm="instance", channels=3):
        super().__init__()
        norms = {"none": lambda s: [], "instance": lambda s: [nn.GroupNorm(width, width)],
                 "batch": lambda s: [nn.BatchNorm2d(width)], "layer": lambda s: [nn.LayerNorm([width, s, s])],
                 "group": lambda s: [nn.GroupNorm(4, width)]}
        layers, c = [], channels
        for i in range(depth):
            pad = 3 if channels == 1 and size == 28 else 1
            layers += [nn.Conv2d(c, width, 3, padding=pad)]
            size += 2 * pad - 2
            layers += norms[norm](size) + [nn.ReLU(), nn.AvgPool2d(2)]
            c, size = width, size // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * size * size, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class MLP(nn.Module):
    def __init__(self, size, width, classes):
        super().__init__()
        self.fc_1 = nn.Linear(size * size * 3, width)
        self.fc_2 = nn.Linear(width, width)
        self.fc_3 = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc_3(F.relu(self.fc_2(F.relu(self.fc_1(x.flatten(1))))))


class Block(nn.Module):
    """Basic or bottleneck block with torchvision's member names."""

    def __init__(self, c_in, width, stride, bottleneck):
        super().__init__()
        kernels, out = ([1, 3, 1], 4 * width) if bottleneck else ([3, 3], width)
        self.n, c = len(kernels), c_in
        for i, k in enumerate(kernels, 1):
            o = out if i == self.n else width
            s = stride if i == (2 if bottleneck else 1) else 1
            setattr(self, f"conv{i}", nn.Conv2d(c, o, k, s, k // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(o))
            c = o
        if stride != 1 or c_in != out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.n + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.n else y
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    def __init__(self, blocks, bottleneck, classes, small_stem):
        super().__init__()
        self.small = small_stem
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if small_stem else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        c = 64
        for i, n in enumerate(blocks):
            w, layer = 64 << i, []
            for b in range(n):
                layer.append(Block(c, w, 2 if i > 0 and b == 0 else 1, bottleneck))
                c = 4 * w if bottleneck else w
            setattr(self, f"layer{i + 1}", nn.Sequential(*layer))
        self.fc = nn.Linear(c, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = x if self.small else F.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def soft_ce(z, q):
    return -(q * F.log_softmax(z, 1)).sum(1).mean()


def convnet_step(folder):
    """One SGD step (lr .01, momentum .9, decay 5e-4) from a momentum that is not zero."""
    net = ConvNet(3, 16, 10, 32)
    set_weights(net)
    x, q = images(4, 32), labels(4, 10)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for k, p in enumerate(net.parameters()):
        opt.state[p]["momentum_buffer"] = torch.from_numpy(fill(200 + k, p.numel(), 0.0625)).reshape(p.shape)
    z = net(x)
    loss = soft_ce(z, q)
    loss.backward()
    grad = flat([p.grad for p in net.parameters()])
    opt.step()
    write(f"{folder}/convnet_step.safetensors",
          {"logits": z, "loss": loss, "grad": grad, "theta": flat(net.parameters()),
           "velocity": flat([opt.state[p]["momentum_buffer"] for p in net.parameters()])})


def convnet_variants(folder):
    """Logits of the other norms, of one-channel digits, and of a map with odd sides, in training and evaluation mode."""
    out = {}
    for label, norm, size, channels, depth in (
            ("none", "none", 16, 3, 2), ("batch", "batch", 16, 3, 2), ("layer", "layer", 16, 3, 2),
            ("group", "group", 16, 3, 2), ("digits", "instance", 28, 1, 3), ("odd", "instance", 10, 3, 2)):
        net = ConvNet(depth, 8, 5, size, norm, channels)
        set_weights(net)
        set_statistics(net)
        x = images(3, size, channels)
        net.eval()
        out[label + ".eval"] = net(x)
        net.train()
        out[label + ".train"] = net(x)
    write(f"{folder}/convnet_variants.safetensors", out)


def mlp_steps(folder):
    """Three AdamW steps; decay 0.01 on weight matrices only."""
    net = MLP(8, 16, 5)
    set_weights(net)
    x, q = images(6, 8), labels(6, 5)
    groups = [{"params": [p for p in net.parameters() if p.dim() >= 2], "weight_decay": 0.01},
              {"params": [p for p in net.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    opt, losses = torch.optim.AdamW(groups, lr=1e-3), []
    for _ in range(3):
        opt.zero_grad()
        loss = soft_ce(net(x), q)
        loss.backward()
        opt.step()
        losses.append(loss.detach())
    write(f"{folder}/mlp_steps.safetensors", {"losses": torch.stack(losses), "theta": flat(net.parameters())})


def digest(tensors, key):
    """Per tensor its norm and its dot product with a vector made by the hash: a big gradient in two numbers each."""
    rows = []
    for k, t in enumerate(tensors):
        v = t.detach().reshape(-1).numpy()
        rows.append([np.linalg.norm(v), float(v @ fill(key + k, v.size))])
    return np.array(rows)


def resnet18_step(folder):
    """Training-mode forward, loss, gradient and running statistics; then evaluation mode with those statistics."""
    net = ResNet([2, 2, 2, 2], False, 10, False)
    set_weights(net)
    set_statistics(net)
    x, q = images(4, 64), labels(4, 10)
    net.train()
    z = net(x)
    loss = soft_ce(z, q)
    loss.backward()
    stats = [b for n, b in net.named_buffers() if not n.endswith("tracked")]
    out = {"logits": z, "loss": loss, "grad": digest([p.grad for p in net.parameters()], 1000),
           "stats": digest(stats, 2000)}
    net.eval()
    out["eval_logits"] = net(x)
    write(f"{folder}/resnet18_step.safetensors", out)


def resnet50_eval(folder):
    net = ResNet([3, 4, 6, 3], True, 7, True)
    set_weights(net)
    set_statistics(net)
    net.eval()
    with torch.no_grad():
        write(f"{folder}/resnet50_eval.safetensors", {"logits": net(images(2, 16))})


def optimisers(folder):
    """Three steps of each rule on a vector of 8 with given gradients."""
    rules = {"sgd": lambda p: torch.optim.SGD(p, lr=0.1),
             "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05),
             "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05, nesterov=True),
             "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.05),
             "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.999), weight_decay=0.05)}
    out = {}
    for name, make in rules.items():
        p = torch.from_numpy(fill(0, 8)).requires_grad_()
        opt, rows = make([p]), []
        for t in range(3):
            p.grad = torch.from_numpy(fill(1 + t, 8))
            opt.step()
            rows.append(p.detach().clone())
        out[name] = torch.stack(rows)
    write(f"{folder}/optimisers.safetensors", out)


def schedules(folder):
    """Rates at the start of epochs 0..39 from torch's schedulers, and the two rules of the field that torch lacks."""

    def table(make):
        opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        s, rates = make(opt), []
        for _ in range(40):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            s.step()
        return np.array(rates)

    L = torch.optim.lr_scheduler
    smoothed = np.array([0.25 * (1 + math.cos(math.pi * e / (2 * 40))) for e in range(40)])
    dc, rate = [], 0.5
    for epoch in range(40):  # 39 (+1) epochs; the loop body of the DC family's evaluation
        dc.append(rate)
        if epoch in [39 // 2 + 1]:
            rate *= 0.1
    write(f"{folder}/schedules.safetensors",
          {"cosine": table(lambda o: L.CosineAnnealingLR(o, 40)),
           "steps": table(lambda o: L.MultiStepLR(o, [10, 25, 26], 0.2)),
           "warmup_cosine": table(lambda o: L.SequentialLR(
               o, [L.LinearLR(o, 1e-12, 1.0, 5), L.CosineAnnealingLR(o, 35)], [5])),
           "smoothed": smoothed, "dc": np.array(dc)})


def philox(ctr, key):
    """Philox4x32-10 (Salmon et al., SC 2011)."""
    c, k0, k1 = list(ctr), key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def dsa_words(seed, step, sample, slot):
    return philox([step & 0xFFFFFFFF, step >> 32, sample, (4 << 16) | slot], seed)  # purpose 4 is RT_RNG_DSA


def dsa_op(x, op, keys, seed, step, align):
    """One op on x [N,C,H,W]; image i draws with sample id keys[i]. Torch's own sampling grid."""
    n, _, h, w = x.shape
    slot = 1 + ["color", "crop", "cutout", "flip", "scale", "rotate"].index(op)
    words = [dsa_words(seed, step, k, slot) for k in keys]
    u = [[(v >> 8) / 16777216.0 for v in ws] for ws in words]
    below = [[lambda m, v=v: (v * m) >> 32 for v in ws] for ws in words]
    out = []
    for i in range(n):
        y = x[i:i + 1]
        if op == "color":
            y = y + (u[i][0] - 0.5)
            m = y.mean(1, keepdim=True)
            y = (y - m) * (2 * u[i][1]) + m
            m = y.mean((1, 2, 3), keepdim=True)
            y = (y - m) * (u[i][2] + 0.5) + m
        elif op == "crop":
            sh, sw = int(h * 0.125 + 0.5), int(w * 0.125 + 0.5)
            t1, t2 = below[i][0](2 * sh + 1) - sh, below[i][1](2 * sw + 1) - sw
            padded = F.pad(y, (sw, sw, sh, sh))
            y = padded[:, :, sh + t1:sh + t1 + h, sw + t2:sw + t2 + w]
        elif op == "cutout":
            ch, cw = int(h * 0.5 + 0.5), int(w * 0.5 + 0.5)
            o1, o2 = below[i][0](h + (1 - ch % 2)), below[i][1](w + (1 - cw % 2))
            mask = torch.ones(h, w)
            rows = [r for r in range(o1 - ch // 2, o1 - ch // 2 + ch) if 0 <= r < h]
            cols = [c for c in range(o2 - cw // 2, o2 - cw // 2 + cw) if 0 <= c < w]
            for r in rows:
                mask[r, cols] = 0
            y = y * mask
        elif op == "flip":
            y = y.flip(3) if u[i][0] < 0.5 else y
        else:
            if op == "scale":
                lo = 1 / 1.2
                theta = [[lo + u[i][0] * (1.2 - lo), 0, 0], [0, lo + u[i][1] * (1.2 - lo), 0]]
            else:
                a = (u[i][0] - 0.5) * 2 * 15 / 180 * math.pi
                theta = [[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0]]
            grid = F.affine_grid(torch.tensor([theta]), y.shape, align_corners=align)
            y = F.grid_sample(y, grid, align_corners=align)
        out.append(y)
    return torch.cat(out)


def dsa(folder):
    out, seed, step = {}, 77, 5
    ops = ["color", "crop", "cutout", "flip", "scale", "rotate"]
    for h, w in ((8, 8), (6, 10)):
        x = torch.from_numpy(fill(902, 3 * h * w * 3)).reshape(3, h, w, 3).permute(0, 3, 1, 2)
        for op in ops:
            for align in (False, True):
                y = dsa_op(x, op, [11, 12, 13], seed, step, align)
                out[f"{op}.{h}x{w}.{int(align)}"] = y.permute(0, 2, 3, 1)
        y = x
        for op in ops:  # mode M, siamese: all images draw with the group's id
            y = dsa_op(y, op, [4, 4, 4], seed, step, False)
        out[f"all.{h}x{w}.0"] = y.permute(0, 2, 3, 1)
    write(f"{folder}/dsa.safetensors", out)


if __name__ == "__main__":
    where = sys.argv[1]
    for make in (convnet_step, convnet_variants, mlp_steps, resnet18_step, resnet50_eval, optimisers, schedules, dsa):
        make(where)
