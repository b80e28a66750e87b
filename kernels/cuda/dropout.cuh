// Dropout's hash: the reference's mask, bit for bit, computed where it is needed.
#pragma once

// A bijection of 32-bit words in which each input bit changes each output bit with probability about one half.
__device__ __forceinline__ unsigned mix(unsigned h) {
  h ^= h >> 16;
  h *= 0x21F0AAADu;
  h ^= h >> 15;
  h *= 0x735A2D97u;
  return h ^ h >> 15;
}

__device__ __forceinline__ unsigned row_key(unsigned row, unsigned low, unsigned high) { return mix(mix(row + low) ^ high); }

// Whether the entry in this column stays; threshold: p 2^32.
__device__ __forceinline__ bool kept(unsigned key, unsigned column, unsigned threshold) {
  return mix(key + column * 0x9E3779B9u) >= threshold;
}

// The row's number in this column, times factor, 1 / (1 - p), or 0.
template <class W> __device__ __forceinline__ W dropped(W x, unsigned key, unsigned column, unsigned threshold, W factor) {
  return kept(key, column, threshold) ? x * factor : W(0);
}
