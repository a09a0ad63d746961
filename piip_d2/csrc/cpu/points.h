// The sampling points of some queries and heads: where they fall and what they
// weigh, many points to a vector.
#pragma once

#include "call.h"
#include "corners.h"
#include "element.h"
#include "layout.h"
#include "softmax.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

// Which of the four pixels of a footprint lie on the map.
enum Corner : int {
  kUpperLeft = 1,
  kUpperRight = 2,
  kLowerLeft = 4,
  kLowerRight = 8,
  kAllCorners = 15,
};

// Which points: those of `num_heads` heads of `num_queries` queries, counted
// through all images.
struct Selection {
  int64_t first_query, num_queries;
  int64_t first_head, num_heads;

  int64_t num_rows() const { return num_queries * num_heads; }
};

// Points in working memory, one array for each quantity. A "row" are the points
// of one head of one query.
template <class T>
class Points {
 public:
  using A = ComputeType<T>;
  using Int = typename IntegerOfSize<sizeof(A)>::Type;
  static constexpr int kLanes = kMaxLanes<A>;
  using Real = Vec<A, kLanes>;
  using Whole = typename Real::Whole;

  Points(const Call& call, int64_t max_rows, void* memory);

  // Working memory that is enough for any number of a call's heads.
  static size_t bytes(const Call& call) {
    const Layout layout(call, kLanes);
    const int64_t room = most_points_at_once(call, kLanes) + kLanes;
    return sizeof(A) *
           (kArraysByLevel * layout.pattern + kArraysByPoint * room);
  }

  // Reads and places the selected points.
  PIIP_D2_INLINE void read(const Selection& selection) {
    selection_ = selection;
    size_ = layout_.size(selection.num_rows());
    if (call_.given_as_value) {
      fetch(static_cast<const T*>(call_.given_points),
            static_cast<const T*>(call_.given_weights));
    } else {
      fetch(static_cast<const A*>(call_.given_points),
            static_cast<const A*>(call_.given_weights));
    }
    if (call_.form != PointForm::kLocation) {
      set_references();
      apply_softmax();
    }
    place();
  }

  // Only boxes differ from query to query in what an offset moves.
  bool scales_by_point() const { return call_.form == PointForm::kBox; }

  // Points are contiguous in the given tensors block by block.
  int64_t num_blocks() const {
    if (!layout_.packed) return num_rows();
    return selection_.num_heads == call_.heads ? 1 : selection_.num_queries;
  }

  // A row's number among those of all queries and heads.
  int64_t row_index(int64_t row) const {
    const int64_t query = selection_.first_query + row / selection_.num_heads;
    const int64_t head = selection_.first_head + row % selection_.num_heads;
    return query * call_.heads + head;
  }

  // Where a block begins in the given tensors, counted in points.
  int64_t block_start(int64_t block) const {
    return row_index(block * (num_rows() / num_blocks())) * layout_.points;
  }

  int64_t block_length() const {
    return num_rows() / num_blocks() * layout_.points;
  }

  // From one block to the next in working memory.
  int64_t block_stride() const {
    return num_rows() / num_blocks() * layout_.head_stride;
  }

  const Layout& layout() const { return layout_; }
  int64_t num_rows() const { return selection_.num_rows(); }
  int64_t size() const { return size_; }

  const A* given;   // x and y in turns
  const A* weight;  // what a sample counts
  A* scale_x;       // what a unit of `given` moves it; by point where
  A* scale_y;       // scales_by_point(), else by position in the pattern
  Int* places;      // two numbers a point: the upper left pixel's position in
                    // its level, and which of the four lie on the map, as bits
  A* right_share;
  A* lower_share;
  A* corner_weights;  // four numbers a point
  A* dots;            // likewise, zero where there is no point

 private:
  static constexpr int64_t kArraysByLevel = 5;
  static constexpr int64_t kArraysByPoint = 19;

  void set_levels();
  void set_references();
  Anchor<Real> anchor_at(int64_t position, const A* reference) const;
  Real by_level(const A* reference, int64_t position, int number) const;
  void apply_softmax();
  void place();
  template <class Given>
  void fetch(const Given* points, const Given* weights);

  const Call& call_;
  Layout layout_;
  Selection selection_;
  int64_t size_;
  // By position in the pattern of levels.
  A* width_;
  A* height_;
  Int* columns_;
  Int* last_column_;
  Int* last_row_;
  // By point, but for locations, which have one by position in the pattern.
  A* origin_x_;
  A* origin_y_;
  A* own_given_;
  A* own_weight_;
};

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2

#include "points_inl.h"
