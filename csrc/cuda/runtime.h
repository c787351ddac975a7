// The runtime's side of the table: the device, its memory, its streams, and waiting for them.
#pragma once

#include <atomic>

#include "cuda/device.h"

namespace ts::cuda {

struct Pool;

// `work` is the time, by a clock that ticks at every launch and copy, when the stream last got something to
// do.
struct Stream {
  cudaStream_t handle = nullptr;
  std::atomic<std::uint64_t> work{0};
  Pool* pool = nullptr;  // the memory that it orders
};
// A graph owns what its calls refer to: memory of the device, and copies of what was uploaded.
struct Graph;

const char* open(const Host* host);
void synchronize();
void drain() noexcept;
// After a wait: throws what kernels have complained about meanwhile.
void tell_complaints();
void properties(DeviceProperties* out);

// --- streams.cu ------------------------------------------------------------------------------------------
void open_streams();
Stream& current_stream();
Stream& stream_of(void* handle);  // null: the first one
std::uint64_t now();              // of that clock
Graph* capturing();               // this thread's
void* keep_for_replays(const void* from, std::int64_t bytes);
// An event on every stream, but `except`, that got work after `since`; how many.
constexpr int kMostStreams = 64;
int record_uses(std::uint64_t since, const Stream* except, cudaEvent_t (&events)[kMostStreams]);
void return_event(cudaEvent_t event);

void* stream_create(bool urgent);
void stream_destroy(void* stream) noexcept;
void* stream_current();
void stream_set(void* stream);
void stream_synchronize(void* stream);
bool stream_done(void* stream);
void* stream_handle(void* stream);
void* event_create(bool timing);
void event_destroy(void* event) noexcept;
void event_record(void* event, void* stream);
void event_wait(void* event, void* stream);
void event_synchronize(void* event);
bool event_done(void* event);
double event_elapsed(void* begin, void* end);
void capture_begin();
void* capture_end();
void capture_abandon() noexcept;
void graph_launch(void* graph);
void graph_destroy(void* graph) noexcept;

// --- memory.cu -------------------------------------------------------------------------------------------
Pool* make_pool(bool of_graph);
// Its memory goes to another pool, and it is no more.
void join_pools(Pool* pool, Pool* into);
void memory_stats(DeviceMemory* out);
void reset_peak();
void empty_cache();
void* allocate_pinned(std::int64_t bytes);
void deallocate_pinned(void* block) noexcept;
bool pinned(const void* block);

// --- gemm.cu ---------------------------------------------------------------------------------------------
void set_matmul_precision(MatmulPrecision precision);
MatmulPrecision matmul_precision();

}  // namespace ts::cuda
