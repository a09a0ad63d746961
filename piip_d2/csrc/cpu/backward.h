// The backward pass for some heads of one image. No other thread has these
// heads (or it has another copy of the value's gradient to add to), so nothing
// needs to be atomic, and sums are taken in one order.
#pragma once

#include "channel_blocks.h"
#include "gradients.h"
#include "points.h"
#include "row.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

using cpu::Gradients;
using cpu::Share;

// Channels [channel, channel + W) of a query's heads: the scalar products of
// the output's gradient with the sampled rows, and the gradient of the value.
template <class T, bool with_dots, bool with_value>
struct Scatter {
  using A = ComputeType<T>;

  using Int = typename Points<T>::Int;

  // One query. Functions keep a copy of it: nothing they write can change it.
  struct Job {
    const Call* call;
    int64_t first_head, last_head;
    int64_t first_point, head_stride;
    const Int* places;
    const A* corner_weights;
    A* dots;
    const T* image;
    const T* grad_output;
    A* grad_image;
  };

  using Function = void (*)(Job, int64_t);

  template <int W>
  __attribute__((noinline)) static void scatter(Job job, int64_t channel) {
    const Call& call = *job.call;
    const int64_t levels = call.num_levels, per_level = call.points;
    const int64_t width = call.width, stride = call.heads * width;
    for (int64_t head = job.first_head; head < job.last_head; ++head) {
      const int64_t column = head * width + channel;
      const auto row = Row<T, W>::load(job.grad_output + column);
      const auto exact_row = ExactRow<T, W>::load(job.grad_output + column);
      int64_t point =
          job.first_point + (head - job.first_head) * job.head_stride;
      for (int64_t level = 0; level < levels; ++level) {
        const Level map = call.levels[level];
        const int64_t base = map.start * stride + column;
        const int64_t down = map.width * stride;
        const int64_t steps[4] = {0, stride, down, down + stride};
        for (const int64_t end = point + per_level; point < end; ++point) {
          const int64_t at =
              base + static_cast<int64_t>(job.places[2 * point]) * stride;
          sample(job, row, exact_row, point, at, steps, channel > 0);
        }
      }
    }
  }

  template <int W>
  static constexpr Function function = &scatter<W>;

 private:
  template <int W>
  PIIP_D2_INLINE static void sample(const Job& job, const Row<T, W>& row,
                                    const ExactRow<T, W>& exact_row,
                                    int64_t point, int64_t at,
                                    const int64_t (&steps)[4], bool add_dots) {
    using Weight = typename ExactRow<T, W>::Weight;
    const int corners = static_cast<int>(job.places[2 * point + 1]);
    const A* weights = job.corner_weights + 4 * point;
    A* dots = job.dots + 4 * point;
    const T* from = job.image + at;
    A* to = with_value ? job.grad_image + at : nullptr;
    if (corners == kAllCorners) {
      if constexpr (with_dots) {
        store_sums(row.products(from + steps[0]), row.products(from + steps[1]),
                   row.products(from + steps[2]), row.products(from + steps[3]),
                   dots, add_dots);
      }
      if constexpr (with_value) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          exact_row.add_to(to + steps[i], Weight(weights[i]));
        }
      }
      return;
    }
    for (int i = 0; i < 4; ++i) {
      const bool on_map = (corners >> i & 1) != 0;
      if constexpr (with_dots) {
        const A product = on_map ? sum(row.products(from + steps[i])) : A(0);
        dots[i] = add_dots ? dots[i] + product : product;
      }
      if constexpr (with_value) {
        if (on_map) exact_row.add_to(to + steps[i], Weight(weights[i]));
      }
    }
  }
};

template <class T, bool with_dots, bool with_value>
void backward_share(const Call& call, const Gradients& gradients,
                    const Share& share, void* scratch) {
  using Work = Scatter<T, with_dots, with_value>;
  using A = ComputeType<T>;
  const int64_t heads = share.last_head - share.first_head;
  const int64_t at_once = queries_at_once(call, heads, Points<T>::kLanes);
  Points<T> points(call, at_once * heads, scratch);
  const ChannelBlocks<Work> blocks(call.width);
  const int64_t row = call.heads * call.width;
  const int64_t image = share.batch_index * call.positions * row;
  const int64_t query = share.batch_index * call.queries;
  const int64_t last = query + share.last_query;
  for (int64_t start = query + share.first_query; start < last;
       start += at_once) {
    const int64_t count = last - start < at_once ? last - start : at_once;
    points.read({start, count, share.first_head, heads});
    for (int64_t i = 0; i < count; ++i) {
      const typename Work::Job job{
          &call,
          share.first_head,
          share.last_head,
          i * heads * points.layout().head_stride,
          points.layout().head_stride,
          points.places,
          points.corner_weights,
          points.dots,
          static_cast<const T*>(call.value) + image,
          static_cast<const T*>(gradients.output) + (start + i) * row,
          with_value ? static_cast<A*>(gradients.value) + image : nullptr};
      blocks.for_each(
          [&](auto function, int64_t channel) { function(job, channel); });
    }
    if constexpr (with_dots) write_gradients(call, gradients, points);
  }
}

template <class T>
void backward(const Call& call, const Gradients& gradients, const Share& share,
              void* scratch) {
  const bool with_dots = gradients.points != nullptr ||
                         gradients.weights != nullptr ||
                         gradients.reference != nullptr;
  if (gradients.value == nullptr) {
    backward_share<T, true, false>(call, gradients, share, scratch);
  } else if (with_dots) {
    backward_share<T, true, true>(call, gradients, share, scratch);
  } else {
    backward_share<T, false, true>(call, gradients, share, scratch);
  }
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
