// Schemas of the operators, and the module that Python loads them with.

#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(piip_d2, m) {
  m.def(
      "ms_deform_attn(Tensor value, SymInt[] spatial_shapes, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, "
      "SymInt[] spatial_shapes, Tensor sampling_locations, "
      "Tensor attention_weights, bool need_value, bool need_locations, "
      "bool need_weights, bool deterministic) -> (Tensor, Tensor, Tensor)");
  m.def(
      "ms_deform_attn_fused(Tensor value, SymInt[] spatial_shapes, "
      "Tensor sampling_offsets, Tensor attention_logits, "
      "Tensor? reference_points, SymInt[] query_grid) -> Tensor");
  m.def(
      "ms_deform_attn_fused_backward(Tensor grad_output, Tensor value, "
      "SymInt[] spatial_shapes, Tensor sampling_offsets, "
      "Tensor attention_logits, Tensor? reference_points, "
      "SymInt[] query_grid, bool need_value, bool need_offsets, "
      "bool need_logits, bool need_reference, bool deterministic) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  // The instruction set that operators on CPU tensors use.
  m.def("cpu_capability() -> str");
}

// Importing the module registers the operators; it has no names of its own.
PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                   "_C",
                                   nullptr,
                                   -1,
                                   nullptr,
                                   nullptr,
                                   nullptr,
                                   nullptr,
                                   nullptr};
  return PyModule_Create(&definition);
}
