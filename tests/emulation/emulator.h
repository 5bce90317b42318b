// The GPU of device.h on a CPU: a thread is a fiber, and what a warp or a block does together is done by the last that
// arrives. It is stricter than a GPU where that finds faults:
// - copies happen when they are started, or (lazy) only when they are waited for; shared memory is full of 0xA5 at first;
// - warps run far ahead of each other, in an order drawn from a seed;
// - sums beyond 32 bits, misaligned addresses, reads and writes outside shared memory and warps that wait for ever end
//   the launch with a sentence.
// Not covered: the memory model (everything written is seen at once), the proxies of wgmma, the time anything takes.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <vector>

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulator {

constexpr size_t STACK = 256 << 10;
constexpr unsigned PATIENCE = 400;  // rounds without progress

struct Copy {
    char* to;
    const char* from;  // null: zeros
    int bytes;
    void make() const { from ? std::memcpy(to, from, bytes) : std::memset(to, 0, bytes); }
};
struct Fiber {
    ucontext_t context;
    bool done = false;
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
};
// A meeting of `needed` fibers.
struct Meeting {
    unsigned arrived = 0, held = 0;
};
struct Warp {
    Meeting meeting;
    uint32_t a[32][4], b[32][2], loaded[32][4];
    int c[32][4];
    const char* row[32];
};
struct Counts {
    uint64_t multiplies = 0, loads = 0, bank_conflicts = 0, copies = 0;
};
struct Device {
    dim3 grid, block, at;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Meeting barrier;
    ucontext_t scheduler;
    unsigned current = 0, skew = 0;
    bool lazy = false;
    std::vector<char> memory;  // shared memory of the block
    size_t shared_bytes = 0;
    std::vector<char> stacks;
    std::mt19937 random;
    std::function<void()> body;
    std::string failure;
    Counts counts;
};

inline Device& device() {
    static Device one;
    return one;
}
inline Fiber& fiber() { return device().fibers[device().current]; }
inline unsigned lane() { return device().current % 32; }
inline Warp& warp() { return device().warps[device().current / 32]; }
inline void pause() { swapcontext(&fiber().context, &device().scheduler); }
// Ends the launch: no fiber goes on.
inline void fail(const std::string& sentence) {
    if (device().failure.empty()) device().failure = sentence;
    while (true) pause();
}
inline char* shared_memory() {
    return (char*)(((uintptr_t)device().memory.data() + 1023) & ~(uintptr_t)1023);
}
inline void check_shared(const void* p, size_t bytes, size_t alignment, const char* who) {
    const char* begin = shared_memory();
    if ((const char*)p < begin || (const char*)p + bytes > begin + device().shared_bytes)
        fail(std::string(who) + " outside shared memory");
    if ((uintptr_t)p % alignment) fail(std::string(who) + " at a misaligned address");
}
template <class Work>
void meet(Meeting& meeting, unsigned needed, Work work) {
    const unsigned before = meeting.held;
    if (++meeting.arrived == needed) {
        work();
        meeting.arrived = 0;
        meeting.held++;
    } else {
        while (meeting.held == before) pause();
    }
}
inline void enter() {
    device().body();
    fiber().done = true;
    while (true) pause();
}

inline void start_block(dim3 at, size_t shared_bytes) {
    Device& d = device();
    d.at = at;
    d.fibers.assign(d.block.x, Fiber());
    d.warps.assign((d.block.x + 31) / 32, Warp());
    d.barrier = Meeting();
    d.shared_bytes = shared_bytes;
    d.memory.assign(shared_bytes + 1024, (char)0xA5);
    for (unsigned t = 0; t < d.block.x; t++) {
        ucontext_t& context = d.fibers[t].context;
        getcontext(&context);
        context.uc_stack.ss_sp = d.stacks.data() + STACK * t;
        context.uc_stack.ss_size = STACK;
        context.uc_link = &d.scheduler;
        makecontext(&context, enter, 0);
    }
}
// Let thread t run until it waits; whether it was its last turn.
inline bool turn(unsigned t) {
    Device& d = device();
    if (d.fibers[t].done) return false;
    d.current = t;
    swapcontext(&d.scheduler, &d.fibers[t].context);
    return d.fibers[t].done;
}
inline uint64_t meetings() {
    uint64_t held = device().barrier.held;
    for (const Warp& warp : device().warps) held += warp.meeting.held;
    return held;
}
// Run the block to its end: all threads in turn, or (skew) one warp drawn at random far ahead of the others.
inline void run_block() {
    Device& d = device();
    unsigned left = d.block.x, idle = 0;
    std::vector<unsigned> order(d.block.x);
    for (unsigned t = 0; t < d.block.x; t++) order[t] = t;
    while (left && d.failure.empty()) {
        const uint64_t held = meetings();
        const unsigned before = left;
        unsigned chosen = 0, rounds = 1;
        if (d.skew) {
            chosen = d.random() % d.warps.size(), rounds = 1 + d.random() % 400;
            std::shuffle(order.begin(), order.end(), d.random);
        }
        const bool everybody = !d.skew || d.random() % 8 == 0;
        for (unsigned round = 0; round < (d.skew ? rounds : 0); round++) {
            const uint64_t now = meetings();
            const unsigned there = left;
            for (unsigned t : order)
                if (t / 32 == chosen) left -= turn(t);
            if (meetings() == now && left == there) break;
        }
        if (everybody)
            for (unsigned t : order) left -= turn(t);
        idle = meetings() == held && left == before ? idle + 1 : 0;
        if (idle > PATIENCE) d.failure = "threads wait for each other for ever";
    }
}

// Run a kernel; the sentence that says what went wrong, empty if nothing did.
inline std::string launch(dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> body, bool lazy,
                          unsigned seed) {
    Device& d = device();
    d.grid = grid, d.block = block, d.body = body, d.lazy = lazy, d.skew = seed;
    d.random.seed(seed);
    d.failure.clear();
    d.stacks.resize(STACK * block.x);
    for (unsigned y = 0; y < grid.y; y++)
        for (unsigned x = 0; x < grid.x && d.failure.empty(); x++) {
            start_block(dim3(x, y), shared_bytes);
            run_block();
        }
    return d.failure;
}

struct Reader {
    unsigned (*get)();
    operator unsigned() const { return get(); }
};
inline unsigned thread_x() { return device().current; }
inline unsigned block_x() { return device().at.x; }
inline unsigned block_y() { return device().at.y; }
inline unsigned block_size() { return device().block.x; }
inline unsigned grid_x() { return device().grid.x; }
inline unsigned grid_y() { return device().grid.y; }

}  // namespace emulator

static const struct {
    emulator::Reader x{emulator::thread_x};
} threadIdx;
static const struct {
    emulator::Reader x{emulator::block_x}, y{emulator::block_y};
} blockIdx;
static const struct {
    emulator::Reader x{emulator::block_size};
} blockDim;
static const struct {
    emulator::Reader x{emulator::grid_x}, y{emulator::grid_y};
} gridDim;

#define __global__
#define __launch_bounds__(...)
#define DEVICE inline
#define SHARED(name) char* name = emulator::shared_memory()

inline void __syncthreads() {
    emulator::meet(emulator::device().barrier, emulator::device().block.x, [] {});
}
inline void __syncwarp() {
    emulator::meet(emulator::warp().meeting, 32, [] {});
}
inline u32 __byte_perm(u32 low, u32 high, u32 selectors) {
    const u64 bytes = u64(high) << 32 | low;
    u32 out = 0;
    for (int i = 0; i < 4; i++) {
        const u32 selector = selectors >> 4 * i & 15, byte = u32(bytes >> 8 * (selector & 7)) & 0xff;
        out |= (selector & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << 8 * i;
    }
    return out;
}
inline int __popc(u32 x) { return __builtin_popcount(x); }
inline double __longlong_as_double(i64 bits) {
    double x;
    std::memcpy(&x, &bits, 8);
    return x;
}
inline i64 __double_as_longlong(double x) {
    i64 bits;
    std::memcpy(&bits, &x, 8);
    return bits;
}
inline double __hiloint2double(int high, int low) { return __longlong_as_double(i64(u64(u32(high)) << 32 | u32(low))); }
inline float __uint_as_float(u32 bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline i64 __double2ll_rn(double x) { return std::llrint(x); }
template <class T>
T atomicAdd(T* p, T v) {
    const T old = *p;
    *p = old + v;
    return old;
}
template <class T>
T atomicMax(T* p, T v) {
    const T old = *p;
    *p = std::max(old, v);
    return old;
}
// An address of shared memory, as the instructions count them.
inline u32 shared_address(const void* p) { return u32((const char*)p - emulator::shared_memory()); }

namespace emulator {

// ldmatrix: lane 4g + q of matrix i gets units 2q and 2q + 1 of row g, or of column g (transposed).
inline void load(u32* out, const void* row, bool transposed, int matrices) {
    Warp& w = warp();
    check_shared(row, 16, 16, "ldmatrix");
    w.row[lane()] = (const char*)row;
    const auto work = [&w, transposed, matrices] {
        device().counts.loads++;
        for (int i = 0; i < matrices; i++) {
            unsigned banks = 0;  // groups of four, of 16 bytes
            for (int r = 0; r < 8; r++) {
                const unsigned group = 1u << ((uintptr_t)w.row[8 * i + r] >> 4 & 7);
                device().counts.bank_conflicts += (banks & group) != 0;
                banks |= group;
            }
            for (int t = 0; t < 32; t++) {
                const int g = t / 4, q = t % 4;
                u16 unit[2];
                for (int u = 0; u < 2; u++)
                    std::memcpy(&unit[u],
                                transposed ? w.row[8 * i + 2 * q + u] + 2 * g : w.row[8 * i + g] + 4 * q + 2 * u, 2);
                w.loaded[t][i] = unit[0] | u32(unit[1]) << 16;
            }
        }
    };
    meet(w.meeting, 32, work);
    for (int i = 0; i < matrices; i++) out[i] = w.loaded[lane()][i];
    meet(w.meeting, 32, [] {});
}

// mma.sync m16n8k32: lane 4g + q has rows g and g + 8 of a and c, column g of b, columns 2q and 2q + 1 of c.
inline void multiply(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, bool unsigned_b) {
    Warp& w = warp();
    const unsigned me = lane();
    std::memcpy(w.a[me], a, 16);
    w.b[me][0] = b0, w.b[me][1] = b1;
    std::memcpy(w.c[me], c, 16);
    const auto work = [&w, unsigned_b] {
        device().counts.multiplies++;
        static int A[16][32], B[32][8];
        for (int t = 0; t < 32; t++)
            for (int byte = 0; byte < 4; byte++) {
                const int g = t / 4, k = 4 * (t % 4) + byte;
                for (int i = 0; i < 4; i++) A[g + 8 * (i % 2)][k + 16 * (i / 2)] = w.a[t][i] >> 8 * byte & 0xff;
                for (int i = 0; i < 2; i++) {
                    const u8 value = w.b[t][i] >> 8 * byte & 0xff;
                    B[k + 16 * i][g] = unsigned_b ? int(value) : int(s8(value));
                }
            }
        for (int t = 0; t < 32; t++)
            for (int i = 0; i < 4; i++) {
                const int row = t / 4 + 8 * (i / 2), column = 2 * (t % 4) + i % 2;
                int64_t sum = w.c[t][i];
                for (int k = 0; k < 32; k++) sum += A[row][k] * B[k][column];
                if (sum != int32_t(sum)) fail("a sum beyond 32 bits");
                w.c[t][i] = int(sum);
            }
    };
    meet(w.meeting, 32, work);
    std::memcpy(c, w.c[me], 16);
    meet(w.meeting, 32, [] {});
}

}  // namespace emulator

inline void load_matrices(u32 (&r)[4], const void* row) { emulator::load(r, row, false, 4); }
inline void load_matrices(u32 (&r)[2], const void* row) { emulator::load(r, row, false, 2); }
inline void load_matrices_transposed(u32 (&r)[4], const void* row) { emulator::load(r, row, true, 4); }
inline void multiply_add(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { emulator::multiply(c, a, b0, b1, false); }
inline void multiply_add_unsigned(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emulator::multiply(c, a, b0, b1, true);
}

// cp.async of 4, 8 or 16 bytes with a source size of none or all of them.
template <int BYTES>
void copy_async_or_zero(void* to, const void* from, bool there) {
    emulator::check_shared(to, BYTES, BYTES, "cp.async");
    if (there && (uintptr_t)from % BYTES) emulator::fail("cp.async from a misaligned address");
    emulator::device().counts.copies++;
    const emulator::Copy copy{(char*)to, there ? (const char*)from : nullptr, BYTES};
    if (emulator::device().lazy)
        emulator::fiber().open.push_back(copy);
    else
        copy.make();
}
inline void copy_async(void* to, const void* from) { copy_async_or_zero<16>(to, from, true); }
inline void commit_copies() {
    emulator::Fiber& fiber = emulator::fiber();
    fiber.groups.push_back(std::move(fiber.open));
    fiber.open.clear();
}
template <int N>
void wait_for_copies() {
    auto& groups = emulator::fiber().groups;
    for (; int(groups.size()) > N; groups.pop_front())
        for (const emulator::Copy& copy : groups.front()) copy.make();
}

// wgmma m64nNk32: what it asks of its warps is that it is begun and ended; a warp does 16 rows of it.
inline void fence_for_wgmma() {}
inline void begin_wgmma() {}
inline void end_wgmma() {}
template <int TILES_>
void wgmma(int (&c)[TILES_][4], const u32 (&a)[4], u64 descriptor) {
    const u64 address = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4, swizzle = descriptor >> 62;
    if (swizzle != 1) emulator::fail("a wgmma descriptor without the 128-byte swizzle");
    const int g = emulator::lane() / 4, q = emulator::lane() % 4;
    for (int tile = 0; tile < TILES_; tile++) {
        u32 b[2];
        for (int half = 0; half < 2; half++) {
            u64 at = address + tile * stride + g * 128 + 16 * half + 4 * q;
            at ^= (at >> 7 & 7) << 4;  // address bits 4–6 are XORed with bits 7–9
            emulator::check_shared(emulator::shared_memory() + at, 4, 4, "wgmma");
            std::memcpy(&b[half], emulator::shared_memory() + at, 4);
        }
        multiply_add(c[tile], a, b[0], b[1]);
    }
}
