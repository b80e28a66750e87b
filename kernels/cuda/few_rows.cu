// Products of few rows, as in decoding: nearly all time goes into reading the weight, once.
#include "common.cuh"

// y (rows, features) = x w^T + b (null: nothing). x (rows, columns), w (features, columns). A warp has a row of w, and R
// rows of x at a time. Grid: features / warps, rows / R; block: (32, warps). whole: all rows are whole packs, and begin at
// multiples of 16 bytes.
template <class T, class S, int R> __global__ void few_rows(const T* __restrict__ x, const T* __restrict__ w,
                                                            const S* __restrict__ b, S* __restrict__ y, int rows,
                                                            int columns, int features, bool whole) {
  typedef wide<T> W;
  constexpr int P = PACK<T>;
  long long f = own_row();
  if (f >= features) return;
  int first = blockIdx.y * R, own = min(R, rows - first);
  w += f * columns, x += (long long)first * columns;
  W sum[R] = {};
  if (whole) {
    for (int c = threadIdx.x * P; c < columns; c += WARP * P) {
      Packed<T> weights = *(const Packed<T>*)(w + c);
#pragma unroll
      for (int r = 0; r < R; r++) {
        if (r >= own) break;
        Packed<T> numbers = *(const Packed<T>*)(x + (long long)r * columns + c);
#pragma unroll
        for (int i = 0; i < P; i++) sum[r] += W(numbers.at[i]) * W(weights.at[i]);
      }
    }
  } else {
    for (int c = threadIdx.x; c < columns; c += WARP) {
#pragma unroll
      for (int r = 0; r < R; r++)
        if (r < own) sum[r] += W(x[(long long)r * columns + c]) * W(w[c]);
    }
  }
#pragma unroll
  for (int r = 0; r < R; r++) {
    if (r >= own) break;
    W total = warp_reduce(sum[r], Sum());
    if (threadIdx.x == 0) y[(long long)(first + r) * features + f] = S(total + (b ? W(b[f]) : W(0)));
  }
}
