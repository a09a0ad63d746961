// Sizes of a call, and the checks that keep its memory accesses in bounds.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "level.h"

namespace piip_d2 {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Problem {
  int64_t batch, positions, heads, width;
  int64_t queries, points;
  std::vector<Level> levels;

  int64_t num_levels() const { return static_cast<int64_t>(levels.size()); }
  int64_t points_per_head() const { return num_levels() * points; }
  int64_t num_points() const {
    return batch * queries * heads * points_per_head();
  }
};

// The type all arithmetic is done in, and that locations have.
inline ScalarType compute_type(ScalarType value_type) {
  return value_type == ScalarType::Double ? ScalarType::Double
                                          : ScalarType::Float;
}

// Up to here all whole numbers are exact in float32.
constexpr int64_t kMaxSize = int64_t{1} << 24;

inline bool is_size(int64_t size) { return size >= 1 && size <= kMaxSize; }

inline std::vector<Level> make_levels(const std::vector<int64_t>& shapes) {
  STD_TORCH_CHECK(!shapes.empty() && shapes.size() % 2 == 0,
                  "spatial_shapes must hold a height and a width per level, "
                  "got ",
                  shapes.size(), " numbers");
  std::vector<Level> levels;
  int64_t start = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    STD_TORCH_CHECK(is_size(shapes[i]) && is_size(shapes[i + 1]),
                    "heights and widths of levels must be from 1 to ", kMaxSize,
                    ", got ", shapes[i], " x ", shapes[i + 1]);
    levels.push_back({shapes[i], shapes[i + 1], start});
    start += shapes[i] * shapes[i + 1];
  }
  return levels;
}

inline void check_size(const Tensor& tensor, int64_t dim, int64_t expected,
                       const char* name) {
  STD_TORCH_CHECK(tensor.size(dim) == expected, name, " must have ", expected,
                  " entries in dimension ", dim, ", got ", tensor.size(dim));
}

// Checks a call's value, its points (B, Q, M, L, P, 2), locations or offsets,
// and its weights or logits (B, Q, M, L, P).
inline Problem make_problem(const Tensor& value,
                            const std::vector<int64_t>& spatial_shapes,
                            const Tensor& points, const Tensor& weights) {
  STD_TORCH_CHECK(value.dim() == 4, "value must be (B, S, M, D), got ",
                  value.dim(), " dimensions");
  STD_TORCH_CHECK(points.dim() == 6 && weights.dim() == 5,
                  "points must be (B, Q, M, L, P, 2) and weights (B, Q, M, L, "
                  "P), got ",
                  points.dim(), " and ", weights.dim(), " dimensions");
  Problem problem{value.size(0),
                  value.size(1),
                  value.size(2),
                  value.size(3),
                  points.size(1),
                  points.size(4),
                  make_levels(spatial_shapes)};
  const Level& last = problem.levels.back();
  check_size(value, 1, last.start + last.height * last.width, "value");
  const int64_t sizes[] = {problem.batch, problem.queries, problem.heads,
                           problem.num_levels(), problem.points};
  for (int64_t dim = 0; dim < 5; ++dim) {
    check_size(points, dim, sizes[dim], "sampling points");
    check_size(weights, dim, sizes[dim], "attention weights");
  }
  check_size(points, 5, 2, "sampling points");
  const bool same_device =
      points.get_device_index() == value.get_device_index() &&
      weights.get_device_index() == value.get_device_index();
  STD_TORCH_CHECK(same_device,
                  "all tensors must be on one device, got value on ",
                  value.get_device_index(), ", sampling points on ",
                  points.get_device_index(), " and attention weights on ",
                  weights.get_device_index());
  STD_TORCH_CHECK(points.scalar_type() == weights.scalar_type(),
                  "sampling points and attention weights must have one type, "
                  "got ",
                  torch::headeronly::toString(points.scalar_type()), " and ",
                  torch::headeronly::toString(weights.scalar_type()));
  return problem;
}

// For the plain op: locations and weights have the compute type.
inline void check_plain_types(const Tensor& value, const Tensor& locations) {
  STD_TORCH_CHECK(
      locations.scalar_type() == compute_type(value.scalar_type()),
      "sampling_locations and attention_weights must be float64 for a float64 "
      "value and float32 for any other, got ",
      torch::headeronly::toString(locations.scalar_type()));
}

// For the fused op: offsets and logits have the compute type or the value's.
// Returns how its sampling points are given.
inline PointForm check_reference(const Problem& problem, const Tensor& value,
                                 const Tensor& offsets,
                                 const std::optional<Tensor>& reference,
                                 const std::vector<int64_t>& query_grid) {
  const ScalarType compute = compute_type(value.scalar_type());
  STD_TORCH_CHECK(offsets.scalar_type() == compute ||
                      offsets.scalar_type() == value.scalar_type(),
                  "sampling_offsets and attention_logits must have the type of "
                  "value, ",
                  torch::headeronly::toString(value.scalar_type()), ", or ",
                  torch::headeronly::toString(compute), ", got ",
                  torch::headeronly::toString(offsets.scalar_type()));
  STD_TORCH_CHECK(reference.has_value() == query_grid.empty(),
                  "give either reference_points or query_grid");
  if (!reference.has_value()) {
    STD_TORCH_CHECK(query_grid.size() == 2 && query_grid[0] > 0 &&
                        query_grid[1] > 0 &&
                        problem.queries % query_grid[0] == 0 &&
                        problem.queries / query_grid[0] == query_grid[1],
                    "query_grid must hold rows and columns of ",
                    problem.queries, " queries");
    return PointForm::kQueryGrid;
  }
  const Tensor& points = *reference;
  STD_TORCH_CHECK(points.dim() == 4 && points.scalar_type() == compute,
                  "reference_points must be (B or 1, Q, L or 1, 2 or 4) in ",
                  torch::headeronly::toString(compute), ", got ", points.dim(),
                  " dimensions in ",
                  torch::headeronly::toString(points.scalar_type()));
  STD_TORCH_CHECK(points.get_device_index() == value.get_device_index(),
                  "all tensors must be on one device, got value on ",
                  value.get_device_index(), " and reference_points on ",
                  points.get_device_index());
  check_size(points, 1, problem.queries, "reference_points");
  const bool fits =
      (points.size(0) == problem.batch || points.size(0) == 1) &&
      (points.size(2) == problem.num_levels() || points.size(2) == 1) &&
      (points.size(3) == 2 || points.size(3) == 4);
  STD_TORCH_CHECK(fits, "reference_points must be (", problem.batch,
                  " or 1, Q, ", problem.num_levels(), " or 1, 2 or 4), got (",
                  points.size(0), ", Q, ", points.size(2), ", ", points.size(3),
                  ")");
  return points.size(3) == 2 ? PointForm::kPoint : PointForm::kBox;
}

// The gradient of the output, which the backward ops take first.
inline void check_grad_output(const Problem& problem, const Tensor& value,
                              const Tensor& grad_output) {
  STD_TORCH_CHECK(grad_output.dim() == 3 &&
                      grad_output.scalar_type() == value.scalar_type(),
                  "grad_output must be (B, Q, M * D) in value's type, ",
                  torch::headeronly::toString(value.scalar_type()), ", got ",
                  grad_output.dim(), " dimensions in ",
                  torch::headeronly::toString(grad_output.scalar_type()));
  check_size(grad_output, 0, problem.batch, "grad_output");
  check_size(grad_output, 1, problem.queries, "grad_output");
  check_size(grad_output, 2, problem.heads * problem.width, "grad_output");
}

}  // namespace piip_d2
