// From scalar products to the gradients of a query's points and weights.
#pragma once

#include "points.h"
#include "row.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

using cpu::Gradients;

// Writes `count` numbers as T or, if `as_value` is false, as they are.
template <class T, int N>
PIIP_D2_INLINE void write(const ComputeType<T>* from, int64_t count,
                          bool as_value, void* to, int64_t offset) {
  using A = ComputeType<T>;
  if (std::is_same_v<T, A> || !as_value) {
    std::memcpy(static_cast<A*>(to) + offset, from, sizeof(A) * count);
    return;
  }
  T* target = static_cast<T*>(to) + offset;
  int64_t i = 0;
  for (; i + N <= count; i += N) store(Vec<A, N>::load(from + i), target + i);
  for (; i < count; ++i) store_first<1>(Vec<A, 2>(from[i]), target + i);
}

// The same for `numbers` numbers of every point, where they belong in a tensor.
template <class T>
PIIP_D2_INLINE void write_points(const Points<T>& points,
                                 const ComputeType<T>* from, int64_t numbers,
                                 bool as_value, void* to) {
  for (int64_t block = 0; block < points.num_blocks(); ++block) {
    write<T, Points<T>::kLanes>(from + block * numbers * points.block_stride(),
                                numbers * points.block_length(), as_value, to,
                                numbers * points.block_start(block));
  }
}

// Turns the gradients of weights into those of the logits behind them.
template <class T>
PIIP_D2_INLINE void differentiate_softmax(const Points<T>& points,
                                          ComputeType<T>* gradients) {
  constexpr int kLanes = Points<T>::kLanes;
  using Real = typename Points<T>::Real;
  const Layout& layout = points.layout();
  const int64_t vectors = layout.packed ? kLanes : layout.head_stride;
  const int64_t group = layout.packed ? layout.points : kLanes;
  for (int64_t start = 0; start < points.size(); start += vectors) {
    Real products(typename Real::Element(0));
    for (int64_t i = start; i < start + vectors; i += kLanes) {
      products =
          products + Real::load(points.weight + i) * Real::load(gradients + i);
    }
    const Real mean = join_groups(products, group, Sum());
    for (int64_t i = start; i < start + vectors; i += kLanes) {
      softmax_gradient(Real::load(points.weight + i), Real::load(gradients + i),
                       mean)
          .store(gradients + i);
    }
  }
}

// Sums over the points of a head on a level, as gradients of the reference.
template <class T>
void write_reference_gradient(const Call& call, const Gradients& gradients,
                              const Points<T>& points,
                              const ComputeType<T>* of_pixels) {
  using A = ComputeType<T>;
  const bool boxes = call.form == PointForm::kBox;
  for (int64_t row = 0; row < points.num_rows(); ++row) {
    int64_t point = row * points.layout().head_stride;
    A* to = static_cast<A*>(gradients.reference) +
            points.row_index(row) * call.num_levels * (boxes ? 4 : 2);
    for (int64_t level = 0; level < call.num_levels; ++level) {
      const A sizes[2] = {static_cast<A>(call.levels[level].width),
                          static_cast<A>(call.levels[level].height)};
      A moves[2] = {0, 0}, stretches[2] = {0, 0};
      for (const int64_t end = point + call.points; point < end; ++point) {
        for (int axis = 0; axis < 2; ++axis) {
          const A gradient = of_pixels[2 * point + axis];
          moves[axis] += gradient;
          stretches[axis] += chain(gradient, points.given[2 * point + axis]);
        }
      }
      for (int axis = 0; axis < 2; ++axis) {
        *to++ = moves[axis] * sizes[axis];
      }
      for (int axis = 0; boxes && axis < 2; ++axis) {
        *to++ = stretches[axis] *
                box_reach(sizes[axis], static_cast<A>(call.points));
      }
    }
  }
}

// Computes gradients of weights, and those of the given points or, if `scaled`
// is false, of pixel coordinates.
template <class T>
PIIP_D2_INLINE void differentiate_samples(const Points<T>& points, bool scaled,
                                          ComputeType<T>* of_points,
                                          ComputeType<T>* of_weights) {
  constexpr int kLanes = Points<T>::kLanes;
  using Real = typename Points<T>::Real;
  const bool by_point = points.scales_by_point();
  int64_t level = 0;  // position in the pattern
  for (int64_t i = 0; i < points.size(); i += kLanes) {
    Footprint<Real> footprint;
    footprint.right_share = Real::load(points.right_share + i);
    footprint.lower_share = Real::load(points.lower_share + i);
    const auto dots = load_corners<kLanes>(points.dots + 4 * i);
    auto gradient =
        sample_gradient(footprint, dots, Real::load(points.weight + i));
    if (scaled) {
      const int64_t anchor = by_point ? i : level;
      gradient.pixel_x =
          chain(gradient.pixel_x, Real::load(points.scale_x + anchor));
      gradient.pixel_y =
          chain(gradient.pixel_y, Real::load(points.scale_y + anchor));
    }
    gradient.weight.store(of_weights + i);
    shuffle_by<InTurns<false>>(gradient.pixel_x, gradient.pixel_y)
        .store(of_points + 2 * i);
    shuffle_by<InTurns<true>>(gradient.pixel_x, gradient.pixel_y)
        .store(of_points + 2 * i + kLanes);
    level = level + kLanes == points.layout().pattern ? 0 : level + kLanes;
  }
}

// Multiplies gradients of pixel coordinates by what a unit of the given points
// moves them; for boxes.
template <class T>
PIIP_D2_INLINE void scale_to_given(const Points<T>& points,
                                   ComputeType<T>* of_pixels) {
  for (int64_t i = 0; i < points.size(); ++i) {
    of_pixels[2 * i] = chain(of_pixels[2 * i], points.scale_x[i]);
    of_pixels[2 * i + 1] = chain(of_pixels[2 * i + 1], points.scale_y[i]);
  }
}

// Where gradients may be written without a stop in working memory; else null.
template <class T>
PIIP_D2_INLINE ComputeType<T>* direct_target(const Call& call,
                                             const Points<T>& points,
                                             void* tensor, int64_t numbers) {
  using A = ComputeType<T>;
  const bool whole =
      points.num_blocks() == 1 && points.block_length() == points.size();
  const bool same_type = std::is_same_v<T, A> || !call.given_as_value;
  if (tensor == nullptr || !whole || !same_type) return nullptr;
  return static_cast<A*>(tensor) + numbers * points.block_start(0);
}

// Writes what is wanted of the gradients of points. Their working arrays, not
// needed any more, take what cannot be written at once.
template <class T>
PIIP_D2_INLINE void write_gradients(const Call& call,
                                    const Gradients& gradients,
                                    const Points<T>& points) {
  const bool with_reference = gradients.reference != nullptr;
  auto* points_target = direct_target(call, points, gradients.points, 2);
  auto* weights_target = direct_target(call, points, gradients.weights, 1);
  auto* of_points = points_target == nullptr || with_reference
                        ? points.corner_weights
                        : points_target;
  auto* of_weights =
      weights_target == nullptr ? points.right_share : weights_target;
  differentiate_samples(points, !with_reference, of_points, of_weights);
  if (with_reference) {
    write_reference_gradient(call, gradients, points, of_points);
    if (points.scales_by_point()) scale_to_given(points, of_points);
  }
  if (gradients.points != nullptr && of_points != points_target) {
    write_points(points, of_points, 2, call.given_as_value, gradients.points);
  }
  if (gradients.weights == nullptr) return;
  if (call.form != PointForm::kLocation)
    differentiate_softmax(points, of_weights);
  if (of_weights != weights_target) {
    write_points(points, of_weights, 1, call.given_as_value, gradients.weights);
  }
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
