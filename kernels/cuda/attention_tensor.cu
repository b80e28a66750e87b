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

// x (16 M, N) += a b^T for the warp's rows of a, from `row` on, and the rows of b from `other` on.
template <int D, int M, int N, int A, int B>
__device__ void add_rows_by_rows(float (&x)[M][N / 8][4], const Tile<D, A>& a, int row, const Tile<D, B>& b, int other) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    unsigned left[M][4], right[4];
#pragma unroll
    for (int m = 0; m < M; m++) ldmatrix_x4(left[m], &a.at[row + 16 * m + lane % 16][k + lane / 16 * 8]);
#pragma unroll
    for (int n = 0; n < N / 8; n += 2) {
      ldmatrix_x4(right, &b.at[other + 8 * n + lane % 8 + lane / 16 * 8][k + lane / 8 % 2 * 8]);
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16(x[m][n], left[m], right, x[m][n]);
        mma_m16n8k16(x[m][n + 1], left[m], right + 2, x[m][n + 1]);
      }
    }
  }
}

// x (16 M, N) rounded, as the left operand of a product: pairs[m][n / 2] is what one mma takes.
template <int M, int N> __device__ void round_to(unsigned (&pairs)[M][N / 16][4], const float (&x)[M][N / 8][4]) {
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        pairs[m][n / 2][n % 2 * 2 + half] = bfloat16_pair(x[m][n][2 * half], x[m][n][2 * half + 1]);
}

// y (16 M, D) += p b: the rows of b from `other` on, weighted by the warp's p (16 M, N).
template <int D, int M, int N, int B>
__device__ void add_weighted_rows(float (&y)[M][D / 8][4], const unsigned (&p)[M][N / 16][4], const Tile<D, B>& b,
                                  int other) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int k = 0; k < N / 16; k++)
#pragma unroll
    for (int d = 0; d < D / 8; d += 2) {
      unsigned right[4];
      ldmatrix_x4_transposed(right, &b.at[other + 16 * k + lane % 16][8 * d + lane / 16 * 8]);
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16(y[m][d], p[m][k], right, y[m][d]);
        mma_m16n8k16(y[m][d + 1], p[m][k], right + 2, y[m][d + 1]);
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
    bfloat16* y, double* lse, int queries, int keys, int groups, int size, double scale, const unsigned char* mask,
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
    float x[M][N / 8][4] = {};
    if (needed) add_rows_by_rows<D, M, N>(x, s.q, row, s.k, 0);
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
    unsigned p[M][N / 16][4];
    round_to<M, N>(p, x);
    add_weighted_rows<D, M, N>(sum, p, s.v, 0);
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
        lse[bh * queries + t] = all == 0 ? -infinity<double>() : double(top[m][half]) * double(LN2) + double(logf(all));
    }
  long long step = (long long)heads * size;
  store<D, M>(sum, y + b * queries * step + h * size, step, first + row, queries, size, quotient);
}

// ---- backward --------------------------------------------------------------------------------------------------------
//
// A block owns a tile of keys and walks over tiles of queries: five products for each pair of tiles,
//   x = k q^T,  dp = v dy^T,  p = exp(scale x + bias - lse),  dx = p (drop(dp) - delta),
//   sum_v += drop(p) dy,  sum_k += dx q,  and into the queries' dq: dx^T k.
// A row of x is a key here. So p and dx are, in registers, the left operands of the sums for keys; for dq, a sum over all
// keys of the block, dx goes through shared memory. While one tile of queries is used the next is on its way.
//
// To the dq of a query all blocks add that own keys which it sees. They take turns, from the first keys to the last: float32
// sums in another order are other numbers, and a run that is resumed shall be as if nothing had been. Nobody waits long:
// blocks walk from the last queries to the first, so that under a causal mask each follows one tile behind the block before
// it, and has less to do (blogs/kernels.md, section 11). And nobody waits for ever: which keys a block owns is the number
// that it draws when it begins, and it waits for lower numbers alone, so that the lowest that is at work never waits.

constexpr int CHUNK = 32;  // queries whose scores a warp has in registers at a time; and whose dq it computes

template <int D, int ROWS, int N> struct BackwardShared {
  Tile<D, ROWS> k, v;
  struct { Tile<D, N> q, dy; float lse[N], delta[N]; unsigned key[N]; } tile[2];  // lse times log2(e); key: dropout's
  Tile<N, ROWS> dx;
  unsigned number;  // the block's
};

// f(m, n, e, query, key) for each score that the lane has, of CHUNK queries and 16 M keys: x[m][n][e] is that of these.
template <int M, class F> __device__ __forceinline__ void each_score(int first_query, int first_key, F f) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int n = 0; n < CHUNK / 8; n++)
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        f(m, n, e, first_query + 8 * n + lane % 4 * 2 + e % 2, first_key + 16 * m + lane / 4 + e / 2 * 8);
}

// drop(p) and dx of the warp's keys and CHUNK queries of a tile, from `column` on; false, and nothing, where no query sees a
// key. first, start: the first key of the block, and the first query of the tile.
template <int M, int D, int ROWS, int N>
__device__ bool backward_scores(float (&p)[M][CHUNK / 8][4], float (&dx)[M][CHUNK / 8][4],
                                const BackwardShared<D, ROWS, N>& s, int which, int first, int row, int start, int column,
                                const Sight& sight, const Dropout& dropout, float scale, const bfloat16* bias) {
  int key0 = first + row, t0 = start + column;
  auto& tile = s.tile[which];
  if (t0 + CHUNK <= sight.first_query(key0) || t0 >= sight.last_query(key0 + 16 * M)) return false;
  each_score<M>(column, key0, [&](int m, int n, int e, int query, int) {
    p[m][n][e] = 0, dx[m][n][e] = dropout.threshold ? 0 : -tile.delta[query];
  });
  add_rows_by_rows<D, M, CHUNK>(p, s.k, row, tile.q, column);    // at first x,
  add_rows_by_rows<D, M, CHUNK>(dx, s.v, row, tile.dy, column);  // and dp - delta
  float factor_of_x = scale * LOG2E;
  if (bias || !sight.all_allowed(t0, t0 + CHUNK, key0, key0 + 16 * M)) {
    each_score<M>(column, key0, [&](int m, int n, int e, int query, int key) {
      int t = start + query;
      if (!sight.allowed(t, key)) p[m][n][e] = -infinity<float>();
      else p[m][n][e] = p[m][n][e] * factor_of_x + (bias ? bias[(long long)t * sight.S + key] * LOG2E : 0.f);
    });
    factor_of_x = 1;
  }
  each_score<M>(column, key0, [&](int m, int n, int e, int query, int key) {
    float weight = exp2_fast(p[m][n][e] * factor_of_x - tile.lse[query]);
    if (!dropout.threshold) {
      p[m][n][e] = weight, dx[m][n][e] *= weight;
    } else {
      float keep = dropout.keeps(tile.key[query], key) ? float(dropout.factor) : 0.f;
      p[m][n][e] = weight * keep, dx[m][n][e] = weight * (dx[m][n][e] * keep - tile.delta[query]);
    }
  });
  return true;
}

// The warp's dx, rounded, into the block's; the 8 numbers more in its rows serve these stores too: eight rows, other banks.
template <int M, int N, int ROWS>
__device__ void keep(Tile<N, ROWS>& dx, const unsigned (&pairs)[M][CHUNK / 16][4], int row, int column) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < CHUNK / 8; n++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *(unsigned*)&dx.at[row + 16 * m + lane / 4 + 8 * half][column + 8 * n + lane % 4 * 2] =
            pairs[m][n / 2][n % 2 * 2 + half];
}

// y (CHUNK, W) = a^T b: columns of a, from `column` on, by columns of b, from `other` on.
template <int W, int ROWS, int N, int D>
__device__ void columns_by_columns(float (&y)[CHUNK / 16][W / 8][4], const Tile<N, ROWS>& a, int column,
                                   const Tile<D, ROWS>& b, int other) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int m = 0; m < CHUNK / 16; m++)
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) y[m][n][e] = 0;
#pragma unroll
  for (int k = 0; k < ROWS; k += 16) {
    unsigned left[CHUNK / 16][4], right[4];
#pragma unroll
    for (int m = 0; m < CHUNK / 16; m++)
      ldmatrix_x4_transposed(left[m], &a.at[k + lane % 8 + lane / 16 * 8][column + 16 * m + lane / 8 % 2 * 8]);
#pragma unroll
    for (int n = 0; n < W / 8; n += 2) {
      ldmatrix_x4_transposed(right, &b.at[k + lane % 16][other + 8 * n + lane / 16 * 8]);
#pragma unroll
      for (int m = 0; m < CHUNK / 16; m++) {
        mma_m16n8k16(y[m][n], left[m], right, y[m][n]);
        mma_m16n8k16(y[m][n + 1], left[m], right + 2, y[m][n + 1]);
      }
    }
  }
}

// lse and delta of query t, as they are used, and its key of dropout; first: the head's row of query 0. The low part of lse
// is left out: bfloat16 rounds scores more coarsely, and the registers that it would take are needed.
struct Query {
  float lse = 0, delta = 0;
  unsigned key = 0;
  __device__ Query(const Parts<float>* all_lse, const float* all_delta, long long first, int t, int queries,
                   const Dropout& dropout) {
    if (t >= queries) return;
    lse = all_lse[first + t].high * LOG2E, delta = all_delta[first + t];
    if (dropout.threshold) key = dropout.key(first + t);
  }
};
template <int N, class T> __device__ void keep(T& tile, const Query& query) {
  int i = threadIdx.x;
  if (i < N) tile.lse[i] = query.lse, tile.delta[i] = query.delta, tile.key[i] = query.key;
}

// A warp's part of dq, CHUNK queries by W numbers, after those of the blocks before. The first writes it into `sums`, the
// next ones add theirs, the last adds what is there to its own: true, then it has the whole. turns (0 at first) counts who
// has been. In `sums` the numbers lie as the lanes have them, so that a warp's are neighbours.
template <int W> __device__ bool in_turn(float (&part)[CHUNK / 16][W / 8][4], float* sums, unsigned* turns, long long place,
                                         int turn, int last_turn) {
  int lane = threadIdx.x % WARP;
  sums += place * CHUNK * W + lane, turns += place;
  if (turn > 0) {
    if (lane == 0) wait_for(turns, turn);
    __syncwarp();
  }
#pragma unroll
  for (int m = 0; m < CHUNK / 16; m++)
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float& sum = sums[((m * (W / 8) + n) * 4 + e) * WARP];
        if (turn == last_turn) part[m][n][e] += turn > 0 ? sum : 0;
        else if (turn > 0) atomicAdd(&sum, part[m][n][e]);  // nobody else adds now; but it need not wait for the old sum
        else sum = part[m][n][e];
      }
  if (turn == last_turn) return true;
  __syncwarp();
  if (lane == 0) publish(turns, turn + 1);
  return false;
}

// dq, dk and dv by their strides. A block walks over the queries of all heads of its group, so that nobody else adds to its
// dk and dv. DROPOUT: whether there is any, which takes registers. Grid: (tiles of 16 M WARPS keys) groups B blocks, which
// draw their numbers from `drawn`; sums and turns: in_turn's, for each of (B, H, tiles of N queries, WARPS).
template <int D, int M, int N, int WARPS, bool DROPOUT>
__global__ void __launch_bounds__(WARPS * WARP, 2) attention_backward(
    const bfloat16* dy, const bfloat16* q, const bfloat16* k, const bfloat16* v, long long q_batch, long long q_step,
    long long q_head, long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step,
    long long v_head, const Parts<float>* lse, const float* delta, bfloat16* dq, bfloat16* dk, bfloat16* dv, long long dq_batch,
    long long dq_step, long long dq_head, long long dk_batch, long long dk_step, long long dk_head, long long dv_batch,
    long long dv_step, long long dv_head, float* sums, unsigned* turns, unsigned* drawn, int queries, int keys, int heads,
    int groups, int size, double scale, const unsigned char* mask, long long mask_batch, int mask_row, const bfloat16* bias,
    bool causal, int window, unsigned threshold, unsigned low, unsigned high, double factor) {
  constexpr int ROWS = 16 * M * WARPS, CHUNKS = N / CHUNK, W = D * CHUNKS / WARPS;  // the warps share a tile's dq out
  typedef BackwardShared<D, ROWS, N> Shared;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  if (threadIdx.x == 0) s.number = atomicAdd(drawn, 1u);
  __syncthreads();
  int tiles_of_keys = (keys + ROWS - 1) / ROWS, tiles_of_queries = (queries + N - 1) / N, per_group = heads / groups;
  int own = s.number % tiles_of_keys, g = s.number / tiles_of_keys % groups, b = s.number / tiles_of_keys / groups;
  int first = own * ROWS, warp = threadIdx.x / WARP, row = warp * 16 * M;
  Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {DROPOUT ? threshold : 0, low, high, factor};
  long long step = (long long)heads * size;
  load<WARPS>(s.k, k + b * k_batch + g * k_head, k_step, first, keys, size);
  load<WARPS>(s.v, v + b * v_batch + g * v_head, v_step, first, keys, size);

  float sum_k[M][D / 8][4] = {}, sum_v[M][D / 8][4] = {};
  struct Place { int head, start; };  // of a tile of queries: those of one head after another, of each the last first
  int begin = sight.first_query(first) / N * N, end = sight.last_query(min(first + ROWS, keys)), last = (end - 1) / N * N;
  int end_head = (g + (begin < end)) * per_group;
  auto after = [&](Place at) { return at.start > begin ? Place{at.head, at.start - N} : Place{at.head + 1, last}; };
  auto bring = [&](Place at, int which) {
    if (at.head < end_head) {
      load<WARPS>(s.tile[which].q, q + b * q_batch + at.head * q_head, q_step, at.start, queries, size);
      load<WARPS>(s.tile[which].dy, dy + b * queries * step + at.head * size, step, at.start, queries, size);
    }
    copy_async_commit();
  };
  auto query = [&](Place at) {
    long long row = ((long long)b * heads + at.head) * queries;
    return Query(lse, delta, row, at.start + (int)threadIdx.x, at.head < end_head ? queries : 0, dropout);
  };
  Place at = {g * per_group, last};
  bring(at, 0);
  keep<N>(s.tile[0], query(at));
  for (int which = 0; at.head < end_head; which ^= 1, at = after(at)) {
    copy_async_wait<0>();
    __syncthreads();  // this tile is here, and all have used the last, whose place is free, and dx
    bring(after(at), which ^ 1);
#pragma unroll 1
    for (int column = 0; column < N; column += CHUNK) {
      float p[M][CHUNK / 8][4], dx[M][CHUNK / 8][4];
      unsigned weights[M][CHUNK / 16][4], pairs[M][CHUNK / 16][4] = {};
      if (backward_scores<M, D, ROWS, N>(p, dx, s, which, first, row, at.start, column, sight, dropout, float(scale),
                                         bias ? bias + (long long)at.head * queries * keys : bias)) {
        round_to<M, CHUNK>(weights, p), round_to<M, CHUNK>(pairs, dx);
        keep<M>(s.dx, pairs, row, column);
        add_weighted_rows<D, M, CHUNK>(sum_v, weights, s.tile[which].dy, column);
        add_weighted_rows<D, M, CHUNK>(sum_k, pairs, s.tile[which].q, column);
      } else {
        keep<M>(s.dx, pairs, row, column);
      }
    }
    __syncthreads();  // dx is here, of all keys
    Query next = query(after(at));
    int column = warp % CHUNKS * CHUNK, d = warp / CHUNKS * W;
    float part[CHUNK / 16][W / 8][4];
    columns_by_columns<W>(part, s.dx, column, s.k, d);
    keep<N>(s.tile[which ^ 1], next);
    int before = sight.first_key(at.start) / ROWS, last_turn = (sight.last_key(at.start + N) - 1) / ROWS - before;
    long long place = (((long long)b * heads + at.head) * tiles_of_queries + at.start / N) * WARPS + warp;
    if (in_turn<W>(part, sums, turns, place, own - before, last_turn)) {
      float factors[2][2] = {{float(scale), float(scale)}, {float(scale), float(scale)}};
      store<W, 2>(part, dq + b * dq_batch + at.head * dq_head + d, dq_step, at.start + column, queries, size - d, factors);
    }
  }
  copy_async_wait<0>();
  float factors[M][2], ones[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) factors[m][0] = factors[m][1] = float(scale), ones[m][0] = ones[m][1] = 1;
  store<D, M>(sum_k, dk + b * dk_batch + g * dk_head, dk_step, first + row, keys, size, factors);
  store<D, M>(sum_v, dv + b * dv_batch + g * dv_head, dv_step, first + row, keys, size, ones);
}

// dbias (H, T, S) += sum_B dx. A block for each tile of it, so that the sum over the batch is its own, in a fixed order.
// Grid: tiles of 16 M WARPS keys, tiles of N queries, heads.
template <int D, int M, int N, int WARPS> __global__ void __launch_bounds__(WARPS * WARP, 2) attention_backward_bias(
    const bfloat16* dy, const bfloat16* q, const bfloat16* k, const bfloat16* v, long long q_batch, long long q_step,
    long long q_head, long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step,
    long long v_head, const Parts<float>* lse, const float* delta, float* dbias, int batch, int queries, int keys, int groups,
    int size, double scale, const unsigned char* mask, long long mask_batch, int mask_row, const bfloat16* bias,
    bool causal, int window, unsigned threshold, unsigned low, unsigned high, double factor) {
  constexpr int ROWS = 16 * M * WARPS;
  typedef BackwardShared<D, ROWS, N> Shared;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  int h = blockIdx.z, heads = gridDim.z, g = h / (heads / groups), first = blockIdx.x * ROWS, start = blockIdx.y * N;
  int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 * M;
  Dropout dropout = {threshold, low, high, factor};
  long long step = (long long)heads * size;
  if (bias) bias += (long long)h * queries * keys;

  float sum[N / CHUNK][M][CHUNK / 8][4] = {};
  for (int b = 0; b < batch; b++) {
    Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
    long long bht = ((long long)b * heads + h) * queries;
    __syncthreads();  // all have used the last sequence
    load<WARPS>(s.k, k + b * k_batch + g * k_head, k_step, first, keys, size);
    load<WARPS>(s.v, v + b * v_batch + g * v_head, v_step, first, keys, size);
    load<WARPS>(s.tile[0].q, q + b * q_batch + h * q_head, q_step, start, queries, size);
    load<WARPS>(s.tile[0].dy, dy + b * queries * step + h * size, step, start, queries, size);
    copy_async_commit();
    keep<N>(s.tile[0], Query(lse, delta, bht, start + (int)threadIdx.x, queries, dropout));
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int c = 0; c < N / CHUNK; c++) {
      float p[M][CHUNK / 8][4], dx[M][CHUNK / 8][4];
      if (!backward_scores<M, D, ROWS, N>(p, dx, s, 0, first, row, start, c * CHUNK, sight, dropout, float(scale), bias))
        continue;
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < CHUNK / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) sum[c][m][n][e] += dx[m][n][e];
    }
  }
#pragma unroll
  for (int c = 0; c < N / CHUNK; c++)
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int n = 0; n < CHUNK / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          int key = first + row + 16 * m + lane / 4 + e / 2 * 8, t = start + c * CHUNK + 8 * n + lane % 4 * 2 + e % 2;
          if (t < queries && key < keys) dbias[((long long)h * queries + t) * keys + key] += sum[c][m][n][e];
        }
}
