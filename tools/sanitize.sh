# Runs the native tests under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer.

sanitize() { # address, thread, or nothing for both
  [ $# -le 1 ] || usage_error "sanitize takes one option"
  case "${1:-all}" in
    all | address | thread) ;;
    *) usage_error "sanitize takes address or thread, not \"$1\"" ;;
  esac
  require_packages test
  start_counts sanitize
  case "${1:-all}" in all | address) sanitize_address ;; esac
  case "${1:-all}" in all | thread) sanitize_thread ;; esac
  finish_counts
}

build_sanitized() { # folder sanitizers
  configure "$1" "-DCUDAMOE_SANITIZE=$2"
  step "build $(basename "$1")" ninja -C "$1" -j "$JOBS" cudamoe_tests cudamoe_simt_tests
}

# Which levels and which cases of the kernels, without those that take most of the time: native/tests/CMakeLists.txt.
sanitize_address() {
  build_sanitized "$BUILD/address" address,undefined
  # An allocation that cannot be had must come back as null, as it does without the sanitizer.
  ASAN_OPTIONS="allocator_may_return_null=1:detect_stack_use_after_return=1:strict_string_checks=1" UBSAN_OPTIONS="print_stacktrace=1" \
    test_native "$BUILD/address" "address " -R '^native_(sse4|avx2|highest|simt|simt_executor)$'
}

sanitize_thread() {
  local folder="$BUILD/thread"
  build_sanitized "$folder" thread
  TSAN_OPTIONS="second_deadlock_stack=1:allocator_may_return_null=1" test_native "$folder" "thread " -R '^native_(threads|simt|simt_executor)$'
}

. tools/test.sh
