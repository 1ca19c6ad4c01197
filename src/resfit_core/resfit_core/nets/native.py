"""LayerNorm and ReLU of all heads in one pass over memory, as C++ compiled on first use.

Between two products torch's own operations read and write each activation six times; this reads
and writes it once, in float32 or bfloat16, adding up in float32. Where no compiler is found the
same formulas run in torch (`nets/heads.py`); a test holds both against each other. The library is
kept in the user's cache folder, under the hash of source, compiler and CPU.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

FLAGS = ("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-shared", "-fPIC")

SOURCE = r"""
#include <cmath>
#include <cstdint>
#include <vector>
struct bf16 { uint16_t bits; };
static inline float get(float x) { return x; }
static inline float get(bf16 x) { return __builtin_bit_cast(float, (uint32_t)x.bits << 16); }
static inline void put(float* p, float x) { *p = x; }
static inline void put(bf16* p, float x) {
  uint32_t u = __builtin_bit_cast(uint32_t, x);
  p->bits = (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// after = relu(layer_norm(z + bias)); with w3 also q = after @ w3 + b3.
template <typename T>
static void forward(long heads, long rows, long width, const T* z, const float* bias,
                    const float* gain, const float* shift, const float* w3, const float* b3,
                    T* after, float* mean, float* scale, float* q) {
  std::vector<float> buffer(width);
  float* x = buffer.data();
  for (long h = 0; h < heads; ++h) {
    const float *b = bias + h * width, *g = gain + h * width, *s = shift + h * width;
    const float* w = w3 ? w3 + h * width : nullptr;
    for (long r = 0; r < rows; ++r) {
      const T* in = z + (h * rows + r) * width;
      T* out = after + (h * rows + r) * width;
      float sum = 0, squares = 0, dot = 0;
      for (long i = 0; i < width; ++i) { x[i] = get(in[i]) + b[i]; sum += x[i]; }
      const float m = sum / width;
      for (long i = 0; i < width; ++i) { const float d = x[i] - m; squares += d * d; }
      const float k = 1.0f / std::sqrt(squares / width + 1e-5f);
      for (long i = 0; i < width; ++i) {
        const float y = (x[i] - m) * k * g[i] + s[i];
        x[i] = y > 0 ? y : 0;
        put(out + i, x[i]);
      }
      if (w) {
        for (long i = 0; i < width; ++i) dot += x[i] * w[i];
        q[h * rows + r] = dot + b3[h];
      }
      mean[h * rows + r] = m;
      scale[h * rows + r] = k;
    }
  }
}

// dz from dh, or from dq and w3 behind the last layer. Parameter gradients where dbias is given.
template <typename T>
static void backward(long heads, long rows, long width, const T* dh, const float* dq,
                     const float* w3, const T* z, const T* after, const float* bias,
                     const float* gain, const float* mean, const float* scale, T* dz,
                     float* dbias, float* dgain, float* dshift, float* dw3) {
  std::vector<float> buffer(6 * width);
  float *x = buffer.data(), *d = x + width;
  float *sb = d + width, *sg = sb + width, *ss = sg + width, *sw = ss + width;
  for (long h = 0; h < heads; ++h) {
    const float *b = bias + h * width, *g = gain + h * width;
    const float* w = w3 ? w3 + h * width : nullptr;
    for (long i = 0; i < 4 * width; ++i) sb[i] = 0;
    for (long r = 0; r < rows; ++r) {
      const long at = (h * rows + r) * width;
      const T *in = z + at, *out = after + at;
      const float m = mean[h * rows + r], k = scale[h * rows + r];
      float first = 0, second = 0;
      if (w) {
        const float e = dq[h * rows + r];
        for (long i = 0; i < width; ++i) {
          const float y = get(out[i]);
          d[i] = y > 0 ? e * w[i] : 0;
          sw[i] += e * y;
        }
      } else {
        for (long i = 0; i < width; ++i) d[i] = get(out[i]) > 0 ? get(dh[at + i]) : 0;
      }
      for (long i = 0; i < width; ++i) {
        x[i] = (get(in[i]) + b[i] - m) * k;
        sg[i] += d[i] * x[i];
        ss[i] += d[i];
        d[i] *= g[i];
        first += d[i];
        second += d[i] * x[i];
      }
      first /= width;
      second /= width;
      for (long i = 0; i < width; ++i) {
        const float v = (d[i] - first - x[i] * second) * k;
        sb[i] += v;
        put(dz + at + i, v);
      }
    }
    if (dbias) {
      for (long i = 0; i < width; ++i) {
        dbias[h * width + i] = sb[i];
        dgain[h * width + i] = sg[i];
        dshift[h * width + i] = ss[i];
      }
      if (w) for (long i = 0; i < width; ++i) dw3[h * width + i] = sw[i];
    }
  }
}

#define BOTH(T)                                                                                  \
  extern "C" void forward_##T(long h, long r, long n, const T* z, const float* b,                \
      const float* g, const float* s, const float* w, const float* c, T* a, float* m, float* k, \
      float* q) { forward<T>(h, r, n, z, b, g, s, w, c, a, m, k, q); }                           \
  extern "C" void backward_##T(long h, long r, long n, const T* dh, const float* dq,             \
      const float* w, const T* z, const T* a, const float* b, const float* g, const float* m,   \
      const float* k, T* dz, float* db, float* dg, float* ds, float* dw) {                       \
    backward<T>(h, r, n, dh, dq, w, z, a, b, g, m, k, dz, db, dg, ds, dw); }
BOTH(float)
BOTH(bf16)
"""

_NAMES = {torch.float32: "float", torch.bfloat16: "bf16"}


class NativeError(RuntimeError):
    """The kernels cannot be built; the text says why."""


def available() -> bool:
    """Return whether the kernels can be built here; tries once per process."""
    try:
        compiled()
    except NativeError:
        return False
    return True


def compiled() -> ctypes.CDLL:
    """Return this module's kernels.

    Raises:
        NativeError: no compiler, or it fails.
    """
    return build(SOURCE)


@functools.cache
def build(source: str) -> ctypes.CDLL:
    """Return compiled C++, from the cache or built now.

    Args:
        source: what to compile, with C linkage.

    Raises:
        NativeError: no compiler, or it fails.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NativeError("no g++ or clang++ on the path; install one or set kernels: torch")
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, check=True
        ).stdout
        key = "\n".join((source, version, *FLAGS, platform.machine(), _cpu_flags()))
        name = f"resfit-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resfit"
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / name).exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                file = Path(folder) / "kernels.cpp"
                file.write_text(source, encoding="utf-8")
                built = file.with_suffix(".so")
                subprocess.run(
                    [compiler, "-std=c++17", *FLAGS, str(file), "-o", str(built)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                # In one step: another process may load it at the same time.
                built.replace(cache / name)
        return ctypes.CDLL(str(cache / name))
    except subprocess.CalledProcessError as error:
        raise NativeError(f"{compiler}: {error.stderr}; set kernels: torch") from error
    except OSError as error:
        raise NativeError(f"the kernels cannot be kept or loaded ({error})") from error


def _cpu_flags() -> str:
    """Return what `-march=native` depends on: a home folder may be shared by several machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith("flags")), platform.processor())


def norm_relu(
    z: Tensor,
    bias: Tensor,
    gain: Tensor,
    shift: Tensor,
    last: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return relu(LayerNorm(z + bias)), mean, 1 / deviation and, with `last`, Q.

    Args:
        z: float32 or bfloat16. Shape (heads, batch, width).
        bias: float32. Shape (heads, 1, width); likewise `gain` and `shift`.
        gain: see `bias`.
        shift: see `bias`.
        last: weight (heads, width, 1) and bias (heads, 1, 1) of the layer that gives Q.
    """
    heads, rows, _ = z.shape
    after, mean = torch.empty_like(z), torch.empty(heads, rows)
    scale = torch.empty_like(mean)
    q = torch.empty_like(mean) if last is not None else None
    _call("forward_", z, bias, gain, shift, *(last or (None, None)), after, mean, scale, q, of=z)
    return after, mean, scale, q


def norm_relu_back(
    gradient: Tensor,
    z: Tensor,
    after: Tensor,
    layer: tuple[Tensor, Tensor],
    moments: tuple[Tensor, Tensor],
    weight3: Tensor | None,
    places: tuple[Tensor, ...] | None,
) -> Tensor:
    """Return the gradient of z.

    Args:
        gradient: of `after`; with `weight3` of Q, float32, shape (heads, batch).
        z: as in `norm_relu`.
        after: its result.
        layer: bias and gain.
        moments: mean and 1 / deviation.
        weight3: of the layer that gives Q, behind the last hidden layer.
        places: where gradients of bias, gain, shift (and `weight3`) go; None: not wanted.
    """
    dz = torch.empty_like(z)
    last = weight3 is not None
    given = (None, gradient.contiguous(), weight3) if last else (gradient, None, None)
    wanted = (*(places or ()), None, None, None, None)[:4]
    _call("backward_", *given, z, after, *layer, *moments, dz, *wanted, of=z)
    return dz


def _call(name: str, *tensors: Tensor | None, of: Tensor) -> None:
    for tensor in tensors:
        if tensor is not None and not tensor.is_contiguous():
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is not contiguous")
    function = getattr(compiled(), name + _NAMES[of.dtype])
    function.restype = None
    pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
    function(*(ctypes.c_long(size) for size in of.shape), *pointers)
