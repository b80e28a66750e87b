// One pass over flat buffers of n numbers: Adam, the norm of a gradient, a factor.
#include "common.cuh"

// m1 = beta1 m1 + (1 - beta1) dw,  m2 = beta2 m2 + (1 - beta2) dw^2,
// w = w kept - step_size m1 / (sqrt(m2 / correction) + eps):
// kept = 1 - lr weight_decay, step_size = lr / (1 - beta1^step), correction = 1 - beta2^step; dw is multiplied by factor.
template <class T> __global__ void adam_step(T* __restrict__ w, const T* __restrict__ dw, T* __restrict__ m1,
                                             T* __restrict__ m2, double beta1, double beta2, double eps, double kept,
                                             double step_size, double correction, double factor, long long n) {
  typedef wide<T> W;
  W b1 = beta1, rest1 = 1 - beta1, b2 = beta2, rest2 = 1 - beta2, scale = 1 / sqrt(correction);
  Numbers<T>(n, w, dw, m1, m2).each([=](long long, T& w, T dw, T& m1, T& m2) {
    W gradient = W(dw) * W(factor), mean = b1 * W(m1) + rest1 * gradient;
    W square = b2 * W(m2) + rest2 * gradient * gradient;
    m1 = T(mean), m2 = T(square);
    w = T(W(w) * W(kept) - W(step_size) * mean / (sqrt(square) * scale + W(eps)));
  }, w, dw, m1, m2);
}

// part[block] = the sum of x^2 over the numbers of this block, in float64.
template <class T> __global__ void sum_squares(const T* __restrict__ x, double* __restrict__ part, long long n) {
  double total = 0;
  Numbers<T>(n, x).each([&](long long, T x) { total += double(wide<T>(x)) * wide<T>(x); }, x);
  total = row_sum(total);
  if (threadIdx.x == 0) part[blockIdx.x] = total;
}

// sum = the sum of part, by one block.
template <class T> __global__ void sum_parts(const double* __restrict__ part, double* __restrict__ sum, int parts) {
  double total = 0;
  for (int i = threadIdx.x; i < parts; i += blockDim.x) total += part[i];
  total = row_sum(total);
  if (threadIdx.x == 0) *sum = total;
}

template <class T> __global__ void scale(T* dw, double factor, long long n) {
  wide<T> f = factor;
  map(n, [f](T x) { return T(wide<T>(x) * f); }, dw, (const T*)dw);
}
