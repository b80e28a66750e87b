// Attention in bfloat16 on tensor cores: FlashAttention-2 (Dao 2023), forward and backward.
//
// As attention.cu, but a warp owns whole rows of the scores, 16 M of them, and makes its products by mma_m16n8k16: the
// result of one, 16 rows by 8 columns, lies in registers, of each lane (g, t) = (lane / 4, lane % 4) rows g and g + 8,
// columns 2t and 2t + 1. So two neighbouring results are, rounded to bfloat16, just what the next product wants for its
// left operand: scores become weights and meet the values without leaving the registers. The rows of an operand lie in
// shared memory, brought there by asynchronous copies; eight numbers more than needed in each let ldmatrix read eight
// rows from different banks.
//
// D the head size (a multiple of 16; zeros fill it up), M 16-row strips of a warp, N rows of the tiles that a block
// walks over, WARPS warps of a block. Exponentials are taken of base 2, as the hardware does: scores are multiplied by
// log2(e).
#include "attention.cuh"
#include "ptx_math.cuh"

constexpr float LOG2E = 1.44269504088896f, LN2 = 0.693147180559945f;

template <int D, int ROWS> struct alignas(16) Tile {
  static_assert(D / 8 % 2 == 0, "8 more make rows an odd number of 16 bytes: eight of them lie in different banks");
  bfloat16 at[ROWS][D + 8];
};

// Rows first ... of one head, zeros behind the last and beyond `size`: asynchronously.
template <int WARPS, int D, int ROWS>
__device__ void load(Tile<D, ROWS>& tile, const bfloat16* head, long long step, int first, int rows, int size) {
  constexpr int THREADS = WARPS * WARP, PACKS = D / 8;  // a pack of 8 numbers for each thread at a time
  static_assert(ROWS * PACKS % THREADS == 0, "all threads load equally much");
#pragma unroll
  for (int i = 0; i < ROWS * PACKS; i += THREADS) {
    int r = (i + threadIdx.x) / PACKS, d = (i + threadIdx.x) % PACKS * 8;
    bool wanted = first + r < rows && d < size;
    copy_async(&tile.at[r][d], wanted ? head + (first + r) * step + d : head, wanted);
  }
}

// x (16 M, N) = a b^T for the warp's rows of a, from `row` on, and all rows of b.
template <int D, int M, int N, int ROWS>
__device__ void rows_by_rows(float (&x)[M][N / 8][4], const Tile<D, ROWS>& a, int row, const Tile<D, N>& b) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) x[m][n][e] = 0;
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    unsigned left[M][4], right[4];
#pragma unroll
    for (int m = 0; m < M; m++) ldmatrix_x4(left[m], &a.at[row + 16 * m + lane % 16][k + lane / 16 * 8]);
#pragma unroll
    for (int n = 0; n < N / 8; n += 2) {
      ldmatrix_x4(right, &b.at[8 * n + lane % 8 + lane / 16 * 8][k + lane / 8 % 2 * 8]);
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16(x[m][n], left[m], right, x[m][n]);
        mma_m16n8k16(x[m][n + 1], left[m], right + 2, x[m][n + 1]);
      }
    }
  }
}

// y (16 M, D) += p b: rows of b, weighted by the warp's p (16 M, N).
template <int D, int M, int N>
__device__ void add_weighted_rows(float (&y)[M][D / 8][4], const float (&p)[M][N / 8][4], const Tile<D, N>& b) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int k = 0; k < N / 8; k += 2) {
    unsigned left[M][4], right[4];
#pragma unroll
    for (int m = 0; m < M; m++) {
      left[m][0] = bfloat16_pair(p[m][k][0], p[m][k][1]), left[m][1] = bfloat16_pair(p[m][k][2], p[m][k][3]);
      left[m][2] = bfloat16_pair(p[m][k + 1][0], p[m][k + 1][1]), left[m][3] = bfloat16_pair(p[m][k + 1][2], p[m][k + 1][3]);
    }
#pragma unroll
    for (int d = 0; d < D / 8; d += 2) {
      ldmatrix_x4_transposed(right, &b.at[8 * k + lane % 16][8 * d + lane / 16 * 8]);
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16(y[m][d], left[m], right, y[m][d]);
        mma_m16n8k16(y[m][d + 1], left[m], right + 2, y[m][d + 1]);
      }
    }
  }
}

// Over the four lanes that own a row.
template <class Op> __device__ float across_row(float value, Op op) {
  value = op(value, __shfl_xor_sync(ALL, value, 1));
  return op(value, __shfl_xor_sync(ALL, value, 2));
}

// The warp's rows of y, from first + row on, into one head of an array; factor[m][half]: of rows g and g + 8 of strip m.
template <int D, int M> __device__ void store(const float (&y)[M][D / 8][4], bfloat16* head, long long step, int first,
                                              int rows, int size, const float (&factor)[M][2]) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int r = first + 16 * m + lane / 4 + 8 * half;
      if (r >= rows) continue;
#pragma unroll
      for (int n = 0; n < D / 8; n++) {
        int d = 8 * n + lane % 4 * 2;
        float low = y[m][n][2 * half] * factor[m][half], high = y[m][n][2 * half + 1] * factor[m][half];
        if (d < size) *(unsigned*)&head[r * step + d] = bfloat16_pair(low, high);  // of 8 numbers all are wanted, or none
      }
    }
}

// y (B, T, H, D) and lse (B, H, T), contiguous. Grid: tiles of 16 M WARPS queries, heads, batch.
template <int D, int M, int N, int WARPS> __global__ void __launch_bounds__(WARPS * WARP, 2) attention_forward(
    const bfloat16* q, const bfloat16* k, const bfloat16* v, long long q_batch, long long q_step, long long q_head,
    long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step, long long v_head,
    bfloat16* y, float* lse, int queries, int keys, int groups, int size, double scale, const unsigned char* mask,
    long long mask_batch, int mask_row, const bfloat16* bias, bool causal, int window, unsigned threshold, unsigned low,
    unsigned high, double factor) {
  constexpr int ROWS = 16 * M * WARPS;
  struct Shared { Tile<D, ROWS> q; Tile<D, N> k, v; };
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  int h = blockIdx.y, heads = gridDim.y, b = blockIdx.z, g = h / (heads / groups);
  int first = (gridDim.x - 1 - blockIdx.x) * ROWS;  // the longest rows of a causal mask first: no block is left alone
  int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 * M;
  Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {threshold, low, high, factor};
  long long bh = (long long)b * heads + h;
  k += b * k_batch + g * k_head, v += b * v_batch + g * v_head;
  if (bias) bias += (long long)h * queries * keys;

  float top[M][2], total[M][2], sum[M][D / 8][4];
#pragma unroll
  for (int m = 0; m < M; m++) {
    top[m][0] = top[m][1] = -infinity<float>(), total[m][0] = total[m][1] = 0;
#pragma unroll
    for (int d = 0; d < D / 8; d++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[m][d][e] = 0;
  }
  int start = sight.first_key(first) / N * N, last = sight.last_key(min(first + ROWS, queries));
  load<WARPS>(s.q, q + b * q_batch + h * q_head, q_step, first, queries, size);
  if (start < last) load<WARPS>(s.k, k, k_step, start, keys, size);
  copy_async_commit();
  for (; start < last; start += N) {
    copy_async_wait<0>();
    __syncthreads();  // the keys are here, and all have used the last values
    load<WARPS>(s.v, v, v_step, start, keys, size);
    copy_async_commit();
    bool needed = start < sight.last_key(min(first + row + 16 * M, queries)) && start + N > sight.first_key(first + row);
    float x[M][N / 8][4];
    if (needed) rows_by_rows<D, M, N>(x, s.q, row, s.k);
    copy_async_wait<0>();
    __syncthreads();  // the values are here, and all have used the keys
    if (start + N < last) load<WARPS>(s.k, k, k_step, start + N, keys, size);
    copy_async_commit();
    if (!needed) continue;  // others' rows see some of these keys, this warp's none

    // A score is x times `factor_of_x`: where nothing is to be hidden or added, the exponent's subtraction multiplies too.
    float factor_of_x = float(scale) * LOG2E;
    if (bias || !(factor_of_x > 0) || !sight.all_allowed(first + row, first + row + 16 * M, start, start + N)) {
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            int t = first + row + 16 * m + lane / 4 + e / 2 * 8, key = start + 8 * n + lane % 4 * 2 + e % 2;
            float& score = x[m][n][e];
            if (!sight.allowed(t, key)) score = -infinity<float>();
            else score = score * factor_of_x + (bias ? bias[(long long)t * keys + key] * LOG2E : 0.f);
          }
      factor_of_x = 1;
    }
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float highest = x[m][0][2 * half];  // a NaN that is lost here comes back in the sum
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; e++) highest = fmaxf(highest, x[m][n][e]);
        highest = fmaxf(top[m][half], across_row(highest, Max()) * factor_of_x);
        float base = highest == -infinity<float>() ? 0 : highest, rescale = exp2_fast(top[m][half] - base), part = 0;
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; e++)
            part += x[m][n][e] = exp2_fast(x[m][n][e] * factor_of_x - base);
        top[m][half] = highest, total[m][half] = total[m][half] * rescale + part;
        if (threshold) {
          unsigned key_of_row = dropout.key(bh * queries + first + row + 16 * m + lane / 4 + 8 * half);
#pragma unroll
          for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++)
              x[m][n][e] *= dropout.keeps(key_of_row, start + 8 * n + lane % 4 * 2 + e % 2) ? float(factor) : 0.f;
        }
#pragma unroll
        for (int d = 0; d < D / 8; d++) sum[m][d][2 * half] *= rescale, sum[m][d][2 * half + 1] *= rescale;
      }
    add_weighted_rows<D, M, N>(sum, x, s.v);
  }

  copy_async_wait<0>();
  float quotient[M][2];
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float all = across_row(total[m][half], Sum());
      int t = first + row + 16 * m + lane / 4 + 8 * half;
      quotient[m][half] = all == 0 ? 0 : 1 / all;
      if (lane % 4 == 0 && t < queries)
        lse[bh * queries + t] = all == 0 ? -infinity<float>() : top[m][half] * LN2 + logf(all);
    }
  long long step = (long long)heads * size;
  store<D, M>(sum, y + b * queries * step + h * size, step, first + row, queries, size, quotient);
}

// The backward's pattern, for a block that owns queries and walks over keys, or the other way round (KEYS): with its own
// rows, own (q or k) and own_dp (dy or v), and in a tile of the others' other (k or q) and other_dp (v or dy),
//   x = own other^T,  dp = own_dp other_dp^T,  p = exp(scale x + bias - lse),  dx = p (drop(dp) - delta),
//   sum += dx other, and where it owns keys sum_v += drop(p) other_dp.
// While one tile is used the next is on its way.
template <int ROWS> struct Queries { float lse[ROWS], delta[ROWS]; };  // lse times log2(e)

template <int D, int ROWS, int N> struct BackwardShared {
  Tile<D, ROWS> own, own_dp;
  struct { Tile<D, N> other, other_dp; Queries<N> queries; } tile[2];
  Queries<ROWS> own_queries;
};

// drop(p) and dx of the warp's rows and one tile; false, and nothing, where none of them sees the other.
template <bool KEYS, int D, int ROWS, int N>
__device__ bool backward_tile(float (&p)[1][N / 8][4], float (&dx)[1][N / 8][4], BackwardShared<D, ROWS, N>& s, int which,
                              int first, int row, int start, long long row_of_dropout, const Sight& sight,
                              const Dropout& dropout, float scale, const bfloat16* bias) {
  int lane = threadIdx.x % WARP, own = first + row;
  auto& tile = s.tile[which];
  if (KEYS ? start + N <= sight.first_query(own) || start >= sight.last_query(own + 16)
           : start + N <= sight.first_key(own) || start >= sight.last_key(min(own + 16, sight.T))) return false;
  rows_by_rows<D, 1, N>(p, s.own, row, tile.other);         // at first x,
  rows_by_rows<D, 1, N>(dx, s.own_dp, row, tile.other_dp);  // and dp
  auto weigh = [&](bool special) {  // inlined twice, for either
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int mine = row + lane / 4 + e / 2 * 8, its = 8 * n + lane % 4 * 2 + e % 2;
        float lse = KEYS ? tile.queries.lse[its] : s.own_queries.lse[mine];
        float delta = KEYS ? tile.queries.delta[its] : s.own_queries.delta[mine], score = p[0][n][e] * (scale * LOG2E);
        if (special) {
          int t = KEYS ? start + its : first + mine, key = KEYS ? first + mine : start + its;
          bool seen = sight.allowed(t, key);
          if (seen && bias) score += bias[(long long)t * sight.S + key] * LOG2E;
          float weight = seen ? exp2_fast(score - lse) : 0, keep = 1;
          if (dropout.threshold) keep = dropout.keeps(dropout.key(row_of_dropout + t), key) ? float(dropout.factor) : 0.f;
          p[0][n][e] = weight * keep;
          dx[0][n][e] = seen ? weight * (dx[0][n][e] * keep - delta) : 0;
        } else {
          p[0][n][e] = exp2_fast(score - lse);
          dx[0][n][e] = p[0][n][e] * (dx[0][n][e] - delta);
        }
      }
  };
  bool all_seen = KEYS ? sight.all_allowed(start, start + N, own, own + 16)
                       : sight.all_allowed(own, own + 16, start, start + N);
  if (all_seen && !bias && !dropout.threshold) weigh(false);
  else weigh(true);
  return true;
}

// lse and delta of query t, as they are used.
struct Query {
  float lse = 0, delta = 0;
  __device__ Query(const float* all_lse, const float* all_delta, int t, int queries) {
    if (t >= queries) return;
    lse = all_lse[t] == -infinity<float>() ? 0 : all_lse[t] * LOG2E, delta = all_delta[t];
  }
};
template <int ROWS> __device__ void keep(Queries<ROWS>& queries, const Query& query) {
  if (threadIdx.x < ROWS) queries.lse[threadIdx.x] = query.lse, queries.delta[threadIdx.x] = query.delta;
}

// dq by its strides. Grid: tiles of 16 WARPS queries, heads, batch.
template <int D, int N, int WARPS> __global__ void __launch_bounds__(WARPS * WARP, 2) attention_backward_queries(
    const bfloat16* dy, const bfloat16* q, const bfloat16* k, const bfloat16* v, long long q_batch, long long q_step,
    long long q_head, long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step,
    long long v_head, const float* lse, const float* delta, bfloat16* dq, long long dq_batch, long long dq_step,
    long long dq_head, int queries, int keys, int groups, int size, double scale, const unsigned char* mask,
    long long mask_batch, int mask_row, const bfloat16* bias, bool causal, int window, unsigned threshold, unsigned low,
    unsigned high, double factor) {
  constexpr int ROWS = 16 * WARPS;
  typedef BackwardShared<D, ROWS, N> Shared;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  int h = blockIdx.y, heads = gridDim.y, b = blockIdx.z, g = h / (heads / groups);
  int first = (gridDim.x - 1 - blockIdx.x) * ROWS, row = threadIdx.x / WARP * 16;
  Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {threshold, low, high, factor};
  long long step = (long long)heads * size, bht = ((long long)b * heads + h) * queries;
  k += b * k_batch + g * k_head, v += b * v_batch + g * v_head;
  if (bias) bias += (long long)h * queries * keys;
  load<WARPS>(s.own, q + b * q_batch + h * q_head, q_step, first, queries, size);
  load<WARPS>(s.own_dp, dy + b * queries * step + h * size, step, first, queries, size);
  keep(s.own_queries, Query(lse + bht, delta + bht, first + (int)threadIdx.x, queries));

  float sum[1][D / 8][4] = {}, p[1][N / 8][4], dx[1][N / 8][4];
  int begin = sight.first_key(first) / N * N, last = sight.last_key(min(first + ROWS, queries));
  auto bring = [&](int start, int which) {
    if (start < last) {
      load<WARPS>(s.tile[which].other, k, k_step, start, keys, size);
      load<WARPS>(s.tile[which].other_dp, v, v_step, start, keys, size);
    }
    copy_async_commit();
  };
  bring(begin, 0);
  for (int start = begin, which = 0; start < last; start += N, which ^= 1) {
    copy_async_wait<0>();
    __syncthreads();  // this tile is here, and all have used the last, whose place is free
    bring(start + N, which ^ 1);
    if (backward_tile<false, D, ROWS, N>(p, dx, s, which, first, row, start, bht, sight, dropout, float(scale), bias))
      add_weighted_rows<D, 1, N>(sum, dx, s.tile[which].other);
  }
  copy_async_wait<0>();
  float factors[1][2] = {{float(scale), float(scale)}};
  store<D, 1>(sum, dq + b * dq_batch + h * dq_head, dq_step, first + row, queries, size, factors);
}

// dk and dv by their strides. Grid: tiles of 16 WARPS keys, groups, batch; a block walks over the queries of all heads
// of its group, so that nobody else adds to its sums.
template <int D, int N, int WARPS> __global__ void __launch_bounds__(WARPS * WARP, 2) attention_backward_keys(
    const bfloat16* dy, const bfloat16* q, const bfloat16* k, const bfloat16* v, long long q_batch, long long q_step,
    long long q_head, long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step,
    long long v_head, const float* lse, const float* delta, bfloat16* dk, bfloat16* dv, long long dk_batch,
    long long dk_step, long long dk_head, long long dv_batch, long long dv_step, long long dv_head, int queries, int keys,
    int heads, int size, double scale, const unsigned char* mask, long long mask_batch, int mask_row, const bfloat16* bias,
    bool causal, int window, unsigned threshold, unsigned low, unsigned high, double factor) {
  constexpr int ROWS = 16 * WARPS;
  typedef BackwardShared<D, ROWS, N> Shared;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  int g = blockIdx.y, per_group = heads / gridDim.y, b = blockIdx.z, first = blockIdx.x * ROWS;
  int row = threadIdx.x / WARP * 16;
  Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {threshold, low, high, factor};
  long long step = (long long)heads * size;
  load<WARPS>(s.own, k + b * k_batch + g * k_head, k_step, first, keys, size);
  load<WARPS>(s.own_dp, v + b * v_batch + g * v_head, v_step, first, keys, size);

  float sum_k[1][D / 8][4] = {}, sum_v[1][D / 8][4] = {}, p[1][N / 8][4], dx[1][N / 8][4];
  // the tiles of one head after another
  int begin = sight.first_query(first) / N * N, last = sight.last_query(min(first + ROWS, keys));
  int of_head = max(0, (last - begin + N - 1) / N), tiles = of_head * per_group;
  auto head = [&](int i) { return g * per_group + i / of_head; };
  auto row_of_head = [&](int i) { return ((long long)b * heads + head(i)) * queries; };
  auto bring = [&](int i) {
    if (i < tiles) {
      int h = head(i), start = begin + i % of_head * N;
      load<WARPS>(s.tile[i % 2].other, q + b * q_batch + h * q_head, q_step, start, queries, size);
      load<WARPS>(s.tile[i % 2].other_dp, dy + b * queries * step + h * size, step, start, queries, size);
    }
    copy_async_commit();
  };
  auto query = [&](int i) {
    if (i >= tiles) return Query(lse, delta, 0, 0);
    return Query(lse + row_of_head(i), delta + row_of_head(i), begin + i % of_head * N + (int)threadIdx.x, queries);
  };
  bring(0);
  keep(s.tile[0].queries, query(0));
  for (int i = 0; i < tiles; i++) {
    copy_async_wait<0>();
    __syncthreads();  // this tile is here, and all have used the last, whose place is free
    bring(i + 1);
    Query next = query(i + 1);
    const bfloat16* bias_of_head = bias ? bias + (long long)head(i) * queries * keys : bias;
    if (backward_tile<true, D, ROWS, N>(p, dx, s, i % 2, first, row, begin + i % of_head * N, row_of_head(i), sight, dropout,
                                        float(scale), bias_of_head)) {
      add_weighted_rows<D, 1, N>(sum_v, p, s.tile[i % 2].other_dp);
      add_weighted_rows<D, 1, N>(sum_k, dx, s.tile[i % 2].other);
    }
    keep(s.tile[(i + 1) % 2].queries, next);
  }
  copy_async_wait<0>();
  float factors[1][2] = {{float(scale), float(scale)}}, ones[1][2] = {{1, 1}};
  store<D, 1>(sum_k, dk + b * dk_batch + g * dk_head, dk_step, first + row, keys, size, factors);
  store<D, 1>(sum_v, dv + b * dv_batch + g * dv_head, dv_step, first + row, keys, size, ones);
}

// dbias (H, T, S) += sum_B dx. A block for each tile of it, so that the sum over the batch is its own, in a fixed order.
// Grid: tiles of N keys, tiles of 16 WARPS queries, heads.
template <int D, int N, int WARPS> __global__ void __launch_bounds__(WARPS * WARP, 2) attention_backward_bias(
    const bfloat16* dy, const bfloat16* q, const bfloat16* k, const bfloat16* v, long long q_batch, long long q_step,
    long long q_head, long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step,
    long long v_head, const float* lse, const float* delta, float* dbias, int batch, int queries, int keys, int groups,
    int size, double scale, const unsigned char* mask, long long mask_batch, int mask_row, const bfloat16* bias,
    bool causal, int window, unsigned threshold, unsigned low, unsigned high, double factor) {
  constexpr int ROWS = 16 * WARPS;
  typedef BackwardShared<D, ROWS, N> Shared;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  int h = blockIdx.z, heads = gridDim.z, g = h / (heads / groups), start = blockIdx.x * N, first = blockIdx.y * ROWS;
  int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16;
  Dropout dropout = {threshold, low, high, factor};
  long long step = (long long)heads * size;
  if (bias) bias += (long long)h * queries * keys;

  float sum[N / 8][4] = {}, p[1][N / 8][4], dx[1][N / 8][4];
  for (int b = 0; b < batch; b++) {
    Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
    long long bht = ((long long)b * heads + h) * queries;
    __syncthreads();  // all have used the last sequence
    load<WARPS>(s.own, q + b * q_batch + h * q_head, q_step, first, queries, size);
    load<WARPS>(s.own_dp, dy + b * queries * step + h * size, step, first, queries, size);
    load<WARPS>(s.tile[0].other, k + b * k_batch + g * k_head, k_step, start, keys, size);
    load<WARPS>(s.tile[0].other_dp, v + b * v_batch + g * v_head, v_step, start, keys, size);
    copy_async_commit();
    keep(s.own_queries, Query(lse + bht, delta + bht, first + (int)threadIdx.x, queries));
    copy_async_wait<0>();
    __syncthreads();
    if (!backward_tile<false, D, ROWS, N>(p, dx, s, 0, first, row, start, bht, sight, dropout, float(scale), bias)) continue;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[n][e] += dx[0][n][e];
  }
#pragma unroll
  for (int n = 0; n < N / 8; n++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      int t = first + row + lane / 4 + e / 2 * 8, key = start + 8 * n + lane % 4 * 2 + e % 2;
      if (t < queries && key < keys) dbias[((long long)h * queries + t) * keys + key] += sum[n][e];
    }
}
