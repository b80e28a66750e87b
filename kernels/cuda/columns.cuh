// Sums over rows for each column, in two steps, so that every run adds in the same order: parts of the rows, then the parts.
#pragma once
#include "common.cuh"

constexpr int SHARING = 8;  // threads that share the rows of a column; a block of (32, 8) has 32 columns

// The sum of what the threads with one threadIdx.x have, of a block of (32, SHARING): known to those with threadIdx.y == 0.
template <class W> __device__ W shared_sum(W value) {
  __shared__ W of_thread[SHARING][WARP];
  of_thread[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  for (int i = 1; i < SHARING && threadIdx.y == 0; i++) value += of_thread[i][threadIdx.x];
  return value;
}

// The sum of column c of x (rows, stride) over the rows first, first + step, ...: known to threads with threadIdx.y == 0.
// All threads of the block must call it, those without a column, c < 0, too.
template <class X> __device__ wide<X> column_sum(const X* x, int c, int first, int step, int rows, int stride) {
  wide<X> total = 0;
#pragma unroll 8
  for (long long row = first + (long long)threadIdx.y * step; c >= 0 && row < rows; row += (long long)SHARING * step)
    total += wide<X>(x[row * stride + c]);
  return shared_sum(total);
}

// sums[c] += sum over `parts` of part[p][c]; part (parts, stride), of which the first `columns` are this array's.
template <class T> __global__ void add_parts(const wide<T>* __restrict__ part, wide<T>* __restrict__ sums, int parts,
                                             int stride, int columns) {
  int c = blockIdx.x * WARP + threadIdx.x;
  wide<T> total = column_sum(part, c < columns ? c : -1, 0, 1, parts, stride);
  if (threadIdx.y == 0 && c < columns) sums[c] += total;
}
