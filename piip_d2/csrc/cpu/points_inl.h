// How Points computes its arrays.
#pragma once

#include "points.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

template <class T>
Points<T>::Points(const Call& call, int64_t max_rows, void* memory)
    : call_(call), layout_(call, kLanes), selection_{0, 0, 0, 0}, size_(0) {
  A* next = static_cast<A*>(memory);
  const auto take = [&next](int64_t count) {
    A* array = next;
    next += count;
    return array;
  };
  const auto take_whole = [&take](int64_t count) {
    return reinterpret_cast<Int*>(take(count));
  };
  width_ = take(layout_.pattern);
  height_ = take(layout_.pattern);
  columns_ = take_whole(layout_.pattern);
  last_column_ = take_whole(layout_.pattern);
  last_row_ = take_whole(layout_.pattern);
  // A vector more, as anchors are written a vector at a time.
  const int64_t room = layout_.size(max_rows) + kLanes;
  for (A** array : {&origin_x_, &origin_y_, &scale_x, &scale_y, &own_weight_,
                    &right_share, &lower_share}) {
    *array = take(room);
  }
  places = take_whole(2 * room);
  own_given_ = take(2 * room);
  corner_weights = take(4 * room);
  dots = take(4 * room);
  for (int64_t i = 0; i < 4 * room; ++i) dots[i] = A(0);
  set_levels();
}

// Sizes of the maps, and of the anchors what depends on them alone.
template <class T>
void Points<T>::set_levels() {
  for (int64_t i = 0; i < layout_.pattern; ++i) {
    const int64_t point = i % layout_.points;
    const Level& map = call_.levels[point / call_.points];
    width_[i] = static_cast<A>(map.width);
    height_[i] = static_cast<A>(map.height);
    columns_[i] = static_cast<Int>(map.width);
    last_column_[i] = static_cast<Int>(map.width - 1);
    last_row_[i] = static_cast<Int>(map.height - 1);
  }
  for (int64_t i = 0; i < layout_.pattern; ++i) {
    const auto anchor = call_.form == PointForm::kLocation
                            ? location_anchor(width_[i], height_[i])
                            : point_anchor(A(0), A(0), width_[i], height_[i]);
    origin_x_[i] = anchor.origin_x;
    origin_y_[i] = anchor.origin_y;
    scale_x[i] = anchor.scale_x;
    scale_y[i] = anchor.scale_y;
  }
}

// One number of the reference on the level of every lane.
template <class T>
PIIP_D2_INLINE typename Points<T>::Real Points<T>::by_level(const A* reference,
                                                            int64_t position,
                                                            int number) const {
  if (call_.reference_level_stride == 0) return Real(reference[number]);
  A numbers[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const int64_t level = (position + i) % layout_.points / call_.points;
    numbers[i] = reference[level * call_.reference_level_stride + number];
  }
  return Real::load(numbers);
}

template <class T>
PIIP_D2_INLINE Anchor<typename Points<T>::Real> Points<T>::anchor_at(
    int64_t position, const A* reference) const {
  const Real x = by_level(reference, position, 0);
  const Real y = by_level(reference, position, 1);
  const Real width = Real::load(width_ + position);
  const Real height = Real::load(height_ + position);
  if (call_.form != PointForm::kBox) return point_anchor(x, y, width, height);
  return box_anchor(x, y, by_level(reference, position, 2),
                    by_level(reference, position, 3), width, height,
                    Real(static_cast<A>(call_.points)));
}

// Writes the anchors of all points, query by query. What a vector writes too
// much, the next query's overwrite.
template <class T>
PIIP_D2_INLINE void Points<T>::set_references() {
  const int64_t per_query = selection_.num_heads * layout_.head_stride;
  for (int64_t i = 0; i < selection_.num_queries; ++i) {
    const int64_t index = selection_.first_query + i;
    const int64_t query = index % call_.queries;
    const A* reference = static_cast<const A*>(call_.reference) +
                         index / call_.queries * call_.reference_batch_stride +
                         query * call_.reference_query_stride;
    A center[2];
    if (call_.form == PointForm::kQueryGrid) {
      center[0] = cell_center(static_cast<A>(query % call_.grid_columns),
                              static_cast<A>(call_.grid_columns));
      center[1] = cell_center(static_cast<A>(query / call_.grid_columns),
                              static_cast<A>(call_.grid_rows));
      reference = center;
    }
    for (int64_t position = 0; position < layout_.pattern; position += kLanes) {
      const Anchor<Real> anchor = anchor_at(position, reference);
      for (int64_t point = position; point < per_query;
           point += layout_.pattern) {
        const int64_t to = i * per_query + point;
        anchor.origin_x.store(origin_x_ + to);
        anchor.origin_y.store(origin_y_ + to);
        if (!scales_by_point()) continue;
        anchor.scale_x.store(scale_x + to);
        anchor.scale_y.store(scale_y + to);
      }
    }
  }
}

// Takes the given tensors as they are where vectors can be read from them, else
// a copy with gaps filled.
template <class T>
template <class Given>
PIIP_D2_INLINE void Points<T>::fetch(const Given* points,
                                     const Given* weights) {
  const int64_t blocks = num_blocks();
  const int64_t length = block_length();
  if constexpr (std::is_same_v<Given, A>) {
    if (blocks == 1 && length == size_) {
      given = points + 2 * block_start(0);
      weight = weights + block_start(0);
      return;
    }
  }
  constexpr A kNoLogit = -__builtin_huge_val();
  const A padding = call_.form == PointForm::kLocation ? A(0) : kNoLogit;
  const int64_t stride = block_stride();
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t from = block_start(block);
    const int64_t to = block * stride;
    const int64_t end = block + 1 == blocks ? size_ : to + stride;
    copy_padded<kLanes>(points + 2 * from, 2 * length, 2 * (end - to), A(0),
                        own_given_ + 2 * to);
    copy_padded<kLanes>(weights + from, length, end - to, padding,
                        own_weight_ + to);
  }
  given = own_given_;
  weight = own_weight_;
}

template <class T>
PIIP_D2_INLINE void Points<T>::apply_softmax() {
  if (layout_.packed) {
    softmax_groups<kLanes>(weight, size_, layout_.points, own_weight_);
  } else {
    for (int64_t i = 0; i < size_; i += layout_.head_stride) {
      softmax_vectors<kLanes>(weight + i, layout_.head_stride, own_weight_ + i);
    }
  }
  weight = own_weight_;
}

template <class T>
PIIP_D2_INLINE void Points<T>::place() {
  const bool origins_by_point = call_.form != PointForm::kLocation;
  int64_t level = 0;  // position in the pattern
  for (int64_t i = 0; i < size_; i += kLanes) {
    const int64_t origin = origins_by_point ? i : level;
    const int64_t scale = scales_by_point() ? i : level;
    const Real some = Real::load(given + 2 * i);
    const Real others = Real::load(given + 2 * i + kLanes);
    const Real x =
        Real::load(origin_x_ + origin) +
        Real::load(scale_x + scale) * shuffle_by<EveryOther<0>>(some, others);
    const Real y =
        Real::load(origin_y_ + origin) +
        Real::load(scale_y + scale) * shuffle_by<EveryOther<1>>(some, others);
    const Footprint<Real> footprint = make_footprint(
        x, y, Real::load(width_ + level), Real::load(height_ + level));
    store_corners(piip_d2::corner_weights(footprint, Real::load(weight + i)),
                  corner_weights + 4 * i);
    footprint.right_share.store(right_share + i);
    footprint.lower_share.store(lower_share + i);

    const Whole none(Int(-1)), zero(Int(0));
    const Whole pixel =
        footprint.top * Whole::load(columns_ + level) + footprint.left;
    const Whole left =
        select(footprint.left > none, Whole(kUpperLeft | kLowerLeft), zero);
    const Whole right =
        select(footprint.left < Whole::load(last_column_ + level),
               Whole(kUpperRight | kLowerRight), zero);
    const Whole upper =
        select(footprint.top > none, Whole(kUpperLeft | kUpperRight), zero);
    const Whole lower = select(footprint.top < Whole::load(last_row_ + level),
                               Whole(kLowerLeft | kLowerRight), zero);
    const Whole corners =
        select(footprint.counts, (left | right) & (upper | lower), zero);
    shuffle_by<InTurns<false>>(pixel, corners).store(places + 2 * i);
    shuffle_by<InTurns<true>>(pixel, corners).store(places + 2 * i + kLanes);
    level = level + kLanes == layout_.pattern ? 0 : level + kLanes;
  }
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
