"""A CUDA kernel without a GPU: the emulator runs it on the CPU, and catches a barrier that is missing.

    python examples/missing_barrier.py

Each block turns 64 numbers of a row around, through shared memory: thread i writes s[i] and reads s[63 - i], which another
thread has written, if it was there already. `__syncthreads()` waits for all of them. A GPU gives the right result without it
nearly always, when the threads of a warp happen to run together: the worst kind of mistake. The emulator fills shared memory
with NaN before each block, and lets threads run in another order each time. It needs g++ on Linux, and nothing else.
"""

import numpy as np

from tinyllm.kernels.cuda.emulator import EmulatedModule, EmulatorError

SOURCE = r"""
extern "C" __global__ void reverse(const float* x, float* y) {
  __shared__ float s[64];
  int i = threadIdx.x, row = blockIdx.x * 64;
  s[i] = x[row + i];
#ifndef FORGOTTEN
  __syncthreads();
#endif
  y[row + i] = s[63 - i];
}
"""

x = np.arange(128, dtype=np.float32).reshape(2, 64)
right = EmulatedModule(SOURCE).get_function("reverse")
wrong = EmulatedModule(SOURCE, options=["-DFORGOTTEN"]).get_function("reverse")

y = np.empty_like(x)
counts = right((2,), (64,), (x, y))  # grid, block, arguments: as cupy.RawModule's kernels are called
print("with the barrier:   ", "right" if np.array_equal(y, x[:, ::-1]) else "WRONG", counts)

for order in ("forward", "reversed", "shuffled"):
    wrong((2,), (64,), (x, y), order=order)
    print(f"without, {order:<9}  ", f"{np.isnan(y).sum()} of {y.size} numbers are what nobody had written yet")

try:
    right((3,), (64,), (x, y))  # a block too many: it reads and writes behind the arrays
except EmulatorError as error:
    print("a block too many:   ", error)
