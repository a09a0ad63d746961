// Where the gradient of the value is summed up.
#pragma once

#include "dispatch.h"

namespace piip_d2::cpu {

// Copies of the gradient in the compute type, so that threads that share a head
// can each add to one of their own.
class ValueGradient {
 public:
  ValueGradient(const Tensor& value, int64_t copies)
      : value_(value),
        size_(value.numel()),
        copies_(copies),
        type_(compute_type(value.scalar_type())),
        bytes_(type_ == ScalarType::Double ? 8 : 4),
        sum_(torch::stable::new_empty(value, value.sizes(), type_)),
        others_(torch::stable::new_empty(value, {copies - 1, size_}, type_)) {}

  char* get(int64_t copy) const {
    if (copy == 0) return static_cast<char*>(sum_.mutable_data_ptr());
    return static_cast<char*>(others_.mutable_data_ptr()) +
           (copy - 1) * size_ * bytes_;
  }

  // Sets some heads of an image of a copy to zero: a thread does so with what
  // it is about to add to, which then is in its cache.
  void clear(int64_t copy, const Share& share) const {
    const int64_t width = value_.size(3) * bytes_;
    const int64_t row = value_.size(2) * width;
    char* to = get(copy) + share.batch_index * value_.size(1) * row +
               share.first_head * width;
    const int64_t length = (share.last_head - share.first_head) * width;
    const int64_t positions = value_.size(1);
    for (int64_t i = 0; i < positions; ++i) {
      std::memset(to + i * row, 0, length);
    }
  }

  // The sum of all copies, rounded to the type of the value.
  Tensor finish(const Kernels& kernels) const {
    if (type_ == ScalarType::Double) {
      join<double>();
    } else {
      join<float>();
    }
    if (type_ == value_.scalar_type()) return sum_;
    Tensor rounded = torch::stable::empty_like(value_);
    char* to = static_cast<char*>(rounded.mutable_data_ptr());
    const int64_t width = static_cast<int64_t>(value_.element_size());
    for_each_range([&](int64_t first, int64_t last) {
      kernels.round(get(0) + first * bytes_, to + first * width, last - first);
    });
    return rounded;
  }

 private:
  template <class DoRange>
  void for_each_range(const DoRange& do_range) const {
    constexpr int64_t kGrain = 1 << 14;
    torch::stable::parallel_for(0, size_, kGrain, do_range);
  }

  // Adds all copies to the first one, in their order.
  template <class A>
  void join() const {
    if (copies_ == 1) return;
    for_each_range([this](int64_t first, int64_t last) {
      A* to = reinterpret_cast<A*>(get(0));
      for (int64_t copy = 1; copy < copies_; ++copy) {
        const A* from = reinterpret_cast<const A*>(get(copy));
        for (int64_t i = first; i < last; ++i) to[i] += from[i];
      }
    });
  }

  const Tensor& value_;
  int64_t size_, copies_;
  ScalarType type_;
  int64_t bytes_;
  Tensor sum_, others_;
};

}  // namespace piip_d2::cpu
