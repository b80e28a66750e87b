// y = x / (1 - p) where the mask of (p, seed) keeps, else 0; x, y (rows, columns). It is its own backward.
#include "common.cuh"
#include "dropout.cuh"

template <class T> __global__ void dropout(const T* __restrict__ x, T* __restrict__ y, int rows, int columns, unsigned low,
                                           unsigned high, unsigned threshold, double factor) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  x += row * columns, y += row * columns;
  unsigned key = row_key(row, low, high);
  Columns<T>(columns, x, y).each([=](int c, T x, T& y) { y = T(dropped(W(x), key, c, threshold, W(factor))); }, x, out(y));
}
