// CUDA C++ kernels on the CPU: g++ compiles the very files that nvcc and NVRTC do, with this header before them.
//
//   fibers.h     a stack for each CUDA thread, and the switch between them
//   scheduler.h  blocks, barriers, warp operations, errors
//   device.h     what CUDA C++ offers without any #include
//   ptx.cuh      the same functions as ../ptx.cuh, in C++: tensor cores and asynchronous copies
//
// What it finds out: stores and loads beside an array, through null and past dynamic shared memory; shared memory that nobody
// wrote; a missing barrier; threads that wait at different barriers, for lanes that have gone, or for ever; a copy that nobody
// waited for; results that hang on the order of threads or blocks. What it does not model: bank conflicts, the ordering of
// memory, blocks that run at the same time, registers, fast-math, stores beside static shared memory.
#pragma once
#include <dlfcn.h>
#include <link.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <type_traits>
#include <utility>

#define TINYLLM_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ thread_local  // in a function that implies static; the storage of such variables is shared memory
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict

#include "fibers.h"
#include "scheduler.h"
#include "device.h"
