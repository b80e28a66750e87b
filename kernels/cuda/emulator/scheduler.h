// The scheduler: a grid's blocks one after another, a block's threads as fibers that run until they must wait.
//
// A thread waits at __syncthreads for its block, and at a warp operation for the lanes that its mask names. The order in which
// threads and blocks get their turn changes from launch to launch: what hangs on it shows.
#pragma once

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulator {

enum Status : uint8_t { READY, AT_WARP, AT_BARRIER, DONE };

struct Copy { void* to; const void* from; int bytes, wanted, group; };  // an asynchronous copy that nobody has waited for yet

struct Fiber {
  void* stack_pointer;
  char* stack;
  Status status;
  int lane, warp, index, operation;  // for which operation of its warp it waits,
  const char* line;                   // and where in the source
  unsigned mask;
  void* argument;  // of that operation, on this fiber's stack
  uint3 thread;
  int copies, group;
  Copy copy[128];
};

struct Warp {
  unsigned alive, waiting;  // bits of lanes
  Fiber* lane[32];
};

enum Order : int { FORWARD, REVERSED, SHUFFLED };

struct Launch { unsigned grid[3], block[3], shared; int order; uint64_t seed; };       // as loader.py passes it
struct Statistics { uint64_t switches, barriers, warp_operations, blocks; };           // as loader.py reads it

struct State {
  Fiber* fiber;  // of the block that runs, n of them
  Warp* warp;
  int n, warps, alive, at_barrier;
  Fiber* now;
  void* scheduler_stack;
  dim3 grid, block;
  uint3 place;  // of the block in the grid
  char* dynamic_shared;
  unsigned dynamic_size;
  void* static_shared;
  size_t static_size;
  void (*run)(void*);
  void* run_argument;
  char* idle_stack[1024];
  int idle_stacks;
  int order;
  uint64_t random;
  bool failed;
  char message[600];
  sigjmp_buf after_fault;
  Statistics statistics;
};
static State state;

inline void back_to_scheduler() {
  state.statistics.switches++;
  tinyllm_switch_stack(&state.now->stack_pointer, state.scheduler_stack);
  asm volatile("" ::: "memory");
}

[[gnu::noinline]] static void describe(const Fiber* where, const char* format, va_list values) {
  if (state.failed) return;  // the first error is the one to tell
  state.failed = true;
  int n = snprintf(state.message, sizeof state.message, "block (%u,%u,%u)", state.place.x, state.place.y, state.place.z);
  if (where)
    n += snprintf(state.message + n, sizeof state.message - n, " thread (%u,%u,%u)", where->thread.x, where->thread.y,
                  where->thread.z);
  n += snprintf(state.message + n, sizeof state.message - n, ": ");
  vsnprintf(state.message + n, sizeof state.message - n, format, values);
}

// Notes an error of the block; the scheduler ends the launch.
[[gnu::format(printf, 2, 3)]] static void note(const Fiber* where, const char* format, ...) {
  va_list values;
  va_start(values, format);
  describe(where, format, values);
  va_end(values);
}

// Notes an error of the thread that runs, which does not go on.
[[gnu::noinline, gnu::format(printf, 1, 2)]] static void fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  describe(state.now, format, values);
  va_end(values);
  back_to_scheduler();
  __builtin_unreachable();
}

// ---- waiting for the block -----------------------------------------------------------------------------------------

static void open_barrier() {
  state.statistics.barriers++;
  state.at_barrier = 0;
  const char* line = 0;
  for (int i = 0; i < state.n; i++) {
    Fiber& f = state.fiber[i];
    if (f.status != AT_BARRIER) continue;
    if (!line) line = f.line;
    if (strcmp(line, f.line))
      return note(0, "divergent __syncthreads(): some threads wait at %s and others at %s", line, f.line);
    f.status = READY;
  }
}

[[gnu::noinline]] static void syncthreads(const char* line) {
  state.now->status = AT_BARRIER;
  state.now->line = line;
  if (++state.at_barrier == state.alive) {
    open_barrier();
    if (!state.failed) return;
  }
  back_to_scheduler();
}

// ---- waiting for other lanes of the warp ---------------------------------------------------------------------------

// Every lane posts a pointer to its own argument; the last to arrive computes for all. Shuffles, votes, ldmatrix and mma are
// such operations.
using Compute = void (*)(Warp&, unsigned mask);

[[gnu::noinline]] static void warp_operation(unsigned mask, int operation, const char* line, void* argument, Compute compute) {
  Fiber* f = state.now;
  Warp& w = state.warp[f->warp];
  if (!(mask >> f->lane & 1)) fail("%s: lane %d is not in the mask %08x that it names", line, f->lane, mask);
  if (mask & ~w.alive) fail("%s: the mask %08x names lanes that are not there any more: %08x", line, mask, mask & ~w.alive);
  f->status = AT_WARP;
  f->mask = mask, f->operation = operation, f->line = line, f->argument = argument;
  w.waiting |= 1u << f->lane;
  if ((w.waiting & mask) != mask) return back_to_scheduler();
  state.statistics.warp_operations++;
  for (int l = 0; l < 32; l++) {
    Fiber* o = w.lane[l];
    if ((mask >> l & 1) && (o->mask != mask || o->operation != operation))
      fail("different warp operations meet: lane %d at %s with mask %08x, lane %d at %s with mask %08x", f->lane, line,
           mask, l, o->line, o->mask);
  }
  if (compute) compute(w, mask);
  w.waiting &= ~mask;
  for (int l = 0; l < 32; l++)
    if (mask >> l & 1) w.lane[l]->status = READY;
}

// ---- running -------------------------------------------------------------------------------------------------------

static void thread_ends() {
  Fiber* f = state.now;
  Warp& w = state.warp[f->warp];
  f->status = DONE;
  w.alive &= ~(1u << f->lane);
  for (int l = 0; l < 32; l++)
    if ((w.waiting >> l & 1) && (w.lane[l]->mask >> f->lane & 1))
      return note(f, "returns while lane %d waits for it at %s", l, w.lane[l]->line);
  if (--state.alive && state.at_barrier == state.alive) open_barrier();
}

static void thread_begins() {
  state.run(state.run_argument);
  thread_ends();
  back_to_scheduler();
  __builtin_unreachable();
}

static void keep_stack(Fiber& f) {
  if (f.stack && state.idle_stacks < 1024) state.idle_stack[state.idle_stacks++] = f.stack;
  f.stack = 0;
}

static void resume(Fiber& f) {
  if (!f.stack) {
    f.stack = state.idle_stacks ? state.idle_stack[--state.idle_stacks] : new_stack();
    f.stack_pointer = prepared(f.stack, thread_begins);
  }
  state.now = &f;
  state.statistics.switches++;
  tinyllm_switch_stack(&state.scheduler_stack, f.stack_pointer);
  asm volatile("" ::: "memory");
  if (f.status == DONE) keep_stack(f);
}

static uint64_t random_number() {
  uint64_t& x = state.random;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return x;
}

// The i-th of n things in the order of this launch: forward, backward, or from anywhere in either direction.
struct Permutation {
  int n, start, step;
  Permutation(int n) : n(n) {
    bool reversed = state.order == SHUFFLED ? random_number() & 1 : state.order == REVERSED;
    start = state.order == SHUFFLED ? random_number() % n : reversed ? n - 1 : 0;
    step = reversed ? n - 1 : 1;
  }
  int operator[](int i) const { return int((start + (int64_t)i * step) % n); }
};

static void note_deadlock() {
  int barrier = 0, warp = 0;
  const char* line = "nowhere";
  for (int i = 0; i < state.n; i++) {
    barrier += state.fiber[i].status == AT_BARRIER;
    if (state.fiber[i].status == AT_WARP) warp++, line = state.fiber[i].line;
  }
  note(0, "deadlock: %d threads wait at __syncthreads() and %d for lanes of their warp (%s)", barrier, warp, line);
}

// Shared memory begins as NaN in every float type, and as -1: who reads what nobody wrote will notice.
static void poison_shared_memory() {
  if (state.static_shared) memset(state.static_shared, 0xFF, state.static_size);
  if (state.dynamic_size) memset(state.dynamic_shared, 0xFF, state.dynamic_size);
}

// Resumes each thread of the warp that need not wait; whether there was one.
static bool turn_of_warp(int warp) {
  bool any = false;
  int first = 32 * warp, n = state.n - first < 32 ? state.n - first : 32;
  Permutation lanes(n);
  for (int i = 0; i < n && !state.failed; i++) {
    Fiber& f = state.fiber[first + lanes[i]];
    if (f.status == READY) any = true, resume(f);
  }
  return any && !state.failed;
}

static void run_block(uint3 place) {
  int X = state.block.x, Y = state.block.y;
  state.place = place;
  state.alive = state.n;
  state.at_barrier = 0;
  state.statistics.blocks++;
  poison_shared_memory();
  for (int i = 0; i < state.warps; i++) state.warp[i].alive = state.warp[i].waiting = 0;
  for (int i = 0; i < state.n; i++) {
    Fiber& f = state.fiber[i];
    f.status = READY;
    f.index = i, f.lane = i % 32, f.warp = i / 32;
    f.copies = f.group = 0;
    f.thread = {unsigned(i % X), unsigned(i / X % Y), unsigned(i / (X * Y))};
    state.warp[f.warp].alive |= 1u << f.lane;
    state.warp[f.warp].lane[f.lane] = &f;
  }
  // Each warp gets one turn after another; in every second block of a shuffled launch the first goes as far as it can before
  // the next begins, so that one warp is ahead of the others as far as the barriers let it be.
  bool greedy = state.order == SHUFFLED && random_number() & 1;
  while (state.alive && !state.failed) {
    bool any = false;
    Permutation warps(state.warps);
    for (int i = 0; i < state.warps && !state.failed; i++)
      while (turn_of_warp(warps[i])) {
        any = true;
        if (!greedy) break;
      }
    if (!any && !state.failed) note_deadlock();
  }
  for (int i = 0; i < state.n; i++) keep_stack(state.fiber[i]);
}

// ---- launching -----------------------------------------------------------------------------------------------------

// __shared__ is thread_local (emulator.h): the storage of this library's thread-local variables is the static shared memory.
static thread_local volatile int anchor;  // so that there is such storage, whatever the kernels have

static int find_static_shared(dl_phdr_info* library, size_t, void* inside) {
  bool ours = false;
  for (int i = 0; i < library->dlpi_phnum; i++) {
    auto& part = library->dlpi_phdr[i];
    ours |= part.p_type == PT_LOAD && (uintptr_t)inside - library->dlpi_addr - part.p_vaddr < part.p_memsz;
  }
  for (int i = 0; ours && i < library->dlpi_phnum; i++)
    if (library->dlpi_phdr[i].p_type == PT_TLS) {
      state.static_shared = library->dlpi_tls_data;
      state.static_size = library->dlpi_phdr[i].p_memsz;
    }
  return ours;
}

// Its bytes; of all kernels of this library together.
static int static_shared() {
  anchor = 1;
  dl_iterate_phdr(find_static_shared, (void*)find_static_shared);
  return state.static_size;
}

static void on_fault(int, siginfo_t* signal, void*) {
  note(state.now, "invalid memory access at %p", signal->si_addr);
  siglongjmp(state.after_fault, 1);
}

// While it lives, a fault in a kernel is an error of the launch.
struct FaultsCaught {
  struct sigaction before[2];
  stack_t stack_before;
  FaultsCaught() {
    static char stack[64 << 10];  // the fault may be an overflow of the fiber's own
    stack_t alternative{};
    alternative.ss_sp = stack, alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, &stack_before);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before[0]);
    sigaction(SIGBUS, &action, &before[1]);
  }
  ~FaultsCaught() {
    sigaction(SIGSEGV, &before[0], 0);
    sigaction(SIGBUS, &before[1], 0);
    sigaltstack(&stack_before, 0);
  }
};

static void run_grid() {
  FaultsCaught caught;
  if (sigsetjmp(state.after_fault, 1)) {
    for (int i = 0; i < state.n; i++) state.fiber[i].stack = 0;  // left behind: what lies on them is not to be trusted
    return;
  }
  int blocks = state.grid.x * state.grid.y * state.grid.z;
  Permutation order(blocks);
  for (int i = 0; i < blocks && !state.failed; i++) {
    unsigned b = order[i], X = state.grid.x, Y = state.grid.y;
    run_block({b % X, b / X % Y, b / (X * Y)});
  }
}

template <class... P, size_t... I> void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
  kernel(*(std::remove_const_t<P>*)arguments[I]...);
}

// Runs the kernel; 0, or 1 where state.message tells what was wrong.
template <class... P> int launch(const Launch* how, void (*kernel)(P...), void** arguments) {
  struct Call { void (*kernel)(P...); void** arguments; } the_call{kernel, arguments};
  static Fiber fibers[1024];
  static Warp warps[32];
  state.run = [](void* c) { call(((Call*)c)->kernel, ((Call*)c)->arguments, std::index_sequence_for<P...>{}); };
  state.run_argument = &the_call;
  state.grid = dim3(how->grid[0], how->grid[1], how->grid[2]);
  state.block = dim3(how->block[0], how->block[1], how->block[2]);
  state.n = state.block.x * state.block.y * state.block.z;
  state.warps = (state.n + 31) / 32;
  state.fiber = fibers, state.warp = warps;
  state.order = how->order, state.random = how->seed | 1;
  state.failed = false, state.message[0] = 0;
  state.statistics = {};
  static_shared();
  // dynamic shared memory ends at a page that may not be touched
  size_t pages = (how->shared + PAGE - 1) / PAGE * PAGE;
  char* memory = (char*)mmap(0, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(memory + pages, PAGE, PROT_NONE);
  state.dynamic_size = (how->shared + 15) / 16 * 16;
  state.dynamic_shared = memory + pages - state.dynamic_size;
  run_grid();
  munmap(memory, pages + PAGE);
  return state.failed;
}

// What a kernel takes, a letter and a size for each parameter: p pointer, c pointer to const, f float, i integer, s structure.
template <class T> char kind() {
  if (std::is_pointer_v<T>) return std::is_const_v<std::remove_pointer_t<T>> ? 'c' : 'p';
  return std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? 'i' : 's';
}
template <class... P> const char* signature(void (*)(P...)) {
  static char text[512];
  char* end = text;
  ((end += sprintf(end, "%c%d ", kind<P>(), (int)sizeof(P))), ...);
  return text;
}

}  // namespace emulator
