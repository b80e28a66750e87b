// One pass over flat buffers of n numbers: Adam, the norm of a gradient, a factor.
#include "common.cuh"

// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  p = p kept - step_size m / (sqrt(v / correction) + eps):
// kept = 1 - lr weight_decay, step_size = lr / (1 - beta1^step), correction = 1 - beta2^step; g is taken times factor.
template <class T> __global__ void adam_step(T* __restrict__ p, const T* __restrict__ g, T* __restrict__ m,
                                             T* __restrict__ v, double beta1, double beta2, double eps, double kept,
                                             double step_size, double correction, double factor, long long n) {
  typedef wide<T> W;
  W b1 = beta1, rest1 = 1 - beta1, b2 = beta2, rest2 = 1 - beta2, scale = 1 / sqrt(correction);
  Numbers<T>(n, p, g, m, v).each([=](long long, T& p, T g, T& m, T& v) {
    W gradient = W(g) * W(factor), mean = b1 * W(m) + rest1 * gradient, square = b2 * W(v) + rest2 * gradient * gradient;
    m = T(mean), v = T(square);
    p = T(W(p) * W(kept) - W(step_size) * mean / (sqrt(square) * scale + W(eps)));
  }, p, g, m, v);
}

// part[block] = the sum of g^2 over the numbers of this block, in float64.
template <class T> __global__ void sum_squares(const T* __restrict__ g, double* __restrict__ part, long long n) {
  double total = 0;
  Numbers<T>(n, g).each([&](long long, T g) { total += double(wide<T>(g)) * wide<T>(g); }, g);
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

template <class T> __global__ void scale(T* g, double factor, long long n) {
  wide<T> f = factor;
  map(n, [f](T x) { return T(wide<T>(x) * f); }, g, (const T*)g);
}
