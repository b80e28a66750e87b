// Rotary position embedding. Arrays (B, T, H, D) in any layout, strides in numbers; a block for each position, a thread for
// each pair, which turns it in all heads by one sine and cosine, computed in float64.
#include "common.cuh"

// y1 = scale (x1 cos a - x2 sin a), y2 = scale (x1 sin a + x2 cos a), a = positions[b, t] frequencies[i] sign. Pair i is the
// numbers i and pairs + i, or with neighbours 2i and 2i + 1. y may be x.
template <class T> __global__ void rotary(const T* x, const long long* __restrict__ positions,
                                          const double* __restrict__ frequencies, double sign, double scale, T* y,
                                          long long xb, long long xt, long long xh, long long xd, long long yb, long long yt,
                                          long long yh, long long yd, int times, int heads, int pairs, bool neighbours) {
  typedef wide<T> W;
  int b = blockIdx.x / times, t = blockIdx.x % times;
  x += b * xb + t * xt, y += b * yb + t * yt;
  for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
    double angle = positions[blockIdx.x] * frequencies[i];
    W cosine = W(scale * cos(angle)), sine = W(sign * scale * sin(angle));
    int first = neighbours ? 2 * i : i, second = neighbours ? 2 * i + 1 : pairs + i;
    for (int h = 0; h < heads; h++) {
      W x1 = x[h * xh + first * xd], x2 = x[h * xh + second * xd];
      y[h * yh + first * yd] = T(x1 * cosine - x2 * sine);
      y[h * yh + second * yd] = T(x1 * sine + x2 * cosine);
    }
  }
}
