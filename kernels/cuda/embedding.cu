// Rows out of a table, and back into it.
#include "common.cuh"

// y_i = w[index[i % indices]], plus x_i where x is not null. x, y (rows, columns).
template <class T> __global__ void gather_rows(const T* __restrict__ x, const long long* __restrict__ index,
                                               const T* __restrict__ w, T* __restrict__ y, int rows, int columns, int indices) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  w += index[row % indices] * columns, y += row * columns;
  if (x) x += row * columns;
  Columns<T> own(columns, y, x, w);
  if (x) own.each([](int, T x, T w, T& y) { y = T(W(x) + W(w)); }, x, w, out(y));
  else own.each([](int, T w, T& y) { y = w; }, w, out(y));
}

// dw[index] += the rows of dy that have it. `sorted` has the indices in order, `place` the rows of dy where they stood. The
// block of an index's first row adds all of them, in that order: the same sums in every run, which atomic additions are not.
// dw is of type T, a gradient of activations, or wide<T>, one of a parameter.
template <class T, class S> __global__ void scatter_rows(const T* __restrict__ dy, const long long* __restrict__ sorted,
                                                         const long long* __restrict__ place, S* __restrict__ dw, int rows,
                                                         int columns) {
  typedef wide<T> W;
  long long first = own_row();
  if (first >= rows || (first > 0 && sorted[first - 1] == sorted[first])) return;
  long long index = sorted[first];
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    W total = 0;
    for (long long i = first; i < rows && sorted[i] == index; i++) total += W(dy[place[i] * columns + c]);
    dw[index * columns + c] = S(W(dw[index * columns + c]) + total);
  }
}
