// What stands around a matrix product: bias, activation, and the bias's gradient.
#include "activation.cuh"
#include "columns.cuh"

// y += b, for each row. y (rows, columns), b (columns,).
template <class T> __global__ void add_bias(T* __restrict__ y, const T* __restrict__ b, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  y += row * columns;
  Columns<T>(columns, y, b).each([](int, T& y, T b) { y = T(W(y) + W(b)); }, y, b);
}

// z += b (which may be null), y = f(z), in one pass.
template <class T, class A> __global__ void bias_activation(T* __restrict__ z, const T* __restrict__ b, T* __restrict__ y,
                                                            int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  z += row * columns, y += row * columns;
  Columns<T> own(columns, z, b, y);
  if (b) own.each([](int, T& z, T b, T& y) { z = T(W(z) + W(b)), y = T(A::f(W(z))); }, z, b, out(y));
  else own.each([](int, T z, T& y) { y = T(A::f(W(z))); }, (const T*)z, out(y));
}

// part[p][c] = the sum of x over the rows p, p + parts, ...
template <class T> __global__ void sum_columns(const T* __restrict__ x, wide<T>* __restrict__ part, int rows, int columns) {
  int c = blockIdx.x * WARP + threadIdx.x, parts = gridDim.y;
  wide<T> total = column_sum(x, c < columns ? c : -1, blockIdx.y, parts, rows, columns);
  if (threadIdx.y == 0 && c < columns) part[(long long)blockIdx.y * columns + c] = total;
}
