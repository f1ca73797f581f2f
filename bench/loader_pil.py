#!/usr/bin/env python3
"""The work of bench/loader.c done with Pillow in threads: decode, random resized crop, flip, uint8 NHWC batches.

    loader_pil.py SHARD [threads] [epochs] [size]

Pillow releases the interpreter lock while it decodes and resizes. One JSON line.
"""
import io
import json
import math
import os
import random
import statistics
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
from PIL import Image

path = sys.argv[1]
threads, epochs, size = [int(v) for v in (sys.argv[2:] + ["2", "5", "224"][len(sys.argv) - 2:])]
with tarfile.open(path) as t:
    index = [(m.offset_data, m.size) for m in t if m.name.endswith((".jpg", ".jpeg", ".png"))]
fd = os.open(path, os.O_RDONLY)
BATCH = 32


def crop_box(w, h, rng):
    """torchvision's RandomResizedCrop.get_params."""
    for _ in range(10):
        area = w * h * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        cw, ch = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < cw <= w and 0 < ch <= h:
            x, y = rng.randint(0, w - cw), rng.randint(0, h - ch)
            return x, y, x + cw, y + ch
    side = min(w, h)
    return (w - side) // 2, (h - side) // 2, (w + side) // 2, (h + side) // 2


def make(job):
    (offset, length), seed, out = job
    rng = random.Random(seed)
    im = Image.open(io.BytesIO(os.pread(fd, length, offset))).convert("RGB")
    im = im.crop(crop_box(*im.size, rng)).resize((size, size), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        im = im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    out[...] = np.asarray(im)


rates = []
with ThreadPoolExecutor(threads) as pool:
    for epoch in range(-1, epochs):
        if epoch == 0:
            cpu = time.process_time()
        order = list(range(len(index)))
        random.Random(epoch).shuffle(order)
        start = time.monotonic()
        batches = [np.empty((len(order[b:b + BATCH]), size, size, 3), np.uint8) for b in range(0, len(order), BATCH)]
        jobs = ((index[i], epoch * 1000003 + n, batches[n // BATCH][n % BATCH]) for n, i in enumerate(order))
        list(pool.map(make, jobs))
        if epoch >= 0:
            rates.append(len(order) / (time.monotonic() - start))
cpu = (time.process_time() - cpu) / (epochs * len(index))
print(json.dumps({"bench": "loader", "by": "pillow " + PIL.__version__, "threads": threads, "images": len(index), "size": size,
                  "img_s": round(statistics.median(rates), 1), "min": round(min(rates), 1), "max": round(max(rates), 1), "cpu_ms": round(1e3 * cpu, 3)}))
