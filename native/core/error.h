// The calling thread's last error message, and the one way to set it.
#pragma once

#include <cstdint>
#include <string>

#include "cudamoe.h"

// Lets the compiler check a function that formats like printf: the positions of the format and of the first value, `this` included.
#if defined(__GNUC__) && !defined(_WIN32)
#define CUDAMOE_PRINTF(text, first) [[gnu::format(printf, text, first)]]
#else
#define CUDAMOE_PRINTF(text, first)
#endif

namespace cudamoe {

// Stores the formatted message for the calling thread and returns `status`.
CUDAMOE_PRINTF(2, 3) cudamoe_status fail(cudamoe_status status, const char* format, ...) noexcept;

// Where fail() puts its text: in the library the calling thread's message (core/message.cpp), in a plug-in the library's.
void store_message(const char* text) noexcept;

// The calling thread's message; the library only.
const std::string& last_error() noexcept;

// Maps the exception that is being handled to a status and a message. Call it in a catch-all only.
cudamoe_status fail_from_exception(const char* function) noexcept;

}  // namespace cudamoe
