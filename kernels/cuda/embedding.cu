// Rows out of a table, and back into it.
#include "common.cuh"

// y_i = w[index[i % indices]], plus x_i where x is not null. x, y (rows, columns).
template <class T> __global__ void gather_rows(const T* __restrict__ x, const long long* __restrict__ index,
                                               const T* __restrict__ w, T* __restrict__ y, int rows, int columns,
                                               int indices) {
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
// warps of an index's first row add all of them, in that order: the same sums in every run, which atomic additions are not.
// dw is of type T, a gradient of activations, or wide<T>, one of a parameter. A warp has a pack for each lane of one row of
// dw; grid: rows by 4, packs by 32.
template <class T, class S> __global__ void scatter_rows(const T* __restrict__ dy, const long long* __restrict__ sorted,
                                                         const long long* __restrict__ place, S* __restrict__ dw, int rows,
                                                         int columns) {
  typedef wide<T> W;
  constexpr int P = PACK<T>;
  long long first = own_row();
  int c = (blockIdx.y * WARP + threadIdx.x) * P;
  if (first >= rows || c >= columns || (first > 0 && sorted[first - 1] == sorted[first])) return;
  long long index = sorted[first], last = rows;  // the rows that have it: first ... last - 1
  for (long long low = first; low + 1 < last;) {
    long long middle = (low + last) / 2;
    (sorted[middle] == index ? low : last) = middle;
  }
  W total[P] = {};
  auto add_rows = [&](bool whole) {  // inlined twice: a condition in the loop would keep loads from being made ahead
#pragma unroll 8
    for (long long i = first; i < last; i++) {
      W number[P];
      read_pack(number, dy + place[i] * columns, c, columns, whole);
#pragma unroll
      for (int k = 0; k < P; k++) total[k] += number[k];
    }
  };
  if (lies_whole(dy, columns)) add_rows(true);
  else add_rows(false);
  dw += index * columns + c;
#pragma unroll
  for (int k = 0; k < P; k++)
    if (c + k < columns) dw[k] = S(W(dw[k]) + total[k]);
}
