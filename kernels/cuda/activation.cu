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
template <class T, class A> __global__ void gated_forward(const T* __restrict__ x, T* __restrict__ y, int rows,
                                                                  int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  const T *gate = x + row * 2 * columns, *up = gate + columns;
  y += row * columns;
  Columns<T>(columns, gate, up, y).each([](int, T gate, T up, T& y) { y = T(A::f(W(gate)) * W(up)); }, gate, up, out(y));
}

// dx = [dy up f'(gate) | dy f(gate)].
template <class T, class A> __global__ void gated_backward(const T* __restrict__ dy, const T* __restrict__ x,
                                                           T* __restrict__ dx, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  const T *gate = x + row * 2 * columns, *up = gate + columns;
  T *dgate = dx + row * 2 * columns, *dup = dgate + columns;
  dy += row * columns;
  Columns<T>(columns, gate, up, dy, dgate, dup).each([](int, T gate, T up, T dy, T& dgate, T& dup) {
    W d = dy, g = gate;
    dgate = T(d * W(up) * A::derivative(g)), dup = T(d * A::f(g));
  }, gate, up, dy, out(dgate), out(dup));
}
