// The calling thread's last message.
#include "core/error.h"

namespace cudamoe {
namespace {

std::string& message() noexcept {
  thread_local std::string text;
  return text;
}

}  // namespace

void store_message(const char* text) noexcept {
  try {
    message() = text;
  } catch (...) {
    message().clear();
  }
}

const std::string& last_error() noexcept { return message(); }

}  // namespace cudamoe
