"""The same work in PyTorch, bf16 and eager: Flux's blocks cut as weights.py cuts them, Stable Diffusion 1.5's UNet and Flux's decoder.

Prints a line for each; nothing, but why, without PyTorch or diffusers (of which the UNet and the decoder are).
"""

import sys
import time

try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as f
except ImportError as error:
    sys.exit(f"no PyTorch beside: {error}")

HIDDEN, HEADS, HEAD, TEXT, DOUBLE, SINGLE = 3072, 24, 128, 512, 4, 8


def median(call, times=7):
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - start)
    return 1e3 * sorted(took)[times // 2]


def modulated(x, shift, scale):
    return f.layer_norm(x, (HIDDEN,)) * (1 + scale) + shift


def heads(qkv, cos, sin):
    q, k, v = qkv.unflatten(-1, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)

    def turned(x):
        even, odd = f.rms_norm(x, (HEAD,)).unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

    return turned(q), turned(k), v


def attended(q, k, v):
    return f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.mod, self.qkv, self.proj = (nn.Linear(HIDDEN, n * HIDDEN) for n in (6, 3, 1))
        self.mlp = nn.Sequential(nn.Linear(HIDDEN, 4 * HIDDEN), nn.GELU("tanh"), nn.Linear(4 * HIDDEN, HIDDEN))


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.streams = nn.ModuleList([Stream(), Stream()])

    def forward(self, txt, img, vec, cos, sin):
        parts, n = [], txt.shape[1]
        for stream, x, place in zip(self.streams, (txt, img), (slice(n), slice(n, None))):
            mod = stream.mod(f.silu(vec))[:, None].chunk(6, -1)
            parts.append((mod, heads(stream.qkv(modulated(x, mod[0], mod[1])), cos[place], sin[place])))
        y = attended(*(torch.cat(pair, 2) for pair in zip(parts[0][1], parts[1][1])))
        out = []
        for stream, x, (mod, _), y in zip(self.streams, (txt, img), parts, (y[:, :n], y[:, n:])):
            x = x + mod[2] * stream.proj(y)
            out.append(x + mod[5] * stream.mlp(modulated(x, mod[3], mod[4])))
        return out


class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.mod, self.first, self.last = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, 7 * HIDDEN), nn.Linear(5 * HIDDEN, HIDDEN)

    def forward(self, x, vec, cos, sin):
        shift, scale, gate = self.mod(f.silu(vec))[:, None].chunk(3, -1)
        qkv, inner = self.first(modulated(x, shift, scale)).split([3 * HIDDEN, 4 * HIDDEN], -1)
        y = attended(*heads(qkv, cos, sin))
        return x + gate * self.last(torch.cat((y, f.gelu(inner, approximate="tanh")), -1))


torch.set_grad_enabled(False)
torch.set_default_dtype(torch.bfloat16)
torch.set_default_device("cuda")
print("PyTorch", torch.__version__, torch.cuda.get_device_name())
pinned, there = torch.empty(1 << 28, dtype=torch.uint8, device="cpu", pin_memory=True), torch.empty(1 << 28, dtype=torch.uint8)
print(f"PyTorch: pinned memory to the card: {2 ** 28 / median(lambda: there.copy_(pinned, non_blocking=True)) / 1e6:.1f} GB/s")
del pinned, there
double, single = [Double() for _ in range(DOUBLE)], [Single() for _ in range(SINGLE)]
for side in (1024, 512):
    tokens = (side // 16) ** 2
    txt, img, vec = torch.randn(1, TEXT, HIDDEN), torch.randn(1, tokens, HIDDEN), torch.randn(1, HIDDEN)
    angle = torch.randn(TEXT + tokens, HEAD // 2)
    cos, sin = angle.cos(), angle.sin()

    def step():
        a, b = txt, img
        for block in double:
            a, b = block(a, b, vec, cos, sin)
        x = torch.cat((a, b), 1)
        for block in single:
            x = block(x, vec, cos, sin)

    torch.cuda.reset_peak_memory_stats()
    print(f"PyTorch: flux {side}: {median(step):.1f} ms a step, {torch.cuda.max_memory_allocated() >> 20} MiB")
del double, single
try:
    from diffusers import AutoencoderKL, UNet2DConditionModel
except ImportError as error:
    sys.exit(f"no diffusers beside: {error}")
unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
x, words = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768)
print(f"PyTorch: sd 512 with guidance: {median(lambda: unet(x, torch.tensor(500), words)):.1f} ms a step")
widths, levels = (128, 256, 512, 512), 4
vae = AutoencoderKL(
    3, 3, ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels, widths, 2, latent_channels=16, use_quant_conv=False,
    use_post_quant_conv=False,
).eval()
z = torch.randn(1, 16, 128, 128)
print(f"PyTorch: decoder of flux 1024: {median(lambda: vae.decode(z), 5):.1f} ms")
