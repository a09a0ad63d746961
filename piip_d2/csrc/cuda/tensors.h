// From tensors to what the kernels are told.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <optional>
#include <vector>

#include "call.h"

namespace piip_d2::cuda {

// Contiguous inputs of a call, and the grid of its queries.
struct Inputs {
  Tensor value, points, weights;
  std::optional<Tensor> reference;
  PointForm form;
  int64_t rows;  // of the grid of queries; 1 if they form none
};

inline Inputs plain_inputs(const Tensor& value, const Tensor& locations,
                           const Tensor& weights) {
  return {torch::stable::contiguous(value),
          torch::stable::contiguous(locations),
          torch::stable::contiguous(weights),
          std::nullopt,
          PointForm::kLocation,
          1};
}

inline Inputs fused_inputs(const Problem& problem, const Tensor& value,
                           const Tensor& offsets, const Tensor& logits,
                           const std::optional<Tensor>& reference,
                           const std::vector<int64_t>& query_grid) {
  const PointForm form =
      check_reference(problem, value, offsets, reference, query_grid);
  Inputs inputs = {torch::stable::contiguous(value),
                   torch::stable::contiguous(offsets),
                   torch::stable::contiguous(logits),
                   std::nullopt,
                   form,
                   query_grid.empty() ? 1 : query_grid[0]};
  if (reference.has_value()) {
    inputs.reference = torch::stable::contiguous(*reference);
  }
  return inputs;
}

template <class T>
Call<T> make_call(const Problem& problem, const Inputs& inputs) {
  Call<T> call = make_call<T>(problem);
  call.value = static_cast<const T*>(inputs.value.const_data_ptr());
  const bool narrow =
      inputs.points.scalar_type() != compute_type(inputs.value.scalar_type());
  call.points = {inputs.points.const_data_ptr(), narrow};
  call.weights = {inputs.weights.const_data_ptr(), narrow};
  call.form = inputs.form;
  if (inputs.reference.has_value()) {
    const Tensor& reference = *inputs.reference;
    const int64_t image_stride = reference.numel() / reference.size(0);
    call.reference =
        static_cast<const compute_t<T>*>(reference.const_data_ptr());
    call.reference_image_stride = reference.size(0) == 1 ? 0 : image_stride;
    call.reference_query_stride = reference.size(2) * reference.size(3);
    call.reference_level_stride =
        reference.size(2) == 1 ? 0 : static_cast<int32_t>(reference.size(3));
  }
  return call;
}

inline void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

// Calls `body` with a null pointer to the type that values have.
template <class Body>
void with_value_type(const Tensor& value, const Body& body) {
  switch (value.scalar_type()) {
    case ScalarType::Float:
      return body(static_cast<float*>(nullptr));
    case ScalarType::Double:
      return body(static_cast<double*>(nullptr));
    case ScalarType::Half:
      return body(static_cast<torch::headeronly::Half*>(nullptr));
    case ScalarType::BFloat16:
      return body(static_cast<torch::headeronly::BFloat16*>(nullptr));
    default:
      STD_TORCH_CHECK(false,
                      "value must be float32, float64, bfloat16 or float16");
  }
}

}  // namespace piip_d2::cuda
