// Sums that do not depend on the order of their terms, for deterministic
// gradients: integers of 64 bits that count steps of a power of two.
//
// The step is chosen on the device from the largest exponents among the
// factors of the terms and from how many terms there can be, such that no sum
// overflows. With up to N terms, a sum is exact to N^2 * 2^-59 of the product
// of the largest factors. A term that is not finite makes all sums NaN.
#pragma once

#include <cmath>

#include "device.cuh"

namespace piip_d2::cuda {

// In device memory, zero at first.
struct FixedPointState {
  // Of the largest magnitudes, plus kExponentBias; 0 where all are zero.
  int32_t gradient_exponent, weight_exponent;
  int32_t poisoned;
};

constexpr int32_t kExponentBias = 4096;

template <class Real>
__device__ __forceinline__ bool is_finite(Real x) {
  return x - x == Real(0);
}

template <class T>
struct MagnitudeCall {
  const T* data;
  int64_t count;
  int32_t* exponent;
};

// Finds the exponent e of the smallest power of two 2^e above all finite
// magnitudes.
template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    magnitude_kernel(const __grid_constant__ MagnitudeCall<T> call) {
  using Real = compute_t<T>;
  Real largest = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
       i < call.count; i += step) {
    const Real magnitude = std::fabs(static_cast<Real>(call.data[i]));
    if (is_finite(magnitude) && magnitude > largest) largest = magnitude;
  }
  int32_t exponent = 0;
  if (largest > Real(0)) {
    std::frexp(largest, &exponent);
    exponent += kExponentBias;
  }
  exponent = __reduce_max_sync(0xffffffffu, exponent);
  if (threadIdx.x % kWarp == 0) atomicMax(call.exponent, exponent);
}

template <class T>
void launch_magnitude(const T* data, int64_t count, int32_t* exponent,
                      void* stream) {
  const int64_t blocks =
      std::clamp<int64_t>(ceil_div(count, 8 * kMaxThreads), 1, 1024);
  launch(magnitude_kernel<T>, {blocks, kMaxThreads, 0}, stream,
         MagnitudeCall<T>{data, count, exponent});
}

// What to add to the exponents in the state to get that of a bound of all sums
// of up to num_terms products. Attention weights that are not looked at (the
// exponent of them stays 0) are those of a softmax.
inline int32_t exponent_offset(int64_t num_terms, bool looks_at_weights) {
  int32_t log_terms = 0;
  while (log_terms < 62 && (int64_t{1} << log_terms) < num_terms) ++log_terms;
  return log_terms - kExponentBias + (looks_at_weights ? -kExponentBias : 1);
}

// Converts terms to integers and sums of them back.
class FixedPoint {
 public:
  __device__ __forceinline__ FixedPoint(FixedPointState* state,
                                        int32_t exponent_offset)
      : state_(state) {
    if (state == nullptr) return;
    const int32_t exponent = 61 - (state->gradient_exponent +
                                   state->weight_exponent + exponent_offset);
    // Beyond these limits the scale or its inverse were no doubles.
    scale_ = std::ldexp(
        1.0, exponent < -1000 ? -1000 : (exponent > 1000 ? 1000 : exponent));
  }

  template <class Real>
  __device__ __forceinline__ void add(unsigned long long* target,
                                      Real term) const {
    if (!is_finite(term)) {
      atomicMax(&state_->poisoned, 1);
      return;
    }
    const long long count = std::llrint(static_cast<double>(term) * scale_);
    // Two's complement: unsigned sums wrap into signed ones.
    atomicAdd(target, static_cast<unsigned long long>(count));
  }

  __device__ __forceinline__ double sum(unsigned long long counted) const {
    if (state_->poisoned != 0) return NAN;
    return static_cast<double>(static_cast<long long>(counted)) / scale_;
  }

 private:
  FixedPointState* state_;
  double scale_ = 1;  // a power of two
};

template <class T>
struct FixedPointCall {
  const unsigned long long* sums;
  FixedPointState* state;
  int32_t exponent_offset;
  T* output;
  int64_t count;
};

template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    from_fixed_point_kernel(const __grid_constant__ FixedPointCall<T> call) {
  const FixedPoint fixed_point(call.state, call.exponent_offset);
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
       i < call.count; i += step) {
    const double sum = fixed_point.sum(call.sums[i]);
    call.output[i] = static_cast<T>(static_cast<compute_t<T>>(sum));
  }
}

template <class T>
void launch_from_fixed_point(const FixedPointCall<T>& call, void* stream) {
  const int64_t blocks =
      std::clamp<int64_t>(ceil_div(call.count, kMaxThreads), 1, 1 << 16);
  launch(from_fixed_point_kernel<T>, {blocks, kMaxThreads, 0}, stream, call);
}

}  // namespace piip_d2::cuda
