// The forward kernel and its launch.
#pragma once

#include "points.cuh"

namespace piip_d2::cuda {

template <class T>
struct ForwardCall {
  Call<T> call;
  T* output;              // (B, Q, M * D)
  Divisor packs_per_row;  // lanes that share the channels of a pair
};

template <class Real, class Index>
struct alignas(16) ForwardSample {
  Index rows[4];
  Real weights[4];  // of the corners, attention included
};

template <class Real, class Index>
__device__ __forceinline__ ForwardSample<Real, Index> make_forward_sample(
    const Sample<Real, Index>& sample) {
  const Corners<Real> weights = corner_weights(sample.footprint, sample.weight);
  return {{sample.rows[0], sample.rows[1], sample.rows[2], sample.rows[3]},
          {weights.upper_left, weights.upper_right, weights.lower_left,
           weights.lower_right}};
}

// Adds kCount samples to one lane's channels. All their loads are under way
// before the first is used.
template <int kCount, int kPack, class T, class Index>
__device__ __forceinline__ void add_samples(
    const T* channels, const ForwardSample<compute_t<T>, Index>* samples,
    compute_t<T> (&sums)[kPack]) {
  Pack<T, kPack> corners[kCount][4];
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const Index row = samples[k].rows[corner];
      corners[k][corner] = load_if<kPack>(row >= 0, channels + row);
    }
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const compute_t<T> weight = samples[k].weights[corner];
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        sums[i] +=
            weight * static_cast<compute_t<T>>(corners[k][corner].data[i]);
      }
    }
  }
}

// The kPack channels that one lane computes, from all samples of its pair.
template <int kPack, class T, class Index>
__device__ __forceinline__ Pack<T, kPack> gather(
    const T* channels, const ForwardSample<compute_t<T>, Index>* samples,
    int32_t num_points) {
  constexpr int kAtOnce = 2;
  compute_t<T> sums[kPack] = {};
  int32_t k = 0;
#pragma unroll 1
  for (; k + kAtOnce <= num_points; k += kAtOnce) {
    add_samples<kAtOnce>(channels, samples + k, sums);
  }
#pragma unroll 1
  for (; k < num_points; ++k) add_samples<1>(channels, samples + k, sums);
  Pack<T, kPack> result;
#pragma unroll
  for (int i = 0; i < kPack; ++i) result.data[i] = static_cast<T>(sums[i]);
  return result;
}

template <class T, int kPack, class Index>
__global__ void __launch_bounds__(kMaxThreads)
    forward_kernel(const __grid_constant__ ForwardCall<T> forward) {
  using Real = compute_t<T>;
  using Entry = ForwardSample<Real, Index>;
  PIIP_D2_SHARED_MEMORY(memory);
  const Call<T>& call = forward.call;
  const int32_t num_pairs = call.tiling.pairs;
  const SampleTable<Entry> samples = {memory, call.num_points};
  auto* pairs = reinterpret_cast<Pair<Real>*>(samples.of_pair(num_pairs));
  const BlockTile tile = locate_tile(call.tiling);
  const Image<T, Index> image(call, tile.image);

  fill_pairs(image, tile, pairs);
  __syncthreads();
  fill_samples(image, pairs, samples, make_forward_sample<Real, Index>);
  __syncthreads();

  const Divisor& packs = forward.packs_per_row;
  T* const output = forward.output + image.first_pair * call.width;
  const int32_t lanes = num_pairs * packs.value();
  for (int32_t i = threadIdx.x; i < lanes; i += blockDim.x) {
    const int32_t pair = packs.quotient(i);
    const int32_t channel = (i - pair * packs.value()) * kPack;
    const auto [query, head, peak, scale] = pairs[pair];
    if (query < 0) continue;
    const Index row = (Index(query) * call.heads + head) * call.width;
    store(output + row + channel,
          gather<kPack>(opaque(image.value + channel), samples.of_pair(pair),
                        call.num_points));
  }
}

template <class T, int kPack, class Index>
void launch_forward_kernel(const Problem& problem, ForwardCall<T> forward,
                           int64_t rows, void* stream) {
  using Real = compute_t<T>;
  using Table = SampleTable<ForwardSample<Real, Index>>;
  Call<T>& call = forward.call;
  const int64_t packs = problem.width / kPack;
  const PairCost cost = {packs, problem.width * int64_t{sizeof(T)},
                         Table::bytes_per_pair(problem.points_per_head()) +
                             int64_t{sizeof(Pair<Real>)}};
  call.tiling = make_tiling(problem, rows, problem.queries / rows, cost);
  forward.packs_per_row = Divisor(static_cast<int32_t>(packs));
  const int64_t lanes = call.tiling.pairs * packs;
  const int64_t rounds = ceil_div(lanes, kMaxThreads);
  const int64_t warps = ceil_div(lanes, rounds * kWarp);
  const LaunchSize size = {call.tiling.blocks,
                           static_cast<int32_t>(warps * kWarp),
                           call.tiling.pairs * cost.shared_bytes};
  launch(forward_kernel<T, kPack, Index>, size, stream, forward);
}

// Samples in 32-bit arithmetic of addresses by the widest loads, or (wide) in
// 64-bit arithmetic by loads of one element. `rows` are those of the grid of
// queries, 1 if they form none.
template <class T>
void launch_forward(const Problem& problem, const ForwardCall<T>& forward,
                    int64_t rows, bool wide, void* stream) {
  if (wide) {
    return launch_forward_kernel<T, 1, int64_t>(problem, forward, rows, stream);
  }
  const int64_t row_bytes = problem.width * int64_t{sizeof(T)};
  const int64_t bytes =
      choose_load_bytes(row_bytes, forward.call.value, forward.output);
  with_pack_size<T>(bytes, [&](auto size) {
    launch_forward_kernel<T, size(), int32_t>(problem, forward, rows, stream);
  });
}

}  // namespace piip_d2::cuda
