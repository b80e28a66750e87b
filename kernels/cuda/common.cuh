// What all kernels share: number types, reductions, rows. No header of CUDA is needed: NVRTC then needs none at run time.
#pragma once
#include "ptx.cuh"

constexpr unsigned ALL = 0xffffffffu;  // lanes of a warp
constexpr int WARP = 32;

// The upper half of a float: its range, and 8 bits of precision.
struct alignas(2) bfloat16 {
  unsigned short bits;
  bfloat16() = default;
  __device__ explicit bfloat16(float x) : bits(bits_of_bfloat16(x)) {}
  __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

// What numbers of type T are computed in.
template <class T> struct Wide { typedef float type; };
template <> struct Wide<double> { typedef double type; };
template <class T> using wide = typename Wide<T>::type;

// Vectors of 16 bytes, the most that a thread loads at once: PACK<T> numbers. Or of as many numbers of another type.
template <class T> constexpr int PACK = 16 / sizeof(T);
template <class T, int P = PACK<T>> struct alignas(P * sizeof(T) < 16 ? P * sizeof(T) : 16) Packed { T at[P]; };

template <class T> __device__ __forceinline__ T infinity() { return T(__int_as_float(0x7f800000)); }

// ---- reductions: all threads receive the result; the same order in every run -------------------------------------------

struct Sum { template <class T> __device__ T operator()(T a, T b) const { return a + b; } };
struct Max { template <class T> __device__ T operator()(T a, T b) const { return a > b ? a : b; } };

template <class Op, class T> __device__ __forceinline__ T warp_reduce(T value, Op op) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) value = op(value, __shfl_xor_sync(ALL, value, offset));
  return value;
}

// A row is computed by blockDim.x threads: by one warp, and then a block has blockDim.y rows, or by a block of its own.
template <class Op, class T> __device__ T row_reduce(T value, T nothing, Op op) {
  value = warp_reduce(value, op);
  if (blockDim.x == WARP) return value;
  __shared__ T of_warp[WARP];
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  __syncthreads();  // what the last reduction left has been read by all
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  return warp_reduce(lane < blockDim.x / WARP ? of_warp[lane] : nothing, op);
}
template <class T> __device__ T row_sum(T value) { return row_reduce(value, T(0), Sum()); }
template <class T> __device__ T row_max(T value) { return row_reduce(value, -infinity<T>(), Max()); }

// sum exp(x) = total exp(top), number by number: when a larger one comes, what was summed under the old top is scaled.
template <class W> struct SumExp {
  W top = -infinity<W>(), total = 0;
  __device__ __forceinline__ void add(W x) {
    if (x == -infinity<W>()) return;  // exp is 0
    W high = Max()(top, x), other = exp((x > top ? top : x) - high);
    total = x > top ? total * other + 1 : total + other;
    top = high;
  }
  // Of all threads of the row. Where there is nothing but -inf, top is 0: so exp(x - top) is 0, and not NaN.
  __device__ SumExp of_row() const {
    SumExp row;
    row.top = row_max(top);
    if (row.top == -infinity<W>()) row.top = 0;
    row.total = row_sum(total * exp(top - row.top));
    return row;
  }
};

// lse = high + low, a double in two parts of type W: exp((x - high) - low) is as exact as x, however large lse is. Where all
// scores are -inf, so is lse, and both parts are 0: exp(x - 0) is 0, and not NaN.
template <class W> struct Parts {
  W high = 0, low = 0;
  Parts() = default;
  __device__ __forceinline__ explicit Parts(double lse) {
    if (lse == -infinity<double>()) return;
    high = W(lse), low = W(lse - double(high));
    if (low != low) low = 0;  // lse is inf or NaN, and so is high
  }
  __device__ __forceinline__ W below(W x) const { return (x - high) - low; }  // x - lse
};

// The row that this thread works on; row >= rows for a whole warp at once.
__device__ __forceinline__ long long own_row() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

// ---- numbers of arrays, dealt out to threads ----------------------------------------------------------------------------

// A thread has PACK<T> neighbours at a time, 16 bytes, where the arrays lie alike in memory, to within 16 bytes (null is no
// array); the numbers before the first pack, those behind the last, and all of other arrays one by one. In every loop a
// number is the same thread's.
//
//   Columns<T> own(columns, x, y);
//   own.each([&](int c, T x, T& y) { y = ...; }, x, out(y));
//
// calls the function for each column c: with a number of each array to const; of others with a reference, which is written
// back; and of out(y) with one that has not been read.
template <class X> struct Out { X* array; };
template <class X> __device__ __forceinline__ Out<X> out(X* array) { return {array}; }

template <class T, class I> class Dealt {
  static constexpr int P = PACK<T>;
  I n, first, step, before = 0, packs = 0;

  template <class X> struct Read {
    Packed<X, P> pack;
    __device__ __forceinline__ void done(I) const {}
  };
  template <class X> struct Write {
    X* array;
    Packed<X, P> pack;
    __device__ __forceinline__ void done(I i) const { *(Packed<X, P>*)(array + i) = pack; }
  };
  template <class X> static __device__ __forceinline__ Read<X> at(const X* x, I i) {
    return {*(const Packed<X, P>*)(x + i)};
  }
  template <class X> static __device__ __forceinline__ Write<X> at(X* x, I i) {
    return {x, *(const Packed<X, P>*)(x + i)};
  }
  template <class X> static __device__ __forceinline__ Write<X> at(Out<X> y, I) { return {y.array, {}}; }
  template <class X> static __device__ __forceinline__ X& number(X* x, I i) { return x[i]; }
  template <class X> static __device__ __forceinline__ X& number(Out<X> y, I i) { return y.array[i]; }

  template <class F, class... Pack> static __device__ __forceinline__ void each_of(F& f, I i, Pack... of) {
#pragma unroll
    for (int k = 0; k < P; k++) f(i + k, of.pack.at[k]...);
    (of.done(i), ...);
  }
  template <class X> static __device__ __forceinline__ int phase(const X* x) {
    return (unsigned long long)x % alignof(Packed<X, P>) / sizeof(X);
  }

 protected:
  template <class X, class... More>
  __device__ __forceinline__ Dealt(I n, I first, I step, const X* x, const More*... more) : n(n), first(first), step(step) {
    if (!(... && (!more || phase(more) == phase(x)))) return;
    before = min(I((P - phase(x)) % P), n);
    packs = (n - before) / P;
  }

 public:
  template <class F, class... A> __device__ __forceinline__ void each(F f, A... arrays) const {
    for (I i = first; i < packs; i += step) each_of(f, before + i * P, at(arrays, before + i * P)...);
    for (I i = first; i < n - packs * P; i += step) {
      I place = i < before ? i : i + packs * P;
      f(place, number(arrays, place)...);
    }
  }

  // For kernels that go from row to row and keep what belongs to a column: only with whole packs do all rows lie alike.
  __device__ __forceinline__ void same_in_all_rows() {
    if (n % P) before = packs = 0;
  }
};

// The columns of a row, to the threads that compute the row.
template <class T> struct Columns : Dealt<T, int> {
  template <class... X> __device__ __forceinline__ Columns(int columns, const X*... x)
      : Dealt<T, int>(columns, threadIdx.x, blockDim.x, x...) {}
};

// All n numbers, to the whole grid.
template <class T> struct Numbers : Dealt<T, long long> {
  template <class... X> __device__ __forceinline__ Numbers(long long n, const X*... x)
      : Dealt<T, long long>(n, (long long)blockIdx.x * blockDim.x + threadIdx.x, (long long)gridDim.x * blockDim.x, x...) {}
};

// y[i] = f(x[i], ...) for all of them.
template <class T, class F, class... X> __device__ __forceinline__ void map(long long n, F f, T* y, const X*... x) {
  Numbers<T>(n, y, x...).each([&](long long, X... x, T& y) { y = f(x...); }, x..., out(y));
}

// For threads that each have a place in many rows. Numbers i ... of a row of n, PACK<T> of them, zeros behind the last;
// whole: all rows lie so that 16 bytes can be loaded there.
template <class T, class W> __device__ __forceinline__ void read_pack(W* to, const T* row, int i, int n, bool whole) {
  if (whole) {
    Packed<T> pack = {};
    if (i < n) pack = *(const Packed<T>*)(row + i);
#pragma unroll
    for (int k = 0; k < PACK<T>; k++) to[k] = W(pack.at[k]);
  } else {
#pragma unroll
    for (int k = 0; k < PACK<T>; k++) to[k] = i + k < n ? W(row[i + k]) : W(0);
  }
}
template <class T> __device__ __forceinline__ bool lies_whole(const T* rows, int n) {
  return n % PACK<T> == 0 && (unsigned long long)rows % 16 == 0;
}
