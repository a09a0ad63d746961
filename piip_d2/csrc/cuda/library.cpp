// The module that Python loads the CUDA kernels with.

#include <Python.h>

// Importing the module registers the kernels; it has no names of its own.
PyMODINIT_FUNC PyInit__C_cuda() {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr,
                                   -1, nullptr};
  return PyModule_Create(&definition);
}
