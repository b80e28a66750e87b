// Relative position biases. A bucket hangs on the distance alone: bucket[T - 1 - t + s] is that of query t and key s.
#include "common.cuh"

// bias_hts = w[bucket of (t, s)][h].  w (buckets, heads), bias (heads, T, S), a block for each of its rows.
template <class T> __global__ void look_up(const T* __restrict__ w, const long long* __restrict__ bucket,
                                           T* __restrict__ bias, int heads, int queries, int keys) {
  int h = blockIdx.x / queries, t = blockIdx.x % queries;
  bias += (long long)blockIdx.x * keys;
  for (int s = threadIdx.x; s < keys; s += blockDim.x) bias[s] = w[bucket[queries - 1 - t + s] * heads + h];
}

// sums[h][i] = the sum of dbias[h] along the diagonal i = T - 1 - t + s; a thread for each.
template <class T> __global__ void sum_diagonals(const T* __restrict__ dbias, wide<T>* __restrict__ sums, int queries, int keys) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, h = blockIdx.y, diagonals = queries + keys - 1;
  if (i >= diagonals) return;
  dbias += (long long)h * queries * keys;
  wide<T> total = 0;
  for (int t = max(0, queries - 1 - i); t < queries; t++) {
    int s = i - (queries - 1 - t);
    if (s >= keys) break;
    total += wide<T>(dbias[(long long)t * keys + s]);
  }
  sums[(long long)h * diagonals + i] = total;
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
