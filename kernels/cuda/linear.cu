// What stands around a matrix product: bias, activation, and the bias's gradient.
#include "activation.cuh"
#include "columns.cuh"

// y += b, for each row. y (rows, columns), b (columns,).
template <class T> __global__ void add_bias(T* __restrict__ y, const T* __restrict__ b, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  y += row * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) y[c] = T(W(y[c]) + W(b[c]));
}

// z += b (which may be null), y = f(z), in one pass.
template <class T, class A> __global__ void bias_activation(T* __restrict__ z, const T* __restrict__ b, T* __restrict__ y,
                                                            int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  z += row * columns, y += row * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    T sum = b ? T(W(z[c]) + W(b[c])) : z[c];
    z[c] = sum;
    y[c] = T(A::f(W(sum)));
  }
}

// part[p][c] = the sum of x over the rows p, p + parts, ...; a block has 32 columns, and 8 threads share the rows of each.
template <class T> __global__ void sum_columns(const T* __restrict__ x, wide<T>* __restrict__ part, int rows, int columns) {
  typedef wide<T> W;
  __shared__ W of_thread[8][WARP];
  int c = blockIdx.x * WARP + threadIdx.x, parts = gridDim.y;
  W total = 0;
  if (c < columns)
    for (long long row = blockIdx.y + (long long)threadIdx.y * parts; row < rows; row += 8LL * parts)
      total += W(x[row * columns + c]);
  of_thread[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y > 0 || c >= columns) return;
  for (int i = 1; i < 8; i++) total += of_thread[i][threadIdx.x];
  part[(long long)blockIdx.y * columns + c] = total;
}
