"""Label logits DATM begins with (matching.md 4.7), by PyTorch in float64.

    python tests/golden/datm/generate.py tests/golden/datm

Two images of each of three classes and four experts, ConvNet-2 of width 6 on 8x8, all from the integer hash of
tests/golden/generate.py: images fill(900), the flat weights of expert k fill(700 + k, scale 0.5). Per image the mean logits of
the experts that are right; where none is, those of the expert that gives the right class most.
"""
import os
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from generate import ConvNet, fill, write  # noqa: E402

CLASSES, IPC, SIZE, WIDTH, EXPERTS = 3, 2, 8, 6, 4

if __name__ == "__main__":
    n = CLASSES * IPC
    net = ConvNet(2, WIDTH, CLASSES, SIZE)
    x = torch.from_numpy(fill(900, n * SIZE * SIZE * 3)).reshape(n, SIZE, SIZE, 3).permute(0, 3, 1, 2)
    label = torch.arange(n) // IPC
    p = sum(q.numel() for q in net.parameters())
    said = []
    for k in range(EXPERTS):
        theta, at = torch.from_numpy(fill(700 + k, p, 0.5)), 0
        with torch.no_grad():
            for q in net.parameters():
                q.copy_(theta[at:at + q.numel()].view_as(q))
                at += q.numel()
            said.append(net(x))
    z = torch.stack(said)
    right = z.argmax(2) == label
    sure = F.log_softmax(z, 2)[:, torch.arange(n), label]
    out = torch.empty(n, CLASSES)
    for i in range(n):
        out[i] = z[right[:, i], i].mean(0) if right[:, i].any() else z[sure[:, i].argmax(), i]
    print("right experts per image:", right.sum(0).tolist())
    write(f"{sys.argv[1]}/labels.safetensors", {"logits": out, "right": right.sum(0).double()})
