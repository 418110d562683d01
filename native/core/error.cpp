#include "core/error.h"

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <new>

namespace cudamoe {

cudamoe_status fail(cudamoe_status status, const char* format, ...) noexcept {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  store_message(text);
  return status;
}

cudamoe_status fail_from_exception(const char* function) noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return fail(CUDAMOE_ERROR_OUT_OF_MEMORY, "%s: host memory could not be had", function);
  } catch (const std::exception& e) {
    return fail(CUDAMOE_ERROR_INTERNAL, "%s: unexpected: %s", function, e.what());
  } catch (...) {
    return fail(CUDAMOE_ERROR_INTERNAL, "%s: unexpected exception of unknown type", function);
  }
}

}  // namespace cudamoe
