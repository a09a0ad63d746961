// The backward kernel and its launch.
#pragma once

#include "lane_gradients.cuh"

namespace piip_d2::cuda {

// Every item adds to the value's gradient, and leaves its share of the
// gradients of its samples in shared memory.
template <int kPack, class T, class Index>
__device__ __forceinline__ void spread_gradients(
    const BackwardCall<T>& backward, const Image<T, Index>& image,
    const BackwardMemory<compute_t<T>, Index>& memory, int32_t num_items) {
  using Real = compute_t<T>;
  const Call<T>& call = backward.call;
  const LaneLayout& lanes = backward.lanes;
  const FixedPoint fixed_point(backward.fixed_state, backward.exponent_offset);
  const T* const grad_output =
      backward.grad_output + image.first_pair * call.width;
  const int32_t group_size = lanes.group_size.value();
  const int32_t warp_lane = threadIdx.x % kWarp;
  const int32_t group = lanes.group_size.quotient(warp_lane);
  const int32_t place = warp_lane - group * group_size;
  const int32_t stride = blockDim.x / kWarp * lanes.groups_per_warp;
  int32_t first = threadIdx.x / kWarp * lanes.groups_per_warp;
  // A whole warp stays in these loops together, for its sums over lanes.
  for (; first < num_items; first += stride) {
    const int32_t item = first + group;
    const bool has_item = group < lanes.groups_per_warp && item < num_items;
    const int32_t pair =
        has_item ? lanes.column_blocks.quotient(item) : int32_t{0};
    const int32_t block = item - pair * lanes.column_blocks.value();
    const int32_t pack = block * group_size + place;
    const int32_t query = memory.pairs[pair].query;
    const bool works = has_item && query >= 0 && pack < lanes.packs_per_row;
    const Index row = (Index(query) * call.heads + memory.pairs[pair].head) *
                      Index(call.width);
    const LaneGradients<kPack, T, Index> gradients(
        backward, image, pack * kPack,
        load_if<kPack>(works, grad_output + row + pack * kPack));
    Real mean = 0;
#pragma unroll 1
    for (int32_t k = 0; k < call.num_points; ++k) {
      SampleGradient<Real> gradient = {};
      Real weight = 0;
      if (works) {
        const auto sample = memory.samples.of_pair(pair)[k];
        weight = sample.weight;
        if (backward.wants_points()) gradient = gradients.of_points(sample);
        gradients.add_to_value(sample, fixed_point);
      }
      if (!backward.wants_points()) continue;
      Real parts[] = {gradient.weight, gradient.pixel_x, gradient.pixel_y};
      sum_over_group(parts, place, group_size, lanes.first_step);
      mean += weight * parts[0];
      if (has_item && place == 0) {
        memory.gradients[item * call.num_points + k] = {parts[0], parts[1],
                                                        parts[2]};
      }
    }
    if (has_item && place == 0) memory.means[item] = mean;
  }
}

// What the items of one pair have left.
template <class T, class Index>
class PairGradients {
 public:
  using Real = compute_t<T>;

  __device__ __forceinline__
  PairGradients(const BackwardCall<T>& backward,
                const BackwardMemory<compute_t<T>, Index>& memory, int32_t pair)
      : num_points_(backward.call.num_points),
        num_items_(backward.lanes.column_blocks.value()),
        gradients_(memory.gradients + pair * num_items_ * num_points_),
        means_(memory.means + pair * num_items_) {}

  __device__ __forceinline__ SampleGradient<Real> of_point(
      int32_t point) const {
    SampleGradient<Real> sum = gradients_[point];
#pragma unroll 1
    for (int32_t item = 1; item < num_items_; ++item) {
      const auto& part = gradients_[item * num_points_ + point];
      sum.weight += part.weight;
      sum.pixel_x += part.pixel_x;
      sum.pixel_y += part.pixel_y;
    }
    return sum;
  }

  __device__ __forceinline__ Real mean() const {
    Real sum = means_[0];
#pragma unroll 1
    for (int32_t item = 1; item < num_items_; ++item) sum += means_[item];
    return sum;
  }

 private:
  int32_t num_points_, num_items_;
  const SampleGradient<Real>* gradients_;
  const Real* means_;
};

// Writes the gradients of locations or offsets, and of weights or logits.
template <class T, class Index>
__device__ __forceinline__ void write_point_gradients(
    const BackwardCall<T>& backward, const Image<T, Index>& image,
    const BackwardMemory<compute_t<T>, Index>& memory) {
  using Real = compute_t<T>;
  const Call<T>& call = backward.call;
  const PointWriter<T> grad_points(backward.grad_points, call.points.narrow);
  const PointWriter<T> grad_weights(backward.grad_weights, call.weights.narrow);
  const int32_t count = call.tiling.pairs * call.num_points;
  for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {
    const int32_t place = call.points_per_head.quotient(i);
    const int32_t point = i - place * call.num_points;
    const Pair<Real> pair = memory.pairs[place];
    if (pair.query < 0) continue;
    const PairGradients<T, Index> parts(backward, memory, place);
    const SampleGradient<Real> gradient = parts.of_point(point);
    const int64_t index =
        image.first_pair * call.num_points + image.first_point(pair) + point;
    if (backward.grad_points != nullptr) {
      const Anchor<Real> anchor =
          image.anchor(pair.query, call.points_per_level.quotient(point));
      grad_points.write(2 * index, chain(gradient.pixel_x, anchor.scale_x));
      grad_points.write(2 * index + 1, chain(gradient.pixel_y, anchor.scale_y));
    }
    if (backward.grad_weights == nullptr) continue;
    Real grad_weight = gradient.weight;
    if (call.form != PointForm::kLocation) {
      grad_weight = softmax_gradient(image.weight(pair, point), grad_weight,
                                     parts.mean());
    }
    grad_weights.write(index, grad_weight);
  }
}

// Writes the gradients of reference points or boxes, per head and level.
template <class T, class Index>
__device__ __forceinline__ void write_reference_gradients(
    const BackwardCall<T>& backward, const Image<T, Index>& image,
    const BackwardMemory<compute_t<T>, Index>& memory) {
  using Real = compute_t<T>;
  const Call<T>& call = backward.call;
  const int32_t num_points = call.points_per_level.value();
  const bool is_box = call.form == PointForm::kBox;
  const int32_t count = call.tiling.pairs * call.num_levels;
  for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {
    const int32_t place = i / call.num_levels;
    const int32_t level = i - place * call.num_levels;
    const Pair<Real> pair = memory.pairs[place];
    if (pair.query < 0) continue;
    const PairGradients<T, Index> parts(backward, memory, place);
    const int32_t first = level * num_points;
    Real center_x = 0, center_y = 0, extent_x = 0, extent_y = 0;
#pragma unroll 1
    for (int32_t k = first; k < first + num_points; ++k) {
      const SampleGradient<Real> gradient = parts.of_point(k);
      center_x += gradient.pixel_x;
      center_y += gradient.pixel_y;
      if (!is_box) continue;
      const Index index = 2 * (image.first_point(pair) + k);
      extent_x += chain(gradient.pixel_x, image.points[index]);
      extent_y += chain(gradient.pixel_y, image.points[index + 1]);
    }
    const Real width = call.levels[level].width;
    const Real height = call.levels[level].height;
    const int64_t index =
        (image.first_pair + Index(pair.query) * call.heads + pair.head) *
            call.num_levels +
        level;
    Real* target = backward.grad_reference + index * (is_box ? 4 : 2);
    target[0] = width * center_x;
    target[1] = height * center_y;
    if (!is_box) continue;
    target[2] = box_reach(width, Real(num_points)) * extent_x;
    target[3] = box_reach(height, Real(num_points)) * extent_y;
  }
}

template <class T, int kPack, class Index>
__global__ void __launch_bounds__(kMaxThreads)
    backward_kernel(const __grid_constant__ BackwardCall<T> backward) {
  using Real = compute_t<T>;
  PIIP_D2_SHARED_MEMORY(shared);
  const Call<T>& call = backward.call;
  const int32_t num_items =
      call.tiling.pairs * backward.lanes.column_blocks.value();
  const BackwardMemory<Real, Index> memory(shared, call.tiling.pairs,
                                           call.num_points, num_items);
  const BlockTile tile = locate_tile(call.tiling);
  const Image<T, Index> image(call, tile.image);

  fill_pairs(image, tile, memory.pairs);
  __syncthreads();
  fill_samples(image, memory.pairs, memory.samples,
               make_backward_sample<Real, Index>);
  __syncthreads();
  spread_gradients<kPack>(backward, image, memory, num_items);
  if (!backward.wants_points()) return;
  __syncthreads();
  if (backward.grad_points != nullptr || backward.grad_weights != nullptr) {
    write_point_gradients(backward, image, memory);
  }
  if (backward.grad_reference != nullptr) {
    write_reference_gradients(backward, image, memory);
  }
}

template <class T, int kPack, class Index>
void launch_backward_kernel(const Problem& problem, BackwardCall<T> backward,
                            int64_t rows, void* stream) {
  using Memory = BackwardMemory<compute_t<T>, Index>;
  backward.lanes = make_lane_layout(problem.width / kPack);
  const LaneLayout& lanes = backward.lanes;
  const int64_t column_blocks = lanes.column_blocks.value();
  const PairCost cost = {
      problem.width / kPack, problem.width * int64_t{sizeof(T)},
      Memory::bytes_per_pair(problem.points_per_head(), column_blocks)};
  Tiling& tiling = backward.call.tiling;
  tiling = make_tiling(problem, rows, problem.queries / rows, cost);
  const int64_t warps =
      ceil_div(tiling.pairs * column_blocks, lanes.groups_per_warp);
  const int64_t rounds = ceil_div(warps, kMaxThreads / kWarp);
  const LaunchSize size = {
      tiling.blocks, static_cast<int32_t>(ceil_div(warps, rounds) * kWarp),
      tiling.pairs * cost.shared_bytes};
  launch(backward_kernel<T, kPack, Index>, size, stream, backward);
}

// Arguments as for launch_forward; deterministic sums need wide = true.
template <class T>
void launch_backward(const Problem& problem, const BackwardCall<T>& backward,
                     int64_t rows, bool wide, void* stream) {
  if (wide) {
    return launch_backward_kernel<T, 1, int64_t>(problem, backward, rows,
                                                 stream);
  }
  const int64_t row_bytes = problem.width * int64_t{sizeof(T)};
  const int64_t bytes =
      choose_load_bytes(row_bytes, backward.call.value, backward.grad_output);
  with_pack_size<T>(bytes, [&](auto size) {
    launch_backward_kernel<T, size(), int32_t>(problem, backward, rows, stream);
  });
}

}  // namespace piip_d2::cuda
