#!/usr/bin/env python3
"""Golden hashes of whole presets (config key data.preset), made with Pillow on real pictures.

    python presets.py FOLDER       writes presets.tsv from the tar shards in FOLDER (see its README)

Each row: tar, key, mode (what the file is: RGB, L, CMYK; "exif" behind it where an orientation is set), SHA-256 of the decoded
RGB bytes, then of the pixels of each preset at the side that its column names. A preset is torchvision's Resize (shorter side) and
CenterCrop on a Pillow image: tv1 and tv2 the transforms of its V1 and V2 weights (crop_pct 0.875 and 0.965), timm-a those of timm's
a1 and a2 weights (0.95, bicubic), rded the validation view of SRe2L and RDED (side // 7 * 8).

Made with Pillow 13.0.0 (libjpeg-turbo 3.2.0). Published figures come from Pillow before 13, whose resize runs the horizontal pass
first; Pillow 13 runs the vertical one first when the height loses more than twice as many pixels as the width. Each pass alone is the
same in both, so resize() asks for one at a time; the last line printed says in how many pictures that matters.
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
COLUMNS = [("tv1", 224), ("tv2", 224), ("timm-a", 224), ("rded", 224), ("tv1", 32), ("rded", 64)]
SHORT = {"tv1": lambda s: int(s / 0.875), "tv2": lambda s: int(s / 0.965), "timm-a": lambda s: int(s / 0.95), "rded": lambda s: s // 7 * 8}


def resize(im, size, f, direct=False):
    if direct:
        return im.resize(size, f)
    return im.resize((size[0], im.size[1]), f).resize(size, f)


def preset(im, name, size, direct=False):
    side = SHORT[name](size)
    w, h = im.size
    short, long = (w, h) if w <= h else (h, w)
    new_long = int(side * long / short)
    im = resize(im, (side, new_long) if w <= h else (new_long, side), BICUBIC if name == "timm-a" else BILINEAR, direct)
    left, top = round((im.size[0] - size) / 2.0), round((im.size[1] - size) / 2.0)
    return im.crop((left, top, left + size, top + size))


def sha(im):
    return hashlib.sha256(im.tobytes()).hexdigest()


def main(folder):
    rows, other = [], 0
    for tar, step in (("imagenet1k-sample-000000.tar", 7), ("imagenette-val-000000.tar", 100), ("imagenette-train-000000.tar", 200),
                      ("tinyimagenet-sample-val-000000.tar", 100), ("odd-jpeg-000000.tar", 1)):
        with tarfile.open(os.path.join(folder, tar)) as t:
            for i, m in enumerate(m for m in t if m.name.endswith((".jpg", ".png"))):
                data = t.extractfile(m).read()
                try:
                    im = Image.open(io.BytesIO(data))
                    mode = im.mode + ("-exif" if im.getexif().get(0x0112, 1) != 1 else "")
                    odd = tar.startswith("odd")
                    if odd and not (m.name.startswith("real-") or im.format == "JPEG" and im.mode == "CMYK"):
                        continue
                    if not odd and i % step and mode == "RGB" or not odd and i % step and not tar.startswith("imagenet1k"):
                        continue
                    im = im.convert("RGB")
                except Exception:  # what Pillow refuses has no golden value
                    continue
                rows.append([tar, m.name.rsplit(".", 1)[0], mode, sha(im)] + [sha(preset(im, n, s)) for n, s in COLUMNS])
                other += any(sha(preset(im, n, s, True)) != rows[-1][4 + k] for k, (n, s) in enumerate(COLUMNS))
    with open(os.path.join(HERE, "presets.tsv"), "w") as f:
        f.write("\t".join(["tar", "key", "mode", "decode"] + [f"{n}@{s}" for n, s in COLUMNS]) + "\n")
        for r in rows:
            f.write("\t".join(r) + "\n")
    kinds = {m: sum(r[2] == m for r in rows) for m in sorted({r[2] for r in rows})}
    print(len(rows), "rows", kinds, "Pillow", PIL.__version__)
    print(other, "of them differ somewhere when this Pillow chooses the order of the passes")


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
