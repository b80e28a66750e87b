// Rotary position embedding. Arrays (B, T, H, D) in any layout, strides in numbers; a block for each position, whose angles
// it computes once, in float64, for all heads.
#include "common.cuh"

// y1 = scale (x1 cos a - x2 sin a), y2 = scale (x1 sin a + x2 cos a), a = positions[b, t] frequencies[i] sign. Pair i is the
// numbers i and pairs + i, or, NEIGHBOURS, 2i and 2i + 1. pb: from a sequence's positions to the next's.
// whole: all heads lie so, in x and in y, that PACK<T> pairs can be loaded as two times 16 bytes. Shared memory: a cosine
// and a sine for each pair.
template <class T, bool NEIGHBOURS> __global__ void rotary(
    const T* x, const long long* __restrict__ positions, const double* __restrict__ frequencies, double sign, double scale,
    T* y, long long xb, long long xt, long long xh, long long xd, long long yb, long long yt, long long yh, long long yd,
    long long pb, int times, int heads, int pairs, bool whole) {
  typedef wide<T> W;
  constexpr int P = PACK<T>;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  W *cosine = (W*)shared_memory, *sine = cosine + pairs;
  int b = blockIdx.x / times, t = blockIdx.x % times;
  for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
    double angle = positions[b * pb + t] * frequencies[i];
    cosine[i] = scale * cos(angle), sine[i] = sign * scale * sin(angle);
  }
  __syncthreads();
  auto turn = [&](int i, T& first, T& second) {
    W x1 = first, x2 = second;
    first = T(x1 * cosine[i] - x2 * sine[i]), second = T(x1 * sine[i] + x2 * cosine[i]);
  };
  int step = whole ? P : 1, per_head = pairs / step;
  x += b * xb + t * xt, y += b * yb + t * yt;
  for (int k = threadIdx.x; k < heads * per_head; k += blockDim.x) {
    int h = k / per_head, i = k % per_head * step;
    int first = NEIGHBOURS ? 2 * i : i, second = NEIGHBOURS ? 2 * i + step : pairs + i;
    if (whole) {
      Packed<T> one = *(const Packed<T>*)(x + h * xh + first), other = *(const Packed<T>*)(x + h * xh + second);
#pragma unroll
      for (int j = 0; j < P; j++) {
        if (!NEIGHBOURS) turn(i + j, one.at[j], other.at[j]);
        else if (j < P / 2) turn(i + j, one.at[2 * j], one.at[2 * j + 1]);
        else turn(i + j, other.at[2 * j - P], other.at[2 * j - P + 1]);
      }
      *(Packed<T>*)(y + h * yh + first) = one, *(Packed<T>*)(y + h * yh + second) = other;
    } else {
      T one = x[h * xh + first * xd], other = x[h * xh + second * xd];
      turn(i, one, other);
      y[h * yh + first * yd] = one, y[h * yh + second * yd] = other;
    }
  }
}
