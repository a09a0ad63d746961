// What is left of deformable attention's forward pass without its arithmetic:
// gather rows at offsets known beforehand, multiply and add. Nothing that reads
// the same rows can be much faster.
//
// Compiled on the machine that it measures, for that machine's instructions.

#include <algorithm>
#include <cstdint>

extern "C" {

// torch_parallel_for of PyTorch's stable C interface, so that the same threads
// work here as in what is measured.
typedef void (*RangeFunction)(int64_t begin, int64_t end, void* context);
typedef int32_t (*ParallelFor)(int64_t begin, int64_t end, int64_t grain,
                               RangeFunction function, void* context);

struct Gather {
  int64_t groups;   // rows of the output, one per query and head
  int64_t samples;  // per group
  int64_t width;    // floats per row
  int64_t threads;
  const float* table;
  const uint32_t* offsets;  // (groups, samples, 4), of floats in the table
  const float* weights;     // (groups, samples, 4)
  float* output;            // (groups, width)
  ParallelFor parallel_for;
};

}  // extern "C"

namespace {

constexpr int kCorners = 4;

constexpr int chunk_lanes(int width) {
  return width >= 16  ? 16
         : width >= 8 ? 8
         : width >= 4 ? 4
         : width >= 2 ? 2
                      : 1;
}

template <int kLanes>
struct Chunk {
  typedef float Type
      __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
};

// A row of sums in registers, the widest chunk first.
template <int kWidth>
struct Row {
  static constexpr int kLanes = chunk_lanes(kWidth);
  using Vector = typename Chunk<kLanes>::Type;

  Vector head{};
  Row<kWidth - kLanes> tail;

  void add(float weight, const float* source) {
    head += weight * *reinterpret_cast<const Vector*>(source);
    tail.add(weight, source + kLanes);
  }
  void add(const Row& other) {
    head += other.head;
    tail.add(other.tail);
  }
  void store(float* target) const {
    *reinterpret_cast<Vector*>(target) = head;
    tail.store(target + kLanes);
  }
};

template <>
struct Row<0> {
  void add(float, const float*) {}
  void add(const Row&) {}
  void store(float*) const {}
};

template <int kWidth>
void gather_groups(const Gather& gather, int64_t begin, int64_t end) {
  const uint32_t* offset = gather.offsets + begin * gather.samples * kCorners;
  const float* weight = gather.weights + begin * gather.samples * kCorners;
  for (int64_t group = begin; group < end; ++group) {
    // A sum per corner, so that no addition waits for the one before it.
    Row<kWidth> sums[kCorners];
    for (int64_t sample = 0; sample < gather.samples; ++sample) {
      for (int corner = 0; corner < kCorners; ++corner) {
        sums[corner].add(*weight++, gather.table + *offset++);
      }
    }
    sums[0].add(sums[1]);
    sums[2].add(sums[3]);
    sums[0].add(sums[2]);
    sums[0].store(gather.output + group * kWidth);
  }
}

// Shares of groups are handed out by the number of the thread.
template <int kWidth>
void gather_shares(int64_t begin, int64_t end, void* context) {
  const Gather& gather = *static_cast<const Gather*>(context);
  const int64_t share = (gather.groups + gather.threads - 1) / gather.threads;
  gather_groups<kWidth>(gather, std::min(gather.groups, begin * share),
                        std::min(gather.groups, end * share));
}

RangeFunction function_for(int64_t width) {
  switch (width) {
    case 6:
      return gather_shares<6>;
    case 12:
      return gather_shares<12>;
    case 24:
      return gather_shares<24>;
    case 32:
      return gather_shares<32>;
    case 40:
      return gather_shares<40>;
    case 64:
      return gather_shares<64>;
    case 100:
      return gather_shares<100>;
    default:
      return nullptr;
  }
}

}  // namespace

// Returns whether there is a function for rows of this width.
extern "C" bool gather_rows(Gather* gather) {
  const RangeFunction function = function_for(gather->width);
  if (function == nullptr) return false;
  gather->parallel_for(0, gather->threads, 1, function, gather);
  return true;
}
