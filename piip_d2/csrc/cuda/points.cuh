// The first phases of both kernels: attention weights once per pair of a query
// and a head, location arithmetic once per sampling point. Their results stand
// in shared memory, where all channels of the pair find them.
#pragma once

#include <cmath>

#include "device.cuh"

namespace piip_d2::cuda {

// The part of a call's queries and heads that a block works on.
struct BlockTile {
  int64_t image;
  int32_t first_row, first_column, first_head;
};

__device__ __forceinline__ BlockTile locate_tile(const Tiling& tiling) {
  const auto block = static_cast<int32_t>(blockIdx.x);
  const int32_t above = tiling.tiles_across.quotient(block);
  const int32_t across = block - above * tiling.tiles_across.value();
  const int32_t slab = tiling.tiles_down.quotient(above);
  const int32_t down = above - slab * tiling.tiles_down.value();
  const int32_t image = tiling.head_tiles.quotient(slab);
  const int32_t head_tile = slab - image * tiling.head_tiles.value();
  return {image, down << tiling.row_bits, across << tiling.column_bits,
          head_tile * tiling.tile_heads.value()};
}

// Numbers given in the compute type or in the value's own.
template <class T>
class PointReader {
 public:
  using Real = compute_t<T>;

  __device__ __forceinline__ PointReader(const Points& points, int64_t first)
      : narrow_(points.narrow),
        data_(points.narrow ? static_cast<const void*>(
                                  static_cast<const T*>(points.data) + first)
                            : static_cast<const Real*>(points.data) + first) {}

  template <class Index>
  __device__ __forceinline__ Real operator[](Index index) const {
    if (!std::is_same_v<T, Real> && narrow_) {
      return static_cast<Real>(static_cast<const T*>(data_)[index]);
    }
    return static_cast<const Real*>(data_)[index];
  }

 private:
  bool narrow_;
  const void* data_;
};

// The counterpart for gradients.
template <class T>
class PointWriter {
 public:
  using Real = compute_t<T>;

  __device__ __forceinline__ PointWriter(void* data, bool narrow)
      : narrow_(narrow), data_(data) {}

  __device__ __forceinline__ void write(int64_t index, Real number) const {
    if (!std::is_same_v<T, Real> && narrow_) {
      static_cast<T*>(data_)[index] = static_cast<T>(number);
    } else {
      static_cast<Real*>(data_)[index] = number;
    }
  }

 private:
  bool narrow_;
  void* data_;
};

// One head of one query.
template <class Real>
struct Pair {
  int32_t query, head;  // query is negative beyond the last one
  Real peak, scale;     // the softmax of x is exp(x - peak) * scale
};

// Inputs of the image that a block works on.
template <class T, class Index>
struct Image {
  using Real = compute_t<T>;

  const Call<T>& call;
  int64_t first_pair;  // of this image among those of all
  const T* value;
  PointReader<T> points, weights;
  const Real* reference;

  __device__ __forceinline__ Image(const Call<T>& a_call, int64_t image)
      : call(a_call),
        first_pair(image * a_call.queries * a_call.heads),
        value(a_call.value + image * a_call.image_size),
        points(a_call.points, first_pair * a_call.num_points * 2),
        weights(a_call.weights, first_pair * a_call.num_points),
        reference(a_call.reference == nullptr
                      ? nullptr
                      : a_call.reference +
                            image * a_call.reference_image_stride) {}

  // Where the points of a pair begin among those of the image.
  __device__ __forceinline__ Index first_point(const Pair<Real>& pair) const {
    return (Index(pair.query) * call.heads + pair.head) * call.num_points;
  }

  __device__ __forceinline__ Real weight(const Pair<Real>& pair,
                                         int32_t point) const {
    const Real given = weights[first_point(pair) + point];
    if (call.form == PointForm::kLocation) return given;
    return std::exp(given - pair.peak) * pair.scale;
  }

  __device__ __forceinline__ const Real* reference_of(int32_t query,
                                                      int32_t level) const {
    return reference + query * Index(call.reference_query_stride) +
           level * call.reference_level_stride;
  }

  __device__ __forceinline__ Anchor<Real> anchor(int32_t query,
                                                 int32_t level) const {
    const auto width = static_cast<Real>(call.levels[level].width);
    const auto height = static_cast<Real>(call.levels[level].height);
    if (call.form == PointForm::kLocation) {
      return location_anchor(width, height);
    }
    if (call.form == PointForm::kQueryGrid) {
      const int32_t columns = call.tiling.columns.value();
      const int32_t row = call.tiling.columns.quotient(query);
      const int32_t column = query - row * columns;
      return point_anchor(cell_center(Real(column), Real(columns)),
                          cell_center(Real(row), Real(call.tiling.rows)), width,
                          height);
    }
    const Real* given = reference_of(query, level);
    if (call.form == PointForm::kPoint) {
      return point_anchor(given[0], given[1], width, height);
    }
    return box_anchor(given[0], given[1], given[2], given[3], width, height,
                      Real(call.points_per_level.value()));
  }
};

// Fills the block's pairs; the caller synchronises.
template <class T, class Index>
__device__ __forceinline__ void fill_pairs(const Image<T, Index>& image,
                                           const BlockTile& tile,
                                           Pair<compute_t<T>>* pairs) {
  using Real = compute_t<T>;
  const Tiling& tiling = image.call.tiling;
  const int32_t columns = tiling.columns.value();
  for (int32_t i = threadIdx.x; i < tiling.pairs; i += blockDim.x) {
    const int32_t place = tiling.tile_heads.quotient(i);
    const int32_t head = i - place * tiling.tile_heads.value();
    const int32_t row = tile.first_row + (place >> tiling.column_bits);
    const int32_t column =
        tile.first_column + (place & ((1 << tiling.column_bits) - 1));
    Pair<Real> pair = {-1, tile.first_head + head, Real(0), Real(0)};
    if (row < tiling.rows && column < columns) {
      pair.query = row * columns + column;
      if (image.call.form != PointForm::kLocation) {
        const Index first = image.first_point(pair);
        pair.peak = -INFINITY;
        for (int32_t k = 0; k < image.call.num_points; ++k) {
          const Real logit = image.weights[first + k];
          if (logit > pair.peak) pair.peak = logit;
        }
        Real sum = 0;
        for (int32_t k = 0; k < image.call.num_points; ++k) {
          sum += std::exp(image.weights[first + k] - pair.peak);
        }
        pair.scale = Real(1) / sum;
      }
    }
    pairs[i] = pair;
  }
}

// A sampling point: where it lies and how much it weighs.
template <class Real, class Index>
struct Sample {
  Footprint<Real> footprint;
  Real weight;
  // Offsets in the image of the head's channels at the four pixels, in the
  // order of Corners; negative for pixels outside, which are never read.
  Index rows[4];
};

template <class T, class Index>
__device__ __forceinline__ Sample<compute_t<T>, Index> find_sample(
    const Image<T, Index>& image, const Pair<compute_t<T>>& pair,
    int32_t point) {
  using Real = compute_t<T>;
  const Call<T>& call = image.call;
  const int32_t level = call.points_per_level.quotient(point);
  const LevelSize size = call.levels[level];
  const Index index = image.first_point(pair) + point;
  const Anchor<Real> anchor = image.anchor(pair.query, level);
  const Real x = anchor.origin_x + anchor.scale_x * image.points[2 * index];
  const Real y = anchor.origin_y + anchor.scale_y * image.points[2 * index + 1];
  Sample<Real, Index> sample;
  sample.footprint = make_footprint(x, y, Real(size.width), Real(size.height));
  sample.weight = sample.footprint.counts ? image.weight(pair, point) : Real(0);
  const int32_t left = sample.footprint.left, top = sample.footprint.top;
  const bool counts = sample.footprint.counts;
  const bool at_left = counts && left >= 0;
  const bool at_right = counts && left < size.width - 1;
  const bool upper = top >= 0, lower = top < size.height - 1;
  const Index stride = Index(call.heads) * call.width;
  const Index row_stride = size.width * stride;
  const Index first = (Index(size.start) + left) * stride + top * row_stride +
                      Index(pair.head) * call.width;
  sample.rows[0] = at_left && upper ? first : Index(-1);
  sample.rows[1] = at_right && upper ? first + stride : Index(-1);
  sample.rows[2] = at_left && lower ? first + row_stride : Index(-1);
  sample.rows[3] = at_right && lower ? first + row_stride + stride : Index(-1);
  return sample;
}

// The samples of a block's pairs in shared memory. The pairs lie an odd number
// of 16 bytes apart, so that lanes of different pairs read different banks.
template <class Entry>
struct SampleTable {
  unsigned char* memory;
  int32_t num_points;

  template <class Int>
  static PIIP_D2_INLINE Int bytes_per_pair(Int num_points) {
    static_assert(sizeof(Entry) % 16 == 0, "entries are read by 16 bytes");
    return num_points * static_cast<Int>(sizeof(Entry)) + 16;
  }

  __device__ __forceinline__ Entry* of_pair(int32_t pair) const {
    return reinterpret_cast<Entry*>(memory + pair * bytes_per_pair(num_points));
  }
};

// Fills the table with make_entry(sample); the caller synchronises.
template <class T, class Index, class Entry, class MakeEntry>
__device__ __forceinline__ void fill_samples(const Image<T, Index>& image,
                                             const Pair<compute_t<T>>* pairs,
                                             const SampleTable<Entry>& table,
                                             const MakeEntry& make_entry) {
  const Call<T>& call = image.call;
  const int32_t count = call.tiling.pairs * call.num_points;
  for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {
    const int32_t pair = call.points_per_head.quotient(i);
    const int32_t point = i - pair * call.num_points;
    if (pairs[pair].query < 0) continue;
    table.of_pair(pair)[point] =
        make_entry(find_sample(image, pairs[pair], point));
  }
}

}  // namespace piip_d2::cuda
