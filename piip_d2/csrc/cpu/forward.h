// The forward pass: weighted sums of sampled rows.
#pragma once

#include "channel_blocks.h"
#include "points.h"
#include "row.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

// Channels [channel, channel + W) of all heads of one query. Each of the four
// pixels has a sum of its own, so that no addition waits for the one before.
template <class T, int W>
__attribute__((noinline)) void gather(const Call& call, const Points<T>& points,
                                      int64_t first_point, const T* image,
                                      int64_t channel, T* output) {
  const int64_t levels = call.num_levels, per_level = call.points;
  const int64_t heads = call.heads, stride = heads * call.width;
  const int64_t head_stride = points.layout().head_stride;
  const auto* places = points.places;
  const auto* corner_weights = points.corner_weights;
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t column = head * call.width + channel;
    Row<T, W> sums[4] = {Row<T, W>::zero(), Row<T, W>::zero(),
                         Row<T, W>::zero(), Row<T, W>::zero()};
    int64_t point = first_point + head * head_stride;
    for (int64_t level = 0; level < levels; ++level) {
      const Level map = call.levels[level];
      const T* base = image + map.start * stride + column;
      const int64_t down = map.width * stride;
      const int64_t steps[4] = {0, stride, down, down + stride};
      for (const int64_t end = point + per_level; point < end; ++point) {
        const T* row = base + static_cast<int64_t>(places[2 * point]) * stride;
        const int corners = static_cast<int>(places[2 * point + 1]);
        const auto* weights = corner_weights + 4 * point;
        if (corners == kAllCorners) {
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            sums[i].add(row + steps[i], weights[i]);
          }
        } else {
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            if ((corners >> i & 1) == 0) continue;
            sums[i].add(row + steps[i], weights[i]);
          }
        }
      }
    }
    sums[0].add(sums[1]);
    sums[2].add(sums[3]);
    sums[0].add(sums[2]);
    sums[0].store(output + column);
  }
}

template <class T>
struct Gather {
  using Function = void (*)(const Call&, const Points<T>&, int64_t, const T*,
                            int64_t, T*);
  template <int W>
  static constexpr Function function = &gather<T, W>;
};

template <class T>
void forward(const Call& call, void* output, int64_t first, int64_t last,
             void* scratch) {
  const int64_t at_once = queries_at_once(call, call.heads, Points<T>::kLanes);
  Points<T> points(call, at_once * call.heads, scratch);
  const ChannelBlocks<Gather<T>> blocks(call.width);
  const int64_t row = call.heads * call.width;
  const int64_t points_per_query = call.heads * points.layout().head_stride;
  for (int64_t start = first; start < last; start += at_once) {
    const int64_t count = last - start < at_once ? last - start : at_once;
    points.read({start, count, 0, call.heads});
    for (int64_t i = 0; i < count; ++i) {
      const int64_t query = start + i;
      const T* image = static_cast<const T*>(call.value) +
                       query / call.queries * call.positions * row;
      T* to = static_cast<T*>(output) + query * row;
      blocks.for_each([&](auto function, int64_t channel) {
        function(call, points, i * points_per_query, image, channel, to);
      });
    }
  }
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
