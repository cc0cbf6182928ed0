"""How close pictures are to the first: alike.py PNG PNG ..., in dB, without a library but zlib and numpy."""

import struct
import sys
import zlib

import numpy as np


def pixels(path):
    """The bytes of a PNG of eight bits a channel."""
    data, at, packed = open(path, "rb").read(), 8, b""
    while at < len(data):
        (size,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[at + 8 : at + 16])
            channels = {0: 1, 2: 3, 6: 4}[data[at + 17]]
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    rows, stride, out = zlib.decompress(packed), width * channels, []
    before = np.zeros(stride + channels, np.int32)
    for y in range(height):
        start = y * (stride + 1)
        kind, row = rows[start], np.frombuffer(rows[start + 1 : start + 1 + stride], np.uint8)
        now = np.zeros(stride + channels, np.int32)
        for x in range(stride):
            left, up, corner = now[x], before[x + channels], before[x]
            if kind == 4:
                guess = left + up - corner
                near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            else:
                near = (0, left, up, (left + up) // 2)[kind]
            now[x + channels] = (int(row[x]) + near) & 255
        out.append(now[channels:])
        before = now
    return np.array(out, float)


first, *others = sys.argv[1:]
expected = pixels(first)
for path in others:
    error = np.mean((pixels(path) - expected) ** 2)
    print(f"{path.split('/')[-1]:16} {'equal' if error == 0 else f'{10 * np.log10(255**2 / error):.1f} dB'} to {first.split('/')[-1]}")
