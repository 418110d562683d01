// Where in the source something happened, for reports.
#pragma once

namespace cudamoe::simt {

struct Site {
  const char* file = "";
  int line = 0;

  // As a default argument: the place of the call.
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
  friend constexpr bool operator==(const Site& a, const Site& b) { return a.file == b.file && a.line == b.line; }
};

}  // namespace cudamoe::simt
