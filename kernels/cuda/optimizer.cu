// One pass over flat buffers of n numbers: Adam, the norm of a gradient, a factor.
#include "common.cuh"

// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  p = p kept - step_size m / (sqrt(v / correction) + eps):
// kept = 1 - lr weight_decay, step_size = lr / (1 - beta1^step), correction = 1 - beta2^step.
template <class T> __global__ void adam_step(T* __restrict__ p, const T* __restrict__ g, T* __restrict__ m,
                                             T* __restrict__ v, double beta1, double beta2, double eps, double kept,
                                             double step_size, double correction, long long n) {
  typedef wide<T> W;
  W b1 = beta1, rest1 = 1 - beta1, b2 = beta2, rest2 = 1 - beta2, scale = 1 / sqrt(correction);
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    W gradient = g[i], mean = b1 * W(m[i]) + rest1 * gradient, square = b2 * W(v[i]) + rest2 * gradient * gradient;
    m[i] = T(mean), v[i] = T(square);
    p[i] = T(W(p[i]) * W(kept) - W(step_size) * mean / (sqrt(square) * scale + W(eps)));
  }
}

// part[block] = the sum of g^2 over the numbers of this block, in float64.
template <class T> __global__ void sum_squares(const T* __restrict__ g, double* __restrict__ part, long long n) {
  double total = 0;
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    double x = wide<T>(g[i]);
    total += x * x;
  }
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
