"""The cuda set: each op's kernels in CUDA C++ (softmax.cu), beside the launcher that has the op's name (softmax.py).

They run on CuPy arrays on a GPU; and with TINYLLM_DEVICE=emulated on NumPy arrays on the CPU, through the emulator, slowly:
to learn, to try a kernel, to test without a GPU.

Arrays are float32, float64 or bfloat16. With bfloat16 every number is computed in float32 and rounded at the end; what is
summed up or multiplied by stays float32: gradients of parameters and of attention's bias, a norm's mean and rstd, lse. So a
model can be trained whose parameters and activations are bfloat16.

    common.cuh  what kernels share: bfloat16, reductions, rows      ptx.cuh  instructions that CUDA C++ has no name for
    module.py   compiles a .cu file and launches its kernels        device.py  GPU or emulator
    arrays.py   arrays in the form that kernels take                blas.py    matrix products by cuBLAS
    graph.py    many launches as one (recording.py, step.py)        few_rows.py  products of few rows
"""
