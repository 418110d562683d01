// Backends by name: the built-in cpu, and plug-ins loaded on first use from the folder of this library.
#pragma once

#include <cstdint>
#include <string>

#include "core/backend.h"

namespace cudamoe {

struct Plugin {
  std::string name;
  std::string library;               // file looked for or loaded; empty when built in
  std::string reason;                // why there is no backend; empty when there is
  const Backend* backend = nullptr;  // null when not usable
};

int32_t plugin_count();

// Loads the plug-in on the first call; later calls answer the same. 0 <= index < plugin_count().
const Plugin& load_plugin(int32_t index);

// Opens a device of the backend `name` ("auto" picks); sets the message on failure.
cudamoe_status open_backend_device(const std::string& name, const std::string& options, const Backend** backend, void** device);

}  // namespace cudamoe
