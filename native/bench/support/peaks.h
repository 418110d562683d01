// What the machine can do at most, measured: ceilings for the benchmarks. A call measures for some milliseconds.
#pragma once

#include <cstdint>

namespace cudamoe::bench {

// The clock of all measurements, in seconds. With one thread it is that thread's processor time, so that other processes disturb
// the caches only; with several it is the wall clock.
double now(int threads);

// f32 multiply-adds of the level in use, flops a second of `threads` threads (2 flops a lane), held for `seconds`: timer interrupts and
// the clock under load lower the ceiling of a sample as long, which a shorter burst would not show.
double multiply_add_peak(int threads, double seconds);
// bf16 dot products by vdpbf16ps, flops a second of one thread; 0 where the processor lacks them or the level is lower.
double bf16_dot_peak();
// Copy with streaming stores between arrays far larger than the caches, bytes read and written a second.
double copy_bandwidth(int threads);
// Reads of random rows of `row_bytes` from a table of `table_bytes`, several in flight; rows a second.
double random_row_rate(int threads, int64_t row_bytes, int64_t table_bytes);

}  // namespace cudamoe::bench
