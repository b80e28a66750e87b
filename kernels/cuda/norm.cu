// Layer and RMS normalisation over rows (rows, columns). CENTRED: layer normalisation, with the row's mean taken off;
// without it RMS normalisation, which is the same with a mean of 0. Mean and variance are two passes, as in the formulas:
// E(x^2) - E(x)^2 loses digits. low, high, threshold, factor: of the dropout of the branch r; factor is 1 where there is none.
#include "columns.cuh"
#include "dropout.cuh"

// s = x + drop(r) (s is x, where r is null), n = (s - mean) rstd, y = n w + b. w, b (columns,), b may be null; mean, rstd
// (rows,).
template <class T, bool CENTRED> __global__ void norm_forward(const T* x, const T* __restrict__ r,
                                                              const T* __restrict__ w, const T* __restrict__ b, double eps,
                                                              T* s, T* __restrict__ y, wide<T>* __restrict__ mean,
                                                              wide<T>* __restrict__ rstd, int rows, int columns,
                                                              unsigned low, unsigned high, unsigned threshold,
                                                              double factor) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  x += row * columns, y += row * columns;
  if (r) r += row * columns, s += row * columns;
  Columns<T> own(columns, x, r, s, y, w, b);
  if (r) {  // from here on x is s; each thread reads again only what it wrote itself
    unsigned key = row_key(row, low, high);
    if (factor == 1) own.each([](int, T x, T r, T& s) { s = T(W(x) + W(r)); }, x, r, out(s));
    else own.each([=](int c, T x, T r, T& s) { s = T(W(x) + dropped(W(r), key, c, threshold, W(factor))); }, x, r, out(s));
    x = s;
  }

  W centre = 0;
  if (CENTRED) {
    own.each([&](int, T x) { centre += W(x); }, x);
    centre = row_sum(centre) / columns;
  }
  W squares = 0;
  own.each([&](int, T x) { squares += (W(x) - centre) * (W(x) - centre); }, x);
  W scale = 1 / sqrt(row_sum(squares) / columns + W(eps));

  if (threadIdx.x == 0) {
    if (CENTRED) mean[row] = centre;
    rstd[row] = scale;
  }
  if (b) own.each([=](int, T x, T w, T b, T& y) { y = T((W(x) - centre) * scale * W(w) + W(b)); }, x, w, b, out(y));
  else own.each([=](int, T x, T w, T& y) { y = T((W(x) - centre) * scale * W(w)); }, x, w, out(y));
}

// dx = ds + rstd (dn - mean_C(dn) - n mean_C(dn n)) with dn = dy w, ds may be null; dr = drop(dx), which may be null; and in
// sums (parts, 2, columns) what the rows of a block add to dw = sum_N dy n and db = sum_N dy. The threads of a row go on to
// the rows that lie parts blockDim.y further on; each has columns of its own, so that it alone adds to them, in shared memory
// (blockDim.y, 2, columns).
template <class T, bool CENTRED> __global__ void norm_backward(const T* __restrict__ dy, const T* __restrict__ ds,
                                                               const T* __restrict__ x, const T* __restrict__ w,
                                                               const wide<T>* __restrict__ mean,
                                                               const wide<T>* __restrict__ rstd, T* __restrict__ dx,
                                                               T* __restrict__ dr, wide<T>* __restrict__ sums, int rows,
                                                               int columns, unsigned low, unsigned high,
                                                               unsigned threshold, double factor) {
  typedef wide<T> W;
  extern __shared__ __align__(16) unsigned char memory[];
  W *of_block = (W*)memory, *dw = of_block + threadIdx.y * 2 * columns, *db = dw + columns;
  Columns<T> own(columns, dy, ds, x, w, dx, dr, dw, db);
  own.same_in_all_rows();
  own.each([](int, W& dw, W& db) { dw = db = 0; }, out(dw), out(db));

  for (long long row = own_row(); row < rows; row += (long long)gridDim.x * blockDim.y) {
    const T *dy_row = dy + row * columns, *x_row = x + row * columns;
    W centre = CENTRED ? mean[row] : W(0), scale = rstd[row], sum_dn = 0, sum_dn_n = 0;
    own.each([&](int, T dy, T x, T w, W& dw, W& db) {
      W d = dy, n = (W(x) - centre) * scale, dn = d * W(w);
      sum_dn += dn, sum_dn_n += dn * n;
      dw += d * n, db += d;
    }, dy_row, x_row, w, dw, db);
    W mean_dn = CENTRED ? row_sum(sum_dn) / columns : W(0), mean_dn_n = row_sum(sum_dn_n) / columns;
    auto through = [=](T dy, T x, T w) { return scale * (W(dy) * W(w) - mean_dn - (W(x) - centre) * scale * mean_dn_n); };
    auto to = out(dx + row * columns);
    if (ds) own.each([=](int, T dy, T x, T w, T ds, T& dx) { dx = T(W(ds) + through(dy, x, w)); }, dy_row, x_row, w,
                     ds + row * columns, to);
    else own.each([=](int, T dy, T x, T w, T& dx) { dx = T(through(dy, x, w)); }, dy_row, x_row, w, to);
    if (dr) {  // each thread reads again only what it wrote itself
      unsigned key = row_key(row, low, high);
      const T* dx_row = dx + row * columns;
      auto drop = [=](int c, T dx, T& dr) { dr = T(dropped(W(dx), key, c, threshold, W(factor))); };
      own.each(drop, dx_row, out(dr + row * columns));
    }
  }

  __syncthreads();
  sums += (long long)blockIdx.x * 2 * columns;
  for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < 2 * columns; c += blockDim.x * blockDim.y) {
    W total = 0;
    for (int i = 0; i < blockDim.y; i++) total += of_block[i * 2 * columns + c];
    sums[c] = total;
  }
}
