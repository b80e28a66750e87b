// Instructions of the GPU that CUDA C++ has no name for, as functions; emulator/ptx.cuh has the same in plain C++.
// Each of them is described in the PTX ISA manual under the name that stands in its assembly.
#pragma once

// To bfloat16, to the nearest, halves to even.
__device__ __forceinline__ unsigned short bits_of_bfloat16(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// d = a b + c by the whole warp on tensor cores: a (16, 16) and b (16, 8) in bfloat16, two numbers to a register; c, d
// (16, 8).
__device__ __forceinline__ void mma_m16n8k16(float* d, const unsigned* a, const unsigned* b, const float* c) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

// Four (or two) 8x8 matrices of 16-bit numbers from shared memory; lane 8 i + j gives the address of row j of matrix i.
__device__ __forceinline__ void ldmatrix_x4(unsigned* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_transposed(unsigned* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(unsigned* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_transposed(unsigned* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

// 16 bytes from global to shared memory, past the registers, while the thread goes on; zeros where not wanted.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool wanted = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :: "r"(shared_address(to)), "l"(from), "r"(wanted ? 16 : 0) : "memory");
}
// The copies since the last commit make a group; wait<N> returns when all groups but the last N have arrived.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}

// Between blocks: `wait_for` returns when another block has put `value` there by `publish`. What that one's thread had
// written before, or had seen written, is then to be seen.
__device__ __forceinline__ void wait_for(const unsigned* place, unsigned value) {
  unsigned found;
  do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(place) : "memory");
  while (found != value);
}
__device__ __forceinline__ void publish(unsigned* place, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" :: "l"(place), "r"(value) : "memory");
}
