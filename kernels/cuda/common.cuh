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

// Vectors of 16 bytes, the most that a thread loads at once: PACK<T> numbers.
template <class T> constexpr int PACK = 16 / sizeof(T);
template <class T> struct alignas(16) Packed { T at[PACK<T>]; };
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

// The row that this thread works on; row >= rows for a whole warp at once.
__device__ __forceinline__ long long own_row() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

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
