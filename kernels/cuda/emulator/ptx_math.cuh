// The functions of ../ptx_math.cuh in C++.
#pragma once

inline float exp2_fast(float x) {
  float y = exp2f(x);
  return y < 1.17549435e-38f ? 0 : y;
}
inline unsigned bfloat16_pair(float low, float high) {
  return bits_of_bfloat16(low) | (unsigned)bits_of_bfloat16(high) << 16;
}
