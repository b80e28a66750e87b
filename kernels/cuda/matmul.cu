// A matrix product in four steps, c (m, n) = a (m, k) b (k, n), each faster than the one before: for reading and measuring.
// The ops use cuBLAS (blas.py), which climbs some steps more.
//
// a and b may lie as they like: `a_row` numbers from one row to the next, `a_column` from one column to the next; so
// y = x w^T, dx = dy w and dw += dy^T x are the same product. c has rows of neighbouring numbers. add: c += a b.
#include "common.cuh"

template <class T> struct Matrix {
  const T* at;
  long long row, column;
  int rows, columns;
  __device__ wide<T> operator()(int i, int j) const {
    return i < rows && j < columns ? wide<T>(at[i * row + j * column]) : wide<T>(0);  // zeros around it do no harm
  }
};

template <class T> __device__ void put(T* c, long long c_row, int m, int n, int i, int j, wide<T> sum, bool add) {
  if (i >= m || j >= n) return;
  T& to = c[i * c_row + j];
  to = T(add ? wide<T>(to) + sum : sum);
}

// 1. One thread for each number of c. It reads 2 k numbers for k multiplications: memory sets the pace.
template <class T> __global__ void matmul_naive(const T* a, long long a_row, long long a_column, const T* b, long long b_row,
                                                long long b_column, T* c, long long c_row, int m, int n, int k, bool add) {
  Matrix<T> A = {a, a_row, a_column, m, k}, B = {b, b_row, b_column, k, n};
  int i = blockIdx.y * blockDim.y + threadIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
  wide<T> sum = 0;
  for (int l = 0; l < k; l++) sum += A(i, l) * B(l, j);
  put(c, c_row, m, n, i, j, sum, add);
}

// 2. A block computes 32 x 32 numbers of c, and brings what they need to shared memory, 32 columns of a and rows of b at a
// time: each number that it reads from global memory now serves 32 multiplications.
constexpr int SQUARE = 32;

template <class T> __global__ void __launch_bounds__(SQUARE * SQUARE) matmul_shared(
    const T* a, long long a_row, long long a_column, const T* b, long long b_row, long long b_column, T* c,
    long long c_row, int m, int n, int k, bool add) {
  typedef wide<T> W;
  __shared__ W a_tile[SQUARE][SQUARE + 1], b_tile[SQUARE][SQUARE + 1];
  Matrix<T> A = {a, a_row, a_column, m, k}, B = {b, b_row, b_column, k, n};
  int x = threadIdx.x, y = threadIdx.y, first_i = blockIdx.y * SQUARE, first_j = blockIdx.x * SQUARE;
  W sum = 0;
  for (int start = 0; start < k; start += SQUARE) {
    // neighbouring threads read neighbouring numbers, whichever way they lie
    if (a_column == 1) a_tile[y][x] = A(first_i + y, start + x);
    else a_tile[x][y] = A(first_i + x, start + y);
    if (b_column == 1) b_tile[y][x] = B(start + y, first_j + x);
    else b_tile[x][y] = B(start + x, first_j + y);
    __syncthreads();  // the tiles are complete
    for (int l = 0; l < SQUARE; l++) sum += a_tile[y][l] * b_tile[l][x];
    __syncthreads();  // all have used them: the next may come
  }
  put(c, c_row, m, n, first_i + y, first_j + x, sum, add);
}

// 3. A thread computes 8 x 8 numbers of c in registers: 16 numbers read from shared memory serve 64 multiplications.
// They are read 16 bytes at a time, so a's tile lies transposed. A block of 16 x 16 threads has 128 x 128 numbers of c.
constexpr int OWN = 8, SIDE = 16, EDGE = OWN * SIDE, DEPTH = 8;

template <class T> __global__ void __launch_bounds__(SIDE * SIDE) matmul_registers(
    const T* a, long long a_row, long long a_column, const T* b, long long b_row, long long b_column, T* c,
    long long c_row, int m, int n, int k, bool add) {
  typedef wide<T> W;
  constexpr int P = PACK<W>;
  __shared__ __align__(16) W a_tile[DEPTH][EDGE + P], b_tile[DEPTH][EDGE + P];
  Matrix<T> A = {a, a_row, a_column, m, k}, B = {b, b_row, b_column, k, n};
  int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE, first_i = blockIdx.y * EDGE, first_j = blockIdx.x * EDGE;
  W sum[OWN][OWN] = {};
  for (int start = 0; start < k; start += DEPTH) {
    for (int e = threadIdx.x; e < DEPTH * EDGE; e += SIDE * SIDE) {
      int short_way = e % DEPTH, beside = e / DEPTH, long_way = e % EDGE, above = e / EDGE;
      if (a_column == 1) a_tile[short_way][beside] = A(first_i + beside, start + short_way);
      else a_tile[above][long_way] = A(first_i + long_way, start + above);
      if (b_column == 1) b_tile[above][long_way] = B(start + above, first_j + long_way);
      else b_tile[short_way][beside] = B(start + short_way, first_j + beside);
    }
    __syncthreads();
#pragma unroll
    for (int l = 0; l < DEPTH; l++) {
      Packed<W> left[OWN / P], right[OWN / P];
#pragma unroll
      for (int p = 0; p < OWN / P; p++) {
        left[p] = *(Packed<W>*)&a_tile[l][P * (ty + SIDE * p)];
        right[p] = *(Packed<W>*)&b_tile[l][P * (tx + SIDE * p)];
      }
#pragma unroll
      for (int i = 0; i < OWN; i++)
#pragma unroll
        for (int j = 0; j < OWN; j++) sum[i][j] += left[i / P].at[i % P] * right[j / P].at[j % P];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < OWN; i++)
#pragma unroll
    for (int j = 0; j < OWN; j++) {
      int own_i = first_i + P * (ty + SIDE * (i / P)) + i % P, own_j = first_j + P * (tx + SIDE * (j / P)) + j % P;
      put(c, c_row, m, n, own_i, own_j, sum[i][j], add);
    }
}

// 4. bfloat16 on tensor cores, summed in float32. A warp's instruction multiplies 16 x 16 by 16 x 8 numbers; a warp owns
// 64 x 32 of c, eight warps 128 x 128. The tiles come by asynchronous copies, two of them on their way while a third is
// used. A: the numbers of a's rows are neighbours (else those of its columns); B: likewise. ldmatrix turns around what
// needs it.
constexpr int STEPS = 32, STAGES = 3, TENSOR_THREADS = 256;

template <int LINES, int LENGTH> struct alignas(16) Panel {
  static_assert(LENGTH / 8 % 2 == 0, "8 more make lines an odd number of 16 bytes: eight of them lie in different banks");
  bfloat16 at[LINES][LENGTH + 8];
};

// Lines of a matrix, of neighbouring numbers, from (first, start) on; `step` numbers from one line to the next. whole: all
// addresses and lengths are multiples of 16 bytes. Else numbers go one by one, through registers.
template <int LINES, int LENGTH> __device__ void load(Panel<LINES, LENGTH>& panel, const bfloat16* matrix, long long step,
                                                      int first, int lines, int start, int length, bool whole) {
  for (int e = threadIdx.x; e < LINES * LENGTH / 8; e += TENSOR_THREADS) {
    int i = e / (LENGTH / 8), j = e % (LENGTH / 8) * 8;
    const bfloat16* from = matrix + (first + i) * step + start + j;
    if (whole) {
      bool inside = first + i < lines && start + j < length;
      copy_async(&panel.at[i][j], inside ? from : matrix, inside);
    } else {
      for (int x = 0; x < 8; x++) panel.at[i][j + x] = first + i < lines && start + j + x < length ? from[x] : bfloat16(0.f);
    }
  }
}

template <bool A, bool B> __global__ void __launch_bounds__(TENSOR_THREADS) matmul_tensor(
    const bfloat16* a, long long a_step, const bfloat16* b, long long b_step, bfloat16* c, long long c_row, int m, int n,
    int k, bool add, bool whole) {
  struct Stage { Panel<A ? EDGE : STEPS, A ? STEPS : EDGE> a; Panel<B ? STEPS : EDGE, B ? EDGE : STEPS> b; };
  extern __shared__ __align__(16) unsigned char shared_memory[];
  Stage* stages = (Stage*)shared_memory;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first_i = blockIdx.y * EDGE, first_j = blockIdx.x * EDGE;
  int row = warp / 4 * 64, column = warp % 4 * 32;  // of the warp's part
  float sum[4][4][4] = {};
  auto bring = [&](int start) {
    if (start < k) {
      Stage& s = stages[start / STEPS % STAGES];
      A ? load(s.a, a, a_step, first_i, m, start, k, whole) : load(s.a, a, a_step, start, k, first_i, m, whole);
      B ? load(s.b, b, b_step, start, k, first_j, n, whole) : load(s.b, b, b_step, first_j, n, start, k, whole);
    }
    copy_async_commit();  // a group each time, so that the waits below count right
  };
  for (int ahead = 0; ahead < STAGES - 1; ahead++) bring(ahead * STEPS);
  for (int start = 0; start < k; start += STEPS) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();  // this stage is there for all; and all have used the last, whose place is free
    bring(start + (STAGES - 1) * STEPS);
    Stage& s = stages[start / STEPS % STAGES];
#pragma unroll
    for (int l = 0; l < STEPS; l += 16) {
      unsigned left[4][4], right[2][4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int r = row + 16 * i;
        if (A) ldmatrix_x4(left[i], &s.a.at[r + lane % 16][l + lane / 16 * 8]);
        else ldmatrix_x4_transposed(left[i], &s.a.at[l + lane % 8 + lane / 16 * 8][r + lane / 8 % 2 * 8]);
      }
#pragma unroll
      for (int j = 0; j < 2; j++) {
        int col = column + 16 * j;
        if (B) ldmatrix_x4_transposed(right[j], &s.b.at[l + lane % 16][col + lane / 16 * 8]);
        else ldmatrix_x4(right[j], &s.b.at[col + lane % 8 + lane / 16 * 8][l + lane / 8 % 2 * 8]);
      }
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) mma_m16n8k16(sum[i][j], left[i], right[j / 2] + j % 2 * 2, sum[i][j]);
    }
  }
  copy_async_wait<0>();
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        put(c, c_row, m, n, first_i + row + 16 * i + lane / 4 + e / 2 * 8, first_j + column + 8 * j + lane % 4 * 2 + e % 2,
            sum[i][j][e], add);
}
