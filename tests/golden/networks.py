"""Golden vectors of every convolutional network, computed by torchvision's classes (WRN-16-2: below) in float64.

    python tests/golden/networks.py tests/golden

networks.txt       per network the parameter count, and the state_dict with shapes in torchvision's order, 1000 classes, 224 px
networks.safetensors   per network at a small size: logits of 8 images in evaluation mode from weights and buffers made by the
                   hash of generate.py; of a training step on the first 4 images (dropout and stochastic depth off) the loss
                   and, per parameter and statistic, the two numbers of `digest`
"""
import sys

import torch
import torchvision
from torch import nn
import torch.nn.functional as F

from generate import digest, fill, images, labels, set_statistics, set_weights, soft_ce, write

CLASSES = 10


class WideBlock(nn.Module):
    def __init__(self, c, out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c)
        self.conv1 = nn.Conv2d(c, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        if c != out:
            self.convShortcut = nn.Conv2d(c, out, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.bn1(x))
        if hasattr(self, "convShortcut"):
            x = self.convShortcut(y)
        return x + self.conv2(F.relu(self.bn2(self.conv1(y))))


class WideResNet(nn.Module):
    """WRN-16-2 (arXiv 1605.07146): three groups of two pre-activation blocks."""

    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        c = 16
        for g in range(3):
            layers = [WideBlock(c if b == 0 else 32 << g, 32 << g, 2 if g and b == 0 else 1) for b in range(2)]
            setattr(self, f"block{g + 1}", nn.ModuleDict({"layer": nn.Sequential(*layers)}))
            c = 32 << g
        self.bn1 = nn.BatchNorm2d(c)
        self.fc = nn.Linear(c, classes)

    def forward(self, x):
        x = self.conv1(x)
        for g in range(3):
            x = getattr(self, f"block{g + 1}")["layer"](x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


def full(arch, classes=1000):
    return WideResNet(classes) if arch == "wrn16_2" else getattr(torchvision.models, arch)(num_classes=classes)


def small_vgg11(net):
    net.avgpool = nn.Identity()
    net.classifier[0] = nn.Linear(512, 4096)


def small_alexnet(net):
    net.features[0] = nn.Conv2d(3, 64, 5, 2, 2)
    net.avgpool = nn.Identity()
    net.classifier[1] = nn.Linear(256 * 3 * 3, 4096)


def small_mobilenet_v2(net):
    net.features[0][0].stride = net.features[2].conv[1][0].stride = (1, 1)
    net.features[2].use_res_connect = False


# arch: size of the vectors, and what makes the small variant where that is taken
NETWORKS = {"resnet34": (64, None), "mobilenet_v2": (64, None), "shufflenet_v2_x0_5": (64, None),
            "shufflenet_v2_x1_0": (64, None), "efficientnet_b0": (64, None), "alexnet": (64, small_alexnet),
            "densenet121": (64, None), "vgg11": (32, small_vgg11), "wrn16_2": (32, None)}


def no_dropout(net):
    for m in net.modules():
        if isinstance(m, (nn.Dropout, torchvision.ops.StochasticDepth)):
            m.p = 0.0


def vectors(arch, size, change):
    net = full(arch, CLASSES)
    if change:
        change(net)
    no_dropout(net)
    set_weights(net)
    set_statistics(net)
    net.eval()
    with torch.no_grad():
        logits = net(images(8, size))
    print(arch, "spread of logits over images", float((logits.std(0) / logits.abs().mean(0)).mean()))
    net.train()
    loss = soft_ce(net(images(8, size)[:4]), labels(4, CLASSES))
    loss.backward()
    out = {"logits": logits, "loss": loss, "grad": digest([p.grad for p in net.parameters()], 1000)}
    stats = [b for n, b in net.named_buffers() if not n.endswith("tracked")]
    if stats:
        out["stats"] = digest(stats, 2000)
    return {f"{arch}.{k}": v for k, v in out.items()}


if __name__ == "__main__":
    where, out = sys.argv[1], {}
    with open(f"{where}/networks.txt", "w") as f:
        for arch, (size, change) in NETWORKS.items():
            net = full(arch)
            print(arch, "parameters", sum(p.numel() for p in net.parameters()), file=f)
            for name, t in net.state_dict().items():
                if not name.endswith("num_batches_tracked"):
                    print(arch, name, "x".join(map(str, t.shape)), file=f)
            out.update(vectors(arch, size, change))
    write(f"{where}/networks.safetensors", out)
