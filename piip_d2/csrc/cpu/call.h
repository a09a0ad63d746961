// What the CPU kernels are told, in plain pointers and numbers: their files are
// compiled for different instruction sets and share no library code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../level.h"

namespace piip_d2::cpu {

// A forward call. "Given" are locations or offsets (B, Q, M, L, P, 2) and
// weights or logits (B, Q, M, L, P); all tensors are contiguous.
struct Call {
  int64_t batch, positions, heads, width, queries, num_levels, points;
  const Level* levels;
  PointForm form;
  bool given_as_value;  // given tensors have the value's type, else compute's
  const void* value;
  const void* given_points;
  const void* given_weights;
  const void* reference;  // or null
  int64_t reference_batch_stride, reference_query_stride;
  int64_t reference_level_stride;
  int64_t grid_rows, grid_columns;

  int64_t points_per_head() const { return num_levels * points; }
};

// Results of a backward call; null where they are not wanted.
struct Gradients {
  const void* output;  // the gradient that comes in, (B, Q, M * D)
  void* value;         // in the compute type; added to (ValueGradient)
  void* points;
  void* weights;
  void* reference;  // (B, Q, M, L, 2 or 4)
};

// A part of a backward call that one thread does.
struct Share {
  int64_t batch_index;
  int64_t first_head, last_head;    // [first, last)
  int64_t first_query, last_query;  // [first, last)
};

// One instruction set's functions for one type of value.
struct Kernels {
  // Bytes of working memory that a thread brings along, aligned to 64.
  size_t (*scratch_size)(const Call& call);
  // Queries [first, last) of all B * Q; writes rows of the output.
  void (*forward)(const Call& call, void* output, int64_t first, int64_t last,
                  void* scratch);
  void (*backward)(const Call& call, const Gradients& gradients,
                   const Share& share, void* scratch);
  // Rounds `count` numbers of the compute type to the value's type.
  void (*round)(const void* from, void* to, int64_t count);
};

// Kernels for the types a value can have.
struct KernelSet {
  const char* name;
  Kernels float32, float64, bfloat16, float16;
};

KernelSet avx512_kernels();
KernelSet avx2_kernels();
KernelSet portable_kernels();

}  // namespace piip_d2::cpu
