// Layer and RMS normalisation over rows (rows, columns). CENTRED: layer normalisation, with the row's mean taken off; without
// it RMS normalisation, which is the same with a mean of 0. Mean and variance are two passes, as in the formulas:
// E(x^2) - E(x)^2 loses digits.
#include "columns.cuh"

// s = x + r (s is x, where r is null), n = (s - mean) rstd, y = n w + b. w, b (columns,), b may be null; mean, rstd (rows,).
template <class T, bool CENTRED> __global__ void norm_forward(const T* x, const T* __restrict__ r,
                                                              const T* __restrict__ w, const T* __restrict__ b, double eps,
                                                              T* s, T* __restrict__ y, wide<T>* __restrict__ mean,
                                                              wide<T>* __restrict__ rstd, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  x += row * columns, y += row * columns;
  if (r) {  // from here on x is s; each thread reads again only what it wrote itself
    r += row * columns, s += row * columns;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) s[c] = T(W(x[c]) + W(r[c]));
    x = s;
  }

  W centre = 0;
  if (CENTRED) {
    for (int c = threadIdx.x; c < columns; c += blockDim.x) centre += W(x[c]);
    centre = row_sum(centre) / columns;
  }
  W squares = 0;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) squares += (W(x[c]) - centre) * (W(x[c]) - centre);
  W scale = 1 / sqrt(row_sum(squares) / columns + W(eps));

  if (threadIdx.x == 0) {
    if (CENTRED) mean[row] = centre;
    rstd[row] = scale;
  }
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    W n = (W(x[c]) - centre) * scale;
    y[c] = T(n * W(w[c]) + (b ? W(b[c]) : W(0)));
  }
}

// dx = ds + rstd (dn - mean_C(dn) - n mean_C(dn n)) with dn = dy w, ds may be null; and in sums (parts, 2, columns) what the
// rows part, part + parts, ... add to dw = sum_N dy n and db = sum_N dy. A block for each part; a thread has columns of its own,
// so that it alone adds to them, in shared memory (2, columns).
template <class T, bool CENTRED> __global__ void norm_backward(const T* __restrict__ dy, const T* __restrict__ ds,
                                                               const T* __restrict__ x, const T* __restrict__ w,
                                                               const wide<T>* __restrict__ mean,
                                                               const wide<T>* __restrict__ rstd, T* __restrict__ dx,
                                                               wide<T>* __restrict__ sums, int rows, int columns) {
  typedef wide<T> W;
  extern __shared__ __align__(16) unsigned char memory[];
  W *dw = (W*)memory, *db = dw + columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) dw[c] = db[c] = 0;

  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    long long start = row * columns;
    W centre = CENTRED ? mean[row] : W(0), scale = rstd[row], sum_dn = 0, sum_dn_n = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
      W d = dy[start + c], n = (W(x[start + c]) - centre) * scale, dn = d * W(w[c]);
      sum_dn += dn;
      sum_dn_n += dn * n;
      dw[c] += d * n;
      db[c] += d;
    }
    W mean_dn = CENTRED ? row_sum(sum_dn) / columns : W(0), mean_dn_n = row_sum(sum_dn_n) / columns;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
      W n = (W(x[start + c]) - centre) * scale, dn = W(dy[start + c]) * W(w[c]);
      W d = scale * (dn - mean_dn - n * mean_dn_n);
      dx[start + c] = T(ds ? W(ds[start + c]) + d : d);
    }
  }

  sums += (long long)blockIdx.x * 2 * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) sums[c] = dw[c], sums[columns + c] = db[c];
}
