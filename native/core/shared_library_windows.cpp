#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <iterator>
#include <string_view>

#include "core/shared_library.h"
#include "cudamoe.h"

namespace cudamoe {
namespace {

std::string utf8(std::wstring_view text) {
  const auto size = static_cast<int>(text.size());
  std::string bytes(static_cast<size_t>(WideCharToMultiByte(CP_UTF8, 0, text.data(), size, nullptr, 0, nullptr, nullptr)), '\0');
  WideCharToMultiByte(CP_UTF8, 0, text.data(), size, bytes.data(), static_cast<int>(bytes.size()), nullptr, nullptr);
  return bytes;
}

std::wstring wide(const std::string& bytes) {
  const auto size = static_cast<int>(bytes.size());
  std::wstring text(static_cast<size_t>(MultiByteToWideChar(CP_UTF8, 0, bytes.data(), size, nullptr, 0)), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, bytes.data(), size, text.data(), static_cast<int>(text.size()));
  return text;
}

// What the system says of an error, without the line end that it closes with.
std::string describe(DWORD error) {
  wchar_t text[512];
  constexpr DWORD kFlags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
  const DWORD length = FormatMessageW(kFlags, nullptr, error, 0, text, static_cast<DWORD>(std::size(text)), nullptr);
  const std::wstring_view line(text, length);
  const size_t last = line.find_last_not_of(L"\r\n. ");
  return last == std::wstring_view::npos ? "error " + std::to_string(error) : utf8(line.substr(0, last + 1));
}

std::wstring own_folder() {
  HMODULE self = nullptr;
  constexpr DWORD kFlags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (!GetModuleHandleExW(kFlags, reinterpret_cast<const wchar_t*>(&cudamoe_abi_version), &self)) return L".";
  constexpr DWORD kLongestPath = 32768;
  std::wstring file(kLongestPath, L'\0');
  file.resize(GetModuleFileNameW(self, file.data(), kLongestPath));
  const size_t slash = file.find_last_of(L"\\/");
  return slash == std::wstring::npos ? L"." : file.substr(0, slash);
}

}  // namespace

std::string plugin_path(const std::string& backend) { return utf8(own_folder()) + "\\libcudamoe_" + backend + ".dll"; }

void* open_library(const std::string& file, std::string& reason) {
  // The plug-in's own dependencies are looked for in its folder too.
  HMODULE library = LoadLibraryExW(wide(file).c_str(), nullptr, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
  if (library == nullptr) reason = file + ": " + describe(GetLastError());
  return reinterpret_cast<void*>(library);
}

void* find_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(library), name));
}

}  // namespace cudamoe
