// Fibers: many threads of control on one thread of the operating system, each with a stack of its own.
//
// A switch saves the registers that a called function must preserve, changes the stack pointer and takes the other fiber's
// registers from its stack: some ten nanoseconds, a seventh of what swapcontext needs, which also asks the kernel for signals.
#pragma once

#if !defined(__x86_64__) || !defined(__linux__)
#error "the emulator switches stacks by x86-64 code and maps memory as Linux does"
#endif

extern "C" void tinyllm_switch_stack(void** save_here, void* go_there);
asm(R"(
.text
.type tinyllm_switch_stack, @function
tinyllm_switch_stack:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
.size tinyllm_switch_stack, .-tinyllm_switch_stack
)");

namespace emulator {

constexpr size_t PAGE = 4096, STACK = 64 << 10;
constexpr int SAVED_REGISTERS = 6;

// A stack whose lowest page may not be touched, so that one that overflows is found out.
inline char* new_stack() {
  char* stack = (char*)mmap(0, PAGE + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  mprotect(stack, PAGE, PROT_NONE);
  return stack;
}

// The stack pointer of a fiber that has not begun: the first switch to it "returns" into `begin`.
inline void* prepared(char* stack, void (*begin)()) {
  void** top = (void**)(stack + PAGE + STACK - 64);  // begin finds it as a call would have left it: 8 off a multiple of 16
  memset(top, 0, SAVED_REGISTERS * sizeof(void*));
  top[SAVED_REGISTERS] = (void*)begin;
  top[SAVED_REGISTERS + 1] = 0;
  return top;
}

}  // namespace emulator
