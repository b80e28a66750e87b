// Sums over rows for each column, in two steps, so that every run adds in the same order: parts of the rows, then the parts.
#pragma once
#include "common.cuh"

// sums[c] += sum over `parts` of part[p][c]; part (parts, stride), of which the first `columns` are this array's. A thread for
// each column.
template <class T> __global__ void add_parts(const wide<T>* __restrict__ part, wide<T>* __restrict__ sums, int parts,
                                             int stride, int columns) {
  int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= columns) return;
  wide<T> total = 0;
  for (int p = 0; p < parts; p++) total += part[(long long)p * stride + c];
  sums[c] += total;
}
