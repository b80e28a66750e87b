// As ptx.cuh: arithmetic that tensor-core kernels spend their time on. emulator/ptx_math.cuh has the same in plain C++.
#pragma once

// 2^x by one instruction, to about 22 bits; 0 for what float32 could hold only with leading zeros.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two numbers to bfloat16, to the nearest, halves to even, in one register.
__device__ __forceinline__ unsigned bfloat16_pair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
