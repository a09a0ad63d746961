// The backward operators on CUDA devices.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "backward.cuh"
#include "tensors.h"

namespace piip_d2::cuda {
namespace {

// Which gradients are wanted.
struct Needs {
  bool value, points, weights, reference;
};

struct Gradients {
  Tensor value, points, weights, reference;
};

Tensor empty_if(bool needed, const Tensor& like,
                const std::vector<int64_t>& shape) {
  if (needed) return torch::stable::new_empty(like, shape);
  return torch::stable::new_empty(like, {0});
}

template <class T>
T* data_if(bool needed, const Tensor& tensor) {
  return needed ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

// Gradients of the right sizes; that of the value comes later.
Gradients allocate(const Problem& problem, const Inputs& inputs,
                   const Needs& needs) {
  const std::vector<int64_t> pairs = {problem.batch, problem.queries,
                                      problem.heads};
  const auto shape = [&](std::initializer_list<int64_t> sizes) {
    std::vector<int64_t> all = pairs;
    all.insert(all.end(), sizes);
    return all;
  };
  const int64_t levels = problem.num_levels(), points = problem.points;
  Gradients gradients;
  gradients.value = empty_if(false, inputs.value, {});
  gradients.points =
      empty_if(needs.points, inputs.points, shape({levels, points, 2}));
  gradients.weights =
      empty_if(needs.weights, inputs.weights, shape({levels, points}));
  const Tensor& like =
      inputs.reference.has_value() ? *inputs.reference : inputs.value;
  const int64_t size = needs.reference ? like.size(3) : 0;
  gradients.reference = empty_if(needs.reference, like, shape({levels, size}));
  return gradients;
}

std::vector<int64_t> value_shape(const Problem& problem) {
  return {problem.batch, problem.positions, problem.heads, problem.width};
}

// The value's gradient is summed in the compute type and rounded once.
template <class T>
Tensor run_with_sums(const Problem& problem, const Inputs& inputs,
                     BackwardCall<T> backward, bool needs_value, void* stream) {
  using Real = compute_t<T>;
  const ScalarType value_type = inputs.value.scalar_type();
  Tensor sums = empty_if(false, inputs.value, {});
  if (needs_value) {
    sums = torch::stable::new_zeros(inputs.value, value_shape(problem),
                                    compute_type(value_type));
    backward.grad_value = data_if<Real>(true, sums);
  }
  launch_backward(problem, backward, inputs.rows, needs_wide_index(problem),
                  stream);
  if (!needs_value || std::is_same_v<T, Real>) return sums;
  return torch::stable::to(sums, value_type);
}

// The same with sums that do not depend on the order of their terms.
template <class T>
Tensor run_deterministic(const Problem& problem, const Inputs& inputs,
                         const Tensor& grad_output, BackwardCall<T> backward,
                         void* stream) {
  const Tensor sums = torch::stable::new_zeros(
      inputs.value, value_shape(problem), ScalarType::Long);
  const Tensor state =
      torch::stable::new_zeros(inputs.value, {3}, ScalarType::Int);
  auto* state_data = static_cast<FixedPointState*>(state.mutable_data_ptr());
  launch_magnitude(backward.grad_output, grad_output.numel(),
                   &state_data->gradient_exponent, stream);
  const bool is_plain = inputs.form == PointForm::kLocation;
  if (is_plain) {
    launch_magnitude(
        static_cast<const compute_t<T>*>(inputs.weights.const_data_ptr()),
        inputs.weights.numel(), &state_data->weight_exponent, stream);
  }
  backward.fixed_grad_value = data_if<unsigned long long>(true, sums);
  backward.fixed_state = state_data;
  backward.exponent_offset =
      exponent_offset(problem.queries * problem.points, is_plain);
  launch_backward(problem, backward, inputs.rows, true, stream);
  const Tensor grad_value = torch::stable::empty_like(inputs.value);
  launch_from_fixed_point<T>(
      {backward.fixed_grad_value, state_data, backward.exponent_offset,
       data_if<T>(true, grad_value), grad_value.numel()},
      stream);
  return grad_value;
}

Gradients run_backward(const Problem& problem, const Inputs& inputs,
                       const Tensor& given_grad_output, const Needs& needs,
                       bool deterministic) {
  check_grad_output(problem, inputs.value, given_grad_output);
  STD_TORCH_CHECK(
      given_grad_output.get_device_index() == inputs.value.get_device_index(),
      "all tensors must be on one device");
  const torch::stable::accelerator::DeviceGuard guard(
      inputs.value.get_device_index());
  const Tensor grad_output = torch::stable::contiguous(given_grad_output);
  Gradients gradients = allocate(problem, inputs, needs);
  if (grad_output.numel() == 0) {
    for (Tensor* each :
         {&gradients.points, &gradients.weights, &gradients.reference}) {
      torch::stable::zero_(*each);
    }
    if (needs.value) {
      gradients.value =
          torch::stable::new_zeros(inputs.value, value_shape(problem));
    }
    return gradients;
  }
  with_value_type(inputs.value, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    BackwardCall<T> backward = {};
    backward.call = make_call<T>(problem, inputs);
    backward.grad_output = static_cast<const T*>(grad_output.const_data_ptr());
    backward.grad_points = data_if<void>(needs.points, gradients.points);
    backward.grad_weights = data_if<void>(needs.weights, gradients.weights);
    backward.grad_reference =
        data_if<compute_t<T>>(needs.reference, gradients.reference);
    void* stream = current_stream(inputs.value);
    gradients.value =
        needs.value && deterministic
            ? run_deterministic(problem, inputs, grad_output, backward, stream)
            : run_with_sums(problem, inputs, backward, needs.value, stream);
  });
  return gradients;
}

std::tuple<Tensor, Tensor, Tensor> plain_backward(
    const Tensor& grad_output, const Tensor& value,
    std::vector<int64_t> spatial_shapes, const Tensor& sampling_locations,
    const Tensor& attention_weights, bool need_value, bool need_locations,
    bool need_weights, bool deterministic) {
  const Problem problem = make_problem(value, spatial_shapes,
                                       sampling_locations, attention_weights);
  check_plain_types(value, sampling_locations);
  const Gradients gradients = run_backward(
      problem, plain_inputs(value, sampling_locations, attention_weights),
      grad_output, {need_value, need_locations, need_weights, false},
      deterministic);
  return {gradients.value, gradients.points, gradients.weights};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fused_backward(
    const Tensor& grad_output, const Tensor& value,
    std::vector<int64_t> spatial_shapes, const Tensor& sampling_offsets,
    const Tensor& attention_logits, std::optional<Tensor> reference_points,
    std::vector<int64_t> query_grid, bool need_value, bool need_offsets,
    bool need_logits, bool need_reference, bool deterministic) {
  const Problem problem =
      make_problem(value, spatial_shapes, sampling_offsets, attention_logits);
  const Inputs inputs =
      fused_inputs(problem, value, sampling_offsets, attention_logits,
                   reference_points, query_grid);
  const bool has_reference = inputs.reference.has_value();
  const Gradients gradients = run_backward(
      problem, inputs, grad_output,
      {need_value, need_offsets, need_logits, need_reference && has_reference},
      deterministic);
  return {gradients.value, gradients.points, gradients.weights,
          gradients.reference};
}

}  // namespace
}  // namespace piip_d2::cuda

STABLE_TORCH_LIBRARY_IMPL(piip_d2, CUDA, m) {
  m.impl("ms_deform_attn_backward", TORCH_BOX(&piip_d2::cuda::plain_backward));
  m.impl("ms_deform_attn_fused_backward",
         TORCH_BOX(&piip_d2::cuda::fused_backward));
}
