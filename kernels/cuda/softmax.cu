// Softmax over rows (rows, columns): the maximum and the sum of exponentials in one go, then the quotients. A row is read
// twice, the second time from a cache.
#include "common.cuh"

// y_s = exp(x_s) / sum_S exp(x); a row in which nothing is allowed gives zeros.
// mask: null, or mask_rows rows of bytes that come again and again; causal: row t of T sees columns up to columns - T + t.
template <class T> __global__ void softmax_forward(const T* __restrict__ x, const unsigned char* __restrict__ mask,
                                                   T* __restrict__ y, int rows, int columns, int mask_rows, bool causal,
                                                   int queries) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  x += row * columns, y += row * columns;
  if (mask) mask += row % mask_rows * columns;
  int end = causal ? min(columns, columns - queries + int(row % queries) + 1) : columns;
  auto allowed = [&](int s) { return s < end && (!mask || mask[s]); };

  Columns<T> own(columns, x, y);
  SumExp<W> sum;
  own.each([&](int s, T x) {
    if (allowed(s)) sum.add(x);
  }, x);
  sum = sum.of_row();
  W factor = sum.total == 0 ? W(0) : 1 / sum.total;
  own.each([&](int s, T x, T& y) { y = T(allowed(s) ? exp(W(x) - sum.top) * factor : W(0)); }, x, out(y));
}

// dx = y (dy - sum_S(dy y)).
template <class T> __global__ void softmax_backward(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx,
                                                    int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  dy += row * columns, y += row * columns, dx += row * columns;

  Columns<T> own(columns, dy, y, dx);
  W sum = 0;
  own.each([&](int, T dy, T y) { sum += W(dy) * W(y); }, dy, y);
  sum = row_sum(sum);
  own.each([&](int, T dy, T y, T& dx) { dx = T(W(y) * (W(dy) - sum)); }, dy, y, out(dx));
}
