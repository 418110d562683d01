/*
 * CudaMoE: the C ABI.
 *
 * One library, `libcudamoe`, exports these functions. A device is opened by name ("cpu", "cpu:threads=2"); every operation
 * runs on a stream of a device. The same operation means the same on every backend.
 *
 * Rules that hold for every function
 *   - It returns a cudamoe_status. On anything but CUDAMOE_OK the calling thread's message is had from cudamoe_last_error; it
 *     names the function, the field, the value that was given and the rule that it broke.
 *   - It checks every argument that can be checked without reading device memory, before it does anything. No exception
 *     and no abort crosses the boundary.
 *   - Argument structs begin with `struct_size`, which the caller sets to sizeof(the struct). A larger struct from a newer
 *     caller is accepted if the bytes that this library does not know are zero; a smaller one is refused.
 *   - Fields named `reserved` must be 0.
 *   - Pointers are device pointers unless the comment says "host". On the cpu backend device memory is host memory; elsewhere the host
 *     must not read or write it (host_accessible of cudamoe_device_info is 0), and copies are the way.
 *   - Matrices are row-major. Strides and counts are in elements (not bytes), as int64. A stride may be larger than the row.
 *   - Device pointers are aligned to their element at least (4 bytes for float); 64-byte alignment is faster.
 *   - Unless `accumulate` is set, an operation writes every element of its outputs, also for empty inputs and for
 *     experts with no rows. Outputs may not overlap inputs unless the comment allows it.
 *   - An operation allocates no memory that outlives it; work space is the caller's. cudamoe_<op>_workspace says how many
 *     bytes <op> needs for given arguments (pointers are not read by it and may be null).
 *   - The same inputs on the same device give the same bits, whatever the number of threads.
 *
 * Threads: a device may be used from any thread. A stream must not be used from two threads at once.
 */
#ifndef CUDAMOE_H
#define CUDAMOE_H

#include <stdint.h>

#if defined(_WIN32)
#if defined(CUDAMOE_BUILD)
#define CUDAMOE_API __declspec(dllexport)
#else
#define CUDAMOE_API __declspec(dllimport)
#endif
#else
#define CUDAMOE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------------------------ */
/* Status, version, errors                                                                                              */
/* ------------------------------------------------------------------------------------------------------------------ */

typedef int32_t cudamoe_status;
enum {
  CUDAMOE_OK = 0,
  CUDAMOE_ERROR_ARGUMENT = -1,      /* an argument broke a rule that the header states */
  CUDAMOE_ERROR_UNSUPPORTED = -2,   /* a valid request that this backend or build cannot serve */
  CUDAMOE_ERROR_OUT_OF_MEMORY = -3, /* host or device memory could not be had */
  CUDAMOE_ERROR_DEVICE = -4,        /* a device or its driver failed, or no usable device was found */
  CUDAMOE_ERROR_REPORTED = -5,      /* an operation met bad data on the device, e.g. an embedding row out of bounds */
  CUDAMOE_ERROR_INTERNAL = -6       /* a defect of this library */
};

/* Grows by one with every incompatible change of this header. A caller compares it with the one that it was built for. */
#define CUDAMOE_ABI_VERSION 1
CUDAMOE_API int32_t cudamoe_abi_version(void);

/* "major.minor.patch", static storage. */
CUDAMOE_API const char* cudamoe_version(void);

/* Copies the calling thread's last message (UTF-8, always terminated when capacity > 0) and returns its full length in bytes
 * without the terminator; 0 when there was no error yet. buffer may be null when capacity is 0. */
CUDAMOE_API int64_t cudamoe_last_error(char* buffer, int64_t capacity);

/* Size in bytes of the struct of that name as this library was built ("cudamoe_gemm_forward_args", ...); -1 if unknown. */
CUDAMOE_API int64_t cudamoe_struct_size(const char* name);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Data types and activations                                                                                            */
/* ------------------------------------------------------------------------------------------------------------------ */

/* Element types. bf16 is the upper half of an f32, rounded to nearest even, NaN kept. */
enum { CUDAMOE_F32 = 0, CUDAMOE_BF16 = 1 };

enum {
  CUDAMOE_ACTIVATION_NONE = 0,
  CUDAMOE_ACTIVATION_RELU = 1,
  CUDAMOE_ACTIVATION_LEAKY_RELU = 2, /* slope `activation_slope` below zero */
  CUDAMOE_ACTIVATION_GELU = 3,       /* x * Phi(x), the exact form with erf */
  CUDAMOE_ACTIVATION_SILU = 4,       /* x * sigmoid(x) */
  CUDAMOE_ACTIVATION_SIGMOID = 5,
  CUDAMOE_ACTIVATION_TANH = 6
};
/* The derivative of none, ReLU, LeakyReLU, sigmoid and tanh is taken from the activation's output; GELU and SiLU need the
 * pre-activation (the value before the activation), which cudamoe_gemm_forward can store. */

/* ------------------------------------------------------------------------------------------------------------------ */
/* Backends, devices, memory, streams                                                                                   */
/* ------------------------------------------------------------------------------------------------------------------ */

typedef struct cudamoe_device cudamoe_device;
typedef struct cudamoe_stream cudamoe_stream;
typedef struct cudamoe_capture cudamoe_capture;

typedef struct cudamoe_backend_info {
  uint32_t struct_size;
  int32_t usable;    /* 1 when a device of this backend can be opened here */
  char name[16];     /* "cpu", "cuda", "simt" */
  char library[512]; /* the file that was looked for or loaded; empty for a built-in backend */
  char reason[512];  /* why it is not usable; empty when usable */
} cudamoe_backend_info;

/* Number of backends that this library knows, usable or not. */
CUDAMOE_API int32_t cudamoe_backend_count(void);
/* Fills info for backend `index` (0 <= index < count). Tries to load the plug-in when that was not tried yet. */
CUDAMOE_API cudamoe_status cudamoe_backend_get_info(int32_t index, cudamoe_backend_info* info);

typedef struct cudamoe_device_info {
  uint32_t struct_size;
  int32_t threads;          /* worker threads of a cpu device, caller included; multiprocessors of a GPU */
  int32_t host_accessible;  /* 1 when device pointers can be read and written by the host */
  int32_t supports_bf16;    /* 1 when bf16 products run on instructions of their own; bf16 is accepted everywhere */
  int64_t memory_bytes;     /* physical memory of the device */
  int64_t live_bytes;       /* bytes handed out by cudamoe_memory_allocate and not yet freed */
  int64_t live_allocations; /* their number */
  char backend[16];         /* "cpu" */
  char name[128];           /* processor or GPU name */
  char level[32];           /* instruction set in use: "sse4", "avx2", "avx512", "avx512bf16"; "sm_90" */
  int32_t faulted;          /* 1 after a kernel failed on the device: every later call on it fails, its memory is lost; close it */
  int32_t reserved;
  int64_t mapped_bytes; /* bytes handed out by cudamoe_memory_allocate_mapped and not yet freed; they are not part of live_bytes */
} cudamoe_device_info;

/* Opens a device. spec (host, UTF-8): "cpu", "cpu:threads=N" (N >= 1; default: the processors that this process may use),
 * "cuda:N", "simt", or "auto" (cpu in this version). The environment variable CUDAMOE_CPU_LEVEL (sse4, avx2,
 * avx512, avx512bf16) sets the instruction set of all cpu devices of the process, which is else the fastest; a level the machine lacks is
 * an error. */
CUDAMOE_API cudamoe_status cudamoe_device_open(const char* spec, cudamoe_device** device);
/* Closes a device. Its streams and memory, host memory too, must have been released before; else CUDAMOE_ERROR_ARGUMENT and it stays open.
 * Null is accepted and does nothing. */
CUDAMOE_API cudamoe_status cudamoe_device_close(cudamoe_device* device);
CUDAMOE_API cudamoe_status cudamoe_device_get_info(cudamoe_device* device, cudamoe_device_info* info);
/* What a user of the device should know, a line each, in UTF-8: kernels that were struck out because they are wrong on this GPU, verdicts
 * that cannot be kept. Copies at most capacity - 1 bytes and a terminating 0 into `buffer` (host; may be null when capacity is 0), and sets
 * `bytes` (host) to the length of the whole text, 0 when there is nothing to say.
 *
 * On a GPU a kernel is used after it has proven itself there. The first call of a kind runs the candidates for it on the call's operands,
 * into memory of its own, and compares samples with sums in double precision: it takes longer, allocates for that time, and waits for the
 * stream. Verdicts are kept in a file of the folder CUDAMOE_CACHE (default: the user's folder for caches; "off": none) for
 * this GPU, driver and build. CUDAMOE_TRIALS=off uses the preferred kernels untried, =on tries them on the executor as well. */
CUDAMOE_API cudamoe_status cudamoe_device_get_notes(cudamoe_device* device, char* buffer, int64_t capacity, int64_t* bytes);

/* Allocates `bytes` >= 0 of device memory, aligned to 64 bytes (2 MiB, with huge pages asked for, from 4 MiB up), zeroed. */
CUDAMOE_API cudamoe_status cudamoe_memory_allocate(cudamoe_device* device, int64_t bytes, void** pointer);
/* Allocates `bytes` >= 0 of host memory that stands for device memory, zeroed: operations, copies and fills take it wherever they take
 * device memory, so that data may be larger than the device's memory. A GPU reads and writes it in place over the bus (it is page-locked
 * and mapped, aligned to a page), so what is read or written often belongs into device memory, and atomic operations of kernels may not be
 * seen by the host: it is for embedding tables and their states. The host may touch it while no work that uses it is queued. On the cpu it
 * is memory of cudamoe_memory_allocate. Freed by cudamoe_memory_free, which for it waits for the work that was queued before. */
CUDAMOE_API cudamoe_status cudamoe_memory_allocate_mapped(cudamoe_device* device, int64_t bytes, void** pointer);
/* Frees memory of cudamoe_memory_allocate and cudamoe_memory_allocate_mapped. Null is accepted. A pointer that is not live is an error, not
 * a crash. Work that was queued on the device's streams before may still use it; the call does not wait for it, but for mapped memory. */
CUDAMOE_API cudamoe_status cudamoe_memory_free(cudamoe_device* device, void* pointer);
/* Allocates `bytes` >= 0 of host memory, aligned to 64 bytes, that copies of the device reach without waiting (page-locked for a GPU).
 * Its content is undefined. */
CUDAMOE_API cudamoe_status cudamoe_host_allocate(cudamoe_device* device, int64_t bytes, void** pointer);
/* Frees memory of cudamoe_host_allocate; no copy from or to it may be under way. Null is accepted, a pointer that is not live is an error.
 */
CUDAMOE_API cudamoe_status cudamoe_host_free(cudamoe_device* device, void* pointer);
enum { CUDAMOE_HOST_TO_DEVICE = 0, CUDAMOE_DEVICE_TO_HOST = 1, CUDAMOE_DEVICE_TO_DEVICE = 2 };
/* Copies bytes in stream order; the ranges may not overlap. A copy to the host has ended when the call returns. A copy from memory of
 * cudamoe_host_allocate may read it until the stream gets there, so it stays as it is until then; other host memory has been read when the
 * call returns. */
CUDAMOE_API cudamoe_status cudamoe_memory_copy(cudamoe_stream* stream, void* destination, const void* source, int64_t bytes,
                                               int32_t direction);
/* Sets every byte to `value` (0..255) in stream order. */
CUDAMOE_API cudamoe_status cudamoe_memory_fill(cudamoe_stream* stream, void* destination, int32_t value, int64_t bytes);

CUDAMOE_API cudamoe_status cudamoe_stream_create(cudamoe_device* device, cudamoe_stream** stream);
/* A stream of the device's own runtime as a stream of this library: `native` (host) is a cudaStream_t of the device's primary context, made
 * by other code of the process, e.g. a CUDA library. Operations are queued on it among that code's own work. It stays the caller's: it must
 * live until cudamoe_stream_destroy, which waits for it and leaves it as it is. While other code captures it nothing of this library may be
 * called on it: cudamoe_capture_begin is the way to a capture. Null, the default stream, is refused, since it cannot be captured.
 * CUDAMOE_ERROR_UNSUPPORTED where a backend has no such streams (cpu). */
CUDAMOE_API cudamoe_status cudamoe_stream_wrap(cudamoe_device* device, void* native, cudamoe_stream** stream);
/* The other way: the cudaStream_t (host) behind a stream, valid until the stream is destroyed. CUDAMOE_ERROR_UNSUPPORTED on the cpu. */
CUDAMOE_API cudamoe_status cudamoe_stream_get_native(cudamoe_stream* stream, void** native);
/* Its captures must have been destroyed before; else CUDAMOE_ERROR_ARGUMENT and it stays open. A capture that was begun and not ended is
 * dropped. */
CUDAMOE_API cudamoe_status cudamoe_stream_destroy(cudamoe_stream* stream);
/* Waits for all work of the stream. Returns CUDAMOE_ERROR_REPORTED once, with the first offender named, when an operation met bad
 * data since the last call. */
CUDAMOE_API cudamoe_status cudamoe_stream_synchronize(cudamoe_stream* stream);

/*
 * A capture is a sequence of calls that is run again as one: on a GPU as a CUDA graph, which costs the host one launch instead of one for
 * each kernel; on the cpu the calls, one after the other. Between cudamoe_capture_begin and cudamoe_capture_end operations, fills and
 * copies from device to device on the stream are checked and kept, not run; size queries answer as ever. Copies from and to the host and
 * cudamoe_stream_synchronize are refused meanwhile.
 *   - cudamoe_capture_launch runs the sequence on the stream that it was captured on, in order with the stream's other work, any number of
 *     times. Bad data is reported as if the operations were called.
 *   - What the argument structs and the host arrays that they point to say is kept as it was: pointers, sizes, and numbers such as learning
 * rates, step numbers and seeds. What lies in device memory is read when it runs: new batches go into the same buffers. So updates and
 * noisy gates, whose numbers change with every step, take these from device memory: cudamoe_step_numbers.
 *   - The memory must live as long as the capture is launched.
 *   - Run the sequence once before it is captured: a GPU loads kernels at their first call, and in a capture none can be tried: kinds of
 *     calls that are new there take the plainest kernel.
 */
CUDAMOE_API cudamoe_status cudamoe_capture_begin(cudamoe_stream* stream);
CUDAMOE_API cudamoe_status cudamoe_capture_end(cudamoe_stream* stream, cudamoe_capture** capture);
CUDAMOE_API cudamoe_status cudamoe_capture_launch(cudamoe_capture* capture);
/* Null is accepted and does nothing. */
CUDAMOE_API cudamoe_status cudamoe_capture_destroy(cudamoe_capture* capture);

/* ------------------------------------------------------------------------------------------------------------------ */
/* gemm: grouped matrix products                                                                                       */
/* ------------------------------------------------------------------------------------------------------------------ */
/*
 * One weight matrix W[g] of shape [n, k] (out, in) a group g < groups. Groups are either
 *   ragged:  offsets != null; rows offsets[g] .. offsets[g+1] of the row space 0 .. rows-1 belong to group g. offsets has
 *            groups + 1 ascending entries, offsets[0] = 0, offsets[groups] <= rows; rows beyond the last group (dropped
 *            ones) are not computed, and forward and dgrad leave their outputs as they were;
 *   strided: offsets == null; every group has all `rows` rows, at `<matrix>_group_stride` from each other.
 * A plain linear layer is one strided group. k, n >= 1; rows >= 0; 1 <= groups <= 65535.
 */

/* Reorders weights into the backend's own layout; run it once after each change of the weights. Transposed packs serve dgrad. */
typedef struct cudamoe_gemm_pack_args {
  uint32_t struct_size;
  int32_t groups;
  int64_t n, k;
  const float* weights;         /* [groups, n, k], f32 */
  int64_t weights_row_stride;   /* >= k */
  int64_t weights_group_stride; /* >= n * row stride when groups > 1 */
  int32_t transposed;           /* 0: for cudamoe_gemm_forward; 1: for cudamoe_gemm_dgrad */
  int32_t dtype;                /* of the packed weights; bf16 makes the product a bf16 one with f32 accumulation */
  void* packed;                 /* cudamoe_gemm_packed_bytes bytes, 64-byte aligned */
  int64_t packed_bytes;
} cudamoe_gemm_pack_args;
CUDAMOE_API cudamoe_status cudamoe_gemm_packed_bytes(cudamoe_stream* stream, const cudamoe_gemm_pack_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_gemm_pack(cudamoe_stream* stream, const cudamoe_gemm_pack_args* args);

/* y[r, :] = activation(x[gather ? gather[r] : r, :] * W[g]^T + bias[g]) for the rows r of each group g. */
typedef struct cudamoe_gemm_forward_args {
  uint32_t struct_size;
  int32_t groups;
  int64_t rows, n, k;
  const int64_t* offsets;               /* [groups + 1] or null, see above */
  const int32_t* gather;                /* [rows] row of x for each row of y, or null; ragged groups only */
  int64_t x_rows;                       /* rows that x has, the bound of gather; ignored without gather */
  const void* x;                        /* [x rows, k] of x_dtype */
  int64_t x_row_stride, x_group_stride; /* group stride: strided groups only; 0 = every group reads the same x */
  const void* packed;                   /* from cudamoe_gemm_pack with transposed = 0 and the same groups, n, k */
  const float* bias;                    /* [groups, n] or null */
  int64_t bias_group_stride;
  void* y; /* [rows, n] of y_dtype */
  int64_t y_row_stride, y_group_stride;
  void* preactivation; /* same layout and type as y, or null: the value before the activation */
  int32_t x_dtype, packed_dtype, y_dtype;
  int32_t activation;
  float activation_slope;
  int32_t accumulate; /* 1: y += product (+ bias); needs activation none */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_gemm_forward_args;
CUDAMOE_API cudamoe_status cudamoe_gemm_forward_workspace(cudamoe_stream* stream, const cudamoe_gemm_forward_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_gemm_forward(cudamoe_stream* stream, const cudamoe_gemm_forward_args* args);

/*
 * dx[r, :] (+)= (dz[r, :] * W[g]) . activation'(below[r, :]) for the rows r of each group g.
 * The second factor is the derivative of the activation that made this layer's input, so that the result is already the
 * gradient before that activation: `below` is the activation's output (or its pre-activation for GELU and SiLU), in the
 * layout of dx; null or activation none: no factor. With accumulate the factor applies to the whole sum,
 * dx = (dx + dz * W) . activation'(below): the last of several contributions to dx applies it.
 */
typedef struct cudamoe_gemm_dgrad_args {
  uint32_t struct_size;
  int32_t groups;
  int64_t rows, n, k;
  const int64_t* offsets;
  const void* dz; /* [rows, n] of dz_dtype */
  int64_t dz_row_stride, dz_group_stride;
  const void* packed;                     /* from cudamoe_gemm_pack with transposed = 1 and the same groups, n, k */
  void* dx;                               /* [rows, k] of dx_dtype */
  int64_t dx_row_stride, dx_group_stride; /* group stride: strided groups only, != 0 when groups > 1 */
  const void* below;                      /* [rows, k] of dx_dtype or null */
  int64_t below_row_stride, below_group_stride;
  int32_t dz_dtype, packed_dtype, dx_dtype;
  int32_t activation; /* of the layer below */
  float activation_slope;
  int32_t accumulate;
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_gemm_dgrad_args;
CUDAMOE_API cudamoe_status cudamoe_gemm_dgrad_workspace(cudamoe_stream* stream, const cudamoe_gemm_dgrad_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_gemm_dgrad(cudamoe_stream* stream, const cudamoe_gemm_dgrad_args* args);

/* dw[g] (+)= sum over the rows r of group g of dz[r, :]^T x[gather ? gather[r] : r, :]; dbias[g] (+)= sum of dz[r, :].
 * A group without rows gets zeros (nothing is added with accumulate). Rows are summed in ascending order. */
typedef struct cudamoe_gemm_wgrad_args {
  uint32_t struct_size;
  int32_t groups;
  int64_t rows, n, k;
  const int64_t* offsets;
  const int32_t* gather;
  int64_t x_rows;
  const void* dz; /* [rows, n] of dz_dtype */
  int64_t dz_row_stride, dz_group_stride;
  const void* x; /* [x rows, k] of x_dtype */
  int64_t x_row_stride, x_group_stride;
  float* dw; /* [groups, n, k] */
  int64_t dw_row_stride, dw_group_stride;
  float* dbias; /* [groups, n] or null */
  int64_t dbias_group_stride;
  int32_t dz_dtype, x_dtype;
  int32_t compute_dtype; /* bf16: operands are rounded to bf16 first, sums stay f32 */
  int32_t accumulate;
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_gemm_wgrad_args;
CUDAMOE_API cudamoe_status cudamoe_gemm_wgrad_workspace(cudamoe_stream* stream, const cudamoe_gemm_wgrad_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_gemm_wgrad(cudamoe_stream* stream, const cudamoe_gemm_wgrad_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* embedding: pooled look-ups in many tables, merged gradients, fused optimiser                                          */
/* ------------------------------------------------------------------------------------------------------------------ */

enum { CUDAMOE_POOLING_SUM = 0, CUDAMOE_POOLING_MEAN = 1 };
enum {
  CUDAMOE_BOUNDS_REPORT = 0, /* a bad id contributes nothing; cudamoe_stream_synchronize reports the first one and their number */
  CUDAMOE_BOUNDS_CLAMP = 1   /* a bad id reads row 0 */
};
enum {
  CUDAMOE_OPTIMIZER_SGD = 0,             /* no state; with momentum (dense only): state1 = velocity */
  CUDAMOE_OPTIMIZER_ADAGRAD = 1,         /* state1 = sum of squares, shape of the parameter */
  CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD = 2, /* embedding only; state1 = f32 [rows], sum of the row's mean squares */
  CUDAMOE_OPTIMIZER_ADAMW = 3,           /* dense only; state1 = first, state2 = second moment */
  CUDAMOE_OPTIMIZER_ROWWISE_ADAM = 4     /* embedding only; state1 = first moment [rows, dim], state2 = f32 [rows] second */
};

/* The numbers that differ from step to step, for updates and noisy gates that read them in device memory when they run: a captured one
 * takes other numbers at each launch. */
typedef struct cudamoe_step_numbers {
  int64_t step; /* 1, 2, ... */
  float learning_rate;
  float correction1; /* 1 / (1 - beta1^step) */
  float correction2; /* 1 / (1 - beta2^step) */
  uint32_t reserved;
} cudamoe_step_numbers;
/* Those with which an update has the same bits as with these four in its arguments. learning_rate >= 0, betas in [0, 1), step >= 1; numbers
 * is on the host. Of optimisers without moments the betas do not matter. */
CUDAMOE_API cudamoe_status cudamoe_step_numbers_make(float learning_rate, float beta1, float beta2, int64_t step,
                                                     cudamoe_step_numbers* numbers);

typedef struct cudamoe_embedding_table {
  void* weights;      /* [rows, dim] of dtype */
  int64_t rows;       /* 1 .. 2^31 - 1 */
  int64_t row_stride; /* of weights and of a [rows, dim] state, >= dim */
  float* state1;      /* as the optimiser says; may be null for a look-up */
  float* state2;
  int32_t dim; /* 1 .. 8192 */
  int32_t dtype;
} cudamoe_embedding_table;

typedef struct cudamoe_embedding_feature {
  const int32_t* ids;     /* look-ups of all bags, one after the other */
  const int32_t* offsets; /* [batch + 1] ascending from 0 to at most lookups, bag b = ids[offsets[b] .. offsets[b + 1]); null: bag_size
                             ids a bag. A feature whose offsets break this is left out (its output is 0) and reported */
  int32_t bag_size;       /* >= 1, used when offsets is null */
  int32_t table;          /* index into tables; several features may share a table */
  int32_t pooling;
  int32_t reserved;
  int64_t column;  /* first column of this feature's dim columns in the output row */
  int64_t lookups; /* number of ids; without offsets batch * bag_size. Of all features together at most 2^32 - 1 */
} cudamoe_embedding_feature;

/*
 * A cache of a table's hot rows, for tables of cudamoe_memory_allocate_mapped: device memory that holds rows of the table and of its
 * states. A row lies in one place at a time, in the cache or in the table, and every operation that is given the cache finds it there by
 * its id: cudamoe_embedding_forward and _update read and write a cached row in the cache and any other in the table itself. So results have
 * the same bits with a cache of any size and without one, and a batch with more rows than the cache holds is as right as any. Only
 * cudamoe_embedding_cache_prepare moves rows: called with a batch before its look-up, it brings in the rows that the batch touches, and
 * writes back those that have to leave. Caches are found by ids, not by places that are handed from one call to the next: ids stay what
 * they are, a call that is forgotten costs time and no right result, and there is nothing to read back, so a step can be captured.
 *
 * It is set-associative: row r may lie in one of the CUDAMOE_EMBEDDING_CACHE_WAYS places of set r % sets, sets = rows / ways. So rows with
 * low numbers, the frequent ones of a vocabulary by frequency, are spread over the sets. Of a set the batch's rows in ascending order take
 * empty places, then those of the rows that were not touched for the longest time, the lowest place first; rows of this batch stay. What
 * finds no place is used in the table. All of it follows from the ids of the batches alone.
 *
 * Zeroed memory is an empty cache. Until cudamoe_embedding_cache_flush the table in host memory lacks the updates of cached rows, so
 * nothing else may read it; who writes it flushes first and fills the cache's memory, or all of it but the counters, with zeros. All calls
 * with a cache are made on one stream. On the cpu, where the table is as near as a cache would be, a cache holds nothing: the calls are
 * accepted and do nothing, and the counters stay 0.
 */
#define CUDAMOE_EMBEDDING_CACHE_WAYS 8
typedef struct cudamoe_embedding_cache {
  void* memory;      /* device memory, aligned to 64 bytes */
  int64_t bytes;     /* of it, at least what cudamoe_embedding_cache_bytes says */
  int64_t rows;      /* that it holds: a multiple of CUDAMOE_EMBEDDING_CACHE_WAYS, and rows / ways + the table's rows < 2^31; 0: the table
                        has no cache */
  int32_t optimizer; /* whose states it holds as well; CUDAMOE_OPTIMIZER_SGD: none. An update must be of this optimiser */
  int32_t reserved;
} cudamoe_embedding_cache;

/* What the memory of a cache begins with, for who wants to read it: copy it to the host. Numbers since the memory was zeroed; the rows of a
 * batch count once, however often they are looked up. */
typedef struct cudamoe_embedding_cache_counters {
  int64_t batches;             /* that were prepared */
  int64_t hits;                /* rows of batches that were there */
  int64_t misses;              /* rows that were brought in */
  int64_t bypasses;            /* rows that found no place */
  int64_t evictions;           /* rows that had to leave */
  int64_t bytes_in, bytes_out; /* copied from the table and its states, and back, by prepare and flush */
  int64_t reserved;
} cudamoe_embedding_cache_counters;

/* Writes every cached row that was updated back to its table and states. The rows stay in the cache. */
typedef struct cudamoe_embedding_cache_flush_args {
  uint32_t struct_size;
  int32_t table_count;
  const cudamoe_embedding_table* tables; /* host */
  const cudamoe_embedding_cache* caches; /* host, [table_count] */
} cudamoe_embedding_cache_flush_args;
CUDAMOE_API cudamoe_status cudamoe_embedding_cache_flush(cudamoe_stream* stream, const cudamoe_embedding_cache_flush_args* args);
/* Bytes that the memory of the cache of a table needs; table_count is 1. */
CUDAMOE_API cudamoe_status cudamoe_embedding_cache_bytes(cudamoe_stream* stream, const cudamoe_embedding_cache_flush_args* args,
                                                         int64_t* bytes);

/* Brings the rows that the look-ups of a batch touch into the caches of their tables. Bad ids are passed over, or count as row 0, as
 * `bounds` says; the look-up reports them. */
typedef struct cudamoe_embedding_cache_prepare_args {
  uint32_t struct_size;
  int32_t table_count, feature_count;
  int32_t bounds;
  int64_t batch;
  const cudamoe_embedding_table* tables;     /* host */
  const cudamoe_embedding_feature* features; /* host */
  const cudamoe_embedding_cache* caches;     /* host, [table_count] */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_embedding_cache_prepare_args;
CUDAMOE_API cudamoe_status cudamoe_embedding_cache_prepare_workspace(cudamoe_stream* stream,
                                                                     const cudamoe_embedding_cache_prepare_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_embedding_cache_prepare(cudamoe_stream* stream, const cudamoe_embedding_cache_prepare_args* args);

/* output[b, column + j] = pooled over bag b of table[id, j]; an empty bag gives zeros. Mean divides by the number of ids of the
 * bag, bad ones included. batch < 2^31; two features may not share a column. */
typedef struct cudamoe_embedding_forward_args {
  uint32_t struct_size;
  int32_t table_count, feature_count;
  int32_t output_dtype;
  int64_t batch;
  const cudamoe_embedding_table* tables;     /* host */
  const cudamoe_embedding_feature* features; /* host */
  void* output;                              /* [batch, ...]; columns that belong to no feature are not written */
  int64_t output_row_stride;
  int32_t bounds;
  int32_t reserved;
  const cudamoe_embedding_cache* caches; /* host, [table_count], or null: no table has one */
} cudamoe_embedding_forward_args;
CUDAMOE_API cudamoe_status cudamoe_embedding_forward(cudamoe_stream* stream, const cudamoe_embedding_forward_args* args);

/* Sums the gradient of every touched row over its duplicates, in ascending (feature, look-up) order, and applies the optimiser
 * to it: each touched row is read and written once. Tables and states may not overlap, but rows of equal stride may interleave. For
 * features that share a table, batch and their number, each rounded up to a power of two, have a product of at most 2^32.
 * bf16 weights are rounded at random, without bias: 16 random bits are added to the lower half of the f32 value's bits, which is then
 * dropped. Those of element j are the (j mod 8)th of Philox4x32-10 with key (seed's halves, the upper one xor step's upper half) and
 * counter (row, j / 8, table, lower half of step). */
typedef struct cudamoe_embedding_update_args {
  uint32_t struct_size;
  int32_t table_count, feature_count;
  int32_t optimizer;
  int64_t batch;
  const cudamoe_embedding_table* tables;     /* host */
  const cudamoe_embedding_feature* features; /* host */
  const float* gradient;                     /* of the output, [batch, ...], same columns as in the forward */
  int64_t gradient_row_stride;
  float learning_rate, epsilon, beta1, beta2;
  float weight_decay;   /* decoupled: row *= 1 - learning_rate * weight_decay, touched rows only */
  float gradient_scale; /* multiplies the gradient, e.g. for clipping; 1 for none */
  int64_t step;         /* 1, 2, ...: for bias correction and for the rounding of bf16 weights */
  uint64_t seed;        /* of the stochastic rounding of bf16 weights */
  int32_t bounds;
  int32_t reserved;
  void* workspace;
  int64_t workspace_bytes;
  const double* norm;                    /* [1] or null: when it is not finite no table is changed, as in cudamoe_optimizer_step */
  const cudamoe_embedding_cache* caches; /* host, [table_count], or null: no table has one */
  const cudamoe_step_numbers* numbers;   /* [1], read instead of learning_rate and step, which are then ignored; or null */
} cudamoe_embedding_update_args;
CUDAMOE_API cudamoe_status cudamoe_embedding_update_workspace(cudamoe_stream* stream, const cudamoe_embedding_update_args* args,
                                                              int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_embedding_update(cudamoe_stream* stream, const cudamoe_embedding_update_args* args);

/* The merged gradient itself: for table t the touched rows in ascending order are unique_rows[starts[t] .. starts[t] + counts[t])
 * where starts[t] is the number of look-ups of the tables before t, and values[i * values_row_stride ..] is their gradient.
 * What lies behind the counted rows of a table, and behind a row's dim, is not written. */
typedef struct cudamoe_embedding_gradient_args {
  uint32_t struct_size;
  int32_t table_count, feature_count;
  int32_t bounds;
  int64_t batch;
  const cudamoe_embedding_table* tables;     /* host; weights may be null */
  const cudamoe_embedding_feature* features; /* host */
  const float* gradient;
  int64_t gradient_row_stride;
  int32_t* unique_rows;      /* [look-ups of all features] */
  float* values;             /* [look-ups of all features, values_row_stride] */
  int64_t values_row_stride; /* >= the largest dim */
  int64_t* counts;           /* [table_count] */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_embedding_gradient_args;
CUDAMOE_API cudamoe_status cudamoe_embedding_gradient_workspace(cudamoe_stream* stream, const cudamoe_embedding_gradient_args* args,
                                                                int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_embedding_gradient(cudamoe_stream* stream, const cudamoe_embedding_gradient_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* gating: fused gates, routing, balance and z losses                                                                    */
/* ------------------------------------------------------------------------------------------------------------------ */

enum {
  CUDAMOE_SCORE_SOFTMAX_TOPK = 0, /* p = softmax(logits); the k largest keep their p */
  CUDAMOE_SCORE_TOPK_SOFTMAX = 1, /* softmax over the k largest logits only */
  CUDAMOE_SCORE_SIGMOID = 2,      /* p = sigmoid(logits); chosen by p + selection_bias, weighted by p */
  CUDAMOE_SCORE_NOISY = 3         /* Shazeer et al. 2017, eq. 3 to 5: logits + N(0,1) * softplus(noise logits), then TOPK_SOFTMAX */
};
enum { CUDAMOE_MAX_TOPK = 64, CUDAMOE_MAX_EXPERTS = 4096 };

/*
 * All gates of all tasks in one pass over x. logits = x * W^T + bias with W [columns, k_in], columns = gates * experts, or with
 * SCORE_NOISY gates * 2 * experts (for each gate first the clean, then the noise logits).
 * Dense: top_k = 0; probabilities [rows, gates, experts] are the output. Sparse: 1 <= top_k <= experts; chosen experts in descending
 * score (ties: lower index first), distinct for any bits of the logits: NaN ranks last.
 * renormalise: the weights of the chosen are divided by their sum (SOFTMAX_TOPK and SIGMOID; sigmoid dense as well).
 * A dense gate allows SOFTMAX_TOPK (plain softmax) and SIGMOID.
 * Logits that are not finite: infinities count as +-FLT_MAX in a softmax, and as the limits 1 and 0 in a sigmoid. In a sparse gate a NaN
 * logit gets weight 0 and gradient 0, and the others' are as if its expert were absent; where all that a softmax runs over are NaN or
 * minus infinity they share equally. A dense gate passes NaN on: the whole softmax of that row and gate is NaN, of a sigmoid its own
 * element (all of them when renormalised).
 */
typedef struct cudamoe_gate_forward_args {
  uint32_t struct_size;
  int32_t gates, experts, top_k;
  int32_t score_mode;
  int32_t renormalise;
  int64_t rows, k_in;
  const void* x; /* [rows, k_in] f32 */
  int64_t x_row_stride;
  const void* packed;          /* cudamoe_gemm_pack of W [columns, k_in], groups = 1, f32, not transposed */
  const float* bias;           /* [columns] or null */
  const float* selection_bias; /* [gates, experts] or null; SIGMOID only; changes the choice, not the weight */
  float* logits;               /* [rows, columns]; needed by the backward of every mode but dense softmax; may be null otherwise */
  float* probabilities;        /* [rows, gates, experts]; may be null for a sparse gate without balance loss */
  int32_t* chosen;             /* [rows, gates, top_k] expert ids; sparse only */
  float* weights;              /* [rows, gates, top_k]; sparse only */
  /* statistics, each may be null */
  int64_t* expert_counts;   /* [gates, experts] rows that chose the expert; sparse only */
  double* probability_sums; /* [gates, experts] */
  double* z_sums;           /* [gates] sum over rows of (log sum exp of the clean logits)^2 */
  uint64_t seed;            /* of the noise, with step and the sample's index row_offset + row */
  int64_t step;             /* SCORE_NOISY: noise when >= 0, none (evaluation) when < 0 */
  int64_t row_offset;
  void* workspace;
  int64_t workspace_bytes;
  const cudamoe_step_numbers* numbers; /* [1], its step is read instead of step where that is >= 0; or null */
} cudamoe_gate_forward_args;
CUDAMOE_API cudamoe_status cudamoe_gate_forward_workspace(cudamoe_stream* stream, const cudamoe_gate_forward_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_gate_forward(cudamoe_stream* stream, const cudamoe_gate_forward_args* args);

/*
 * dlogits [rows, columns] from the gradient of the outputs, plus the gradients of
 *   balance loss  balance_coefficient * experts * sum_e (counts_e / (rows * top_k)) * (probability_sum_e / rows)  for each gate
 *                 (Fedus et al. 2021, eq. 4; the counts are constants), sparse only;
 *   z loss        z_coefficient * mean over rows of (log sum exp of the clean logits)^2 (Zoph et al. 2022, eq. 5), for each gate.
 * The gradients on x and W follow by cudamoe_gemm_dgrad and cudamoe_gemm_wgrad.
 */
typedef struct cudamoe_gate_backward_args {
  uint32_t struct_size;
  int32_t gates, experts, top_k;
  int32_t score_mode;
  int32_t renormalise;
  int64_t rows;
  const float* logits;        /* as the forward stored them; may be null for a dense softmax without z loss */
  const float* probabilities; /* as the forward stored them; may be null for a sparse gate without balance loss */
  const int32_t* chosen;
  const float* weights;
  const float* dprobabilities;  /* [rows, gates, experts], dense */
  const float* dweights;        /* [rows, gates, top_k], sparse */
  const int64_t* expert_counts; /* [gates, experts], for the balance loss */
  float balance_coefficient, z_coefficient;
  float* dlogits; /* [rows, columns] */
  int64_t dlogits_row_stride;
  uint64_t seed;
  int64_t step;
  int64_t row_offset;
  const cudamoe_step_numbers* numbers; /* as in the forward */
} cudamoe_gate_backward_args;
CUDAMOE_API cudamoe_status cudamoe_gate_backward(cudamoe_stream* stream, const cudamoe_gate_backward_args* args);

enum {
  CUDAMOE_ORDER_SAMPLE_MAJOR = 0, /* places are taken sample by sample, a sample's choices in their order */
  CUDAMOE_ORDER_CHOICE_MAJOR = 1, /* all first choices before any second choice (GShard) */
  CUDAMOE_ORDER_PRIORITY = 2      /* by descending weight; ties: lower pair first */
};
/*
 * Sorts the pairs (sample, choice), pair = sample * choices + choice, by expert, stably in the order of `order`. slots
 * 0 .. offsets[experts]-1 are the routed rows. With capacity > 0 an expert keeps its first `capacity` pairs under that order; the
 * others are dropped: slot_of_pair = -1.
 */
typedef struct cudamoe_routing_args {
  uint32_t struct_size;
  int32_t experts;
  int64_t samples;
  int32_t choices; /* gates * top_k */
  int32_t order;
  int64_t capacity;        /* rows an expert may take; 0 = no limit */
  const int32_t* chosen;   /* [samples, choices], each 0 .. experts-1 */
  const float* weights;    /* [samples, choices]; ORDER_PRIORITY only */
  int64_t* offsets;        /* [experts + 1] */
  int32_t* sample_of_slot; /* [samples * choices]; -1 beyond offsets[experts] */
  int32_t* pair_of_slot;   /* [samples * choices]; -1 beyond offsets[experts] */
  int32_t* slot_of_pair;   /* [samples, choices] */
  int64_t* dropped;        /* [experts] or null */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_routing_args;
CUDAMOE_API cudamoe_status cudamoe_routing_workspace(cudamoe_stream* stream, const cudamoe_routing_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_routing(cudamoe_stream* stream, const cudamoe_routing_args* args);

/*
 * A capacity within groups of neighbouring samples, after cudamoe_routing: of a group's pairs, in their order, an expert keeps the first
 * `capacity`, whether they got a slot or not. The slot_of_pair of the others becomes -1; those that had a slot are counted in `dropped`
 * and listed in `dropped_pairs`. Their slots stay in the experts' ranges. Pairs whose expert is out of range count for nothing and stay
 * as they are. The work grows with the square of group * choices, which is meant to be small.
 */
typedef struct cudamoe_group_capacity_args {
  uint32_t struct_size;
  int32_t experts;
  int64_t samples; /* a multiple of group */
  int32_t choices;
  int32_t group;          /* samples of a group, at least 1 */
  int64_t capacity;       /* at least 1 */
  const int32_t* chosen;  /* [samples, choices] */
  int32_t* slot_of_pair;  /* [samples, choices], in and out */
  int32_t* dropped_pairs; /* [samples, choices] or null: the pair's own number where it was dropped here, else -1 */
  int64_t* dropped;       /* [experts] or null */
} cudamoe_group_capacity_args;
CUDAMOE_API cudamoe_status cudamoe_group_capacity(cudamoe_stream* stream, const cudamoe_group_capacity_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* combine: gate-weighted sums of expert outputs                                                                         */
/* ------------------------------------------------------------------------------------------------------------------ */

/*
 * Dense (slot_of_pair == null):  y[b, t, :] = sum_e (gates[b, t, e] + residual[t, e]) * expert[b, e, :]
 * Sparse:                        y[b, t, :] = sum_j gates[b, t, j] * expert[slot_of_pair[b, t * choices + j], :], dropped slots give
 * nothing
 */
typedef struct cudamoe_combine_forward_args {
  uint32_t struct_size;
  int32_t tasks;
  int64_t rows, width;
  int32_t choices; /* experts (dense) or choices a task (sparse) */
  int32_t reserved;
  const float* gates;          /* [rows, tasks, choices] */
  const float* residual;       /* [tasks, choices] or null; dense only (AdaTT's native experts) */
  const int32_t* slot_of_pair; /* [rows, tasks * choices] or null */
  const void* expert;          /* dense: element (b, e, j) at b * row_stride + e * expert_stride + j; sparse: row s at s * row_stride */
  int64_t expert_row_stride, expert_stride;
  int64_t expert_rows; /* sparse: rows of `expert`, the bound of the slots */
  float* y;            /* element (b, t, j) at b * y_row_stride + t * y_task_stride + j */
  int64_t y_row_stride, y_task_stride;
  int32_t expert_dtype;
  int32_t reserved2;
} cudamoe_combine_forward_args;
CUDAMOE_API cudamoe_status cudamoe_combine_forward(cudamoe_stream* stream, const cudamoe_combine_forward_args* args);

/*
 * Given dy (scaled by task_scale[t] when that is not null; a zero scale leaves the task out, NaN and all: its dgates are 0):
 *   dexpert = sum of the weighted dy, times activation'(expert) when `activation` is not none (the activation that made the expert's
 *             output, so that dexpert is the gradient before it; GELU and SiLU read `preactivation` in the layout of expert);
 *             sparse: rows beyond the routed ones are not written
 *   dgates[b, t, e] = <dy[b, t, :], expert>; 0 for dropped slots
 *   dresidual[t, e] (+)= sum_b of the same, dense only
 */
typedef struct cudamoe_combine_backward_args {
  uint32_t struct_size;
  int32_t tasks;
  int64_t rows, width;
  int32_t choices;
  int32_t activation;
  const float* gates;
  const float* residual;
  const int32_t* slot_of_pair; /* sparse */
  const void* expert;
  const void* preactivation;
  int64_t expert_row_stride, expert_stride;
  int64_t expert_rows;
  const float* dy;
  int64_t dy_row_stride, dy_task_stride;
  const float* task_scale; /* [tasks] or null */
  void* dexpert;           /* layout and type of expert */
  int64_t dexpert_row_stride, dexpert_stride;
  float* dgates;    /* [rows, tasks, choices] or null */
  float* dresidual; /* [tasks, choices] or null; dense only */
  int32_t expert_dtype;
  float activation_slope;
  int32_t accumulate_residual;
  int32_t reserved;
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_combine_backward_args;
CUDAMOE_API cudamoe_status cudamoe_combine_backward_workspace(cudamoe_stream* stream, const cudamoe_combine_backward_args* args,
                                                              int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_combine_backward(cudamoe_stream* stream, const cudamoe_combine_backward_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* expert: both layers of an expert in one operation                                                                     */
/* ------------------------------------------------------------------------------------------------------------------ */

/*
 * An expert is two layers: expert_e(x) = output_activation(h * W2[e]^T + bias2[e]) with h = hidden_activation(x * W1[e]^T + bias1[e]),
 * W1[e] of shape [hidden, k] and W2[e] [n, hidden]. What lies between the layers stays near the processor. With weights packed as bf16,
 * x and h are rounded to bf16 too and sums stay f32, as in two calls of cudamoe_gemm_forward, which give the same up to rounding.
 *
 * packed1 is from cudamoe_gemm_pack with groups experts, n = hidden and k; packed2 with n and k = hidden; both not transposed and of
 * packed_dtype. A GPU keeps h in registers where the weights are bf16 and the widths fit (docs/kernels.md); elsewhere h goes through
 * the work space.
 */

/* y[r, :] = expert_g(x[gather ? gather[r] : r, :]) for the rows r of each group g: groups, offsets, gather and strides as in
 * cudamoe_gemm_forward. For training, h and its pre-activation can be stored. */
typedef struct cudamoe_expert_forward_args {
  uint32_t struct_size;
  int32_t groups; /* experts */
  int64_t rows, n, hidden, k;
  const int64_t* offsets; /* [groups + 1] or null */
  const int32_t* gather;  /* [rows] or null; ragged groups only */
  int64_t x_rows;
  const void* x;                        /* [x rows, k] of x_dtype */
  int64_t x_row_stride, x_group_stride; /* group stride: strided groups only; 0 = every expert reads the same x */
  const void* packed1;
  const void* packed2;
  const float* bias1; /* [groups, hidden] or null */
  int64_t bias1_group_stride;
  const float* bias2; /* [groups, n] or null */
  int64_t bias2_group_stride;
  void* h; /* [rows, hidden] of h_dtype, or null: not wanted */
  int64_t h_row_stride, h_group_stride;
  void* h_preactivation; /* same layout and type as h, or null; needs h */
  void* y;               /* [rows, n] of y_dtype */
  int64_t y_row_stride, y_group_stride;
  int32_t x_dtype, packed_dtype;
  int32_t h_dtype; /* bf16 only with packed_dtype bf16, so that h is stored as the second layer reads it, or exactly */
  int32_t y_dtype;
  int32_t hidden_activation, output_activation;
  float activation_slope; /* of LeakyReLU, in both layers */
  int32_t reserved;
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_expert_forward_args;
CUDAMOE_API cudamoe_status cudamoe_expert_forward_workspace(cudamoe_stream* stream, const cudamoe_expert_forward_args* args,
                                                            int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_expert_forward(cudamoe_stream* stream, const cudamoe_expert_forward_args* args);

/*
 * For inference: the mixtures themselves. All experts read the same x; neither h nor the experts' outputs are kept.
 * Dense (chosen == null, choices = experts):  y[b, t, :] = sum_e (gates[b, t, e] + residual[t, e]) * expert_e(x[b])
 * Sparse:                                     y[b, t, :] = sum_j gates[b, t, j] * expert_{chosen[b, t, j]}(x[b])
 * summed in ascending e or j. A chosen number that is not 0 .. experts-1 gives nothing and is reported.
 */
typedef struct cudamoe_expert_mix_args {
  uint32_t struct_size;
  int32_t experts; /* at most CUDAMOE_MAX_EXPERTS */
  int32_t tasks;
  int32_t choices; /* of a task; experts when dense. rows * tasks * choices < 2^31 */
  int64_t rows, n, hidden, k;
  const void* x; /* [rows, k] of x_dtype */
  int64_t x_row_stride;
  const void* packed1;
  const void* packed2;
  const float* bias1; /* [experts, hidden] or null */
  int64_t bias1_group_stride;
  const float* bias2; /* [experts, n] or null */
  int64_t bias2_group_stride;
  const float* gates;    /* [rows, tasks, choices] */
  const float* residual; /* [tasks, experts] or null; dense only */
  const int32_t* chosen; /* [rows, tasks, choices] or null = dense */
  void* y;               /* element (b, t, j) of y_dtype at b * y_row_stride + t * y_task_stride + j */
  int64_t y_row_stride, y_task_stride;
  int32_t x_dtype, packed_dtype, y_dtype;
  int32_t hidden_activation, output_activation;
  float activation_slope;
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_expert_mix_args;
CUDAMOE_API cudamoe_status cudamoe_expert_mix_workspace(cudamoe_stream* stream, const cudamoe_expert_mix_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_expert_mix(cudamoe_stream* stream, const cudamoe_expert_mix_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* activation: products with an activated gate, element by element                                                       */
/* ------------------------------------------------------------------------------------------------------------------ */

/*
 * y = a * activation(b), a gated linear unit (Shazeer 2020): with SiLU it is SwiGLU, with sigmoid GLU, without activation a plain product.
 * a, b and y may be different columns of one matrix, so one product can make a and b.
 */
typedef struct cudamoe_gated_product_forward_args {
  uint32_t struct_size;
  int32_t activation;     /* CUDAMOE_ACTIVATION_* */
  float activation_slope; /* of LeakyReLU, finite and not negative */
  int32_t reserved;
  int64_t rows, width;
  const float* a; /* [rows, width] */
  int64_t a_row_stride;
  const float* b; /* before its activation */
  int64_t b_row_stride;
  float* y;
  int64_t y_row_stride;
} cudamoe_gated_product_forward_args;
CUDAMOE_API cudamoe_status cudamoe_gated_product_forward(cudamoe_stream* stream, const cudamoe_gated_product_forward_args* args);

/* da (+)= dy * activation(b) and db (+)= dy * a * activation'(b). da and db must be apart from each other, from a, b and dy; all may be
 * different columns of one matrix. */
typedef struct cudamoe_gated_product_backward_args {
  uint32_t struct_size;
  int32_t activation;
  float activation_slope;
  int32_t accumulate_a; /* 1: da += */
  int32_t accumulate_b; /* 1: db += */
  int32_t reserved;
  int64_t rows, width;
  const float* a; /* as in the forward */
  int64_t a_row_stride;
  const float* b;
  int64_t b_row_stride;
  const float* dy;
  int64_t dy_row_stride;
  float* da;
  int64_t da_row_stride;
  float* db;
  int64_t db_row_stride;
} cudamoe_gated_product_backward_args;
CUDAMOE_API cudamoe_status cudamoe_gated_product_backward(cudamoe_stream* stream, const cudamoe_gated_product_backward_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* norm: layer normalisation, normalisation by the root of the mean square                                               */
/* ------------------------------------------------------------------------------------------------------------------ */

/* y = (x - mean) / sqrt(variance + epsilon) * gamma + beta over each row; the variance is the biased one. y may be x. */
typedef struct cudamoe_layer_norm_forward_args {
  uint32_t struct_size;
  float epsilon;
  int64_t rows, width;
  const float* x;
  int64_t x_row_stride;
  const float* gamma; /* [width] or null = 1 */
  const float* beta;  /* [width] or null = 0 */
  float* y;
  int64_t y_row_stride;
  float* mean;                 /* [rows] or null */
  float* reciprocal_deviation; /* [rows] or null */
} cudamoe_layer_norm_forward_args;
CUDAMOE_API cudamoe_status cudamoe_layer_norm_forward(cudamoe_stream* stream, const cudamoe_layer_norm_forward_args* args);

/* dx may be dy. dgamma and dbeta are sums over the rows in a fixed order. */
typedef struct cudamoe_layer_norm_backward_args {
  uint32_t struct_size;
  int32_t accumulate; /* of dgamma and dbeta */
  int64_t rows, width;
  const float* x;
  int64_t x_row_stride;
  const float* gamma;
  const float* mean;
  const float* reciprocal_deviation;
  const float* dy;
  int64_t dy_row_stride;
  float* dx;
  int64_t dx_row_stride;
  float* dgamma; /* [width] or null */
  float* dbeta;  /* [width] or null */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_layer_norm_backward_args;
CUDAMOE_API cudamoe_status cudamoe_layer_norm_backward_workspace(cudamoe_stream* stream, const cudamoe_layer_norm_backward_args* args,
                                                                 int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_layer_norm_backward(cudamoe_stream* stream, const cudamoe_layer_norm_backward_args* args);

/* y = x / sqrt(mean(x^2) + epsilon) * gamma over each row (Zhang and Sennrich 2019). y may be x. */
typedef struct cudamoe_rms_norm_forward_args {
  uint32_t struct_size;
  float epsilon;
  int64_t rows, width;
  const float* x;
  int64_t x_row_stride;
  const float* gamma; /* [width] or null = 1 */
  float* y;
  int64_t y_row_stride;
  float* reciprocal; /* [rows] 1 / sqrt(mean(x^2) + epsilon), or null */
} cudamoe_rms_norm_forward_args;
CUDAMOE_API cudamoe_status cudamoe_rms_norm_forward(cudamoe_stream* stream, const cudamoe_rms_norm_forward_args* args);

/* dx may be dy. dgamma is a sum over the rows in a fixed order. */
typedef struct cudamoe_rms_norm_backward_args {
  uint32_t struct_size;
  int32_t accumulate; /* of dgamma */
  int64_t rows, width;
  const float* x;
  int64_t x_row_stride;
  const float* gamma;
  const float* reciprocal;
  const float* dy;
  int64_t dy_row_stride;
  float* dx;
  int64_t dx_row_stride;
  float* dgamma; /* [width] or null */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_rms_norm_backward_args;
CUDAMOE_API cudamoe_status cudamoe_rms_norm_backward_workspace(cudamoe_stream* stream, const cudamoe_rms_norm_backward_args* args,
                                                               int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_rms_norm_backward(cudamoe_stream* stream, const cudamoe_rms_norm_backward_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* attention: scaled dot-product attention over many short sequences, rotary positions, and maxima over sequences        */
/* ------------------------------------------------------------------------------------------------------------------ */

/*
 * For each sequence s, query i and head h, with key head g = h / (heads / key_heads):
 *   p        = softmax over the seen keys j of scale * <q[s, i, h], k[s, j, g]>
 *   y[s,i,h] = sum_j p[j] * key_weights[s, j] * v[s, j, g]
 * Seen are the first key_counts[s] keys and, when causal, of those the keys j <= i + keys - queries; what the others hold has no
 * effect. A query that sees no key gets y = 0 and log_sum = -infinity. A row whose scores hold NaN or +infinity, or are all
 * -infinity, becomes NaN.
 *
 * q and y have row s * queries + i, k and v row s * keys + j (row j with shared_keys: all sequences see the same ones); head h is at
 * column h * head_width. So one matrix may hold q, k and v side by side. key_heads is 1 for multi-query attention, heads for multi-head
 * attention. key_counts are bounded to 0 .. keys; others are reported.
 */
#define CUDAMOE_MAX_HEAD_WIDTH 256
typedef struct cudamoe_attention_forward_args {
  uint32_t struct_size;
  int32_t causal, shared_keys;
  int32_t heads, key_heads; /* heads is a multiple of key_heads */
  int32_t head_width;       /* 1 to CUDAMOE_MAX_HEAD_WIDTH */
  float scale;              /* often 1 / sqrt(head_width) */
  int32_t reserved;
  int64_t sequences, queries, keys;
  const float* q;
  int64_t q_row_stride;
  const float* k;
  int64_t k_row_stride;
  const float* v;
  int64_t v_row_stride;
  const int32_t* key_counts; /* [sequences] or null = keys */
  const float* key_weights;  /* [sequences, keys] or null = 1; they have no gradient */
  int64_t key_weights_row_stride;
  float* y;
  int64_t y_row_stride;
  float* log_sum; /* [sequences, queries, heads] ln of the sum of exp(score), for the backward, or null */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_attention_forward_args;
CUDAMOE_API cudamoe_status cudamoe_attention_forward_workspace(cudamoe_stream* stream, const cudamoe_attention_forward_args* args,
                                                               int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_attention_forward(cudamoe_stream* stream, const cudamoe_attention_forward_args* args);

/*
 * The gradients on q, k and v given dy, with what the forward had and wrote. dk and dv of keys that nobody sees are 0; with shared_keys
 * they are sums over the sequences in a fixed order. dq, dk and dv may be columns of one matrix.
 */
typedef struct cudamoe_attention_backward_args {
  uint32_t struct_size;
  int32_t causal, shared_keys;
  int32_t heads, key_heads;
  int32_t head_width;
  float scale;
  int32_t reserved;
  int64_t sequences, queries, keys;
  const float* q;
  int64_t q_row_stride;
  const float* k;
  int64_t k_row_stride;
  const float* v;
  int64_t v_row_stride;
  const int32_t* key_counts;
  const float* key_weights;
  int64_t key_weights_row_stride;
  const float* y;
  int64_t y_row_stride;
  const float* log_sum;
  const float* dy;
  int64_t dy_row_stride;
  float* dq;
  int64_t dq_row_stride;
  float* dk;
  int64_t dk_row_stride;
  float* dv;
  int64_t dv_row_stride;
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_attention_backward_args;
CUDAMOE_API cudamoe_status cudamoe_attention_backward_workspace(cudamoe_stream* stream, const cudamoe_attention_backward_args* args,
                                                                int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_attention_backward(cudamoe_stream* stream, const cudamoe_attention_backward_args* args);

/*
 * Rotates x in place by the row's position (Su et al. 2021): row r has position first_position + r mod positions. Of each head the columns
 * i and i + rotary_width / 2 (interleaved: 2 i and 2 i + 1), i < rotary_width / 2, turn by the angle position * base^(-2 i / rotary_width);
 * the other columns stay. `inverse` turns back, which is also the backward.
 */
typedef struct cudamoe_rotary_args {
  uint32_t struct_size;
  int32_t heads, head_width;
  int32_t rotary_width; /* even, at most head_width */
  int32_t interleaved, inverse;
  float base; /* greater than 0; often 10000 */
  int32_t reserved;
  int64_t rows, positions, first_position; /* positions at least 1; first_position + positions at most 2^24 */
  float* x;
  int64_t x_row_stride;
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_rotary_args;
CUDAMOE_API cudamoe_status cudamoe_rotary_workspace(cudamoe_stream* stream, const cudamoe_rotary_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_rotary(cudamoe_stream* stream, const cudamoe_rotary_args* args);

/*
 * y[s, c] is the largest x[s * positions + p, c] of the first counts[s] positions p, and places[s, c] the first p that has it. A NaN
 * among them gives NaN and the place of the first one. Without positions y is 0 and the place -1. counts are bounded to 0 .. positions;
 * others are reported.
 */
typedef struct cudamoe_sequence_maximum_forward_args {
  uint32_t struct_size;
  int32_t reserved;
  int64_t sequences, positions, width; /* positions: below 2^31 */
  const float* x;                      /* [sequences * positions, width] */
  int64_t x_row_stride;
  const int32_t* counts; /* [sequences] or null = positions */
  float* y;              /* [sequences, width] */
  int64_t y_row_stride;
  int32_t* places; /* [sequences, width], for the backward, or null */
} cudamoe_sequence_maximum_forward_args;
CUDAMOE_API cudamoe_status cudamoe_sequence_maximum_forward(cudamoe_stream* stream, const cudamoe_sequence_maximum_forward_args* args);

/* dx[s * positions + p, c] = dy[s, c] where p is places[s, c], else 0. */
typedef struct cudamoe_sequence_maximum_backward_args {
  uint32_t struct_size;
  int32_t reserved;
  int64_t sequences, positions, width;
  const int32_t* places; /* as the forward stored them */
  const float* dy;       /* [sequences, width] */
  int64_t dy_row_stride;
  float* dx; /* [sequences * positions, width] */
  int64_t dx_row_stride;
} cudamoe_sequence_maximum_backward_args;
CUDAMOE_API cudamoe_status cudamoe_sequence_maximum_backward(cudamoe_stream* stream, const cudamoe_sequence_maximum_backward_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* graph: sums over neighbours, the edges of each row side by side (CSR)                                                 */
/* ------------------------------------------------------------------------------------------------------------------ */

/*
 * A matrix of `rows` rows and `columns` columns: the edges offsets[r] .. offsets[r + 1] - 1 are those of row r, edge e leads to row
 * neighbours[e] of x and weighs weights[e]. Offsets that do not ascend from 0 to `edges` are reported, and the matrix then counts as
 * one without edges; neighbours out of range are reported and left out, as if their edges were not there.
 *
 *   y[r] (+)= sum over the edges e of row r of weights[e] * x[neighbours[e]], with mean divided by the number of the row's edges
 *
 * The backward on x is the same on the transposed matrix (cudamoe_graph_transpose); on the weights cudamoe_graph_edge_gradient.
 */
typedef struct cudamoe_graph_aggregate_args {
  uint32_t struct_size;
  int32_t mean, accumulate;
  int32_t reserved;
  int64_t rows, columns, edges, width; /* columns: rows of x, below 2^31; width: columns of x and y */
  const int64_t* offsets;              /* [rows + 1] */
  const int32_t* neighbours;           /* [edges] */
  const float* weights;                /* [edges] or null = 1 */
  const float* x;
  int64_t x_row_stride;
  float* y;
  int64_t y_row_stride;
} cudamoe_graph_aggregate_args;
CUDAMOE_API cudamoe_status cudamoe_graph_aggregate(cudamoe_stream* stream, const cudamoe_graph_aggregate_args* args);

/* dweights[e] = <dy[r], x[neighbours[e]]> for the row r of edge e, with mean divided by the number of the row's edges; 0 for what is
 * left out. */
typedef struct cudamoe_graph_edge_gradient_args {
  uint32_t struct_size;
  int32_t mean, accumulate;
  int32_t reserved;
  int64_t rows, columns, edges, width;
  const int64_t* offsets;
  const int32_t* neighbours;
  const float* x;
  int64_t x_row_stride;
  const float* dy;
  int64_t dy_row_stride;
  float* dweights; /* [edges] */
} cudamoe_graph_edge_gradient_args;
CUDAMOE_API cudamoe_status cudamoe_graph_edge_gradient(cudamoe_stream* stream, const cudamoe_graph_edge_gradient_args* args);

/*
 * The transposed matrix, in the same form: `columns` rows whose edges lead to the rows of this one, ascending. With mean each weight is
 * divided by the number of its row's edges, so that a plain sum over the result is the mean's backward. Edges that are left out are
 * missing: transposed_offsets[columns] may be less than `edges`; the elements behind it are -1 and 0. Rows are below 2^31.
 */
typedef struct cudamoe_graph_transpose_args {
  uint32_t struct_size;
  int32_t mean;
  int64_t rows, columns, edges;
  const int64_t* offsets;
  const int32_t* neighbours;
  const float* weights;
  int64_t* transposed_offsets;    /* [columns + 1] */
  int32_t* transposed_neighbours; /* [edges] */
  float* transposed_weights;      /* [edges] or null: not wanted */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_graph_transpose_args;
CUDAMOE_API cudamoe_status cudamoe_graph_transpose_workspace(cudamoe_stream* stream, const cudamoe_graph_transpose_args* args,
                                                             int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_graph_transpose(cudamoe_stream* stream, const cudamoe_graph_transpose_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* loss                                                                                                                  */
/* ------------------------------------------------------------------------------------------------------------------ */

enum {
  CUDAMOE_LOSS_BINARY = 0,  /* binary cross entropy with logits: max(x,0) - x*y + log(1 + exp(-|x|)), 0 <= y <= 1 */
  CUDAMOE_LOSS_SQUARED = 1, /* (x - y)^2 */
  CUDAMOE_LOSS_SOFTMAX = 2  /* softmax cross entropy over `classes` logits, label = class index as float */
};
/*
 * For each task the weighted mean over its valid rows, loss = sum w * l / sum w, and the gradient of scale * loss on the logits.
 * A row is valid when its label is not NaN and its weight is > 0. A task without valid rows has loss 0, weight sum 0 and zero gradient.
 */
typedef struct cudamoe_loss_task {
  const float* logits; /* element (b, c) at b * logits_row_stride + c */
  int64_t logits_row_stride;
  const float* labels; /* element b at b * labels_stride; NaN = missing */
  int64_t labels_stride;
  const float* weights; /* element b at b * weights_stride, each >= 0 and finite; null = 1 */
  int64_t weights_stride;
  float* dlogits; /* or null: the loss only */
  int64_t dlogits_row_stride;
  int32_t kind;
  int32_t classes; /* LOSS_SOFTMAX: >= 2; else 1 */
  float scale;
  int32_t reserved;
} cudamoe_loss_task;

typedef struct cudamoe_loss_args {
  uint32_t struct_size;
  int32_t task_count;
  int64_t rows;
  const cudamoe_loss_task* tasks; /* host */
  double* losses;                 /* [task_count] */
  double* weight_sums;            /* [task_count] */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_loss_args;
CUDAMOE_API cudamoe_status cudamoe_loss_workspace(cudamoe_stream* stream, const cudamoe_loss_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_loss(cudamoe_stream* stream, const cudamoe_loss_args* args);

/*
 * The logit of a product of two probabilities given by their logits, joint = logit(sigmoid(a) * sigmoid(b)) = -log(e^-a + e^-b + e^(-a-b)):
 * what a loss of the entire space takes, such as that of conversions over all impressions, click * conversion after a click (Ma et al.,
 * ESMM, SIGIR 2018). Neither exponential overflows; a and b whose sum is not finite give what the sum is. NaN gives NaN.
 */
typedef struct cudamoe_joint_logits_forward_args {
  uint32_t struct_size;
  int32_t reserved;
  int64_t rows;
  const float* a; /* element r at r * a_stride */
  int64_t a_stride;
  const float* b;
  int64_t b_stride;
  float* joint;
  int64_t joint_stride;
} cudamoe_joint_logits_forward_args;
CUDAMOE_API cudamoe_status cudamoe_joint_logits_forward(cudamoe_stream* stream, const cudamoe_joint_logits_forward_args* args);

/*
 * da (+)= djoint * (1 - sigmoid(a)) / (1 - sigmoid(a) * sigmoid(b)), and db likewise.
 * djoint may be da or db, with the same stride; da and db must be apart.
 */
typedef struct cudamoe_joint_logits_backward_args {
  uint32_t struct_size;
  int32_t accumulate_a; /* 1: da += */
  int32_t accumulate_b; /* 1: db += */
  int32_t reserved;
  int64_t rows;
  const float* a; /* as in the forward */
  int64_t a_stride;
  const float* b;
  int64_t b_stride;
  const float* djoint; /* element r at r * djoint_stride */
  int64_t djoint_stride;
  float* da;
  int64_t da_stride;
  float* db;
  int64_t db_stride;
} cudamoe_joint_logits_backward_args;
CUDAMOE_API cudamoe_status cudamoe_joint_logits_backward(cudamoe_stream* stream, const cudamoe_joint_logits_backward_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* balance: what a balancer of task gradients needs                                                                       */
/* ------------------------------------------------------------------------------------------------------------------ */

enum { CUDAMOE_MAX_TASKS = 64 };

/* gram[i, j] = sum over rows and columns of gradient_i * gradient_j, the gradients flattened, accumulated in f64 partials of fixed chunks.
 */
typedef struct cudamoe_balance_gram_args {
  uint32_t struct_size;
  int32_t tasks; /* 1 .. CUDAMOE_MAX_TASKS */
  int64_t rows, width;
  const float* gradients; /* element (t, b, j) at t * task_stride + b * row_stride + j */
  int64_t task_stride, row_stride;
  double* gram; /* [tasks, tasks], symmetric */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_balance_gram_args;
CUDAMOE_API cudamoe_status cudamoe_balance_gram_workspace(cudamoe_stream* stream, const cudamoe_balance_gram_args* args, int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_balance_gram(cudamoe_stream* stream, const cudamoe_balance_gram_args* args);

/*
 * The same Gram matrix for gradients that are never formed: gradient_t = dZ_t * W_t with dZ_t [rows, h_t], W_t [h_t, width] gives
 *   gram[i, j] = < dZ_i^T dZ_j , W_i W_j^T >  (Frobenius).
 * The two [h, h] matrices (h = sum of h_t, blocks at `starts`) come from cudamoe_gemm_wgrad and cudamoe_gemm_forward.
 */
typedef struct cudamoe_balance_factored_gram_args {
  uint32_t struct_size;
  int32_t tasks;
  const int64_t* starts;          /* host, [tasks + 1], ascending from 0: columns starts[t] .. starts[t+1] are task t's */
  const float* gradient_products; /* [h, h] dZ^T dZ */
  int64_t gradient_products_row_stride;
  const float* weight_products; /* [h, h] W W^T */
  int64_t weight_products_row_stride;
  double* gram; /* [tasks, tasks] */
} cudamoe_balance_factored_gram_args;
CUDAMOE_API cudamoe_status cudamoe_balance_factored_gram(cudamoe_stream* stream, const cudamoe_balance_factored_gram_args* args);

/* output[b, j] (+)= sum_t weights[t] * gradients[t, b, j], summed in ascending t. A zero weight leaves a task out, NaN and all. */
typedef struct cudamoe_balance_combine_args {
  uint32_t struct_size;
  int32_t tasks;
  int64_t rows, width;
  const float* gradients;
  int64_t task_stride, row_stride;
  const float* weights; /* [tasks] */
  float* output;        /* may be the first task's gradient */
  int64_t output_row_stride;
  int32_t accumulate;
  int32_t reserved;
} cudamoe_balance_combine_args;
CUDAMOE_API cudamoe_status cudamoe_balance_combine(cudamoe_stream* stream, const cudamoe_balance_combine_args* args);

/*
 * Sums over rows of each task's gradient, in f64: sums[p, t, j] = sum of gradient_t[b, j] over all rows (parts 1), or over the even rows
 * for p = 0 and the odd rows for p = 1 (parts 2). With values each element counts with the sign of its value, and not at all where that is
 * 0 or NaN.
 */
typedef struct cudamoe_balance_columns_args {
  uint32_t struct_size;
  int32_t tasks;
  int64_t rows, width;
  const float* gradients; /* element (t, b, j) at t * task_stride + b * row_stride + j */
  int64_t task_stride, row_stride;
  const float* values; /* null, or what they are gradients of: element (t, b, j) at t * values_task_stride + b * values_row_stride + j */
  int64_t values_task_stride, values_row_stride; /* values_task_stride may be 0: the same values for every task */
  int32_t parts;                                 /* 1 or 2 */
  int32_t reserved;
  double* sums; /* [parts, tasks, width] */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_balance_columns_args;
CUDAMOE_API cudamoe_status cudamoe_balance_columns_workspace(cudamoe_stream* stream, const cudamoe_balance_columns_args* args,
                                                             int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_balance_columns(cudamoe_stream* stream, const cudamoe_balance_columns_args* args);

/* gradient_t[b, j] = factors[t, j] * gradient_t[b, j], in place. */
typedef struct cudamoe_balance_scale_args {
  uint32_t struct_size;
  int32_t tasks;
  int64_t rows, width;
  float* gradients; /* as above; the tasks' elements apart from each other */
  int64_t task_stride, row_stride;
  const float* factors; /* [tasks, width] */
} cudamoe_balance_scale_args;
CUDAMOE_API cudamoe_status cudamoe_balance_scale(cudamoe_stream* stream, const cudamoe_balance_scale_args* args);

/* average = average + rate * (value - average), element-wise; a value that is not finite leaves its average as it was. */
typedef struct cudamoe_balance_average_args {
  uint32_t struct_size;
  float rate; /* 0 .. 1 */
  int64_t count;
  const float* values;
  float* averages;
} cudamoe_balance_average_args;
CUDAMOE_API cudamoe_status cudamoe_balance_average(cudamoe_stream* stream, const cudamoe_balance_average_args* args);

/* ------------------------------------------------------------------------------------------------------------------ */
/* optimizer: many dense tensors in one call                                                                             */
/* ------------------------------------------------------------------------------------------------------------------ */

typedef struct cudamoe_optimizer_tensor {
  float* parameter;
  const float* gradient;
  float* state1;
  float* state2;
  int64_t count;
  float learning_rate_scale; /* multiplies the learning rate; 1 for none; 0 leaves parameter and states as they are */
  float weight_decay;
} cudamoe_optimizer_tensor;

/* norm[0] = sqrt(sum of squares of all gradients), f64, in an order fixed by the shapes. NaN or infinite when a gradient is. */
typedef struct cudamoe_optimizer_norm_args {
  uint32_t struct_size;
  int32_t tensor_count;
  const cudamoe_optimizer_tensor* tensors; /* host */
  double* norm;                            /* [1] */
  void* workspace;
  int64_t workspace_bytes;
} cudamoe_optimizer_norm_args;
CUDAMOE_API cudamoe_status cudamoe_optimizer_norm_workspace(cudamoe_stream* stream, const cudamoe_optimizer_norm_args* args,
                                                            int64_t* bytes);
CUDAMOE_API cudamoe_status cudamoe_optimizer_norm(cudamoe_stream* stream, const cudamoe_optimizer_norm_args* args);

/*
 * One step of all tensors, g = gradient * gradient_scale, further scaled by max_norm / norm[0] when norm is not null and norm[0] >
 * max_norm > 0. When norm is not null and norm[0] is not finite nothing is changed.
 *   SGD:     v = momentum * v + g (+ weight_decay * p); p -= lr * v          (no state when momentum is 0)
 *   AdaGrad: s += g^2; p -= lr * g / (sqrt(s) + epsilon)                     (g includes weight_decay * p)
 *   AdamW:   m, v moments with bias correction at `step`; p -= lr * (m^ / (sqrt(v^) + epsilon) + weight_decay * p)
 */
typedef struct cudamoe_optimizer_step_args {
  uint32_t struct_size;
  int32_t tensor_count;
  const cudamoe_optimizer_tensor* tensors; /* host */
  int32_t optimizer;                       /* CUDAMOE_OPTIMIZER_SGD, _ADAGRAD or _ADAMW */
  float learning_rate, momentum, beta1, beta2, epsilon;
  float gradient_scale;
  float max_norm;
  int64_t step; /* 1, 2, ... */
  const double* norm;
  const cudamoe_step_numbers* numbers; /* [1], read instead of learning_rate and step, which are then ignored; or null */
} cudamoe_optimizer_step_args;
CUDAMOE_API cudamoe_status cudamoe_optimizer_step(cudamoe_stream* stream, const cudamoe_optimizer_step_args* args);

#ifdef __cplusplus
}
#endif

#endif /* CUDAMOE_H */
