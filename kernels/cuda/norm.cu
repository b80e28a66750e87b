// Layer and RMS normalisation over rows (rows, columns). CENTRED: layer normalisation, which subtracts the row's mean;
// without it RMS normalisation, which is the same with a mean of 0. Mean and variance are two passes, as in the formulas:
// E(x^2) - E(x)^2 loses digits.
#include "columns.cuh"

// total = x + f (f null: total is x), n = (total - mean) rstd, y = n w + b. w, b (columns,), b may be null; mean, rstd
// (rows,).
template <class T, bool CENTRED> __global__ void norm_forward(const T* x, const T* __restrict__ f,
                                                              const T* __restrict__ w, const T* __restrict__ b, double eps,
                                                              T* total, T* __restrict__ y, wide<T>* __restrict__ mean,
                                                              wide<T>* __restrict__ rstd, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  x += row * columns, y += row * columns;
  if (f) f += row * columns, total += row * columns;
  Columns<T> own(columns, x, f, total, y, w, b);
  if (f) {  // from here on x is the sum; each thread reads again only what it wrote itself
    own.each([](int, T x, T f, T& total) { total = T(W(x) + W(f)); }, x, f, out(total));
    x = total;
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

// dx = of_sum + rstd (dn - mean_C(dn) - n mean_C(dn n)) with dn = dy w; of_sum, which may be null, is the gradient that
// arrives at x beside y's. In sums (parts, 2, columns), what the rows of a block add to dw = sum_N dy n and db = sum_N dy. The
// threads of a row go on to the rows that are parts blockDim.y further on. Each has its own columns, so that it alone adds to
// them, in shared memory (blockDim.y, 2, columns).
template <class T, bool CENTRED> __global__ void norm_backward(const T* __restrict__ dy, const T* __restrict__ of_sum,
                                                               const T* __restrict__ x, const T* __restrict__ w,
                                                               const wide<T>* __restrict__ mean,
                                                               const wide<T>* __restrict__ rstd, T* __restrict__ dx,
                                                               wide<T>* __restrict__ sums, int rows, int columns) {
  typedef wide<T> W;
  extern __shared__ __align__(16) unsigned char memory[];
  W *of_block = (W*)memory, *dw = of_block + threadIdx.y * 2 * columns, *db = dw + columns;
  Columns<T> own(columns, dy, of_sum, x, w, dx, dw, db);
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
    if (of_sum) own.each([=](int, T dy, T x, T w, T of_sum, T& dx) { dx = T(W(of_sum) + through(dy, x, w)); }, dy_row, x_row,
                         w, of_sum + row * columns, to);
    else own.each([=](int, T dy, T x, T w, T& dx) { dx = T(through(dy, x, w)); }, dy_row, x_row, w, to);
  }

  __syncthreads();
  sums += (long long)blockIdx.x * 2 * columns;
  for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < 2 * columns; c += blockDim.x * blockDim.y) {
    W total = 0;
    for (int i = 0; i < blockDim.y; i++) total += of_block[i * 2 * columns + c];
    sums[c] = total;
  }
}
