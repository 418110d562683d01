// Device memory of the executor: host memory that host code cannot touch.
//
// All of it lies in one reserved range of addresses, without access except while kernels and copies run. Host code that reads or writes
// through a device pointer, which a GPU would not let it do either, stops the program with a message that says so. Not under sanitizers,
// which need an allocation of its own for each block to see accesses outside of it.
#pragma once

#include <cstddef>
#include <map>

namespace cudamoe::simt {

size_t physical_memory();

class DeviceMemory {
 public:
  static constexpr size_t kAlignment = 256;  // of cudaMalloc

  // Memory of a device, or null where it cannot be had.
  void* allocate(size_t bytes, int device);
  // False unless it is memory of this class.
  bool release(void* pointer);
  // Whether the range lies in one block.
  bool contains(const void* pointer, size_t bytes) const;
  // All blocks, with their sizes.
  std::map<void*, size_t> blocks() const;
  // Bytes that a device has.
  size_t used(int device) const;

  // While one exists the memory can be read and written.
  class Access {
   public:
    explicit Access(DeviceMemory& memory) : memory_(memory) { memory_.open(); }
    ~Access() { memory_.close(); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    DeviceMemory& memory_;
  };

 private:
  struct Block {
    size_t bytes;
    int device;
  };

  void open();
  void close();

  std::map<char*, Block> blocks_;
  std::map<size_t, size_t> free_;  // offset and size of the gaps of the range
  size_t end_ = 0;                 // nothing was ever allocated from here on
  int depth_ = 0;
};

}  // namespace cudamoe::simt
