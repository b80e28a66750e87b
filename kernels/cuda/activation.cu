// Activations and gated products, number by number. A is one of activation.cuh's.
#include "activation.cuh"

// y = f(x), n numbers.
template <class T, class A> __global__ void activation_forward(const T* x, T* y, long long n) {
  map(n, [](T x) { return T(A::f(wide<T>(x))); }, y, x);
}

// dx = dy f'(x).
template <class T, class A> __global__ void activation_backward(const T* dy, const T* x, T* dx, long long n) {
  map(n, [](T dy, T x) { return T(wide<T>(dy) * A::derivative(wide<T>(x))); }, dx, dy, x);
}

// y = f(gate) * up, x = [gate | up] side by side: x (rows, 2 columns), y (rows, columns).
template <class T, class A> __global__ void gated_forward(const T* __restrict__ x, T* __restrict__ y, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  const T *gate = x + row * 2 * columns, *up = gate + columns;
  for (int j = threadIdx.x; j < columns; j += blockDim.x) y[row * columns + j] = T(A::f(W(gate[j])) * W(up[j]));
}

// dx = [dy up f'(gate) | dy f(gate)].
template <class T, class A> __global__ void gated_backward(const T* __restrict__ dy, const T* __restrict__ x,
                                                           T* __restrict__ dx, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  const T *gate = x + row * 2 * columns, *up = gate + columns;
  T *dgate = dx + row * 2 * columns, *dup = dgate + columns;
  for (int j = threadIdx.x; j < columns; j += blockDim.x) {
    W d = dy[row * columns + j], g = gate[j];
    dgate[j] = T(d * W(up[j]) * A::derivative(g));
    dup[j] = T(d * A::f(g));
  }
}
