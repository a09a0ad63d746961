// Blocks of threads that run on a single one of the host.
//
// Every thread of a block is a fiber with a stack of its own. It runs until it
// comes to a barrier or an exchange between the lanes of its warp, and goes on
// when all those that take part have come to the same one. Blocks in which some
// never come, or which come to different ones, are reported.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace on_host {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 * 1024;

// The order in which fibers get their turn; 0 is that of their numbers and 1
// the reverse. Others are shuffles. What a kernel computes must not depend on
// it.
inline unsigned schedule = 0;

// Threads that wait for each other.
struct Meeting {
  int line = 0;
  int arrived = 0;
  int64_t held = 0;  // how many times all have met
};

struct Warp {
  Meeting meeting;
  // Of the present exchange and of the last one, which some may still read.
  uint64_t slots[2][kWarp];
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  const Meeting* waits_for = nullptr;
  int64_t waits_beyond = 0;
  bool ended = false;
};

class Block {
 public:
  Block(unsigned num_threads, size_t shared_bytes)
      : fibers_(num_threads),
        warps_((num_threads + kWarp - 1) / kWarp),
        shared_bytes_(shared_bytes),
        shared_(static_cast<unsigned char*>(
            std::aligned_alloc(16, (shared_bytes + 15) / 16 * 16))) {
    for (Fiber& fiber : fibers_) fiber.stack.reset(new char[kStackBytes]);
    order_.resize(num_threads);
    std::iota(order_.begin(), order_.end(), 0);
    if (schedule == 1) std::reverse(order_.begin(), order_.end());
    if (schedule > 1) {
      std::shuffle(order_.begin(), order_.end(), std::mt19937(schedule));
    }
  }

  ~Block() { std::free(shared_); }

  // Runs `body` in all threads, to the end of the last.
  template <class Body>
  void run(const Body& body) {
    // All bits set are NaN, and indices out of bounds.
    std::memset(shared_, 0xff, shared_bytes_);
    body_ = [](const void* given) { (*static_cast<const Body*>(given))(); };
    argument_ = &body;
    num_alive_ = static_cast<int>(fibers_.size());
    meeting_ = {};
    for (Warp& warp : warps_) warp.meeting = {};
    for (Fiber& fiber : fibers_) prepare(&fiber);
    while (num_alive_ > 0) {
      if (!give_turns()) report_stuck();
    }
  }

  unsigned char* shared_memory() { return shared_; }
  // The number of the thread that runs.
  unsigned thread() const { return thread_; }
  Warp& warp() { return warps_[thread_ / kWarp]; }

  void meet_block(int line) { meet(line, &meeting_, num_alive_); }
  void meet_warp(int line) { meet(line, &warp().meeting, kWarp); }

 private:
  static void enter();
  void prepare(Fiber* fiber) {
    fiber->ended = false;
    fiber->waits_for = nullptr;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = kStackBytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, &Block::enter, 0);
  }

  // Lets every thread that can go on do so; false if none can.
  bool give_turns() {
    bool any = false;
    for (const unsigned thread : order_) {
      Fiber& fiber = fibers_[thread];
      const bool waits = fiber.waits_for != nullptr &&
                         fiber.waits_for->held <= fiber.waits_beyond;
      if (fiber.ended || waits) continue;
      any = true;
      thread_ = thread;
      switch_to_fiber(&fiber);
      if (fiber.ended) {
        --num_alive_;
        close_if_full(&meeting_, num_alive_);
      }
    }
    return any;
  }

  void meet(int line, Meeting* meeting, int expected) {
    if (meeting->arrived > 0 && meeting->line != line) {
      throw std::runtime_error("threads wait at lines " +
                               std::to_string(meeting->line) + " and " +
                               std::to_string(line));
    }
    meeting->line = line;
    Fiber& fiber = fibers_[thread_];
    fiber.waits_for = meeting;
    fiber.waits_beyond = meeting->held;
    ++meeting->arrived;
    close_if_full(meeting, expected);
    switch_to_scheduler(&fiber);
  }

  static void close_if_full(Meeting* meeting, int expected) {
    if (meeting->arrived == 0 || meeting->arrived < expected) return;
    meeting->arrived = 0;
    ++meeting->held;
  }

  [[noreturn]] void report_stuck() const {
    for (const Fiber& fiber : fibers_) {
      if (fiber.ended) continue;
      throw std::runtime_error("threads wait at line " +
                               std::to_string(fiber.waits_for->line) +
                               " for others that never come");
    }
    std::abort();
  }

  void switch_to_fiber(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack.get(),
                                   kStackBytes);
#endif
    swapcontext(&scheduler_, &fiber->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    if (!failure_.empty()) throw std::runtime_error(failure_);
  }

  void switch_to_scheduler(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, scheduler_stack_,
                                   scheduler_stack_bytes_);
#endif
    swapcontext(&fiber->context, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  }

  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<unsigned> order_;
  Meeting meeting_;
  unsigned thread_ = 0;
  int num_alive_ = 0;
  size_t shared_bytes_;
  unsigned char* shared_;
  ucontext_t scheduler_;
  void (*body_)(const void*) = nullptr;
  const void* argument_ = nullptr;
  std::string failure_;
#if defined(__SANITIZE_ADDRESS__)
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
#endif
};

inline Block* running = nullptr;

inline void Block::enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &running->scheduler_stack_,
                                  &running->scheduler_stack_bytes_);
#endif
  // No exception may leave the fiber's stack.
  try {
    running->body_(running->argument_);
  } catch (const std::exception& error) {
    running->failure_ = error.what();
  }
  Fiber& fiber = running->fibers_[running->thread_];
  fiber.ended = true;
  running->switch_to_scheduler(&fiber);
}

}  // namespace on_host
