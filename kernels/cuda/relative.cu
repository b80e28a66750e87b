// Relative position biases. A bucket hangs on the distance alone: bucket[T - 1 - t + s] is that of query t and key s.
#include "columns.cuh"

// bias_hts = w[bucket of (t, s)][h].  w (buckets, heads), bias (heads, T, S), a block for each of its rows.
template <class T> __global__ void look_up(const T* __restrict__ w, const long long* __restrict__ bucket,
                                           T* __restrict__ bias, int heads, int queries, int keys) {
  int h = blockIdx.x / queries, t = blockIdx.x % queries;
  bias += (long long)blockIdx.x * keys, bucket += queries - 1 - t;
  Columns<T>(keys, bias).each([&](int s, T& bias) { bias = w[bucket[s] * heads + h]; }, out(bias));
}

// sums[h][i] = the sum of dbias[h] along the diagonal i = T - 1 - t + s. A block of (32, SHARING) has 32 diagonals side by
// side: what its lanes read at a time are neighbours, and of the rows each lane has every SHARING-th.
template <class T> __global__ void sum_diagonals(const T* __restrict__ dbias, wide<T>* __restrict__ sums, int queries,
                                                  int keys) {
  int i = blockIdx.x * WARP + threadIdx.x, h = blockIdx.y, diagonals = queries + keys - 1;
  dbias += (long long)h * queries * keys;
  int first = max(0, queries - 1 - i), last = min(queries, queries - 1 - i + keys);  // of the diagonal's queries
  wide<T> total = 0;
#pragma unroll 8
  for (int t = first + threadIdx.y; t < last; t += SHARING)
    total += wide<T>(dbias[(long long)t * keys + i - (queries - 1 - t)]);
  total = shared_sum(total);
  if (threadIdx.y == 0 && i < diagonals) sums[(long long)h * diagonals + i] = total;
}

// dw[b][h] += the sum of sums[h] over the diagonals in bucket b; a warp for each number of dw.
template <class T> __global__ void sum_buckets(const wide<T>* __restrict__ sums, const long long* __restrict__ bucket,
                                               wide<T>* __restrict__ dw, int diagonals) {
  typedef wide<T> W;
  int b = blockIdx.x, h = blockIdx.y;
  W total = 0;
  for (int i = threadIdx.x; i < diagonals; i += blockDim.x)
    if (bucket[i] == b) total += sums[(long long)h * diagonals + i];
  total = row_sum(total);
  if (threadIdx.x == 0) dw[b * gridDim.y + h] += total;
}
