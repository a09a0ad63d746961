// What a call of an operator brings, checked, contiguous and as plain pointers.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "../problem.h"
#include "call.h"

namespace piip_d2::cpu {

using torch::stable::contiguous;

using Shapes = std::vector<int64_t>;
using OptionalTensor = std::optional<Tensor>;

// The contiguous tensors of a call, and the call in terms of their memory.
struct Inputs {
  Tensor value, points, weights;
  OptionalTensor reference;
  Problem problem;
  Call call;
};

constexpr int64_t kMaxMapPixels = int64_t{1} << 31;

inline Call make_call(const Inputs& inputs, PointForm form) {
  const Problem& problem = inputs.problem;
  Call call{};
  call.batch = problem.batch;
  call.positions = problem.positions;
  call.heads = problem.heads;
  call.width = problem.width;
  call.queries = problem.queries;
  call.num_levels = problem.num_levels();
  call.points = problem.points;
  call.levels = problem.levels.data();
  call.form = form;
  call.given_as_value =
      inputs.points.scalar_type() == inputs.value.scalar_type();
  call.value = inputs.value.const_data_ptr();
  call.given_points = inputs.points.const_data_ptr();
  call.given_weights = inputs.weights.const_data_ptr();
  return call;
}

inline void set_reference(Inputs& inputs, const Shapes& query_grid) {
  Call& call = inputs.call;
  if (!inputs.reference.has_value()) {
    call.grid_rows = query_grid[0];
    call.grid_columns = query_grid[1];
    return;
  }
  const Tensor& reference = *inputs.reference;
  const int64_t row = reference.size(2) * reference.size(3);
  call.reference = reference.const_data_ptr();
  call.reference_query_stride = row;
  call.reference_batch_stride =
      reference.size(0) == 1 ? 0 : row * reference.size(1);
  call.reference_level_stride = reference.size(2) == 1 ? 0 : reference.size(3);
}

inline void check_maps(const Problem& problem) {
  for (const Level& level : problem.levels) {
    STD_TORCH_CHECK(level.height * level.width < kMaxMapPixels,
                    "a map must have fewer than 2^31 pixels, got ",
                    level.height, " x ", level.width);
  }
}

inline Inputs plain_inputs(const Tensor& value, const Shapes& shapes,
                           const Tensor& locations, const Tensor& weights) {
  Problem problem = make_problem(value, shapes, locations, weights);
  check_plain_types(value, locations);
  check_maps(problem);
  Inputs inputs{contiguous(value), contiguous(locations), contiguous(weights),
                std::nullopt,      std::move(problem),    {}};
  inputs.call = make_call(inputs, PointForm::kLocation);
  return inputs;
}

inline Inputs fused_inputs(const Tensor& value, const Shapes& shapes,
                           const Tensor& offsets, const Tensor& logits,
                           const OptionalTensor& reference,
                           const Shapes& query_grid) {
  Problem problem = make_problem(value, shapes, offsets, logits);
  const PointForm form =
      check_reference(problem, value, offsets, reference, query_grid);
  check_maps(problem);
  Inputs inputs{contiguous(value), contiguous(offsets), contiguous(logits),
                std::nullopt,      std::move(problem),  {}};
  if (reference.has_value()) inputs.reference = contiguous(*reference);
  inputs.call = make_call(inputs, form);
  set_reference(inputs, query_grid);
  return inputs;
}

// Whether there is nothing to sample.
inline bool is_empty(const Problem& problem) {
  return problem.num_points() == 0 || problem.width == 0;
}

}  // namespace piip_d2::cpu
