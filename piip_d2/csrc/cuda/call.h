// What the kernels are told about a call, and how its queries and heads are
// divided among blocks. Plain C++: no CUDA, no tensors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "../problem.h"
#include "../sampling.h"

namespace piip_d2::cuda {

// The type that values of type T are computed in.
template <class T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

constexpr int kWarp = 32;
constexpr int kMaxThreads = 256;
// The levels of a call travel as kernel arguments, of which there are 4 KB.
constexpr int kMaxLevels = 64;
// What a block gets without asking the driver for more.
constexpr int64_t kMaxSharedBytes = 48 * 1024;
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

// Division by a number known at launch, as a multiplication and a shift;
// exact for dividends in [0, 2^31): Granlund and Montgomery, "Division by
// invariant integers using multiplication", 1994.
class Divisor {
 public:
  Divisor() : Divisor(1) {}

  explicit Divisor(int32_t value) : value_(value) {
    while ((int64_t{1} << shift_) < value) ++shift_;
    // With 31 + shift bits the multiplier of any value but 1 fits in 32.
    const uint64_t power = uint64_t{1} << (31 + shift_);
    multiplier_ = static_cast<uint32_t>((power + value - 1) / value);
  }

  PIIP_D2_INLINE int32_t value() const { return value_; }

  PIIP_D2_INLINE int32_t quotient(int32_t dividend) const {
    const uint64_t product = uint64_t{multiplier_} * uint32_t(dividend);
    const auto high = static_cast<uint32_t>(product >> 32);
    return value_ == 1 ? dividend : static_cast<int32_t>(high >> (shift_ - 1));
  }

 private:
  int32_t value_;
  uint32_t multiplier_ = 0, shift_ = 0;
};

// The grid of all queries (one row of them where they form none) is cut into
// tiles; a block takes one tile of queries and a few neighbouring heads.
struct Tiling {
  int32_t rows;  // of the grid of queries
  Divisor columns;
  int32_t row_bits, column_bits;     // a tile has 2^row_bits rows
  Divisor tile_heads;                // heads of a block; divides all heads
  Divisor tiles_down, tiles_across;  // how many tiles the grid has
  Divisor head_tiles;
  int32_t pairs;  // of a query and a head, in a block
  int64_t blocks;
};

// What one pair of a query and a head costs.
struct PairCost {
  int64_t lanes;         // threads that share its channels
  int64_t row_bytes;     // of its value rows
  int64_t shared_bytes;  // of shared memory
};

// Neighbouring heads share the cache lines of their rows: as few heads as fill
// a line of 128 bytes and divide all of them.
inline int64_t choose_tile_heads(int64_t heads, const PairCost& cost) {
  for (int64_t tile_heads = 1; tile_heads < heads; ++tile_heads) {
    const bool fills = tile_heads * cost.row_bytes >= 128;
    if (fills && heads % tile_heads == 0) {
      return tile_heads * cost.shared_bytes <= kMaxSharedBytes ? tile_heads : 1;
    }
  }
  return heads * cost.shared_bytes <= kMaxSharedBytes ? heads : 1;
}

inline int64_t ceil_div(int64_t dividend, int64_t divisor) {
  return (dividend + divisor - 1) / divisor;
}

inline Tiling make_tiling(const Problem& problem, int64_t rows, int64_t columns,
                          const PairCost& cost) {
  STD_TORCH_CHECK(cost.shared_bytes <= kMaxSharedBytes,
                  "levels times points must fit in shared memory, got ",
                  problem.points_per_head(), " points of a head");
  // More shared memory than this takes from the L1 cache what tiles are for.
  constexpr int64_t kSharedBytes = 16 * 1024;
  constexpr int64_t kFewLanes = 128, kManyLanes = 512;
  // What an H100 runs at once at the 40 registers that most kernels take; with
  // less work than that, smaller tiles.
  constexpr int64_t kDeviceLanes = 132 * 1536;
  const int64_t tile_heads = choose_tile_heads(problem.heads, cost);
  const int64_t all_lanes =
      problem.batch * problem.heads * problem.queries * cost.lanes;
  int32_t bits = 6;
  for (; bits > 0; --bits) {
    const int64_t pairs = tile_heads << bits;
    const int64_t lanes = pairs * cost.lanes;
    const bool fits =
        lanes <= kManyLanes && pairs * cost.shared_bytes <= kSharedBytes;
    // Each block runs at most kMaxThreads of its lanes at a time.
    const bool idle = lanes > kMaxThreads && all_lanes < 2 * kDeviceLanes;
    const bool few = lanes > kFewLanes && all_lanes < kDeviceLanes;
    if (fits && !idle && !few) break;
  }
  const int32_t column_bits = rows == 1 ? bits : (bits + 1) / 2;
  const int32_t row_bits = bits - column_bits;
  const int64_t down = ceil_div(rows, int64_t{1} << row_bits);
  const int64_t across = ceil_div(columns, int64_t{1} << column_bits);
  const int64_t head_tiles = problem.heads / tile_heads;
  const int64_t blocks = problem.batch * head_tiles * down * across;
  STD_TORCH_CHECK(blocks <= kMaxInt32,
                  "batch times queries times heads is too large for a GPU: ",
                  blocks, " blocks");
  return {static_cast<int32_t>(rows),
          Divisor(static_cast<int32_t>(columns)),
          row_bits,
          column_bits,
          Divisor(static_cast<int32_t>(tile_heads)),
          Divisor(static_cast<int32_t>(down)),
          Divisor(static_cast<int32_t>(across)),
          Divisor(static_cast<int32_t>(head_tiles)),
          static_cast<int32_t>(tile_heads << bits),
          blocks};
}

struct LevelSize {
  int32_t height, width;
  int64_t start;
};

// Numbers of the compute type, or (narrow) of the value's type.
struct Points {
  const void* data;
  bool narrow;
};

// What forward and backward take in common.
template <class T>
struct Call {
  const T* value;                 // (B, S, M, D)
  Points points;                  // (B, Q, M, L, P, 2)
  Points weights;                 // (B, Q, M, L, P)
  const compute_t<T>* reference;  // (B or 1, Q, L or 1, 2 or 4), or null
  PointForm form;
  int64_t reference_image_stride, reference_query_stride;
  int32_t reference_level_stride;
  int32_t queries, heads, width, num_levels;
  int64_t image_size;  // elements of value in one image
  Divisor points_per_level;
  Divisor points_per_head;  // at least 1, also where there are none
  int32_t num_points;       // of a head
  Tiling tiling;
  LevelSize levels[kMaxLevels];
};

// Whether an offset inside of one image may not fit in 32 bits.
inline bool needs_wide_index(const Problem& problem) {
  const int64_t pairs = problem.queries * problem.heads;
  const int64_t largest =
      std::max({problem.positions * problem.heads * problem.width,
                pairs * problem.width, pairs * problem.points_per_head() * 2,
                problem.queries * problem.num_levels() * 4});
  return largest > kMaxInt32;
}

// Fills in what follows from the sizes; tensors and tiling are the caller's.
template <class T>
Call<T> make_call(const Problem& problem) {
  STD_TORCH_CHECK(problem.num_levels() <= kMaxLevels, "at most ", kMaxLevels,
                  " levels are supported on a GPU, got ", problem.num_levels());
  const int64_t largest = std::max({problem.queries, problem.heads,
                                    problem.width, problem.points_per_head()});
  STD_TORCH_CHECK(largest <= kMaxInt32,
                  "queries, heads, width and points must be below 2^31, got ",
                  largest);
  Call<T> call = {};
  call.queries = static_cast<int32_t>(problem.queries);
  call.heads = static_cast<int32_t>(problem.heads);
  call.width = static_cast<int32_t>(problem.width);
  call.num_levels = static_cast<int32_t>(problem.num_levels());
  call.image_size = problem.positions * problem.heads * problem.width;
  call.num_points = static_cast<int32_t>(problem.points_per_head());
  call.points_per_head = Divisor(std::max(call.num_points, 1));
  call.points_per_level =
      Divisor(static_cast<int32_t>(std::max(problem.points, int64_t{1})));
  for (size_t i = 0; i < problem.levels.size(); ++i) {
    const Level& level = problem.levels[i];
    STD_TORCH_CHECK(level.height <= kMaxInt32 && level.width <= kMaxInt32,
                    "heights and widths of levels must be below 2^31");
    call.levels[i] = {static_cast<int32_t>(level.height),
                      static_cast<int32_t>(level.width), level.start};
  }
  return call;
}

// Bytes of the widest loads that all rows and both arrays are aligned for.
inline int64_t choose_load_bytes(int64_t row_bytes, const void* one,
                                 const void* other) {
  const auto addresses =
      reinterpret_cast<uintptr_t>(one) | reinterpret_cast<uintptr_t>(other);
  int64_t bytes = 16;
  while ((row_bytes | static_cast<int64_t>(addresses % 16)) % bytes != 0) {
    bytes /= 2;
  }
  return bytes;
}

}  // namespace piip_d2::cuda
