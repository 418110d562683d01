// Shared libraries opened at run time: the plug-ins. One implementation a platform, shared_library_<platform>.cpp.
#pragma once

#include <string>

namespace cudamoe {

// The folder of the library (or program) that this code is in; "." when it cannot be told.
std::string own_folder();

// "libcudamoe_<backend>.so", or what a shared library of that name is called on this platform.
std::string plugin_file_name(const std::string& backend);

// Opens the library for the rest of the process's life. Null on failure; then `reason` says why, with the file's name.
void* open_library(const std::string& file, std::string& reason);

// The address of an exported function; null when the library has none of that name.
void* find_symbol(void* library, const char* name);

}  // namespace cudamoe
