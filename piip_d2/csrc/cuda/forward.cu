// The forward operators on CUDA devices.

#include <torch/csrc/stable/library.h>

#include "forward.cuh"
#include "tensors.h"

namespace piip_d2::cuda {
namespace {

Tensor run_forward(const Problem& problem, const Inputs& inputs) {
  const torch::stable::accelerator::DeviceGuard guard(
      inputs.value.get_device_index());
  Tensor output = torch::stable::new_empty(
      inputs.value,
      {problem.batch, problem.queries, problem.heads * problem.width});
  if (output.numel() == 0) return output;
  with_value_type(inputs.value, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    ForwardCall<T> forward = {};
    forward.call = make_call<T>(problem, inputs);
    forward.output = static_cast<T*>(output.mutable_data_ptr());
    launch_forward(problem, forward, inputs.rows, needs_wide_index(problem),
                   current_stream(inputs.value));
  });
  return output;
}

Tensor plain(const Tensor& value, std::vector<int64_t> spatial_shapes,
             const Tensor& sampling_locations,
             const Tensor& attention_weights) {
  const Problem problem = make_problem(value, spatial_shapes,
                                       sampling_locations, attention_weights);
  check_plain_types(value, sampling_locations);
  return run_forward(
      problem, plain_inputs(value, sampling_locations, attention_weights));
}

Tensor fused(const Tensor& value, std::vector<int64_t> spatial_shapes,
             const Tensor& sampling_offsets, const Tensor& attention_logits,
             std::optional<Tensor> reference_points,
             std::vector<int64_t> query_grid) {
  const Problem problem =
      make_problem(value, spatial_shapes, sampling_offsets, attention_logits);
  return run_forward(
      problem, fused_inputs(problem, value, sampling_offsets, attention_logits,
                            reference_points, query_grid));
}

}  // namespace
}  // namespace piip_d2::cuda

STABLE_TORCH_LIBRARY_IMPL(piip_d2, CUDA, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&piip_d2::cuda::plain));
  m.impl("ms_deform_attn_fused", TORCH_BOX(&piip_d2::cuda::fused));
}
