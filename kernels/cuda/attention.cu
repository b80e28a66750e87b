// Attention over tiles of scores, as in FlashAttention-2 (Dao 2023): the T x S matrix never exists whole.
//
// A block of 16 x 16 threads has a tile of queries (or of keys) in shared memory and walks over tiles of keys (or queries).
// Every product is made in the same pattern: thread (tx, ty) owns rows ty + 16 i and columns tx + 16 j of the result.
// The 16 threads with one ty, a half of a warp, so own whole rows together: they reduce over them by shuffles.
//
// This is the plain way, with one multiplication an instruction, for any type and strides; attention_tensor.cu has the
// tensor cores' for bfloat16. T is the type of the arrays, W that of the arithmetic; D the head size, filled up with
// zeros to a multiple of 16; R the rows of a thread, so that 16 R are a tile's.
#include "attention.cuh"

constexpr int SIDE = 16, THREADS = SIDE * SIDE;

// Rows of a tile in shared memory, one number longer than they need to be: the threads of a column then use different banks.
template <class W, int D, int R> struct Tile { W at[SIDE * R][D + 1]; };

// Rows first ... of one head, `step` numbers from one to the next; zeros behind the last.
template <class T, class W, int D, int R>
__device__ void load(Tile<W, D, R>& tile, const T* head, long long step, int first, int rows, int size) {
  for (int i = threadIdx.x; i < SIDE * R * D; i += THREADS) {
    int r = i / D, d = i % D;
    tile.at[r][d] = first + r < rows && d < size ? W(head[(first + r) * step + d]) : W(0);
  }
}

// x = a b^T: the product of each row of a with each row of b.
template <class W, int D, int R> __device__ void rows_by_rows(W (*x)[R], const Tile<W, D, R>& a, const Tile<W, D, R>& b) {
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
  for (int i = 0; i < R; i++)
    for (int j = 0; j < R; j++) x[i][j] = 0;
#pragma unroll 8
  for (int d = 0; d < D; d++)
    for (int i = 0; i < R; i++)
      for (int j = 0; j < R; j++) x[i][j] += a.at[ty + SIDE * i][d] * b.at[tx + SIDE * j][d];
}

// y += p b: rows of b, weighted by the rows of p.
template <class W, int D, int R>
__device__ void add_weighted_rows(W (*y)[D / SIDE], const Tile<W, SIDE * R, R>& p, const Tile<W, D, R>& b) {
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
#pragma unroll 4
  for (int s = 0; s < SIDE * R; s++)
    for (int i = 0; i < R; i++)
      for (int c = 0; c < D / SIDE; c++) y[i][c] += p.at[ty + SIDE * i][s] * b.at[s][tx + SIDE * c];
}

// Over the threads that own a row: all receive the result.
template <class Op, class W> __device__ W across_row(W value, Op op) {
#pragma unroll
  for (int offset = SIDE / 2; offset > 0; offset /= 2) value = op(value, __shfl_xor_sync(ALL, value, offset));
  return value;
}

// The rows first ... of a thread's result, times a factor for each row, into one head of an array.
template <class T, class W, int C, int R, class Factor>
__device__ void store(const W (*y)[C], T* head, long long step, int first, int rows, int size, Factor factor) {
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
  for (int i = 0; i < R; i++)
    for (int c = 0; c < C; c++) {
      int r = first + ty + SIDE * i, d = tx + SIDE * c;
      if (r < rows && d < size) head[r * step + d] = T(y[i][c] * factor(i));
    }
}

// y (B, T, H, D) and lse (B, H, T), contiguous; q, k, v by their strides over batch, positions and heads. Grid: tiles of
// queries, heads, batch.
//
// The softmax of a row over one tile after another: top is the largest score so far, total the sum of exp(x - top), and
// when a larger one comes, what was summed under the old one is scaled by exp(old - new).
template <class T, int D, int R> __global__ void __launch_bounds__(THREADS, 2) attention_forward(
    const T* q, const T* k, const T* v, long long q_batch, long long q_step, long long q_head, long long k_batch,
    long long k_step, long long k_head, long long v_batch, long long v_step, long long v_head, T* y, double* lse,
    int queries, int keys, int groups, int size, double scale, const unsigned char* mask, long long mask_batch,
    int mask_row, const T* bias, bool causal, int window, unsigned threshold, unsigned low, unsigned high, double factor) {
  typedef wide<T> W;
  struct Shared { Tile<W, D, R> q, k, v; Tile<W, SIDE * R, R> p; };
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  constexpr int TILE = SIDE * R;
  int h = blockIdx.y, heads = gridDim.y, b = blockIdx.z, g = h / (heads / groups), first = blockIdx.x * TILE;
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
  Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {threshold, low, high, factor};
  k += b * k_batch + g * k_head, v += b * v_batch + g * v_head;
  load(s.q, q + b * q_batch + h * q_head, q_step, first, queries, size);

  W top[R], total[R], sum[R][D / SIDE];
  for (int i = 0; i < R; i++) {
    top[i] = -infinity<W>(), total[i] = 0;
    for (int c = 0; c < D / SIDE; c++) sum[i][c] = 0;
  }
  int last = sight.last_key(min(first + TILE, queries));
  for (int start = sight.first_key(first) / TILE * TILE; start < last; start += TILE) {
    __syncthreads();  // all have used the last tile
    load(s.k, k, k_step, start, keys, size);
    load(s.v, v, v_step, start, keys, size);
    __syncthreads();
    W x[R][R];
    rows_by_rows(x, s.q, s.k);
#pragma unroll
    for (int i = 0; i < R; i++) {
      int t = first + ty + SIDE * i;
      W highest = top[i];
      for (int j = 0; j < R; j++) {
        int key = start + tx + SIDE * j;
        bool seen = sight.allowed(t, key);
        W added = seen && bias ? W(bias[((long long)h * queries + t) * keys + key]) : W(0);
        x[i][j] = seen ? x[i][j] * W(scale) + added : -infinity<W>();
        highest = Max()(highest, x[i][j]);
      }
      highest = across_row(highest, Max());
      W base = highest == -infinity<W>() ? W(0) : highest, rescale = exp(top[i] - base), part = 0;
      unsigned row = dropout.key(((long long)b * heads + h) * queries + t);
      for (int j = 0; j < R; j++) {
        W p = exp(x[i][j] - base);
        part += p;
        if (threshold) p = dropout.keeps(row, start + tx + SIDE * j) ? p * W(factor) : W(0);
        s.p.at[ty + SIDE * i][tx + SIDE * j] = p;
      }
      top[i] = highest, total[i] = total[i] * rescale + across_row(part, Sum());
      for (int c = 0; c < D / SIDE; c++) sum[i][c] *= rescale;
    }
    __syncwarp();  // the rows of p stay within a warp
    add_weighted_rows(sum, s.p, s.v);
  }

  long long step = (long long)heads * size;
  store<T, W, D / SIDE, R>(sum, y + b * queries * step + h * size, step, first, queries, size,
                           [&](int i) { return total[i] == 0 ? W(0) : 1 / total[i]; });
  for (int i = 0; i < R; i++) {
    int t = first + ty + SIDE * i;
    if (tx == 0 && t < queries)
      lse[((long long)b * heads + h) * queries + t] =
          total[i] == 0 ? -infinity<double>() : double(top[i]) + double(log(total[i]));
  }
}

// delta (B, H, T) = sum_D(dy y), which is sum_S(dp p) of the softmax's backward, and the parts of lse (B, H, T), so that no
// kernel computes with doubles for each score. blockDim.x threads, a power of two of at
// most 32, have a row of dy and y (B, T, H, D) together.
template <class T> __global__ void attention_delta(const T* __restrict__ dy, const T* __restrict__ y,
                                                   const double* __restrict__ lse, wide<T>* delta, Parts<wide<T>>* parts,
                                                   int rows, int queries, int heads, int size) {
  long long row = own_row();
  wide<T> sum = 0;
  if (row < rows) {
    dy += row * size, y += row * size;
    Columns<T>(size, dy, y).each([&](int, T dy, T y) { sum += wide<T>(dy) * wide<T>(y); }, dy, y);
  }
  for (int offset = blockDim.x / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(ALL, sum, offset);
  long long h = row % heads, bt = row / heads;
  if (row >= rows || threadIdx.x > 0) return;
  long long place = (bt / queries * heads + h) * queries + bt % queries;
  delta[place] = sum, parts[place] = Parts<wide<T>>(lse[place]);
}

// One score on its way back. From x and dp = dy v^T: the weight after dropout, and dx = p (drop(dp) - delta).
template <class W> struct Pair { W p, dx; };
template <class T, class W> __device__ Pair<W> backward_pair(W x, W dp, int t, int key, unsigned row, const Sight& sight,
                                                             const Dropout& dropout, W scale, const T* bias,
                                                             const Parts<W>* lse, const W* delta) {
  if (!sight.allowed(t, key)) return {0, 0};
  W p = exp(lse[t].below(x * scale + (bias ? W(bias[(long long)t * sight.S + key]) : W(0))));
  W keep = !dropout.threshold ? W(1) : dropout.keeps(dropout.key(row), key) ? W(dropout.factor) : W(0);
  return {p * keep, p * (dp * keep - delta[t])};
}

// dq by its strides. As attention_forward: a block for each tile of queries, walking over the keys.
template <class T, int D, int R> __global__ void __launch_bounds__(THREADS, 2) attention_backward_queries(
    const T* dy, const T* q, const T* k, const T* v, long long q_batch, long long q_step, long long q_head,
    long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step, long long v_head,
    const Parts<wide<T>>* lse, const wide<T>* delta, T* dq, long long dq_batch, long long dq_step, long long dq_head, int queries,
    int keys, int groups, int size, double scale, const unsigned char* mask, long long mask_batch, int mask_row,
    const T* bias, bool causal, int window, unsigned threshold, unsigned low, unsigned high, double factor) {
  typedef wide<T> W;
  struct Shared { Tile<W, D, R> q, dy, k, v; Tile<W, SIDE * R, R> dx; };
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  constexpr int TILE = SIDE * R;
  int h = blockIdx.y, heads = gridDim.y, b = blockIdx.z, g = h / (heads / groups), first = blockIdx.x * TILE;
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
  Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {threshold, low, high, factor};
  long long step = (long long)heads * size, row = ((long long)b * heads + h) * queries;
  k += b * k_batch + g * k_head, v += b * v_batch + g * v_head, lse += row, delta += row;
  if (bias) bias += (long long)h * queries * keys;
  load(s.q, q + b * q_batch + h * q_head, q_step, first, queries, size);
  load(s.dy, dy + b * queries * step + h * size, step, first, queries, size);

  W sum[R][D / SIDE];
  for (int i = 0; i < R; i++)
    for (int c = 0; c < D / SIDE; c++) sum[i][c] = 0;
  int last = sight.last_key(min(first + TILE, queries));
  for (int start = sight.first_key(first) / TILE * TILE; start < last; start += TILE) {
    __syncthreads();
    load(s.k, k, k_step, start, keys, size);
    load(s.v, v, v_step, start, keys, size);
    __syncthreads();
    W x[R][R], dp[R][R];
    rows_by_rows(x, s.q, s.k);
    rows_by_rows(dp, s.dy, s.v);
    for (int i = 0; i < R; i++)
      for (int j = 0; j < R; j++) {
        int t = first + ty + SIDE * i, key = start + tx + SIDE * j;
        s.dx.at[ty + SIDE * i][tx + SIDE * j] =
            backward_pair(x[i][j], dp[i][j], t, key, row + t, sight, dropout, W(scale), bias, lse, delta).dx;
      }
    __syncwarp();
    add_weighted_rows(sum, s.dx, s.k);
  }
  store<T, W, D / SIDE, R>(sum, dq + b * dq_batch + h * dq_head, dq_step, first, queries, size,
                           [&](int) { return W(scale); });
}

// dk and dv by their strides. A block for each tile of keys, which walks over the queries of all heads that it serves, so
// that nobody else adds to its sums. Grid: tiles of keys, groups, batch.
template <class T, int D, int R> __global__ void __launch_bounds__(THREADS, 2) attention_backward_keys(
    const T* dy, const T* q, const T* k, const T* v, long long q_batch, long long q_step, long long q_head,
    long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step, long long v_head,
    const Parts<wide<T>>* lse, const wide<T>* delta, T* dk, T* dv, long long dk_batch, long long dk_step, long long dk_head,
    long long dv_batch, long long dv_step, long long dv_head, int queries, int keys, int heads, int size, double scale,
    const unsigned char* mask, long long mask_batch, int mask_row, const T* bias, bool causal, int window,
    unsigned threshold, unsigned low, unsigned high, double factor) {
  typedef wide<T> W;
  struct Shared { Tile<W, D, R> k, v, q, dy; Tile<W, SIDE * R, R> weights; };
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  constexpr int TILE = SIDE * R;
  int g = blockIdx.y, per_group = heads / gridDim.y, b = blockIdx.z, first = blockIdx.x * TILE;
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
  Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
  Dropout dropout = {threshold, low, high, factor};
  long long step = (long long)heads * size;
  load(s.k, k + b * k_batch + g * k_head, k_step, first, keys, size);
  load(s.v, v + b * v_batch + g * v_head, v_step, first, keys, size);

  W sum_k[R][D / SIDE], sum_v[R][D / SIDE];
  for (int i = 0; i < R; i++)
    for (int c = 0; c < D / SIDE; c++) sum_k[i][c] = sum_v[i][c] = 0;
  int last = sight.last_query(min(first + TILE, keys));
  for (int h = g * per_group; h < (g + 1) * per_group; h++) {
    long long row = ((long long)b * heads + h) * queries;
    for (int start = sight.first_query(first) / TILE * TILE; start < last; start += TILE) {
      __syncthreads();
      load(s.q, q + b * q_batch + h * q_head, q_step, start, queries, size);
      load(s.dy, dy + b * queries * step + h * size, step, start, queries, size);
      __syncthreads();
      W x[R][R], dp[R][R];  // transposed: a row for each key
      rows_by_rows(x, s.k, s.q);
      rows_by_rows(dp, s.v, s.dy);
      for (int i = 0; i < R; i++)
        for (int j = 0; j < R; j++) {
          int key = first + ty + SIDE * i, t = start + tx + SIDE * j;
          const T* bias_of_head = bias ? bias + (long long)h * queries * keys : bias;  // kept from outside, it would spill
          Pair<W> pair = backward_pair(x[i][j], dp[i][j], t, key, row + t, sight, dropout, W(scale), bias_of_head,
                                       lse + row, delta + row);
          s.weights.at[ty + SIDE * i][tx + SIDE * j] = pair.p;
          dp[i][j] = pair.dx;
        }
      __syncwarp();
      add_weighted_rows(sum_v, s.weights, s.dy);
      __syncwarp();  // p has been used: dx takes its place
      for (int i = 0; i < R; i++)
        for (int j = 0; j < R; j++) s.weights.at[ty + SIDE * i][tx + SIDE * j] = dp[i][j];
      __syncwarp();
      add_weighted_rows(sum_k, s.weights, s.q);
    }
  }
  store<T, W, D / SIDE, R>(sum_k, dk + b * dk_batch + g * dk_head, dk_step, first, keys, size,
                           [&](int) { return W(scale); });
  store<T, W, D / SIDE, R>(sum_v, dv + b * dv_batch + g * dv_head, dv_step, first, keys, size, [](int) { return W(1); });
}

// dbias (H, T, S) += sum_B dx. A block for each tile of it: the sum over the batch is its own, in a fixed order. Grid: tiles
// of keys, tiles of queries, heads.
template <class T, int D, int R> __global__ void __launch_bounds__(THREADS, 2) attention_backward_bias(
    const T* dy, const T* q, const T* k, const T* v, long long q_batch, long long q_step, long long q_head,
    long long k_batch, long long k_step, long long k_head, long long v_batch, long long v_step, long long v_head,
    const Parts<wide<T>>* lse, const wide<T>* delta, wide<T>* dbias, int batch, int queries, int keys, int groups, int size,
    double scale, const unsigned char* mask, long long mask_batch, int mask_row, const T* bias, bool causal, int window,
    unsigned threshold, unsigned low, unsigned high, double factor) {
  typedef wide<T> W;
  struct Shared { Tile<W, D, R> q, dy, k, v; };
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Shared& s = *(Shared*)shared_memory;
  constexpr int TILE = SIDE * R;
  int h = blockIdx.z, heads = gridDim.z, g = h / (heads / groups), first_key = blockIdx.x * TILE, first = blockIdx.y * TILE;
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
  Dropout dropout = {threshold, low, high, factor};
  long long step = (long long)heads * size;
  if (bias) bias += (long long)h * queries * keys;

  W sum[R][R];
  for (int i = 0; i < R; i++)
    for (int j = 0; j < R; j++) sum[i][j] = 0;
  for (int b = 0; b < batch; b++) {
    Sight sight = {queries, keys, mask ? mask + b * mask_batch : mask, mask_row, causal, window};
    long long row = ((long long)b * heads + h) * queries;
    __syncthreads();
    load(s.q, q + b * q_batch + h * q_head, q_step, first, queries, size);
    load(s.dy, dy + b * queries * step + h * size, step, first, queries, size);
    load(s.k, k + b * k_batch + g * k_head, k_step, first_key, keys, size);
    load(s.v, v + b * v_batch + g * v_head, v_step, first_key, keys, size);
    __syncthreads();
    W x[R][R], dp[R][R];
    rows_by_rows(x, s.q, s.k);
    rows_by_rows(dp, s.dy, s.v);
    for (int i = 0; i < R; i++)
      for (int j = 0; j < R; j++) {
        int t = first + ty + SIDE * i, key = first_key + tx + SIDE * j;
        sum[i][j] += backward_pair(x[i][j], dp[i][j], t, key, row + t, sight, dropout, W(scale), bias, lse + row,
                                   delta + row).dx;
      }
  }
  dbias += (long long)h * queries * keys;
  for (int i = 0; i < R; i++)
    for (int j = 0; j < R; j++) {
      int t = first + ty + SIDE * i, key = first_key + tx + SIDE * j;
      if (t < queries && key < keys) dbias[(long long)t * keys + key] += sum[i][j];
    }
}
