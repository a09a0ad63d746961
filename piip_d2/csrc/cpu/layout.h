// How points are laid out in working memory.
#pragma once

#include "call.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

using cpu::Call;

// Where whole heads fill a vector, their points follow each other as in the
// given tensors ("packed"); otherwise every head begins a new vector, whose
// last lanes may be unused.
struct Layout {
  int64_t points;       // of a head, on all levels
  int64_t head_stride;  // from a head's points to those of the next
  int64_t pattern;      // after so many points levels repeat; whole vectors
  bool packed;

  Layout(const Call& call, int lanes) : points(call.points_per_head()) {
    packed = points <= lanes && lanes % points == 0;
    pattern = (points + lanes - 1) / lanes * lanes;
    head_stride = packed ? points : pattern;
  }

  // Points of `rows` heads, rounded up to whole vectors.
  int64_t size(int64_t rows) const {
    return (rows * head_stride + pattern - 1) / pattern * pattern;
  }
};

// Queries to take at once when each has points of `heads` heads: enough for
// whole vectors, and for the processor to be busy.
inline int64_t queries_at_once(const Call& call, int64_t heads, int lanes) {
  constexpr int64_t kEnough = 128;
  const int64_t points = heads * Layout(call, lanes).head_stride;
  int64_t queries = 1;
  while (queries < lanes &&
         (queries * points % lanes != 0 || queries * points < kEnough)) {
    queries *= 2;
  }
  return queries;
}

// The most points that are taken at once, for any number of a call's heads.
inline int64_t most_points_at_once(const Call& call, int lanes) {
  const Layout layout(call, lanes);
  int64_t most = 0;
  for (int64_t heads = 1; heads <= call.heads; ++heads) {
    const int64_t rows = queries_at_once(call, heads, lanes) * heads;
    const int64_t size = layout.size(rows);
    most = size > most ? size : most;
  }
  return most;
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
