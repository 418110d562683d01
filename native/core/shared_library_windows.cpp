#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <system_error>

#include "core/shared_library.h"
#include "cudamoe.h"

namespace cudamoe {

std::string own_folder() {
  HMODULE self = nullptr;
  constexpr DWORD kFlags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (!GetModuleHandleExA(kFlags, reinterpret_cast<const char*>(&cudamoe_abi_version), &self)) return ".";
  char file[32768];
  const DWORD length = GetModuleFileNameA(self, file, sizeof file);
  const std::string path(file, length);
  const size_t slash = path.find_last_of("\\/");
  return length == 0 || slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string plugin_file_name(const std::string& backend) { return "cudamoe_" + backend + ".dll"; }

void* open_library(const std::string& file, std::string& reason) {
  // The plug-in's own dependencies are looked for in its folder too.
  HMODULE library = LoadLibraryExA(file.c_str(), nullptr, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
  if (library == nullptr) reason = file + ": " + std::system_category().message(static_cast<int>(GetLastError()));
  return reinterpret_cast<void*>(library);
}

void* find_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(library), name));
}

}  // namespace cudamoe
