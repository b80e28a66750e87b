// Attention of few queries, as in decoding: nearly all time goes into reading the keys and values, once.
//
// The keys are split into stretches, so that many warps read at the same time; a warp has one query and one stretch. The
// heads that share keys are warps of one block: what the first of them reads, the others find in the nearest cache. A second
// kernel adds the stretches up: softmax sums under different maxima go together as attention.cu's do from tile to tile.
#include "attention.cuh"

constexpr int MOST_LANES = 32;

// For each query and each stretch of `length` keys: sums (B, H, T, stretches, D) of exp(x - top) v, and tops and totals
// (B, H, T, stretches). end: where it is not null, only the first *end of the keys are there. whole: all heads lie so, in q,
// k and v, that packs can be loaded. Grid: stretches, groups, batch; block: (32, warps), which take the group's heads and
// queries in turn.
template <class T, int D> __global__ void attention_decode(
    const T* q, const T* k, const T* v, long long q_batch, long long q_step, long long q_head, long long k_batch,
    long long k_step, long long k_head, long long v_batch, long long v_step, long long v_head, wide<T>* sums,
    wide<T>* tops, wide<T>* totals, const long long* end, int length, bool whole, int queries, int keys, int heads, int size,
    double scale, const unsigned char* mask, long long mask_batch, int mask_row, const T* bias, bool causal, int window,
    unsigned threshold, unsigned low, unsigned high, double factor) {
  typedef wide<T> W;
  constexpr int P = PACK<T>, PACKS = D / P, LANES = PACKS < MOST_LANES ? PACKS : MOST_LANES, OWN = PACKS / LANES;
  int g = blockIdx.y, per_group = heads / gridDim.y, b = blockIdx.z, stretch = blockIdx.x;
  int lane = threadIdx.x % LANES, beside = threadIdx.x / LANES;  // LANES lanes have a key together, 32 / LANES keys at once
  int there = end ? int(*end) : keys;
  Sight sight = {queries, there, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {threshold, low, high, factor};
  k += b * k_batch + g * k_head, v += b * v_batch + g * v_head;
  int first = stretch * length, last = min(first + length, there);

  for (int r = threadIdx.y; r < per_group * queries; r += blockDim.y) {
    int h = g * per_group + r / queries, t = r % queries;
    long long row = ((long long)b * heads + h) * queries + t;
    unsigned key_of_row = dropout.key(row);
    const T* bias_of_row = bias ? bias + ((long long)h * queries + t) * keys : bias;
    W query[OWN][P], sum[OWN][P] = {}, top = -infinity<W>(), total = 0;
#pragma unroll
    for (int c = 0; c < OWN; c++)
      read_pack(query[c], q + b * q_batch + t * q_step + h * q_head, (c * LANES + lane) * P, size, whole);

    for (int start = first; start < last; start += MOST_LANES / LANES) {
      int key = start + beside;
      bool seen = key < last && sight.allowed(t, key);
      W x = 0, number[OWN][P];
#pragma unroll
      for (int c = 0; c < OWN; c++) {
        read_pack(number[c], k + (seen ? key : 0) * k_step, (c * LANES + lane) * P, size, whole);
#pragma unroll
        for (int i = 0; i < P; i++) x += query[c][i] * number[c][i];
      }
#pragma unroll
      for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL, x, offset);
      if (!seen) continue;
      x = x * W(scale) + (bias ? W(bias_of_row[key]) : W(0));
      W highest = Max()(top, x), base = highest == -infinity<W>() ? W(0) : highest;
      W rescale = exp(top - base), p = exp(x - base);
      top = highest, total = total * rescale + p;
      if (threshold) p = dropout.keeps(key_of_row, key) ? p * W(factor) : W(0);
#pragma unroll
      for (int c = 0; c < OWN; c++) {
        read_pack(number[c], v + key * v_step, (c * LANES + lane) * P, size, whole);
#pragma unroll
        for (int i = 0; i < P; i++) sum[c][i] = sum[c][i] * rescale + p * number[c][i];
      }
    }

#pragma unroll
    for (int offset = LANES; offset < MOST_LANES; offset *= 2) {  // lanes that had other keys
      W highest = Max()(top, __shfl_xor_sync(ALL, top, offset)), base = highest == -infinity<W>() ? W(0) : highest;
      W mine = exp(top - base);
      top = highest, total *= mine;
      total += __shfl_xor_sync(ALL, total, offset);
#pragma unroll
      for (int c = 0; c < OWN; c++)
#pragma unroll
        for (int i = 0; i < P; i++) {
          sum[c][i] *= mine;
          sum[c][i] += __shfl_xor_sync(ALL, sum[c][i], offset);
        }
    }
    long long place = row * gridDim.x + stretch;
    if (threadIdx.x == 0) tops[place] = top, totals[place] = total;
    if (beside == 0)
#pragma unroll
      for (int c = 0; c < OWN; c++)
#pragma unroll
        for (int i = 0; i < P; i++) sums[place * D + (c * LANES + lane) * P + i] = sum[c][i];
  }
}

// y (B, T, H, D) and lse (B, H, T) from the stretches. A warp for each of the `rows` rows (B, H, T).
template <class T, int D> __global__ void attention_combine(const wide<T>* sums, const wide<T>* tops, const wide<T>* totals,
                                                            T* y, double* lse, int rows, int stretches, int queries,
                                                            int heads, int size) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  sums += row * stretches * D, tops += row * stretches, totals += row * stretches;
  W top = -infinity<W>(), total = 0;
  for (int i = threadIdx.x; i < stretches; i += WARP) top = Max()(top, tops[i]);
  top = warp_reduce(top, Max());
  W base = top == -infinity<W>() ? W(0) : top;
  for (int i = threadIdx.x; i < stretches; i += WARP) total += totals[i] * exp(tops[i] - base);
  total = warp_reduce(total, Sum());

  long long b = row / queries / heads, h = row / queries % heads, t = row % queries;
  for (int d = threadIdx.x; d < size; d += WARP) {
    W sum = 0;
    for (int i = 0; i < stretches; i++) sum += sums[(long long)i * D + d] * exp(tops[i] - base);
    y[((b * queries + t) * heads + h) * size + d] = T(total == 0 ? W(0) : sum / total);
  }
  if (threadIdx.x == 0) lse[row] = total == 0 ? -infinity<double>() : double(top) + double(log(total));
}
