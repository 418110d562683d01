// Shared libraries opened at run time: the plug-ins. One implementation a platform, shared_library_<platform>.cpp.
#pragma once

#include <string>

namespace cudamoe {

// Where a backend's plug-in is looked for: beside the library (or program) that this code is in. All file names here are UTF-8.
std::string plugin_path(const std::string& backend);

// Opens the library for the rest of the process's life. Null on failure; then `reason` says why, with the file's name.
void* open_library(const std::string& file, std::string& reason);

// The address of an exported function; null when the library has none of that name.
void* find_symbol(void* library, const char* name);

}  // namespace cudamoe
