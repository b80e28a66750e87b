// What a step of decoding does that a CUDA graph has recorded: how long the sequences are is not an argument, since it
// changes, but stands in memory.
#include "common.cuh"

// The last `times` of *end positions of keys and values (B, capacity, heads, size) = k, v (B, times, heads, size), whose
// strides are numbers. A block for each position of a sequence.
template <class T> __global__ void append(const T* __restrict__ k, const T* __restrict__ v, long long k_batch,
                                          long long k_step, long long k_head, long long v_batch, long long v_step,
                                          long long v_head, const long long* __restrict__ end, T* __restrict__ keys,
                                          T* __restrict__ values, int times, int capacity, int heads, int size) {
  int b = blockIdx.x / times, t = blockIdx.x % times;
  long long to = ((long long)b * capacity + *end - times + t) * heads * size;
  k += b * k_batch + t * k_step, v += b * v_batch + t * v_step;
  for (int i = threadIdx.x; i < heads * size; i += blockDim.x) {
    int h = i / size, d = i % size;
    keys[to + i] = k[h * k_head + d], values[to + i] = v[h * v_head + d];
  }
}

// bias (heads, keys) of one query, the last of the first *end keys: w[bucket[how far the key lies before it]][h], those at
// distances - 1 and farther alike. A block for each head.
template <class T> __global__ void look_up_last(const T* __restrict__ w, const long long* __restrict__ bucket,
                                                const long long* __restrict__ end, T* __restrict__ bias, int heads, int keys,
                                                int distances) {
  int h = blockIdx.x, last = int(*end) - 1;
  for (int s = threadIdx.x; s <= last; s += blockDim.x)
    bias[(long long)h * keys + s] = w[bucket[min(last - s, distances - 1)] * heads + h];
}
