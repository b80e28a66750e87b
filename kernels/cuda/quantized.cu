// Weights of a few bits: groups of 32 numbers of a row share a scale, a bfloat16; the reference set tells how they are
// packed. A row is as long as its groups, and begins at a multiple of 16 bytes: it is read by packs of so many.
#include "common.cuh"

constexpr int GROUP = 32, SLICE = 8;                     // numbers of a scale; numbers that are widened at a time
template <int BITS> constexpr int IN_PACK = 128 / BITS;  // numbers of a pack
typedef Packed<unsigned> Bits;

// Numbers SLICE s ... of a pack, without their scale.
template <class W, int BITS> __device__ __forceinline__ void widened(W* to, const Bits& pack, int s) {
#pragma unroll
  for (int i = 0; i < SLICE; i++) {
    if (BITS == 16) to[i] = W(__uint_as_float(i % 2 ? pack.at[i / 2] & 0xffff0000u : pack.at[i / 2] << 16));
    if (BITS == 8) to[i] = W((signed char)(pack.at[2 * s + i / 4] >> 8 * (i % 4)));
    if (BITS == 4) {
      int byte = s % 2 * SLICE + i;  // the lower halves are numbers 0 to 15, the upper ones 16 to 31
      to[i] = W(int(pack.at[byte / 4] >> (8 * (byte % 4) + 4 * (s / 2)) & 15) - 8);
    }
  }
}
template <class W> __device__ __forceinline__ W scale_of(unsigned short bits) {
  return W(__uint_as_float((unsigned)bits << 16));
}

// w (features, columns) = scale q. A row for each blockDim.x threads, a slice for each.
template <class T, int BITS> __global__ void widen(const unsigned char* __restrict__ q,
                                                   const unsigned short* __restrict__ scales, T* __restrict__ w,
                                                   int features, int columns, int groups) {
  typedef wide<T> W;
  constexpr int N = IN_PACK<BITS>, SLICES = N / SLICE, P = PACK<T>;
  long long f = own_row();
  if (f >= features) return;
  const Bits* packs = (const Bits*)q + f * groups * (GROUP / N);
  w += f * columns, scales += f * groups;
  bool whole = lies_whole(w, columns) && columns % SLICE == 0;
  for (int i = threadIdx.x; i < groups * (GROUP / SLICE) && i * SLICE < columns; i += blockDim.x) {
    W number[SLICE], scale = scale_of<W>(scales[i / (GROUP / SLICE)]);
    Bits pack = packs[i / SLICES];
    // which slice of the pack is known only now, and registers cannot be numbered so: all are widened, one is taken
#pragma unroll
    for (int s = 0; s < SLICES; s++)
      if (i % SLICES == s) widened<W, BITS>(number, pack, s);
#pragma unroll
    for (int k = 0; k < SLICE; k += P) {
      Packed<T> part;
#pragma unroll
      for (int j = 0; j < P; j++) part.at[j] = T(number[k + j] * scale);
      int c = i * SLICE + k;
      if (whole) *(Packed<T>*)(w + c) = part;
      else
#pragma unroll
        for (int j = 0; j < P; j++)
          if (c + j < columns) w[c + j] = part.at[j];
    }
  }
}

// y (rows, features) = x w^T + b (null: nothing) for up to ROWS rows; w is read once, and never written wide. x's rows are
// as long as w's groups, zeros behind its columns, and begin at multiples of 16 bytes too. A warp has FEATURES rows of w:
// what it reads of x serves them all, and their packs are on the way at the same time.
constexpr int FEATURES = 2;
template <class T, int BITS, int ROWS> __global__ void quantized_product(
    const T* __restrict__ x, const unsigned char* __restrict__ q, const unsigned short* __restrict__ scales,
    const T* __restrict__ b, T* __restrict__ y, int rows, int features, int groups) {
  typedef wide<T> W;
  constexpr int N = IN_PACK<BITS>, P = PACK<T>;
  long long first = own_row() * FEATURES;
  if (first >= features) return;
  int packs = groups * (GROUP / N), columns = groups * GROUP;
  W total[FEATURES][ROWS] = {};
#pragma unroll 2
  for (int p = threadIdx.x; p < packs; p += WARP) {
    Bits pack[FEATURES];
    W scale[FEATURES], of_pack[FEATURES][ROWS] = {};
#pragma unroll
    for (int f = 0; f < FEATURES; f++) {
      long long row = min(first + f, (long long)features - 1);
      pack[f] = ((const Bits*)q)[row * packs + p], scale[f] = scale_of<W>(scales[row * groups + p / (GROUP / N)]);
    }
#pragma unroll
    for (int s = 0; s < N / SLICE; s++) {
      W w[FEATURES][SLICE];
#pragma unroll
      for (int f = 0; f < FEATURES; f++) widened<W, BITS>(w[f], pack[f], s);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        if (r >= rows) break;
#pragma unroll
        for (int k = 0; k < SLICE; k += P) {
          Packed<T> numbers = *(const Packed<T>*)(x + r * columns + p * N + s * SLICE + k);
#pragma unroll
          for (int f = 0; f < FEATURES; f++)
#pragma unroll
            for (int i = 0; i < P; i++) of_pack[f][r] += w[f][k + i] * W(numbers.at[i]);
        }
      }
    }
#pragma unroll
    for (int f = 0; f < FEATURES; f++)
#pragma unroll
      for (int r = 0; r < ROWS; r++) total[f][r] += scale[f] * of_pack[f][r];
  }
#pragma unroll
  for (int f = 0; f < FEATURES; f++)
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      W sum = warp_reduce(total[f][r], Sum());
      if (threadIdx.x == 0 && r < rows && first + f < features)
        y[(long long)r * features + first + f] = T(sum + (b ? W(b[first + f]) : W(0)));
    }
}
