"""Seed-defined GPEN weights and inputs. NumPy only; no official code.

Everything is built from PCG64(seed).random_raw(), whose bit stream NumPy guarantees
(SeedSequence + raw output; no distribution code), so it is bit-exact everywhere.

u(seed,n)   = (raw >> 11) * 2**-53                       in [0,1)       (float64)
unit(seed)  = (u - 0.5) * 3.4641016151377544             mean 0, var 1  (float64)
weight      = float32( offset + gain * unit(crc32(key)) )   per the table in `gain_offset`
"""

import zlib

import numpy as np

SQRT12 = 3.4641016151377544


def u01(seed, n):
    raw = np.random.PCG64(seed).random_raw(n)
    return (raw >> np.uint64(11)).astype(np.float64) * (2.0**-53)


def unit(seed, shape):
    n = int(np.prod(shape))
    return ((u01(seed, n) - 0.5) * SQRT12).reshape(shape)


FIR = np.array([1.0, 3.0, 3.0, 1.0])


def fir2d(gain=1.0):
    k = np.outer(FIR, FIR).astype(np.float32)
    k = k / k.sum()
    return (k * np.float32(gain)).astype(np.float32)


def gain_offset(key):
    """(gain, offset) for a learnable key of GPEN's state_dict."""
    if key.startswith("generator.style."):
        return (100.0, 0.0) if key.endswith(".weight") else (10.0, 0.0)  # lr_mul = 0.01
    if key.endswith(".modulation.bias"):
        return (0.1, 1.0)
    if key.endswith(".modulation.weight"):
        return (0.3, 0.0)
    if key.endswith(".noise.weight"):
        return (0.1, 0.5)
    if ".to_rgb" in key and key.endswith(".conv.weight"):
        return (0.2, 0.0)
    if key.endswith(".bias"):
        return (0.1, 0.0)
    return (1.0, 0.0)  # conv / linear weights, generator.input.input


def make_tensor(key, shape, salt=""):
    """float32 array for one state_dict key. FIR buffers get their constant value."""
    if key.endswith(".kernel"):
        # decoder blurs/upsamples carry gain factor**2 = 4; encoder blurs have unit gain
        return fir2d(4.0 if key.startswith("generator.") else 1.0)
    g, o = gain_offset(key)
    return (o + g * unit(zlib.crc32((salt + key).encode()), shape)).astype(np.float32)


def make_state_dict(shapes, salt=""):
    """shapes: {key: shape}.  Returns {key: float32 ndarray}."""
    return {k: make_tensor(k, tuple(s), salt) for k, s in shapes.items()}


def gpen_shapes(size, channel_multiplier=2, narrow=1, style_dim=512, n_mlp=8, in_size=None):
    """{key: shape} in official registration order. in_size != None gives FullGenerator_SR."""
    import math

    in_size = in_size or size
    ch = {4: 512, 8: 512, 16: 512, 32: 512}
    ch.update({r: (16384 // r) * channel_multiplier for r in (64, 128, 256, 512, 1024, 2048)})
    ch = {r: int(c * narrow) for r, c in ch.items()}
    log, lin = int(math.log(size, 2)), int(math.log(in_size, 2))
    S = {}
    g = "generator."
    for i in range(1, n_mlp + 1):
        S[f"{g}style.{i}.weight"] = (style_dim, style_dim)
        S[f"{g}style.{i}.bias"] = (style_dim,)
    S[g + "input.input"] = (1, ch[4], 4, 4)

    def styled(p, i, o, up):
        S[p + ".conv.weight"] = (1, o, i, 3, 3)
        if up:
            S[p + ".conv.blur.kernel"] = (4, 4)
        S[p + ".conv.modulation.weight"] = (i, style_dim)
        S[p + ".conv.modulation.bias"] = (i,)
        S[p + ".noise.weight"] = (1,)
        S[p + ".activate.bias"] = (2 * o,)

    def rgb(p, i, up):
        S[p + ".bias"] = (1, 3, 1, 1)
        if up:
            S[p + ".upsample.kernel"] = (4, 4)
        S[p + ".conv.weight"] = (1, 3, i, 1, 1)
        S[p + ".conv.modulation.weight"] = (i, style_dim)
        S[p + ".conv.modulation.bias"] = (i,)

    styled(g + "conv1", ch[4], ch[4], False)
    rgb(g + "to_rgb1", 2 * ch[4], False)
    c = ch[4]
    for n, i in enumerate(range(3, log + 1)):
        o = ch[2**i]
        styled(f"{g}convs.{2 * n}", 2 * c, o, True)
        styled(f"{g}convs.{2 * n + 1}", 2 * o, o, False)
        c = o
    for n, i in enumerate(range(3, log + 1)):
        rgb(f"{g}to_rgbs.{n}", 2 * ch[2**i], True)
    S["ecd0.0.0.weight"] = (ch[in_size], 3, 1, 1)
    S["ecd0.0.1.bias"] = (ch[in_size],)
    c = ch[in_size]
    for n, i in enumerate(range(lin, 2, -1), 1):
        o = ch[2 ** (i - 1)]
        S[f"ecd{n}.0.0.kernel"] = (4, 4)
        S[f"ecd{n}.0.1.weight"] = (o, c, 3, 3)
        S[f"ecd{n}.0.2.bias"] = (o,)
        c = o
    S["final_linear.0.weight"] = (style_dim, ch[4] * 16)
    S["final_linear.0.bias"] = (style_dim,)
    return S


def make_image(size, seed=2048, channels=3):
    """uint8 HxWx3 'BGR' image: 8x8 random grid, exact bilinear upsample, plus +-8 grey-level noise."""
    G = 8
    grid = np.floor(u01(seed, (G + 1) * (G + 1) * channels) * 256).reshape(G + 1, G + 1, channels)
    s = size // G
    t = np.arange(size)
    i, f = t // s, (t % s) / s  # dyadic: exact in float64
    rows = grid[i] * (1 - f)[:, None, None] + grid[i + 1] * f[:, None, None]
    img = rows[:, i] * (1 - f)[None, :, None] + rows[:, i + 1] * f[None, :, None]
    noise = np.floor(u01(seed + 1, size * size * channels) * 17).reshape(size, size, channels) - 8
    return np.clip(np.floor(img + noise), 0, 255).astype(np.uint8)


def make_input(size, seed=2048):
    """float32 1x3xSxS RGB in [-1,1], i.e. official img2tensor(make_image(size))."""
    x = make_image(size, seed).astype(np.float32) / np.float32(255.0)
    x = (x - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None, ::-1])
