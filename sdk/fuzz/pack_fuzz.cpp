// Gives damaged packs to all that reads them: libFuzzer, with Clang. No network is run (TOPOS_BACKEND_FAKE).
//   cmake -S . -B build-fuzz -DTOPOS_SDK=ON -DTOPOS_SDK_FUZZ=ON -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
//   cmake --build build-fuzz --target pack_fuzz && build-fuzz/sdk/fuzz/pack_fuzz -runs=100000 CORPUS
// tests/sdk/test_fuzz.py makes the corpus. An input that breaks something goes to tests/fuzz/corpus/sdk_pack/.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "pack_format.h"
#include "sha256.h"
#include "topos_rt.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

using topos::PackHeader;
using topos::PackRow;

topos_runtime* runtime() {
  static topos_runtime* const made = [] {
    TOPOS_STRUCT(topos_runtime_options, options);
    options.flags = TOPOS_RUNTIME_FAKE;
    topos_runtime* out = nullptr;
    if (topos_runtime_create(&options, &out, nullptr) != TOPOS_OK) std::abort();
    return out;
  }();
  return made;
}

// The number of sections that have all of their rows in the data, or 0.
uint32_t sections_of(const uint8_t* data, size_t size) {
  PackHeader head{};
  if (size < sizeof head) return 0;
  std::memcpy(&head, data, sizeof head);
  return head.sections <= (size - sizeof head) / sizeof(PackRow) ? head.sections : 0;
}

// The hash of the table, as whoever made the pack would see to.
void reseal(uint8_t* data, size_t size) {
  const uint32_t sections = sections_of(data, size);
  topos::Sha256 hash;
  hash.add(data, offsetof(PackHeader, sha256));
  hash.add(data + sizeof(PackHeader), sections * sizeof(PackRow));
  const auto digest = hash.finish();
  std::memcpy(data + offsetof(PackHeader, sha256), digest.data(), digest.size());
}

int32_t TOPOS_CALL thrown_away(void*, const void*, uint64_t) { return 0; }

void use_head(topos_model* model, topos_head* head) {
  TOPOS_STRUCT(topos_mesh_counts, counts);
  for (uint32_t lod = 0; lod < 3; ++lod) {
    TOPOS_STRUCT(topos_layout, layout);
    layout.lod = lod;
    if (topos_model_counts(model, &layout, &counts) != TOPOS_OK) break;
    std::vector<float> numbers(size_t{counts.num_vertices} * 3);
    std::vector<uint32_t> indices(counts.num_indices);
    TOPOS_STRUCT(topos_stream, stream);
    stream.attribute = TOPOS_POSITION;
    stream.format = TOPOS_F32X3;
    stream.data = numbers.data();
    stream.capacity = numbers.size() * sizeof(float);
    topos_write_vertices(model, head, &layout, nullptr, nullptr, &stream, 1, nullptr);
    topos_write_indices(model, &layout, TOPOS_U32, indices.data(), indices.size() * 4, nullptr);
    if (counts.num_shapes > 0) topos_write_shape(head, &layout, 0, 0, &stream, nullptr, nullptr);
  }
  topos_head_write_glb(head, 0, 0, thrown_away, nullptr, nullptr);
}

void use(topos_model* model) {
  TOPOS_STRUCT(topos_model_info, info);
  topos_model_get_info(model, &info);
  size_t total = 0;
  for (uint32_t at = 0; topos_model_shape_name(model, at) != nullptr; ++at) ++total;
  for (uint32_t at = 0; topos_model_joint(model, at, nullptr) != nullptr; ++at) ++total;
  for (uint32_t at = 0; topos_model_preset_name(model, at) != nullptr; ++at) ++total;
  const int32_t* ids = nullptr;
  uint32_t count = 0;
  for (uint32_t at = 0; topos_model_region(model, at, &ids, &count) != nullptr; ++at) {
    for (uint32_t each = 0; each < count; ++each) total += static_cast<size_t>(ids[each]);
  }
  if (info.num_vertices > 4096 || total == SIZE_MAX) return;  // the time is better spent on others
  std::vector<float> latent(size_t{info.latent_tokens} * info.latent_channels, 0.25F);
  if (latent.size() > 65536) return;
  TOPOS_STRUCT(topos_request, request);
  request.latents = latent.data();
  request.num_latents = 1;
  topos_head* head = nullptr;
  if (topos_generate(model, &request, &head, 1, nullptr) == TOPOS_OK) use_head(model, head);
  topos_head_release(head);
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned int seed) {
  const uint32_t sections = sections_of(data, size);
  if (sections == 0 || seed % 8 == 0) return LLVMFuzzerMutate(data, size, most);
  // One section, row or header, in place; then the hash as if it had always been so.
  PackRow row{};
  const uint32_t chosen = seed / 8 % sections;
  std::memcpy(&row, data + sizeof(PackHeader) + chosen * sizeof row, sizeof row);
  uint8_t* place = data + sizeof(PackHeader) + chosen * sizeof row;
  size_t room = sizeof row;
  if (seed % 8 > 2 && row.offset < size && row.size > 0 && row.size <= size - row.offset) {
    place = data + row.offset;
    room = static_cast<size_t>(row.size);
    const size_t window = 16;
    if (room > window) {
      place += seed / 64 % (room - window);
      room = window;
    }
  }
  LLVMFuzzerMutate(place, room, room);
  reseal(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Exactly as much memory as there is data, so that a byte too far is seen.
  void* memory = nullptr;
  if (size == 0 || posix_memalign(&memory, 64, size) != 0) return 0;
  std::memcpy(memory, data, size);
  TOPOS_STRUCT(topos_source, source);
  source.data = memory;
  source.data_size = size;
  TOPOS_STRUCT(topos_requirements, needs);
  topos_get_requirements(runtime(), &source, nullptr, &needs, nullptr);
  topos_model* model = nullptr;
  if (topos_model_load(runtime(), &source, nullptr, &model, nullptr) == TOPOS_OK) use(model);
  topos_model_release(model);
  source.flags = TOPOS_SOURCE_VERIFY;
  topos_get_requirements(runtime(), &source, nullptr, &needs, nullptr);
  std::free(memory);
  return 0;
}
