// The assembly of wgmma for each width: D of n / 2 registers, A by descriptor or in four registers. Included by wgmma.cuh.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels::ptx::detail {

// The names of 32, 64 and 128 registers in assembly, and their operands.
#define CUDAMOE_WGMMA_REGISTERS_32                                       \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define CUDAMOE_WGMMA_REGISTERS_64                                                   \
  CUDAMOE_WGMMA_REGISTERS_32                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define CUDAMOE_WGMMA_REGISTERS_128                                                              \
  CUDAMOE_WGMMA_REGISTERS_64                                                                     \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"             \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"             \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define CUDAMOE_WGMMA_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define CUDAMOE_WGMMA_D16(i) CUDAMOE_WGMMA_D4(i), CUDAMOE_WGMMA_D4(i + 4), CUDAMOE_WGMMA_D4(i + 8), CUDAMOE_WGMMA_D4(i + 12)
#define CUDAMOE_WGMMA_D32(i) CUDAMOE_WGMMA_D16(i), CUDAMOE_WGMMA_D16(i + 16)
#define CUDAMOE_WGMMA_D64(i) CUDAMOE_WGMMA_D32(i), CUDAMOE_WGMMA_D32(i + 32)
#define CUDAMOE_WGMMA_D128(i) CUDAMOE_WGMMA_D64(i), CUDAMOE_WGMMA_D64(i + 64)

template <int kTransposeA, int kTransposeB>
CUDAMOE_DEVICE void wgmma_n64(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" CUDAMOE_WGMMA_REGISTERS_32
               "}, %32, %33, p, 1, 1, %35, %36; }"
               : CUDAMOE_WGMMA_D32(0)
               : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposeA), "n"(kTransposeB));
}

template <int kTransposeB>
CUDAMOE_DEVICE void wgmma_n64(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" CUDAMOE_WGMMA_REGISTERS_32
               "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38; }"
               : CUDAMOE_WGMMA_D32(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kTransposeB));
}

template <int kTransposeA, int kTransposeB>
CUDAMOE_DEVICE void wgmma_n128(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" CUDAMOE_WGMMA_REGISTERS_64
               "}, %64, %65, p, 1, 1, %67, %68; }"
               : CUDAMOE_WGMMA_D64(0)
               : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposeA), "n"(kTransposeB));
}

template <int kTransposeB>
CUDAMOE_DEVICE void wgmma_n128(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" CUDAMOE_WGMMA_REGISTERS_64
               "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70; }"
               : CUDAMOE_WGMMA_D64(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kTransposeB));
}

template <int kTransposeA, int kTransposeB>
CUDAMOE_DEVICE void wgmma_n256(float (&d)[128], uint64_t a, uint64_t b, int accumulate) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" CUDAMOE_WGMMA_REGISTERS_128
               "}, %128, %129, p, 1, 1, %131, %132; }"
               : CUDAMOE_WGMMA_D128(0)
               : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposeA), "n"(kTransposeB));
}

template <int kTransposeB>
CUDAMOE_DEVICE void wgmma_n256(float (&d)[128], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %133, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" CUDAMOE_WGMMA_REGISTERS_128
               "}, {%128, %129, %130, %131}, %132, p, 1, 1, %134; }"
               : CUDAMOE_WGMMA_D128(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kTransposeB));
}

#undef CUDAMOE_WGMMA_D4
#undef CUDAMOE_WGMMA_D16
#undef CUDAMOE_WGMMA_D32
#undef CUDAMOE_WGMMA_D64
#undef CUDAMOE_WGMMA_D128
#undef CUDAMOE_WGMMA_REGISTERS_32
#undef CUDAMOE_WGMMA_REGISTERS_64
#undef CUDAMOE_WGMMA_REGISTERS_128

}  // namespace cudamoe::kernels::ptx::detail
