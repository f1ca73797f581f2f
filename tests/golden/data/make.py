#!/usr/bin/env python3
"""Golden hashes of decoding and resizing, made with Pillow.

    python make.py small           writes the small pictures of this folder and small.tsv
    python make.py real FOLDER     writes real.tsv from the tar shards in FOLDER (see its README)

Each row: tar or '-', key or file name, height, width, then SHA-256 of RGB bytes for these operations:
    decode   convert("RGB")
    tv1      shorter side to 256 bilinear, centre crop 224 (torchvision's Resize and CenterCrop)
    bicubic  shorter side to 235 bicubic, centre crop 224
    squash   resize to 64 x 64 bilinear
    box      resize to width 96, height 80 bicubic with box= of the part given by part()
    crop     crop of that part, then resize to 100 x 100 bilinear
Made with Pillow 13.0.0 (libjpeg-turbo 3.2.0).

The horizontal pass comes first, as in every Pillow before 13; Pillow 13 runs the vertical pass first when the height loses more
than twice as many pixels as the width. Each pass alone is the same in both, so resize() below asks for one at a time.
"""
import hashlib
import io
import os
import sys
import tarfile

import PIL
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def sha(im):
    return hashlib.sha256(im.tobytes()).hexdigest()


def resize(im, size, f, box=None):
    w, h = im.size
    x0, y0, x1, y1 = box or (0, 0, w, h)
    return im.resize((size[0], h), f, box=(x0, 0, x1, h)).resize(size, f, box=(0, y0, size[0], y1))


def preset(im, size, side, f):
    w, h = im.size
    short, long = (w, h) if w <= h else (h, w)
    new_long = int(side * long / short)
    im = resize(im, (side, new_long) if w <= h else (new_long, side), f)
    left, top = round((im.size[0] - size) / 2.0), round((im.size[1] - size) / 2.0)
    return im.crop((left, top, left + size, top + size))


def part(w, h):
    """x0, y0, width, height: a fixed off-centre part of any picture."""
    return w // 5, h // 7, max(1, w * 3 // 5), max(1, h * 2 // 3)


def row(tar, name, data):
    im = Image.open(io.BytesIO(data)).convert("RGB")
    w, h = im.size
    x, y, bw, bh = part(w, h)
    return [tar, name, str(h), str(w), sha(im), sha(preset(im, 224, 256, BILINEAR)), sha(preset(im, 224, 235, BICUBIC)),
            sha(resize(im, (64, 64), BILINEAR)), sha(resize(im, (96, 80), BICUBIC, (x, y, x + bw, y + bh))),
            sha(resize(im.crop((x, y, x + bw, y + bh)), (100, 100), BILINEAR))]


def write(name, rows):
    with open(os.path.join(HERE, name), "w") as f:
        f.write("tar\tkey\theight\twidth\tdecode\ttv1\tbicubic\tsquash\tbox\tcrop\n")
        for r in rows:
            f.write("\t".join(r) + "\n")
    print(name, len(rows), "rows, Pillow", PIL.__version__)


def picture(w, h):
    """Smooth areas, edges and texture, without any randomness."""
    im = Image.new("RGB", (w, h))
    im.putdata([((x * 5 + y) % 256, (x * y // 7 + 40) % 256, 255 - (x * 3 + y * 2) % 256 if (x // 9 + y // 7) % 2 else 90)
                for y in range(h) for x in range(w)])
    return im


def small():
    im = picture(61, 47)
    alpha = Image.new("L", im.size)
    alpha.putdata([(x * 4 + y) % 256 for y in range(im.size[1]) for x in range(im.size[0])])
    rgba = im.copy()
    rgba.putalpha(alpha)
    la = im.convert("L")
    la.putalpha(alpha)
    files = {
        "420.jpg": (im, dict(quality=75, subsampling=2)),
        "422.jpg": (im, dict(quality=90, subsampling=1)),
        "444.jpg": (im, dict(quality=95, subsampling=0)),
        "progressive.jpg": (im, dict(quality=80, progressive=True)),
        "restart.jpg": (im, dict(quality=60, restart_marker_blocks=3)),
        "gray.jpg": (im.convert("L"), dict(quality=85)),
        "cmyk.jpg": (im.convert("CMYK"), dict(quality=90)),
        "one.jpg": (picture(1, 1), dict(quality=75)),
        "narrow.jpg": (picture(3, 200), dict(quality=75)),
        "rgb.png": (im, {}),
        "rgba.png": (rgba, {}),
        "gray.png": (im.convert("L"), {}),
        "la.png": (la, {}),
        "palette.png": (im.quantize(16), {}),
        "palette-alpha.png": (im.quantize(256), dict(transparency=3)),
        "bit.png": (im.convert("1"), {}),
    }
    rows = []
    for name, (pic, options) in sorted(files.items()):
        buf = io.BytesIO()
        pic.save(buf, "JPEG" if name.endswith("jpg") else "PNG", **options)
        with open(os.path.join(HERE, name), "wb") as f:
            f.write(buf.getvalue())
        rows.append(row("-", name, buf.getvalue()))
    write("small.tsv", rows)


def real(folder):
    """Every 40th picture of the ImageNet-like shards, and every grayscale one of the ImageNet-1K sample."""
    rows = []
    for tar, step in (("imagenet1k-sample-000000.tar", 6), ("imagenette-val-000000.tar", 90),
                      ("tinyimagenet-sample-val-000000.tar", 80), ("cifar10-png-sample-000000.tar", 50)):
        with tarfile.open(os.path.join(folder, tar)) as t:
            pics = [m for m in t if m.name.endswith((".jpg", ".png"))]
            for i, m in enumerate(pics):
                data = t.extractfile(m).read()
                gray = Image.open(io.BytesIO(data)).mode == "L"
                if i % step == 0 or (gray and tar.startswith("imagenet1k")):
                    rows.append(row(tar, m.name.rsplit(".", 1)[0], data))
    with tarfile.open(os.path.join(folder, "odd-jpeg-000000.tar")) as t:
        for m in t:
            if m.name.endswith(".cls"):
                continue
            data = t.extractfile(m).read()
            try:
                im = Image.open(io.BytesIO(data))
                if im.format != "JPEG" or im.mode != "CMYK" and not m.name.startswith("real-"):
                    continue
                rows.append(row("odd-jpeg-000000.tar", m.name.rsplit(".", 1)[0], data))
            except Exception:  # refused by Pillow: no golden value
                continue
    write("real.tsv", rows)


if len(sys.argv) == 2 and sys.argv[1] == "small":
    small()
elif len(sys.argv) == 3 and sys.argv[1] == "real":
    real(sys.argv[2])
else:
    sys.exit(__doc__)
