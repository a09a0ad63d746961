// What kernels that know nothing of tensors are told of maps and points.
#pragma once

#include <cstdint>

namespace piip_d2 {

struct Level {
  int64_t height, width;
  int64_t start;  // position of its first pixel among those of all levels
};

// How sampling points are given.
enum class PointForm {
  kLocation,   // locations in [0, 1]
  kPoint,      // offsets from reference points
  kBox,        // offsets relative to reference boxes
  kQueryGrid,  // offsets from the cells of a regular grid of queries
};

}  // namespace piip_d2
