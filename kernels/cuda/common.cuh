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
__device__ __forceinline__ bool aligned(const void* p) { return (unsigned long long)p % 16 == 0; }

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

// The row that this thread works on; row >= rows for a whole warp at once.
__device__ __forceinline__ long long own_row() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

// The numbers of a row, dealt out to its threads, to the same in each loop. A thread has PACK<T> neighbours at a time where
// the arrays' rows lie alike in memory, to within 16 bytes (null is no array); those before the first pack, behind the last,
// and all of other rows one by one.
//
//   Columns<T> own(columns, x, y);
//   own.each([&](int c, T x, T& y) { y = ...; }, x, out(y));
//
// calls the function for each column c: with a number of each array to const; of others with a reference, which is written
// back; and of out(y) with one that has not been read.
template <class X> struct Out { X* array; };
template <class X> __device__ __forceinline__ Out<X> out(X* array) { return {array}; }

template <class T> struct Columns {
  static constexpr int P = PACK<T>;
  int columns, before = 0, packs = 0;

  template <class X, class... More> __device__ __forceinline__ Columns(int columns, const X* x, const More*... more) : columns(columns) {
    int first = phase(x);
    if ((... && (!more || phase(more) == first))) {
      before = min((P - first) % P, columns);
      packs = (columns - before) / P;
    }
  }

  // For kernels that go from row to row and keep what belongs to a column: only with whole packs do all rows lie alike.
  __device__ __forceinline__ void same_in_all_rows() {
    if (columns % P) before = packs = 0;
  }

  template <class F, class... A> __device__ __forceinline__ void each(F f, A... arrays) const {
    for (int i = threadIdx.x; i < packs; i += blockDim.x) {
      int c = before + i * P;
      auto visit = [&](auto... pack) {
#pragma unroll
        for (int k = 0; k < P; k++) f(c + k, pack.at[k]...);
        (put(arrays, c, pack), ...);
      };
      visit(pack_at(arrays, c)...);
    }
    for (int i = threadIdx.x; i < columns - packs * P; i += blockDim.x) {
      int c = i < before ? i : i + packs * P;
      f(c, number(arrays, c)...);
    }
  }

 private:
  template <class X> static __device__ __forceinline__ int phase(const X* x) { return (unsigned long long)x / sizeof(X) % P; }
  template <class X> static __device__ __forceinline__ Packed<X, P> pack_at(const X* x, int c) { return *(const Packed<X, P>*)(x + c); }
  template <class X> static __device__ __forceinline__ Packed<X, P> pack_at(Out<X>, int) { return {}; }
  template <class X> static __device__ __forceinline__ void put(const X*, int, const Packed<X, P>&) {}
  template <class X> static __device__ __forceinline__ void put(X* x, int c, const Packed<X, P>& pack) { *(Packed<X, P>*)(x + c) = pack; }
  template <class X> static __device__ __forceinline__ void put(Out<X> y, int c, const Packed<X, P>& pack) { put(y.array, c, pack); }
  template <class X> static __device__ __forceinline__ X& number(X* x, int c) { return x[c]; }
  template <class X> static __device__ __forceinline__ X& number(Out<X> y, int c) { return y.array[c]; }
};

// ---- number by number ---------------------------------------------------------------------------------------------------

// y[i] = f(x[i], ...) for all i < n, by the whole grid; 16 bytes at a time where all arrays begin at a multiple of that.
template <class T, class F, class... X> __device__ __forceinline__ void map(long long n, F f, T* y, const X*... x) {
  long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x, step = (long long)gridDim.x * blockDim.x;
  long long packs = (aligned(y) && ... && aligned(x)) ? n / PACK<T> : 0;
  for (long long i = first; i < packs; i += step) {
    Packed<T> out;
    auto of_pack = [&](const Packed<X>&... in) {
#pragma unroll
      for (int k = 0; k < PACK<T>; k++) out.at[k] = f(in.at[k]...);
    };
    of_pack(((const Packed<X>*)x)[i]...);
    ((Packed<T>*)y)[i] = out;
  }
  for (long long i = packs * PACK<T> + first; i < n; i += step) y[i] = f(x[i]...);
}
