#include "core/plugins.h"

#include <array>
#include <mutex>

#include "core/error.h"
#include "core/shared_library.h"

namespace cudamoe {
namespace {

constexpr std::array<const char*, 3> kNames = {"cuda", "simt", "cpu"};

Plugin load(const std::string& name) {
  Plugin plugin{name, "", "", nullptr};
  if (name == "cpu") {
    plugin.backend = &cpu_backend();
    return plugin;
  }
  plugin.library = plugin_path(name);
  void* library = open_library(plugin.library, plugin.reason);
  if (library == nullptr) return plugin;
  const auto entry = reinterpret_cast<BackendEntry>(find_symbol(library, "cudamoe_backend_entry"));
  if (entry == nullptr) {
    plugin.reason = "the library does not export cudamoe_backend_entry";
    return plugin;
  }
  const Host host{kBackendVersion, store_message};
  const Backend* backend = entry(&host);
  if (backend == nullptr || backend->version != kBackendVersion) {
    plugin.reason = "the library was built for another version of CudaMoE; build both from the same source";
    return plugin;
  }
  char reason[512] = "";
  if (backend->usable(reason, sizeof reason)) {
    plugin.backend = backend;
  } else {
    plugin.reason = plugin.library + ": " + reason;
  }
  return plugin;
}

}  // namespace

int32_t plugin_count() { return static_cast<int32_t>(kNames.size()); }

const Plugin& load_plugin(int32_t index) {
  static std::array<Plugin, kNames.size()> plugins;
  static std::array<std::once_flag, kNames.size()> once;
  const auto i = static_cast<size_t>(index);
  std::call_once(once[i], [&] { plugins[i] = load(kNames[i]); });
  return plugins[i];
}

cudamoe_status open_backend_device(const std::string& name, const std::string& options, const Backend** backend, void** device) {
  if (name == "auto") {
    if (!options.empty())
      return fail(CUDAMOE_ERROR_ARGUMENT, "cudamoe_device_open: spec is \"auto:%s\"; auto takes no options", options.c_str());
    // The kernels have run on one kind of GPU only: who wants them asks for cuda by name.
    *backend = &cpu_backend();
    return cpu_backend().device_open("", device);
  }
  for (int32_t i = 0; i < plugin_count(); ++i) {
    if (name != kNames[static_cast<size_t>(i)]) continue;
    const Plugin& plugin = load_plugin(i);
    if (plugin.backend == nullptr) {
      return fail(CUDAMOE_ERROR_DEVICE, "cudamoe_device_open: the %s backend is not usable: %s", name.c_str(), plugin.reason.c_str());
    }
    *backend = plugin.backend;
    return plugin.backend->device_open(options.c_str(), device);
  }
  return fail(CUDAMOE_ERROR_ARGUMENT, "cudamoe_device_open: spec names the backend \"%s\"; it must be cpu, cuda, simt or auto",
              name.c_str());
}

}  // namespace cudamoe
