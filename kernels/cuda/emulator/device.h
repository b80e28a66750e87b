// What CUDA C++ offers without any #include: built-in variables, barriers, warp operations, atomics, vectors, intrinsics.
#pragma once

#define threadIdx (::emulator::state.now->thread)
#define blockIdx (::emulator::state.place)
#define blockDim (::emulator::state.block)
#define gridDim (::emulator::state.grid)
static constexpr int warpSize = 32;

// ---- barriers and warp operations: macros, since an error shall name the line ----------------------------------------

#define AS_TEXT(x) #x
#define TEXT_OF(x) AS_TEXT(x)
#define SOURCE_LINE __FILE__ ":" TEXT_OF(__LINE__)

namespace emulator {

enum Operation : int { SHUFFLE, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR, BALLOT, SYNC, LDMATRIX, MMA };

template <class T> struct Shuffle { T value, result; int from; const char* line; };

template <class T> void do_shuffle(Warp& w, unsigned mask) {
  for (int l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    auto* s = (Shuffle<T>*)w.lane[l]->argument;
    if (!(mask >> s->from & 1)) fail("%s: lane %d reads from lane %d, which takes no part", s->line, l, s->from);
    s->result = ((Shuffle<T>*)w.lane[s->from]->argument)->value;
  }
}

template <int OPERATION, class T> T shuffle(const char* line, unsigned mask, T value, int by, int width = 32) {
  int lane = state.now->lane, base = lane & ~(width - 1), from = lane;
  if (OPERATION == SHUFFLE) from = base | (by & (width - 1));
  if (OPERATION == SHUFFLE_UP) from = lane - by;
  if (OPERATION == SHUFFLE_DOWN) from = lane + by;
  if (OPERATION == SHUFFLE_XOR) from = lane ^ by;
  if (from < base || from >= base + width) from = lane;
  Shuffle<T> s{value, value, from, line};
  warp_operation(mask, OPERATION, line, &s, do_shuffle<T>);
  return s.result;
}

struct Vote { bool yes; unsigned result; };

inline void do_ballot(Warp& w, unsigned mask) {
  unsigned result = 0;
  for (int l = 0; l < 32; l++)
    if (mask >> l & 1) result |= unsigned(((Vote*)w.lane[l]->argument)->yes) << l;
  for (int l = 0; l < 32; l++)
    if (mask >> l & 1) ((Vote*)w.lane[l]->argument)->result = result;
}

inline unsigned ballot(const char* line, unsigned mask, bool yes) {
  Vote vote{yes, 0};
  warp_operation(mask, BALLOT, line, &vote, do_ballot);
  return vote.result;
}

inline void syncwarp(const char* line, unsigned mask = 0xffffffffu) { warp_operation(mask, SYNC, line, 0, 0); }

}  // namespace emulator

#define __syncthreads() ::emulator::syncthreads(SOURCE_LINE)
#define __syncwarp(...) ::emulator::syncwarp(SOURCE_LINE __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_sync(...) ::emulator::shuffle<::emulator::SHUFFLE>(SOURCE_LINE, __VA_ARGS__)
#define __shfl_up_sync(...) ::emulator::shuffle<::emulator::SHUFFLE_UP>(SOURCE_LINE, __VA_ARGS__)
#define __shfl_down_sync(...) ::emulator::shuffle<::emulator::SHUFFLE_DOWN>(SOURCE_LINE, __VA_ARGS__)
#define __shfl_xor_sync(...) ::emulator::shuffle<::emulator::SHUFFLE_XOR>(SOURCE_LINE, __VA_ARGS__)
#define __ballot_sync(mask, yes) ::emulator::ballot(SOURCE_LINE, mask, yes)
#define __any_sync(mask, yes) (::emulator::ballot(SOURCE_LINE, mask, yes) != 0)
#define __all_sync(mask, yes) (::emulator::ballot(SOURCE_LINE, mask, !(yes)) == 0)

inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- atomics: one thread runs at a time, so that plain code is atomic ------------------------------------------------

template <class T, class U> T atomicAdd(T* p, U value) { T old = *p; *p = old + (T)value; return old; }
template <class T, class U> T atomicMax(T* p, U value) { T old = *p; if ((T)value > old) *p = (T)value; return old; }
template <class T, class U> T atomicMin(T* p, U value) { T old = *p; if ((T)value < old) *p = (T)value; return old; }
template <class T, class U> T atomicExch(T* p, U value) { T old = *p; *p = (T)value; return old; }
template <class T> T atomicCAS(T* p, T expected, T value) { T old = *p; if (old == expected) *p = value; return old; }

// ---- vectors and intrinsics ------------------------------------------------------------------------------------------

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

template <class T> T __ldg(const T* p) { return *p; }
template <class T, class F> T same_bits(F from) { static_assert(sizeof(T) == sizeof(F)); T to; memcpy(&to, &from, sizeof to); return to; }
inline float __int_as_float(int i) { return same_bits<float>(i); }
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline float __uint_as_float(unsigned i) { return same_bits<float>(i); }
inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t)a * b >> 32); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
// the C library has functions of these names: only macros can take them
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __powf(x, y) powf(x, y)
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
