// Shared memory.
//
//   CUDAMOE_SHARED(float, tile, [64][65]);      an array of the block; tile[r][c] is an element, tile[r] a row
//   CUDAMOE_SHARED(int, total);                 one element: total[0]
//   Shared<float> row = tile[r];                a pointer into it: row[c], row + 8, row[c] += x
//   Shared<float> all = dynamic_shared<float>();
//
// Under nvcc these are plain arrays and pointers. In the executor every element access is checked: bounds of every dimension, that
// the element was written, that no other thread wrote or read it without a barrier between, and that no asynchronous copy is under way
// to it. So an element is not an lvalue there: copy structs out before using their fields (`Pair p = pairs[i];`), and never name an
// element's type with auto (that does not compile).
#pragma once

#include <type_traits>

#include "common/target.cuh"

namespace cudamoe::kernels {

#if defined(__CUDACC__)

template <class T>
using Shared = T*;

namespace detail {
// A scalar declaration is an array of one element.
template <class T>
struct SharedType {
  using type = T[1];
};
template <class T, std::size_t N>
struct SharedType<T[N]> {
  using type = T[N];
};
}  // namespace detail

#define CUDAMOE_SHARED(element, name, ...) __shared__ typename ::cudamoe::kernels::detail::SharedType<element __VA_ARGS__>::type name
#define CUDAMOE_SHARED_ALIGNED(alignment, element, name, ...) \
  __shared__ __align__(alignment) typename ::cudamoe::kernels::detail::SharedType<element __VA_ARGS__>::type name

// The dynamic shared memory of the launch, aligned to 1024 bytes.
template <class T>
CUDAMOE_DEVICE T* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char cudamoe_dynamic_shared[];
  return reinterpret_cast<T*>(cudamoe_dynamic_shared);
}

// The same bytes as elements of another type.
template <class U, class T>
CUDAMOE_DEVICE Shared<U> shared_cast(T* pointer) {
  return reinterpret_cast<U*>(pointer);
}

// Address in the shared window, as PTX instructions take it.
CUDAMOE_DEVICE uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

#else

namespace detail {

// An index and the place in the source where it is used.
struct Index {
  int64_t value;
  simt::Site site;
  template <std::integral I>
  constexpr Index(I index, simt::Site where = simt::Site::here()) : value(static_cast<int64_t>(index)), site(where) {}
};

}  // namespace detail

template <class T>
class Shared;

// One element.
template <class T>
class SharedElement {
 public:
  using Value = std::remove_const_t<T>;

  SharedElement(T* address, T* begin, T* end, simt::Site site) : address_(address), begin_(begin), end_(end), site_(site) {}

  operator Value() && {
    simt::before_shared_read(address_, sizeof(T), site_);
    return *address_;
  }
  void operator=(const Value& value) && { store(value); }
  void operator=(SharedElement&& other) && { store(static_cast<SharedElement&&>(other)); }
  void operator+=(const Value& value) && { store(static_cast<Value>(load() + value)); }
  void operator-=(const Value& value) && { store(static_cast<Value>(load() - value)); }
  void operator*=(const Value& value) && { store(static_cast<Value>(load() * value)); }
  Shared<T> operator&() &&;

 private:
  Value load() {
    simt::before_shared_read(address_, sizeof(T), site_);
    return *address_;
  }
  void store(const Value& value) {
    static_assert(!std::is_const_v<T>, "the element is const");
    simt::before_shared_write(const_cast<Value*>(address_), sizeof(T), site_);
    *address_ = value;
  }

  T *address_, *begin_, *end_;
  simt::Site site_;
};

// A pointer to elements, which knows the array that it points into.
template <class T>
class Shared {
 public:
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) >= 2, "shared elements are plain data of at least two bytes");

  Shared() = default;
  Shared(T* pointer, T* begin, T* end) : pointer_(pointer), begin_(begin), end_(end) {}
  operator Shared<const T>() const { return {pointer_, begin_, end_}; }

  SharedElement<T> operator[](detail::Index index) const {
    T* element = pointer_ + index.value;
    if (element < begin_ || element >= end_) simt::report_shared_index("element", element - begin_, end_ - begin_, index.site);
    return {element, begin_, end_, index.site};
  }
  SharedElement<T> operator*() const { return (*this)[0]; }
  Shared operator+(int64_t n) const { return {pointer_ + n, begin_, end_}; }
  Shared operator-(int64_t n) const { return {pointer_ - n, begin_, end_}; }
  Shared& operator+=(int64_t n) { return pointer_ += n, *this; }
  int64_t operator-(Shared other) const { return pointer_ - other.pointer_; }
  bool operator==(const Shared& other) const { return pointer_ == other.pointer_; }

  // For kernels/common: the address itself, after the check that `count` elements lie in the array.
  T* raw(int64_t count, simt::Site site) const {
    if (pointer_ < begin_ || pointer_ + count > end_)
      simt::report_shared_index("element", pointer_ < begin_ ? pointer_ - begin_ : pointer_ + count - 1 - begin_, end_ - begin_, site);
    return pointer_;
  }
  T* unchecked() const { return pointer_; }
  T* array_begin() const { return begin_; }
  T* array_end() const { return end_; }

 private:
  T *pointer_ = nullptr, *begin_ = nullptr, *end_ = nullptr;
};

template <class T>
Shared<T> SharedElement<T>::operator&() && {
  return {address_, begin_, end_};
}

// An array of one or more dimensions. It becomes a pointer to its first element, as an array of the language does.
template <class T>
class SharedArray;

template <class T, std::size_t N>
class SharedArray<T[N]> {
 public:
  explicit SharedArray(T (*array)[N]) : array_(array) {}

  auto operator[](detail::Index index) const {
    if (index.value < 0 || index.value >= static_cast<int64_t>(N)) simt::report_shared_index("index", index.value, N, index.site);
    if constexpr (std::is_array_v<T>) {
      return SharedArray<T>(&(*array_)[index.value]);
    } else {
      return SharedElement<T>(&(*array_)[index.value], *array_, *array_ + N, index.site);
    }
  }
  operator Shared<T>() const requires(!std::is_array_v<T>) { return {*array_, *array_, *array_ + N}; }
  Shared<T> operator+(int64_t n) const requires(!std::is_array_v<T>) { return Shared<T>(*this) + n; }
  T (*raw_array() const)[N] { return array_; }

 private:
  T (*array_)[N];
};

namespace detail {

template <class T>
struct SharedType {
  using type = T[1];
};
template <class T, std::size_t N>
struct SharedType<T[N]> {
  using type = T[N];
};

template <class T>
SharedArray<T> shared_array(const simt::SharedSite& declaration, int64_t alignment = alignof(T)) {
  return SharedArray<T>(reinterpret_cast<T*>(simt::shared_array(declaration, sizeof(T), alignment)));
}

}  // namespace detail

#define CUDAMOE_SHARED(element, name, ...)                                                                                                \
  static constexpr ::cudamoe::simt::SharedSite name##_declaration{#name, {__FILE__, __LINE__}};                                           \
  const auto name = ::cudamoe::kernels::detail::shared_array<typename ::cudamoe::kernels::detail::SharedType<element __VA_ARGS__>::type>( \
      name##_declaration)
#define CUDAMOE_SHARED_ALIGNED(alignment, element, name, ...)                                                                             \
  static constexpr ::cudamoe::simt::SharedSite name##_declaration{#name, {__FILE__, __LINE__}};                                           \
  const auto name = ::cudamoe::kernels::detail::shared_array<typename ::cudamoe::kernels::detail::SharedType<element __VA_ARGS__>::type>( \
      name##_declaration, alignment)

template <class T>
Shared<T> dynamic_shared() {
  int64_t bytes = 0;
  T* begin = static_cast<T*>(simt::dynamic_shared_array(&bytes));
  return {begin, begin, begin + bytes / static_cast<int64_t>(sizeof(T))};
}

template <class U, class T>
Shared<U> shared_cast(Shared<T> pointer) {
  return {reinterpret_cast<U*>(pointer.unchecked()), reinterpret_cast<U*>(pointer.array_begin()),
          reinterpret_cast<U*>(pointer.array_end())};
}

template <class T>
uint32_t shared_address(Shared<T> pointer) {
  return simt::shared_window_address(pointer.unchecked());
}

#endif

}  // namespace cudamoe::kernels
