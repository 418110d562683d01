// The executor's devices: one for each schedule that was asked for.
#pragma once

#include <string>

#include "simt/schedule.h"

namespace cudamoe::simt {

struct DeviceOptions {
  Schedule schedule;
  int architecture = 80;
};

// A new device for cudaSetDevice; it is gone after remove_device.
int add_device(const DeviceOptions& options);
void remove_device(int device);
// What made the device fail; empty while it has not.
std::string device_failure(int device);

}  // namespace cudamoe::simt
