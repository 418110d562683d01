// What an exception becomes at the boundary of the ABI.
#include "core/error.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

namespace cudamoe::test {
namespace {

template <class Exception>
cudamoe_status status_of(const Exception& exception) {
  try {
    throw exception;
  } catch (...) {
    return fail_from_exception("cudamoe_example");
  }
}

TEST(Error, MemoryThatCannotBeHadHasAStatusOfItsOwn) {
  EXPECT_EQ(status_of(std::bad_alloc()), CUDAMOE_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(last_error(), "cudamoe_example: host memory could not be had");
}

TEST(Error, AnUnexpectedExceptionIsNamed) {
  EXPECT_EQ(status_of(std::length_error("too long")), CUDAMOE_ERROR_INTERNAL);
  EXPECT_EQ(last_error(), "cudamoe_example: unexpected: too long");
}

TEST(Error, AnExceptionOfAnyTypeIsCaught) {
  EXPECT_EQ(status_of(7), CUDAMOE_ERROR_INTERNAL);
  EXPECT_EQ(last_error(), "cudamoe_example: unexpected exception of unknown type");
}

// Texts are at most 2047 characters; the rest is cut.
TEST(Error, ALongMessageIsCut) {
  EXPECT_EQ(fail(CUDAMOE_ERROR_ARGUMENT, "%s", std::string(5000, 'x').c_str()), CUDAMOE_ERROR_ARGUMENT);
  EXPECT_EQ(last_error(), std::string(2047, 'x'));
}

}  // namespace
}  // namespace cudamoe::test
