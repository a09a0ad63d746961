// The operators on CPU tensors.

#include <torch/csrc/stable/library.h>

#include <string>
#include <tuple>

#include "inputs.h"
#include "value_gradient.h"

namespace piip_d2::cpu {
namespace {

using torch::stable::new_empty;
using torch::stable::new_zeros;

Tensor forward(const Inputs& inputs) {
  const Call& call = inputs.call;
  const Shapes size{call.batch, call.queries, call.heads * call.width};
  if (is_empty(inputs.problem)) return new_zeros(inputs.value, size);
  Tensor output = new_empty(inputs.value, size);
  void* rows = output.mutable_data_ptr();
  const Kernels& kernels = kernels_for(inputs.value.scalar_type());
  const int64_t total = call.batch * call.queries;
  const int64_t threads =
      std::min<int64_t>(torch::stable::get_num_threads(), total);
  const Scratch scratch(kernels.scratch_size(call), threads);
  for_each_task(threads, [&](int64_t task) {
    kernels.forward(call, rows, part_start(total, task, threads),
                    part_start(total, task + 1, threads), scratch.of(task));
  });
  return output;
}

// What a backward call wants.
struct Wanted {
  bool value, points, weights, reference;
};

struct Results {
  Tensor value, points, weights, reference;
};

Tensor result(bool wanted, const Tensor& like, const Shapes& size) {
  return wanted ? new_empty(like, size) : new_empty(like, {0});
}

// Heads of all images, in their order, are divided among threads; where there
// are fewer of them than threads, so are the queries of each.
void run_backward(const Inputs& inputs, Gradients gradients,
                  const ValueGradient* of_value, int64_t parts) {
  const Call& call = inputs.call;
  const Kernels& kernels = kernels_for(inputs.value.scalar_type());
  const int64_t heads = call.batch * call.heads;
  const int64_t groups =
      std::min<int64_t>(torch::stable::get_num_threads(), heads);
  const Scratch scratch(kernels.scratch_size(call), groups * parts);
  for_each_task(groups * parts, [&](int64_t task) {
    const int64_t group = task / parts;
    const int64_t part = task % parts;
    Gradients own = gradients;
    if (of_value != nullptr) own.value = of_value->get(part);
    int64_t head = part_start(heads, group, groups);
    const int64_t end = part_start(heads, group + 1, groups);
    while (head < end) {
      const int64_t image = head / call.heads;
      const int64_t last = std::min(end, (image + 1) * call.heads);
      const Share share{image, head - image * call.heads,
                        last - image * call.heads,
                        part_start(call.queries, part, parts),
                        part_start(call.queries, part + 1, parts)};
      if (of_value != nullptr) of_value->clear(part, share);
      kernels.backward(call, own, share, scratch.of(task));
      head = last;
    }
  });
}

// Parts that the queries are cut into.
int64_t num_parts(const Call& call) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t parts = threads / std::max<int64_t>(call.batch * call.heads, 1);
  return std::min(std::max<int64_t>(parts, 1), call.queries);
}

// Room for what is wanted, but for the gradient of the value.
Results allocate(const Inputs& inputs, const Wanted& wanted) {
  const Call& call = inputs.call;
  const auto shape = [&call](std::initializer_list<int64_t> sizes) {
    Shapes all{call.batch, call.queries, call.heads, call.num_levels};
    all.insert(all.end(), sizes);
    return all;
  };
  const Tensor& reference = inputs.reference.value_or(inputs.value);
  return {result(false, inputs.value, {}),
          result(wanted.points, inputs.points, shape({call.points, 2})),
          result(wanted.weights, inputs.weights, shape({call.points})),
          result(wanted.reference, reference, shape({reference.size(3)}))};
}

Results backward(const Inputs& inputs, const Tensor& grad_output,
                 const Wanted& wanted) {
  check_grad_output(inputs.problem, inputs.value, grad_output);
  const Tensor gradient = contiguous(grad_output);
  Results results = allocate(inputs, wanted);
  if (is_empty(inputs.problem)) {
    if (wanted.value) {
      results.value = new_zeros(inputs.value, inputs.value.sizes());
    }
    for (Tensor* each :
         {&results.points, &results.weights, &results.reference}) {
      torch::stable::zero_(*each);
    }
    return results;
  }
  const auto memory = [](bool is_wanted, const Tensor& tensor) {
    return is_wanted ? tensor.mutable_data_ptr() : nullptr;
  };
  const Gradients gradients{gradient.const_data_ptr(), nullptr,
                            memory(wanted.points, results.points),
                            memory(wanted.weights, results.weights),
                            memory(wanted.reference, results.reference)};
  const int64_t parts = num_parts(inputs.call);
  if (wanted.value) {
    const ValueGradient of_value(inputs.value, parts);
    run_backward(inputs, gradients, &of_value, parts);
    results.value = of_value.finish(kernels_for(inputs.value.scalar_type()));
  } else if (wanted.points || wanted.weights || wanted.reference) {
    run_backward(inputs, gradients, nullptr, parts);
  }
  return results;
}

Tensor ms_deform_attn(const Tensor& value, const Shapes& spatial_shapes,
                      const Tensor& sampling_locations,
                      const Tensor& attention_weights) {
  return forward(plain_inputs(value, spatial_shapes, sampling_locations,
                              attention_weights));
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(
    const Tensor& grad_output, const Tensor& value,
    const Shapes& spatial_shapes, const Tensor& sampling_locations,
    const Tensor& attention_weights, bool need_value, bool need_locations,
    bool need_weights, bool /*deterministic: always*/) {
  const Results results =
      backward(plain_inputs(value, spatial_shapes, sampling_locations,
                            attention_weights),
               grad_output, {need_value, need_locations, need_weights, false});
  return {results.value, results.points, results.weights};
}

Tensor ms_deform_attn_fused(const Tensor& value, const Shapes& spatial_shapes,
                            const Tensor& sampling_offsets,
                            const Tensor& attention_logits,
                            const OptionalTensor& reference_points,
                            const Shapes& query_grid) {
  return forward(fused_inputs(value, spatial_shapes, sampling_offsets,
                              attention_logits, reference_points, query_grid));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> ms_deform_attn_fused_backward(
    const Tensor& grad_output, const Tensor& value,
    const Shapes& spatial_shapes, const Tensor& sampling_offsets,
    const Tensor& attention_logits, const OptionalTensor& reference_points,
    const Shapes& query_grid, bool need_value, bool need_offsets,
    bool need_logits, bool need_reference, bool /*deterministic: always*/) {
  STD_TORCH_CHECK(!need_reference || reference_points.has_value(),
                  "reference_points have no gradient where none are given");
  const Results results = backward(
      fused_inputs(value, spatial_shapes, sampling_offsets, attention_logits,
                   reference_points, query_grid),
      grad_output, {need_value, need_offsets, need_logits, need_reference});
  return {results.value, results.points, results.weights, results.reference};
}

std::string cpu_capability() { return kernel_set().name; }

}  // namespace
}  // namespace piip_d2::cpu

STABLE_TORCH_LIBRARY_IMPL(piip_d2, CPU, m) {
  using namespace piip_d2::cpu;
  m.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward));
  m.impl("ms_deform_attn_fused", TORCH_BOX(&ms_deform_attn_fused));
  m.impl("ms_deform_attn_fused_backward",
         TORCH_BOX(&ms_deform_attn_fused_backward));
}

STABLE_TORCH_LIBRARY_IMPL(piip_d2, CompositeExplicitAutograd, m) {
  m.impl("cpu_capability", TORCH_BOX(&piip_d2::cpu::cpu_capability));
}
