"""Scalar functions that LLVM turns into vector code when a kernel's loop calls them: exp, tanh, the activations.

A call to the C library's expf or tanhf keeps a loop scalar, and is 15 to 75 times slower than what stands here: a range
reduction without branches and a polynomial (the coefficients are minimax fits made for this file, to 5e-9 or better).
For float32; float64 goes to the C library, so that a kernel written with these functions serves both.

Errors in float32, measured against float64 (tests/kernels/cpu/test_vmath.py): exp 1 ulp, tanh 1.3, bell and sigmoid 2.2,
normal_cdf 6 as far as it goes; an activation 6 ulp of its largest term. Below -86.99, where the true value is less than
2^-125, exp is 0. NaN stays NaN, exp(inf) is inf.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .jit import jit

SCALAR: dict[str, Any] = {
    "fastmath": False,
    "forceinline": True,
}  # polynomials as written: reassociated, they lose their last digits
scalar = jit(**SCALAR)
f = np.float32


def _llvm(name: str, n: int, flags: tuple[str, ...] = ()) -> Any:
    """The LLVM intrinsic `name` as a function of n floats of one type."""

    def typed(context: Any, *args: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = values[0].type
            function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * n))
            return builder.call(function, values, fastmath=flags)

        return args[0](*[args[0]] * n), codegen

    if n == 2:
        return intrinsic(lambda context, x, y: typed(context, x, y))
    return intrinsic(lambda context, x, y, z: typed(context, x, y, z))


fma: Any = _llvm("llvm.fmuladd", 3)  # x * y + z, rounded once where the processor can
maximum: Any = _llvm("llvm.maxnum", 2, ("nnan", "nsz"))  # for row maxima: vectorises, as `if x > m` does not. Ignores NaN


def _reinterpret(result: Any, argument: Any, llvm_type: ir.Type) -> Any:
    """A function that takes the bits of a number of one type as a number of the other."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], llvm_type)

    return intrinsic(lambda context, x: (result(argument), codegen))


_bits = _reinterpret(types.int32, types.float32, ir.IntType(32))
_from_bits = _reinterpret(types.float32, types.int32, ir.FloatType())


LOWEST, HIGHEST = f(-87.3), f(88.8)
LOG2_E, LN2_HIGH, LN2_LOW = f(1.4426950408889634), f(0.693359375), f(-2.12194440e-4)
ROUND, ROUND_BITS = f(12582912.0), np.int32(0x4B400000)  # 1.5 * 2^23: adding it rounds to an integer in the low bits
EXP = f(0.0013814598), f(0.008368717), f(0.04166839), f(0.16666521), f(0.49999994)
ONE, TWO, HALF = f(1), f(2), f(0.5)


@scalar
def _exp32(x):
    """exp(x) = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2."""
    x = LOWEST if x < LOWEST else x  # so written, NaN passes
    x = HIGHEST if x > HIGHEST else x
    t = fma(x, LOG2_E, ROUND)
    n = t - ROUND
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    p = fma(fma(fma(fma(EXP[0], r, EXP[1]), r, EXP[2]), r, EXP[3]), r, EXP[4])
    p = fma(p, r * r, r) + ONE
    half_power = (_bits(t) - ROUND_BITS + np.int32(126)) << np.int32(23)  # 2^(n-1): n = 128 still has a float
    return (p + p) * _from_bits(half_power)


TANH = f(-0.0057049785), f(0.020639079), f(-0.05373971), f(0.13331442), f(-0.3333328)
TANH_SMALL = f(0.625)


@scalar
def _tanh32(x):
    """x + x^3 P(x^2) for small |x|, otherwise 1 - 2 / (exp(2|x|) + 1) with the sign of x."""
    s = x * x
    p = fma(fma(fma(fma(TANH[0], s, TANH[1]), s, TANH[2]), s, TANH[3]), s, TANH[4])
    small = fma(p * s, x, x)
    a = abs(x)
    large = ONE - TWO / (_exp32(a + a) + ONE)
    return small if a < TANH_SMALL else (-large if x < 0 else large)


FAR = f(14)  # exp(-14^2 / 2) is 0
PHI_SCALE = f(0.3)
PHI = (
    f(-2.0594673e-02), f(1.1227356e-01), f(-2.2781762e-01), f(1.912342e-01), f(-7.8945056e-02),
    f(9.58876e-02), f(7.84875e-02), f(1.10213324e-01), f(1.1957462e-01), f(1.1968654e-01),
)  # fmt: skip


@scalar
def _bell32(x):
    """exp(-x^2 / 2). The square's rounding error would be multiplied by up to 88: it is put back."""
    x = FAR if abs(x) > FAR else x  # its square stays finite
    s = x * x
    return _exp32(-HALF * s) * fma(fma(x, x, -s), -HALF, ONE)


@scalar
def _normal_cdf32(x):
    """Phi(-|x|) = exp(-x^2/2) t P(t) with t = 1 / (1 + 0.3 |x|), a relative error even far out; Phi(x) = 1 - Phi(-x)."""
    t = ONE / fma(PHI_SCALE, abs(x), ONE)
    p = fma(fma(fma(fma(PHI[0], t, PHI[1]), t, PHI[2]), t, PHI[3]), t, PHI[4])
    p = fma(fma(fma(fma(fma(p, t, PHI[5]), t, PHI[6]), t, PHI[7]), t, PHI[8]), t, PHI[9])
    tail = _bell32(x) * (p * t)
    return tail if x < 0 else ONE - tail


@scalar
def _exp64(x):
    return math.exp(x)


@scalar
def _tanh64(x):
    return math.tanh(x)


@scalar
def _bell64(x):
    return math.exp(-0.5 * x * x)


@scalar
def _normal_cdf64(x):
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def _by_type(float32: Any, float64: Any) -> Any:
    """A function for kernels: `float32` or `float64`, by the type of its argument."""

    def function(x):
        raise TypeError("this function is for compiled kernels")

    options: Any = {**SCALAR, "error_model": "numpy"}

    @overload(function, jit_options=options)
    def typed(x):
        return (lambda x: float32(x)) if x == types.float32 else (lambda x: float64(x))

    return function


exp = _by_type(_exp32, _exp64)
tanh = _by_type(_tanh32, _tanh64)
bell = _by_type(_bell32, _bell64)  # exp(-x^2 / 2)
normal_cdf = _by_type(_normal_cdf32, _normal_cdf64)  # the normal distribution function, (1 + erf(x / sqrt 2)) / 2


@scalar
def sigmoid(x):
    one = type(x)(1)
    return one / (one + exp(-x))


@scalar
def sigmoid_derivative(x):
    s = sigmoid(x)
    return s * (type(x)(1) - s)


@scalar
def tanh_derivative(x):
    t = tanh(x)
    return type(x)(1) - t * t


@scalar
def relu(x):
    zero = type(x)(0)
    return zero if x < zero else x


@scalar
def relu_derivative(x):
    return type(x)(1) if x > type(x)(0) else type(x)(0)


@scalar
def silu(x):
    return x * sigmoid(x)


@scalar
def silu_derivative(x):
    """s + x s (1 - s), s = sigmoid(x)."""
    one = type(x)(1)
    s = sigmoid(x)
    return s * (one + x * (one - s))


@scalar
def gelu(x):
    """x Phi(x)."""
    return x * normal_cdf(x)


@scalar
def gelu_derivative(x):
    """Phi(x) + x phi(x), phi the normal density."""
    return normal_cdf(x) + x * bell(x) * type(x)(0.3989422804014327)


@scalar
def _gelu_tanh_gate(x):
    """(1 + tanh(u)) / 2 = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    return sigmoid(x * (type(x)(1.5957691216057308) + type(x)(1.5957691216057308 * 0.044715) * x * x))


@scalar
def gelu_tanh(x):
    return x * _gelu_tanh_gate(x)


@scalar
def gelu_tanh_derivative(x):
    """s + x s (1 - s) 2u', with s = sigmoid(2u)."""
    one = type(x)(1)
    s = _gelu_tanh_gate(x)
    return s + x * s * (one - s) * (type(x)(1.5957691216057308) + type(x)(3 * 1.5957691216057308 * 0.044715) * x * x)


@scalar
def two_parts(lse, like):
    """high + low = lse (float64), both in the dtype of `like`: exp((x - high) - low) is exact, however large lse is."""
    high, zero = like.dtype.type(lse), like.dtype.type(0)
    return high, like.dtype.type(lse - high) if abs(high) < math.inf else zero


@scalar
def minus(x, high, low):
    """(x - high) - low in this order: added up first, high and low would be rounded to lse in the dtype of x."""
    return (x - high) - low
