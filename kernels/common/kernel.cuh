// The language that kernels are written in; see docs/kernels.md.
#pragma once

#include "common/atomic.cuh"
#include "common/bf16.cuh"
#include "common/first_offender.cuh"
#include "common/index.cuh"
#include "common/launch.cuh"
#include "common/math.cuh"
#include "common/memory.cuh"
#include "common/shared.cuh"
#include "common/sync.cuh"
#include "common/target.cuh"
#include "common/warp.cuh"
