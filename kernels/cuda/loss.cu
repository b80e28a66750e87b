// Softmax cross-entropy over rows of logits (rows, columns). A target of IGNORE counts nowhere.
#include "common.cuh"

constexpr int IGNORE = -100;

// What a row counts: its target's class weight, 1 without such weights, 0 where ignored.
template <class T> __device__ double weight_of(long long target, const T* class_weight) {
  return target == IGNORE ? 0.0 : class_weight ? double(wide<T>(class_weight[target])) : 1.0;
}

// lse = log sum_V exp(z), and each row's own loss, 0 where it is ignored: lse - z[target], and with label smoothing e
// (1 - e) (lse - z[target]) + e (lse - mean(z)). The mean is taken of z - z[target]: z itself may be so far from zero that a
// sum would lose the difference.
template <class T> __global__ void losses_of_rows(const T* __restrict__ z, const long long* __restrict__ targets,
                                                  double label_smoothing, double* __restrict__ lse,
                                                  wide<T>* __restrict__ losses, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  z += row * columns;

  long long target = targets[row];
  W of_target = target == IGNORE ? W(0) : W(z[target]);
  SumExp<W> exps;
  W sum = 0;
  Columns<T>(columns, z).each([&](int, T z) { exps.add(z), sum += W(z) - of_target; }, z);
  exps = exps.of_row();
  W mean = label_smoothing != 0 ? row_sum(sum) / columns : W(0);
  if (threadIdx.x > 0) return;
  double result = double(exps.top) + double(log(exps.total));
  lse[row] = result;
  losses[row] = target == IGNORE ? W(0) : W(result - double(of_target)) - W(label_smoothing) * mean;
}

// sums = (sum of weight * loss, sum of weights), by one block; losses null: the second alone.
template <class T> __global__ void sum_losses(const wide<T>* __restrict__ losses, const long long* __restrict__ targets,
                                              const T* __restrict__ class_weight, double* __restrict__ sums, int rows) {
  double total = 0, weights = 0;
  for (int i = threadIdx.x; i < rows; i += blockDim.x) {
    double weight = weight_of(targets[i], class_weight);
    weights += weight;
    if (losses && weight != 0) total += weight * losses[i];
  }
  total = row_sum(total), weights = row_sum(weights);
  if (threadIdx.x == 0) sums[0] = total, sums[1] = weights;
}

// dz = (p - aim) dloss weight / sum of weights, p = exp(z - lse), aim the smoothed one-hot target. dz may be z itself. sums
// as sum_losses leaves them, or null: then dloss has been divided.
template <class T> __global__ void gradient_of_rows(double dloss, const T* z, const long long* __restrict__ targets,
                                                    const double* __restrict__ lse, double label_smoothing,
                                                    const T* __restrict__ class_weight, const double* __restrict__ sums,
                                                    T* dz, int rows, int columns) {
  typedef wide<T> W;
  long long row = own_row();
  if (row >= rows) return;
  z += row * columns, dz += row * columns;
  long long target = targets[row];
  double count = sums && sums[1] != 0 ? sums[1] : 1.0;
  W factor = W(dloss / count * weight_of(target, class_weight)), uniform = W(label_smoothing / columns);
  Parts<W> row_lse(lse[row]);
  Columns<T>(columns, z, dz).each([=](int c, T z, T& dz) {
    W d = exp(row_lse.below(W(z))) - uniform;
    if (c == target) d -= W(1 - label_smoothing);
    dz = T(target == IGNORE ? W(0) : d * factor);
  }, z, out(dz));
}
