// Activations, each a function above its derivative; the reference set has the formulas' sources.
#pragma once
#include "common.cuh"

constexpr double SQRT_HALF = 0.70710678118654752440, SQRT_2_PI = 0.79788456080286535588, CUBIC = 0.044715;

struct Gelu {  // x Phi(x), Phi the normal distribution function
  template <class W> static __device__ W f(W x) { return x * (1 + erf(x * W(SQRT_HALF))) / 2; }
  template <class W> static __device__ W derivative(W x) {
    return (1 + erf(x * W(SQRT_HALF))) / 2 + x * exp(-x * x / 2) * W(SQRT_2_PI / 2);
  }
};

struct GeluTanh {
  template <class W> static __device__ W t(W x) { return tanh(W(SQRT_2_PI) * (x + W(CUBIC) * x * x * x)); }
  template <class W> static __device__ W f(W x) { return x * (1 + t(x)) / 2; }
  template <class W> static __device__ W derivative(W x) {  // (1 + t)/2 + x (1 - t^2)/2 u', t = tanh(u)
    W y = t(x), rest = 1 - y * y;  // where rest is 0, so is all that it multiplies, though x^3 be infinite
    return (1 + y) / 2 + (rest == 0 ? W(0) : x * rest / 2 * W(SQRT_2_PI) * (1 + 3 * W(CUBIC) * x * x));
  }
};

struct Relu {
  template <class W> static __device__ W f(W x) { return x < 0 ? W(0) : x; }  // NaN stays NaN
  template <class W> static __device__ W derivative(W x) { return W(x > 0); }
};

struct Silu {
  template <class W> static __device__ W sigmoid(W x) { return (1 + tanh(x / 2)) / 2; }  // no overflow, whatever x is
  template <class W> static __device__ W f(W x) { return x * sigmoid(x); }
  template <class W> static __device__ W derivative(W x) {
    W s = sigmoid(x);
    return s + x * s * (1 - s);
  }
};

struct Tanh {
  template <class W> static __device__ W f(W x) { return tanh(x); }
  template <class W> static __device__ W derivative(W x) {
    W y = tanh(x);
    return 1 - y * y;
  }
};
