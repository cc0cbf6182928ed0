"""A file of random weights, bf16: weights.py flux|KEYS FILE.

`flux` is a Flux cut to 4 double and 8 single blocks of its real width, with the text widths of the demo model, so that the demo's text
encoders go with it. KEYS is a list of a real file's tensors (fixtures/keys). Matrices keep the size of what they multiply; vectors of
scales are ones, biases zeros.
"""

import itertools
import json
import re
import struct
import sys

import numpy as np


def flux(hidden=3072, heads=24, double=4, single=8, context=128, pooled=64, channels=64):
    shapes = {}

    def linear(name, d_in, d_out):
        shapes[name + ".weight"], shapes[name + ".bias"] = [d_out, d_in], [d_out]

    linear("img_in", channels, hidden)
    linear("txt_in", context, hidden)
    for name, d_in in (("time_in", 256), ("vector_in", pooled)):
        linear(name + ".in_layer", d_in, hidden)
        linear(name + ".out_layer", hidden, hidden)
    norms = [f"{which}_norm.scale" for which in ("query", "key")]
    for i, stream in itertools.product(range(double), ("img", "txt")):
        block = f"double_blocks.{i}.{stream}_"
        linear(block + "mod.lin", hidden, 6 * hidden)
        linear(block + "attn.qkv", hidden, 3 * hidden)
        linear(block + "attn.proj", hidden, hidden)
        linear(block + "mlp.0", hidden, 4 * hidden)
        linear(block + "mlp.2", 4 * hidden, hidden)
        shapes.update({f"{block}attn.norm.{norm}": [hidden // heads] for norm in norms})
    for i in range(single):
        block = f"single_blocks.{i}."
        linear(block + "modulation.lin", hidden, 3 * hidden)
        linear(block + "linear1", hidden, 7 * hidden)
        linear(block + "linear2", 5 * hidden, hidden)
        shapes.update({f"{block}norm.{norm}": [hidden // heads] for norm in norms})
    linear("final_layer.linear", hidden, channels)
    linear("final_layer.adaLN_modulation.1", hidden, 2 * hidden)
    return shapes


def listed(path):
    """The tensors of a list whose names have `{0..18}` and `{bias,weight}` in them."""

    def names(text):
        found = re.search(r"\{([^}]*)\}", text)
        if not found:
            return [text]
        inner = found[1]
        span = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
        choices = [str(i) for i in range(int(span[1]), int(span[2]) + 1)] if span else inner.split(",")
        return [name for choice in choices for name in names(text[: found.start()] + choice + text[found.end() :])]

    shapes = {}
    for line in open(path):
        text, _, shape = line.split(maxsplit=2)
        shapes.update({name: json.loads(shape) for name in names(text)})
    return shapes


what, target = sys.argv[1:]
shapes = flux() if what == "flux" else listed(what)
header, at = {}, 0
for name, shape in shapes.items():
    size = 2 * int(np.prod(shape))
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
unit = np.random.default_rng(1).standard_normal(1 << 20, np.float32)
with open(target, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        if len(shape) < 2:
            values = np.full(size, name.endswith(("weight", "scale")), np.float32)
        else:
            values = np.resize(unit, size) * np.float32(np.prod(shape[1:]) ** -0.5)
        file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
