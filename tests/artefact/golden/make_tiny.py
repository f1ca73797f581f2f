#!/usr/bin/env python3
"""Writes tiny.safetensors with nothing but the standard library, from the format's text: an opinion independent of the C
writer. Tensors by descending dtype rank, then name; compact JSON; header padded with spaces to a multiple of 8."""
import json
import pathlib
import struct

RANK = ["I64", "F64", "F32", "I32", "BF16", "F16", "U8"]  # descending alignment, as the reference sorts
TENSORS = {
    "u8": ("U8", [3], bytes([0, 128, 255])),
    "conv.weight": ("F32", [2, 3], struct.pack("<6f", 0.0, -0.0, 1.5, -2.25, 3.4028234663852886e38, 1.401298464324817e-45)),
    "bn.num_batches_tracked": ("I64", [], struct.pack("<q", -7)),
    "double": ("F64", [2], struct.pack("<2d", 3.141592653589793, -1e-300)),
    "half": ("F16", [2], struct.pack("<2e", 1.0, -65504.0)),
    "brain": ("BF16", [1], struct.pack("<f", 3.140625)[2:]),
    "int": ("I32", [2], struct.pack("<2i", -1, 2147483647)),
    "a empty": ("F32", [0, 5], b""),
    "quote \" and \u00e9": ("U8", [], bytes([128])),
}

header, buffer = {"__metadata__": {"format": "pt", "z": "last"}}, b""
for name in sorted(TENSORS, key=lambda n: (RANK.index(TENSORS[n][0]), n.encode())):
    dtype, shape, data = TENSORS[name]
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(buffer), len(buffer) + len(data)]}
    buffer += data
text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
text += b" " * (-len(text) % 8)
pathlib.Path(__file__).with_name("tiny.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + buffer)
