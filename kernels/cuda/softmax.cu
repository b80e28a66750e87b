// Softmax over rows (rows, columns): the maximum, the sum of exponentials, the quotients. A row is read three times, twice of
// them from the first cache.
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

  W top = -infinity<W>();
  for (int s = threadIdx.x; s < columns; s += blockDim.x)
    if (allowed(s)) top = Max()(top, W(x[s]));
  top = row_max(top);
  if (top == -infinity<W>()) top = 0;  // nothing is allowed, or all is -inf: the exponentials shall be 0, not NaN

  W total = 0;
  for (int s = threadIdx.x; s < columns; s += blockDim.x)
    if (allowed(s)) total += exp(W(x[s]) - top);
  total = row_sum(total);
  W factor = total == 0 ? W(0) : 1 / total;

  for (int s = threadIdx.x; s < columns; s += blockDim.x) y[s] = T(allowed(s) ? exp(W(x[s]) - top) * factor : W(0));
}

// dx = y (dy - sum_S(dy y)).
template <class T> __global__ void softmax_backward(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx,
                                                    int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  dy += row * columns, y += row * columns, dx += row * columns;

  W sum = 0;
  for (int s = threadIdx.x; s < columns; s += blockDim.x) sum += W(dy[s]) * W(y[s]);
  sum = row_sum(sum);
  for (int s = threadIdx.x; s < columns; s += blockDim.x) dx[s] = T(W(y[s]) * (W(dy[s]) - sum));
}
