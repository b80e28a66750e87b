// The functions of ../ptx.cuh in C++. Fragments lie in registers as the PTX ISA's chapters on mma and ldmatrix draw them.
#pragma once

inline unsigned short bits_of_bfloat16(float x) {
  unsigned bits = __float_as_uint(x);
  return x != x ? 0x7fff : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to the nearest, halves to even
}

namespace emulator {

struct Mma { float* d; const unsigned *a, *b; const float* c; };

// Of a 16x16 (times) 16x8 product each lane holds, with g = lane / 4 and t = lane % 4:
// a: rows g and g + 8, columns 2t, 2t + 1 and 8 more; b: rows 2t, 2t + 1 and 8 more, column g; c, d: as a, in 8 columns.
inline void do_mma_bf16(Warp& w, unsigned) {
  float A[16][16], B[16][8], C[16][8];
  auto number = [](unsigned pair, int half) { return __uint_as_float(half ? pair & 0xffff0000u : pair << 16); };
  for (int l = 0; l < 32; l++) {
    auto* m = (Mma*)w.lane[l]->argument;
    int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; i++)
      for (int h = 0; h < 2; h++) A[g + 8 * (i & 1)][2 * t + h + 8 * (i >> 1)] = number(m->a[i], h);
    for (int i = 0; i < 2; i++)
      for (int h = 0; h < 2; h++) B[2 * t + h + 8 * i][g] = number(m->b[i], h);
    for (int i = 0; i < 4; i++) C[g + 8 * (i >> 1)][2 * t + (i & 1)] = m->c[i];
  }
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++)
      for (int j = 0; j < 8; j++) C[i][j] += A[i][k] * B[k][j];
  for (int l = 0; l < 32; l++) {
    auto* m = (Mma*)w.lane[l]->argument;
    for (int i = 0; i < 4; i++) m->d[i] = C[l / 4 + 8 * (i >> 1)][2 * (l % 4) + (i & 1)];
  }
}

struct Ldmatrix { unsigned* r; const void* row; int n; bool transposed; };

// Lane 8 i + j gives the address of row j of matrix i; each lane receives two neighbours of each matrix: of row lane / 4, or
// of column lane / 4 where transposed.
inline void do_ldmatrix(Warp& w, unsigned) {
  for (int l = 0; l < 32; l++) {
    auto* m = (Ldmatrix*)w.lane[l]->argument;
    for (int i = 0; i < m->n; i++) {
      m->r[i] = 0;
      for (int h = 0; h < 2; h++) {
        int row = m->transposed ? 2 * (l % 4) + h : l / 4, column = m->transposed ? l / 4 : 2 * (l % 4) + h;
        auto* from = (const char*)((Ldmatrix*)w.lane[8 * i + row]->argument)->row;
        if ((uintptr_t)from % 16) fail("ldmatrix: the address of row %d of matrix %d is no multiple of 16", row, i);
        unsigned short bits;
        memcpy(&bits, from + 2 * column, 2);
        m->r[i] |= unsigned(bits) << (16 * h);
      }
    }
  }
}

inline void ldmatrix(unsigned* r, const void* row, int n, bool transposed) {
  Ldmatrix m{r, row, n, transposed};
  warp_operation(0xffffffffu, LDMATRIX + 16 * (2 * n + transposed), "ldmatrix", &m, do_ldmatrix);
}

}  // namespace emulator

inline void mma_m16n8k16(float* d, const unsigned* a, const unsigned* b, const float* c) {
  emulator::Mma m{d, a, b, c};
  emulator::warp_operation(0xffffffffu, emulator::MMA, "mma_m16n8k16", &m, emulator::do_mma_bf16);
}
inline void ldmatrix_x4(unsigned* r, const void* row) { emulator::ldmatrix(r, row, 4, false); }
inline void ldmatrix_x4_transposed(unsigned* r, const void* row) { emulator::ldmatrix(r, row, 4, true); }
inline void ldmatrix_x2(unsigned* r, const void* row) { emulator::ldmatrix(r, row, 2, false); }
inline void ldmatrix_x2_transposed(unsigned* r, const void* row) { emulator::ldmatrix(r, row, 2, true); }

// An asynchronous copy is made at the wait that it must have ended by, not sooner: who reads before finds poison or old numbers.
inline void copy_async(void* to, const void* from, bool wanted = true) {
  auto* f = emulator::state.now;
  if (f->copies == 128) emulator::fail("more than 128 asynchronous copies that nobody waits for");
  if (((uintptr_t)to | (uintptr_t)from) % 16) emulator::fail("copy_async: an address is no multiple of 16");
  f->copy[f->copies++] = {to, from, 16, wanted, f->group};
}
inline void copy_async_commit() { emulator::state.now->group++; }
template <int N> void copy_async_wait() {
  auto* f = emulator::state.now;
  int left = 0;
  for (int i = 0; i < f->copies; i++) {
    auto& c = f->copy[i];
    if (c.group >= f->group - N) f->copy[left++] = c;
    else if (c.wanted) memcpy(c.to, c.from, c.bytes);
    else memset(c.to, 0, c.bytes);
  }
  f->copies = left;
}

// Blocks run one after another, each to its end: what is not there now will never be.
inline void wait_for(const unsigned* place, unsigned value) {
  if (*place != value) emulator::fail("wait_for: %u is there, not %u, and who would change it has not begun", *place, value);
}
inline void publish(unsigned* place, unsigned value) { *place = value; }
