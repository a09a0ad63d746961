// One sample's part in the backward kernel, and what that kernel is told.
#pragma once

#include "fixed_point.cuh"
#include "points.cuh"

namespace piip_d2::cuda {

// How lanes share the channels of a pair: in column blocks of one group of
// lanes each, of which a warp holds as many as fit.
struct LaneLayout {
  int32_t packs_per_row;
  Divisor column_blocks;
  Divisor group_size;
  int32_t groups_per_warp;
  int32_t first_step;  // half of the power of two that is group_size or above
};

inline LaneLayout make_lane_layout(int64_t packs_per_row) {
  const int64_t column_blocks = ceil_div(packs_per_row, kWarp);
  const int64_t group_size = ceil_div(packs_per_row, column_blocks);
  int32_t power = 1;
  while (power < group_size) power *= 2;
  return {static_cast<int32_t>(packs_per_row),
          Divisor(static_cast<int32_t>(column_blocks)),
          Divisor(static_cast<int32_t>(group_size)),
          static_cast<int32_t>(kWarp / group_size), power / 2};
}

// Gradients nobody wants are null.
template <class T>
struct BackwardCall {
  using Real = compute_t<T>;

  Call<T> call;
  const T* grad_output;  // (B, Q, M * D)
  Real* grad_value;      // zero at first
  // In deterministic mode these take the place of grad_value.
  unsigned long long* fixed_grad_value;  // zero at first
  FixedPointState* fixed_state;
  int32_t exponent_offset;
  void* grad_points;  // of the types of points and weights
  void* grad_weights;
  Real* grad_reference;  // (B, Q, M, L, 2 or 4)
  LaneLayout lanes;

  PIIP_D2_INLINE bool wants_points() const {
    return grad_points != nullptr || grad_weights != nullptr ||
           grad_reference != nullptr;
  }
};

template <class Real, class Index>
struct alignas(16) BackwardSample {
  Index rows[4];
  Real right_share, lower_share;
  Real weight;
};

template <class Real, class Index>
__device__ __forceinline__ BackwardSample<Real, Index> make_backward_sample(
    const Sample<Real, Index>& sample) {
  return {{sample.rows[0], sample.rows[1], sample.rows[2], sample.rows[3]},
          sample.footprint.right_share,
          sample.footprint.lower_share,
          sample.weight};
}

// A block's shared memory. An item is a pair's block of channels.
template <class Real, class Index>
struct BackwardMemory {
  using Entry = BackwardSample<Real, Index>;

  SampleTable<Entry> samples;
  Pair<Real>* pairs;
  SampleGradient<Real>* gradients;  // (items, points)
  Real* means;                      // (items): sums of weight * gradient

  static int64_t bytes_per_pair(int64_t num_points, int64_t column_blocks) {
    const int64_t bytes_per_item =
        num_points * int64_t{sizeof(SampleGradient<Real>)} +
        int64_t{sizeof(Real)};
    return SampleTable<Entry>::bytes_per_pair(num_points) +
           int64_t{sizeof(Pair<Real>)} + column_blocks * bytes_per_item;
  }

  __device__ __forceinline__ BackwardMemory(unsigned char* memory,
                                            int32_t num_pairs,
                                            int32_t num_points,
                                            int32_t num_items)
      : samples{memory, num_points} {
    pairs = reinterpret_cast<Pair<Real>*>(samples.of_pair(num_pairs));
    gradients = reinterpret_cast<SampleGradient<Real>*>(pairs + num_pairs);
    means = reinterpret_cast<Real*>(gradients + num_items * num_points);
  }
};

// One lane's part in the gradients of one sample: kPack of the channels.
template <int kPack, class T, class Index>
class LaneGradients {
 public:
  using Real = compute_t<T>;
  // Only the kernels that are slow anyway are also made deterministic.
  static constexpr bool kFixedPoint =
      kPack == 1 && std::is_same_v<Index, int64_t>;

  __device__ __forceinline__ LaneGradients(const BackwardCall<T>& backward,
                                           const Image<T, Index>& image,
                                           int32_t channel,
                                           const Pack<T, kPack>& grad_output)
      : value_(opaque(image.value + channel)) {
    const int64_t first = image.value - image.call.value + channel;
    if (backward.grad_value != nullptr) {
      grad_value_ = opaque(backward.grad_value + first);
    }
    if (kFixedPoint && backward.fixed_grad_value != nullptr) {
      fixed_grad_value_ = backward.fixed_grad_value + first;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      grad_output_[i] = static_cast<Real>(grad_output.data[i]);
    }
  }

  // This lane's share of the gradients of weight and location.
  __device__ __forceinline__ SampleGradient<Real> of_points(
      const BackwardSample<Real, Index>& sample) const {
    Pack<T, kPack> corners[4];
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const Index row = sample.rows[corner];
      corners[corner] = load_if<kPack>(row >= 0, value_ + row);
    }
    Real dots[4];
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      Real dot = 0;
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        dot += grad_output_[i] * static_cast<Real>(corners[corner].data[i]);
      }
      // Not 0 * NaN, should the output's gradient be one.
      dots[corner] = sample.rows[corner] >= 0 ? dot : Real(0);
    }
    return sample_gradient<Real>(
        footprint(sample), {dots[0], dots[1], dots[2], dots[3]}, sample.weight);
  }

  __device__ __forceinline__ void add_to_value(
      const BackwardSample<Real, Index>& sample,
      const FixedPoint& fixed_point) const {
    const Corners<Real> corners =
        corner_weights(footprint(sample), sample.weight);
    const Real weights[4] = {corners.upper_left, corners.upper_right,
                             corners.lower_left, corners.lower_right};
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const Index row = sample.rows[corner];
      Real terms[kPack];
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        terms[i] = weights[corner] * grad_output_[i];
      }
      if (grad_value_ != nullptr) {
        add_if(row >= 0, grad_value_ + row, terms);
      } else if (kFixedPoint && fixed_grad_value_ != nullptr && row >= 0) {
        fixed_point.add(fixed_grad_value_ + row, terms[0]);
      }
    }
  }

 private:
  static __device__ __forceinline__ Footprint<Real> footprint(
      const BackwardSample<Real, Index>& sample) {
    return {0, 0, sample.right_share, sample.lower_share, true};
  }

  const T* value_;
  Real* grad_value_ = nullptr;
  unsigned long long* fixed_grad_value_ = nullptr;
  Real grad_output_[kPack];
};

}  // namespace piip_d2::cuda
