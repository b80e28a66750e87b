// Weights of a few bits: groups of 32 numbers of a row share a scale, a bfloat16; the reference set tells how they are packed.
#include "common.cuh"

constexpr int GROUP = 32;

// Row f of a quantized matrix (features, 32 groups), number by number.
template <class W, int BITS> struct QuantizedRow {
  const unsigned char* q;
  const unsigned short* scales;
  __device__ QuantizedRow(const unsigned char* q, const unsigned short* scales, long long f, int groups)
      : q(q + f * groups * (GROUP * BITS / 8)), scales(scales + f * groups) {}
  __device__ W operator[](int c) const {
    if (BITS == 16) return W(__uint_as_float((unsigned)((const unsigned short*)q)[c] << 16));  // the scale is 1
    int group = c / GROUP, i = c % GROUP;
    W scale = W(__uint_as_float((unsigned)scales[group] << 16));
    if (BITS == 8) return scale * W((signed char)q[c]);
    int pair = q[group * (GROUP / 2) + i % (GROUP / 2)];
    return scale * W((i < GROUP / 2 ? pair & 15 : pair >> 4) - 8);
  }
};

// w (features, columns) = scale q.
template <class T, int BITS> __global__ void widen(const unsigned char* __restrict__ q, const unsigned short* __restrict__ scales,
                                                   T* __restrict__ w, int features, int columns, int groups) {
  long long f = own_row();
  if (f >= features) return;
  QuantizedRow<wide<T>, BITS> row(q, scales, f, groups);
  for (int c = threadIdx.x; c < columns; c += blockDim.x) w[f * columns + c] = T(row[c]);
}

// y (rows, features) = x w^T for a few rows: a warp for each number of y, w never written wide.
template <class T, int BITS> __global__ void quantized_product(const T* __restrict__ x, const unsigned char* __restrict__ q,
                                                               const unsigned short* __restrict__ scales, T* __restrict__ y,
                                                               int features, int columns, int groups) {
  typedef wide<T> W;
  long long f = own_row();
  if (f >= features) return;
  QuantizedRow<W, BITS> row(q, scales, f, groups);
  x += (long long)blockIdx.y * columns;
  W total = 0;
  for (int c = threadIdx.x; c < columns; c += WARP) total += W(x[c]) * row[c];
  total = row_sum(total);
  if (threadIdx.x == 0) y[(long long)blockIdx.y * features + f] = T(total);
}
