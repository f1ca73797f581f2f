#!/usr/bin/env python3
"""The comparators of bench_gpu: the same workloads in PyTorch.

    gpu_torch.py [--smoke] floor [SIZE]
    gpu_torch.py [--smoke] step MODE ARCH SIZE BATCH [NETS]     ARCH: convnet, resnet18, resnet50
    gpu_torch.py [--smoke] dm MODE IPC

MODE is how the work is written. "eager": as research code writes it, float32, one kernel after the other, networks and classes in
Python loops, the loss fetched every step. "tuned": what a good day's work makes of it: channels_last, bf16 autocast, fused
optimiser, everything resident, torch.compile with CUDA graphs, networks stacked by vmap, classes in one batch. Compilation is
not timed; it shows in cold_s, seconds from the start of the process to the first result. --turns=N: measure N times, each time
a line arrives on standard input, so that two programs can take turns on one device.

--smoke runs tiny sizes on any device, so that the code is known to work. Without CUDA and without --smoke: one line, exit 77.
One JSON line per workload, as bench_gpu prints.
"""
import json
import sys
import time

BORN = time.perf_counter()
try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    print("no PyTorch in this Python: not measured")
    sys.exit(77)

SMOKE = "--smoke" in sys.argv
TURNS = next((int(a[8:]) for a in sys.argv if a.startswith("--turns=")), 1)
ARGS = [a for a in sys.argv[1:] if not a.startswith("--")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RUNS = 2 if SMOKE else 50


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def measure(run, fields, mode, unit, per, warm=5):
    """One JSON line per turn: milliseconds over RUNS runs, and unit per second as `per`."""
    run()
    wait()
    cold = time.perf_counter() - BORN
    for _ in range(1 if SMOKE else warm):
        run()
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    for turn in range(TURNS):
        if TURNS > 1 and not sys.stdin.readline():
            return
        wait()
        ms = []
        for _ in range(RUNS):
            t = time.perf_counter()
            run()
            wait()
            ms.append(1e3 * (time.perf_counter() - t))
        ms.sort()
        median = ms[len(ms) // 2]
        peak = torch.cuda.max_memory_allocated() / 1e6 if DEVICE == "cuda" else 0
        print(json.dumps({**fields, "engine": f"torch {torch.__version__} {mode}".strip(), "device": name, "median_ms": round(median, 4),
                          "min_ms": round(ms[0], 4), "max_ms": round(ms[-1], 4), "cold_s": round(cold, 3),
                          per: round(1e3 * unit / median, 1), "peak_mb": round(peak, 1)}), flush=True)


def compiled(f):
    """torch.compile with CUDA graphs; smoke tests keep to the backend that compiles nothing."""
    return torch.compile(f, mode="max-autotune") if not SMOKE else torch.compile(f, backend="eager")


def autocast(mode):
    return torch.autocast(DEVICE, torch.bfloat16, enabled=mode == "tuned")


# --- networks ------------------------------------------------------------------------------------------------------------
def convnet(width=128, classes=10):
    layers, channels = [], 3
    for _ in range(3):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 16, classes))


class Block(nn.Module):
    """ResNet block, basic (18) or bottleneck (50, stride in the 3x3), as torchvision builds it."""

    def __init__(self, inside, width, stride, bottleneck):
        super().__init__()
        outside = width * (4 if bottleneck else 1)
        shapes = [(inside, width, 1, 1), (width, width, 3, stride), (width, outside, 1, 1)] if bottleneck else \
                 [(inside, width, 3, stride), (width, width, 3, 1)]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in shapes)
        self.skip = nn.Identity() if stride == 1 and inside == outside else \
            nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        y = x
        for k, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            y = norm(conv(y if k == 0 else F.relu(y)))
        return F.relu(y + self.skip(x))


def resnet(depth):
    bottleneck, counts = depth == 50, [3, 4, 6, 3] if depth == 50 else [2, 2, 2, 2]
    layers, inside = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for stage, count in enumerate(counts):
        for k in range(count):
            layers.append(Block(inside, 64 << stage, 2 if stage and k == 0 else 1, bottleneck))
            inside = (64 << stage) * (4 if bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000))


# --- workloads -------------------------------------------------------------------------------------------------------------
def floor(size):
    x = torch.randn(4 * size * size, device=DEVICE)
    y = torch.empty_like(x)
    measure(lambda: torch.neg(x, out=y), {"workload": "copy", "elements": x.numel()}, "", 8e-9 * x.numel(), "GB_s")
    for precision, dtype in (("f32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        measure(lambda: a @ b, {"workload": "matmul", "size": size, "precision": precision}, "", 2e-12 * size ** 3, "TFLOP_s")


def one_step(mode, arch, size, batch):
    net = convnet() if arch == "convnet" else resnet(int(arch[6:]))
    net = net.to(DEVICE)
    x = torch.randn(batch, 3, size, size, device=DEVICE)
    y = torch.arange(batch, device=DEVICE) % (10 if arch == "convnet" else 1000)
    if mode == "tuned":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=mode == "tuned")

    def loss_of(x, y):
        with autocast(mode):
            return F.cross_entropy(net(x), y)

    forward = compiled(loss_of) if mode == "tuned" else loss_of

    def step():
        opt.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        opt.step()
        if mode == "eager":
            loss.item()

    return step


def many_steps(mode, nets, size, batch):
    """nets ConvNets, each with a batch of its own: one after the other, or stacked by vmap."""
    if mode == "eager":
        steps = [one_step(mode, "convnet", size, batch) for _ in range(nets)]
        return lambda: [s() for s in steps]
    models = [convnet().to(DEVICE) for _ in range(nets)]
    params, _ = torch.func.stack_module_state(models)
    params = {k: v.detach().requires_grad_() for k, v in params.items()}
    momentum = {k: torch.zeros_like(v) for k, v in params.items()}
    x = torch.randn(nets, batch, 3, size, size, device=DEVICE)
    y = (torch.arange(batch, device=DEVICE) % 10).expand(nets, batch)

    def loss_of(p, x, y):
        with autocast(mode):
            return F.cross_entropy(torch.func.functional_call(models[0], p, (x,)), y)

    gradients = torch.func.vmap(torch.func.grad(loss_of))

    def update(params, momentum, x, y):
        grads = gradients(params, x, y)
        with torch.no_grad():
            for k, p in params.items():
                momentum[k].mul_(0.9).add_(grads[k] + 5e-4 * p)
                p.sub_(0.01 * momentum[k])

    run = compiled(update)
    for p in params.values():
        p.requires_grad_(False)
    for t in (*params.values(), *momentum.values(), x, y):
        torch._dynamo.mark_static_address(t)  # updated in place: without this there is no CUDA graph
    return lambda: run(params, momentum, x, y)


def step(mode, arch, size, batch, nets=1):
    run = one_step(mode, arch, size, batch) if nets == 1 else many_steps(mode, nets, size, batch)
    measure(run, {"workload": "step", "arch": arch, "size": size, "batch": batch, "nets": nets}, mode, batch * nets, "img_s")


# --- distribution matching ----------------------------------------------------------------------------------------------------
def draw(op, n):
    """Parameters of one augmentation for n classes, by the settings of DSA (crop .125, cutout .5, scale 1.2, rotate 15)."""
    u = torch.rand(n, 4, device=DEVICE)
    return {"flip": u, "color": u, "crop": ((u[:, :2] * 9).floor() - 4), "cutout": (u[:, :2] * 32).floor(),
            "scale": 1 / 1.2 + u[:, :2] * (1.2 - 1 / 1.2), "rotate": (u[:, :1] - 0.5) * 2 * 15 * 3.14159 / 180}[op]


def augment(op, x, p):
    """x [n,3,h,w] with one row of parameters per image."""
    n, _, h, w = x.shape
    q = [p[:, k].view(n, 1, 1, 1) for k in range(p.shape[1])]
    if op == "flip":
        return torch.where(q[0] < 0.5, x.flip(3), x)
    if op == "color":
        x = x + (q[0] - 0.5)
        m = x.mean(1, keepdim=True)
        x = (x - m) * (q[1] * 2) + m
        m = x.mean((1, 2, 3), keepdim=True)
        return (x - m) * (q[2] + 0.5) + m
    if op == "cutout":
        i, j = torch.arange(h, device=x.device).view(1, 1, h, 1), torch.arange(w, device=x.device).view(1, 1, 1, w)
        inside = ((i - q[0]).abs() <= h // 4) & ((j - q[1]).abs() <= w // 4)
        return torch.where(inside, torch.zeros_like(x), x)
    zero, one = torch.zeros(n, device=x.device), torch.ones(n, device=x.device)
    if op == "crop":
        rows = (one, zero, p[:, 1] * 2 / w, zero, one, p[:, 0] * 2 / h)
    elif op == "scale":
        rows = (p[:, 0], zero, zero, zero, p[:, 1], zero)
    else:
        c, s = p[:, 0].cos(), p[:, 0].sin()
        rows = (c, -s, zero, s, c, zero)
    grid = F.affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(x.shape), align_corners=True)
    return F.grid_sample(x.float(), grid, align_corners=True)


OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def dm(mode, ipc):
    classes, per_class, real_n = 10, 300, 4 if SMOKE else 256
    width, ipc = (8, 1) if SMOKE else (128, ipc)
    data = torch.randn(classes, per_class, 3, 32, 32, device=DEVICE)
    images = torch.randn(classes * ipc, 3, 32, 32, device=DEVICE).requires_grad_()
    opt = torch.optim.SGD([images], lr=1.0, momentum=0.5)

    def embed(net, x):
        with autocast(mode):
            return net[:-1](x).float()

    def by_class():
        net = convnet(width).to(DEVICE)
        for p in net.parameters():
            p.requires_grad_(False)
        loss = torch.tensor(0.0, device=DEVICE)
        for c in range(classes):
            op = OPS[int(torch.randint(len(OPS), ()))]
            p = draw(op, 1)
            real = data[c, torch.randperm(per_class)[:real_n].to(DEVICE)]
            syn = images[c * ipc:(c + 1) * ipc]
            real, syn = augment(op, real, p.expand(real_n, -1)), augment(op, syn, p.expand(ipc, -1))
            loss = loss + (embed(net, real).detach().mean(0) - embed(net, syn).mean(0)).square().sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    net = convnet(width).to(DEVICE, memory_format=torch.channels_last)
    for p in net.parameters():
        p.requires_grad_(False)
    velocity = torch.zeros_like(images)

    def matched(op, images, real, p):
        syn = augment(op, images, p.repeat_interleave(ipc, 0)).contiguous(memory_format=torch.channels_last)
        real = augment(op, real.flatten(0, 1), p.repeat_interleave(real_n, 0)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            target = embed(net, real).view(classes, real_n, -1).mean(1)
        return (target - embed(net, syn).view(classes, ipc, -1).mean(1)).square().sum()

    compiled_of = {op: compiled(lambda i, r, p, op=op: matched(op, i, r, p)) for op in OPS} if mode == "tuned" else {}

    def at_once():
        with torch.no_grad():  # a new network in the old one's place, so that captured graphs stay valid
            for m in net:
                if isinstance(m, (nn.Conv2d, nn.Linear)):
                    bound = m.weight[0].numel() ** -0.5
                    m.weight.uniform_(-bound, bound)
                    m.bias.uniform_(-bound, bound)
        pick = torch.rand(classes, per_class, device=DEVICE).argsort(1)[:, :real_n]
        real = torch.gather(data, 1, pick.view(classes, real_n, 1, 1, 1).expand(-1, -1, 3, 32, 32))
        op = OPS[int(torch.randint(len(OPS), ()))]
        g, = torch.autograd.grad(compiled_of[op](images, real, draw(op, classes)), images)
        with torch.no_grad():
            velocity.mul_(0.5).add_(g)
            images.sub_(velocity)

    measure(at_once if mode == "tuned" else by_class, {"workload": "dm", "ipc": ipc, "width": width, "batch_real": real_n}, mode, 1, "it_s",
            warm=20)


def main():
    if DEVICE == "cpu" and not SMOKE:
        print("no CUDA device: not measured")
        sys.exit(77)
    if DEVICE == "cuda" and "eager" not in ARGS:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    what, rest = (ARGS or [""])[0], ARGS[1:]
    mode = rest.pop(0) if what in ("step", "dm") and rest else ""
    if what == "floor":
        floor(64 if SMOKE else int((rest or [8192])[0]))
    elif what == "step" and len(rest) >= 3 and mode in ("eager", "tuned"):
        arch, size, batch, nets = rest[0], int(rest[1]), int(rest[2]), int((rest + [1, 1, 1, 1])[3])
        step(mode, arch, *((32, 2, min(nets, 2)) if SMOKE else (size, batch, nets)))
    elif what == "dm" and rest and mode in ("eager", "tuned"):
        dm(mode, int(rest[0]))
    else:
        print(__doc__)
        sys.exit(64)


main()
