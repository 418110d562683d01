// The executor's devices: one for each schedule that was asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "simt/schedule.h"

namespace cudamoe::simt {

struct DeviceOptions {
  Schedule schedule;
  int architecture = 80;
  size_t memory_bytes = 0;  // what cudaMalloc can give in all; 0 = what the machine has
  uint64_t fault_at = 0;    // the launch, counted from 1, that fails as by a defect of its kernel; 0 = none
};

// A new device for cudaSetDevice; it is gone after remove_device.
int add_device(const DeviceOptions& options);
void remove_device(int device);
// What made the device fail; empty while it has not.
std::string device_failure(int device);

}  // namespace cudamoe::simt
