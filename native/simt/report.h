// What the executor finds wrong with a kernel. The first finding ends the launch and becomes the error of the stream, with this text:
//
//   <kind> in kernel <name>: <what happened> (block (x,y,z), thread (x,y,z), file:line)
#pragma once

#include "simt/site.h"

namespace cudamoe::simt {

enum class Finding {
  kSharedRace,           // two threads use a shared element, one writes, and no barrier lies between
  kUninitialisedShared,  // a shared element is read that no thread of the block has written
  kSharedOutOfBounds,    // an index past the end of a shared array, or a pointer that left it
  kMisaligned,           // an access of 4, 8 or 16 bytes at an address that is not a multiple of that
  kDivergentBarrier,     // threads of one block wait at different barriers
  kExitedBeforeBarrier,  // strict_exits: a barrier that some threads will never reach
  kDeadlock,             // no thread can go on
  kLivelock,             // all threads that can go on only wait for others
  kWarpMask,             // a warp operation whose mask does not name its own lane, or that lanes call with different masks
  kWarpOperation,        // lanes of one mask call different operations
  kInactiveLane,         // a value is taken from a lane that is not in the mask
  kAsyncCopy,            // the destination of an asynchronous copy is used before the copy was waited for
  kMissingProxyFence,    // TMA or wgmma reads what was written without fence.proxy.async
  kBarrierObject,        // wrong use of an mbarrier
  kDescriptor,           // a TMA or wgmma descriptor, or operands, that the hardware would not take
  kFragment,             // the operand of a product by mma.sync is not what the kernel says it holds
  kAccumulator,          // wgmma accumulators used before they were waited for
  kConstantWritten,      // memory that was read through the read-only cache has changed within the launch
  kLaunch,               // a launch that the hardware would refuse
};

const char* finding_name(Finding finding);

// Ends the launch that the calling CUDA thread belongs to. Does not return; nothing of the launch runs any more.
[[noreturn, gnu::format(printf, 3, 4)]] void report(Finding finding, Site site, const char* format, ...);

}  // namespace cudamoe::simt
