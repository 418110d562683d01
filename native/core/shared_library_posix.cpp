#include <dlfcn.h>

#include "core/shared_library.h"
#include "cudamoe.h"

namespace cudamoe {
namespace {

std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&cudamoe_abi_version), &info) == 0 || info.dli_fname == nullptr) return ".";
  const std::string file = info.dli_fname;
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "." : file.substr(0, slash);
}

}  // namespace

std::string plugin_path(const std::string& backend) { return own_folder() + "/libcudamoe_" + backend + ".so"; }

void* open_library(const std::string& file, std::string& reason) {
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* error = dlerror();
    reason = error != nullptr ? error : file + ": the library could not be opened";
  }
  return library;
}

void* find_symbol(void* library, const char* name) { return dlsym(library, name); }

}  // namespace cudamoe
