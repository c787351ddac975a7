// The scheduler of cuda_runtime.h: a stack for each thread of a block, and turns until all are done.
#include <cuda_runtime.h>

asm(R"(
.text
.globl cuda_host_switch
.type cuda_host_switch, @function
cuda_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_host_switch, .-cuda_host_switch
)");

namespace cuda_host {

namespace {

// A stack that, when switched to, calls fiber_main.
void prepare(Fiber& fiber) {
  if (!fiber.stack) fiber.stack = static_cast<char*>(std::aligned_alloc(64, kStack));
  fiber.done = fiber.spinning = false;
  fiber.block_barriers = fiber.warp_barriers = 0;
  fiber.copies.clear(), fiber.groups.clear();
  fiber.copied = 0;
  void** top = reinterpret_cast<void**>(fiber.stack + kStack);
  *--top = nullptr;  // where fiber_main would return to; the stack is 8 past a multiple of 16 when it starts
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

int fewest(int begin, int end, int Fiber::*barriers) {
  int least = INT32_MAX;
  for (int i = begin; i < end; ++i)
    if (!block.fibers[i].done) least = std::min(least, block.fibers[i].*barriers);
  return least;
}

}  // namespace

void run_block() {
  for (int i = 0; i < block.threads; ++i) prepare(block.fibers[i]);
  block.block_passed = 0;
  std::memset(block.warp_passed, 0, sizeof block.warp_passed);
  const auto turn = [](int i) {
    block.current = i;
    set_index(i);
    cuda_host_switch(&block.scheduler, block.fibers[i].stack_pointer);
  };
  for (bool alive = true; alive;) {
    alive = false;
    const std::uint64_t events = block.events;
    for (int i = 0; i < block.threads; ++i) block.fibers[i].spinning = false;
    for (int begin = 0; begin < block.threads; begin += kWarp) {
      const int end = std::min(begin + kWarp, block.threads), warp = begin / kWarp;
      // A warp goes on until its lanes wait for other warps or are done.
      for (bool waits = false; !waits;) {
        bool some = false;
        for (int i = begin; i < end; ++i) {
          Fiber& f = block.fibers[i];
          if (f.done || f.spinning || f.block_barriers > block.block_passed ||
              f.warp_barriers > block.warp_passed[warp])
            continue;
          turn(i);
          some = true;
          if (f.done) ++block.events;
        }
        const int reached = fewest(begin, end, &Fiber::warp_barriers);
        if (reached != INT32_MAX && reached > block.warp_passed[warp]) {
          block.warp_passed[warp] = reached;
          some = true;
        }
        waits = !some;
      }
      for (int i = begin; i < end; ++i) alive |= !block.fibers[i].done;
    }
    const int reached = fewest(0, block.threads, &Fiber::block_barriers);
    if (reached != INT32_MAX && (reached > block.block_passed || block.events == events)) {
      if (reached == block.block_passed) {
        std::fprintf(stderr, "cuda_host: a block's threads wait for one another\n");
        std::abort();
      }
      block.block_passed = reached;
    }
  }
}

}  // namespace cuda_host
