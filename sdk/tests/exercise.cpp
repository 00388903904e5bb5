// Uses all of the library at once, on the fake backend or, with a path, on an ONNX Runtime: for sanitizers.
//   exercise PACK [ONNXRUNTIME]
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "topos_rt.h"

namespace {

std::atomic<int> failures{0};

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
      ++failures;                                                              \
    }                                                                          \
  } while (0)

// An allocator that counts, refuses the n-th allocation, or throws at it.
struct Memory {
  std::atomic<int64_t> bytes{0}, made{0};
  int64_t refuse_at = -1, throw_at = -1;

  static void* TOPOS_CALL alloc(void* user, uint64_t size, uint64_t alignment) {
    auto* self = static_cast<Memory*>(user);
    const int64_t number = self->made++;
    if (number == self->refuse_at) return nullptr;
    if (number == self->throw_at) throw std::runtime_error("thrown by the host's allocator");
    self->bytes += static_cast<int64_t>(size);
    void* memory = nullptr;
    return posix_memalign(&memory, alignment < sizeof(void*) ? sizeof(void*) : alignment, size) == 0 ? memory : nullptr;
  }
  static void TOPOS_CALL free(void* user, void* memory, uint64_t size, uint64_t) {
    static_cast<Memory*>(user)->bytes -= static_cast<int64_t>(size);
    std::free(memory);
  }
};

void TOPOS_CALL logged(void* lines, topos_log_level, const char*) { ++*static_cast<std::atomic<int>*>(lines); }
int32_t TOPOS_CALL counted(void* calls, const topos_progress* progress) {
  return progress->stage == nullptr || ++*static_cast<std::atomic<int>*>(calls) < 0 ? 1 : 0;
}
int32_t TOPOS_CALL kept(void* file, const void* data, uint64_t size) {
  static_cast<std::string*>(file)->append(static_cast<const char*>(data), size);
  return 0;
}

struct Picture {
  std::vector<uint8_t> pixels = std::vector<uint8_t>(64 * 48 * 3, 90);
  topos_image image{};
  Picture() {
    for (size_t at = 0; at < pixels.size(); ++at) pixels[at] = static_cast<uint8_t>(at * 7 % 251);
    image.struct_size = sizeof image;
    image.format = TOPOS_PIXELS_RGB8;
    image.data = pixels.data();
    image.data_size = pixels.size();
    image.width = 64;
    image.height = 48;
  }
};

topos_request request_of(const Picture& picture, const uint64_t* seeds, uint32_t count, bool looks) {
  TOPOS_STRUCT(topos_request, request);
  request.images = &picture.image;
  request.num_images = 1;
  request.seeds = seeds;
  request.num_seeds = count;
  request.set = TOPOS_SET_STEPS;
  request.steps = 4;
  request.preview_every = 1;
  if (!looks) {
    request.crop = TOPOS_CROP_NONE;
    request.flags = TOPOS_REQUEST_NO_FACE_CHECK;
  }
  return request;
}

void read_all_of(topos_model* model, topos_head* head) {
  TOPOS_STRUCT(topos_head_info, info);
  CHECK(topos_head_get_info(head, &info) == TOPOS_OK && std::strlen(info.metadata) > 1);
  TOPOS_STRUCT(topos_face, face);
  CHECK(topos_head_get_face(head, &face) == TOPOS_OK);
  TOPOS_STRUCT(topos_mesh_counts, counts);
  TOPOS_STRUCT(topos_layout, layout);
  layout.axes = TOPOS_AXES_UNREAL;
  CHECK(topos_model_counts(model, &layout, &counts) == TOPOS_OK);
  std::vector<float> buffer(size_t{counts.num_vertices} * 6);
  topos_stream streams[2] = {};
  for (uint32_t at = 0; at < 2; ++at) {
    streams[at].struct_size = sizeof(topos_stream);
    streams[at].attribute = at == 0 ? TOPOS_POSITION : TOPOS_NORMAL;
    streams[at].format = TOPOS_F32X3;
    streams[at].offset = 12 * at;
    streams[at].stride = 24;
    streams[at].data = buffer.data();
    streams[at].capacity = buffer.size() * sizeof(float);
  }
  CHECK(topos_write_vertices(model, head, &layout, nullptr, nullptr, streams, 2, nullptr) == TOPOS_OK);
  streams[0].capacity = 8;
  CHECK(topos_write_vertices(model, head, &layout, nullptr, nullptr, streams, 1, nullptr) == TOPOS_E_CAPACITY);
  std::vector<uint32_t> indices(counts.num_indices);
  CHECK(topos_write_indices(model, &layout, TOPOS_U32, indices.data(), indices.size() * 4, nullptr) == TOPOS_OK);
  if (info.has_rig != 0) {
    std::vector<float> joints(counts.num_joints * 3), weights(counts.num_shapes, 0.5F);
    CHECK(topos_write_joints(head, &layout, joints.data(), nullptr, nullptr) == TOPOS_OK);
    streams[0].capacity = buffer.size() * sizeof(float);
    CHECK(topos_write_vertices(model, head, &layout, weights.data(), nullptr, streams, 2, nullptr) == TOPOS_OK);
    CHECK(topos_write_shape(head, &layout, 0, 0, &streams[0], &streams[1], nullptr) == TOPOS_OK);
  }
  std::string file;
  CHECK(topos_head_write_glb(head, 0, 0, kept, &file, nullptr) == TOPOS_OK && file.compare(0, 4, "glTF") == 0);
}

// Jobs of a model on their own threads, in each of which previews are taken; every third is cancelled.
void many_jobs(topos_model* model, int number, bool looks) {
  const Picture picture;
  const uint64_t seeds[2] = {static_cast<uint64_t>(number), 7};
  for (int round = 0; round < 6; ++round) {
    topos_request request = request_of(picture, seeds, 2, looks);
    std::atomic<int> calls{0};
    request.progress = counted;
    request.progress_user = &calls;
    topos_job* job = nullptr;
    CHECK(topos_submit(model, &request, &job, nullptr) == TOPOS_OK);
    std::thread canceller([job, round] {
      if (round % 3 == 2) topos_job_cancel(job);
    });
    topos_status status = TOPOS_PENDING;
    while ((status = topos_job_poll(job, nullptr)) == TOPOS_PENDING) {
      topos_head* preview = nullptr;
      if (topos_job_take_preview(job, &preview, nullptr) == TOPOS_OK) {
        read_all_of(model, preview);
        topos_head_release(preview);
      }
      TOPOS_STRUCT(topos_progress, progress);
      topos_job_poll(job, &progress);
      topos_job_wait(job, 1);
    }
    canceller.join();
    CHECK(status == TOPOS_OK || (status == TOPOS_E_CANCELLED && round % 3 == 2));
    topos_head* head = nullptr;
    if (status == TOPOS_OK) {
      CHECK(topos_job_take_head(job, 1, &head) == TOPOS_OK);
    }
    topos_job_release(job);
    if (head != nullptr) {
      read_all_of(model, head);
      topos_head_release(head);
    }
  }
}

topos_status load(topos_runtime* runtime, const std::string& data, uint32_t flags, topos_model** out) {
  TOPOS_STRUCT(topos_source, source);
  source.data = data.data();  // it is copied where it is not aligned
  source.data_size = data.size();
  source.flags = flags;
  return topos_model_load(runtime, &source, nullptr, out, nullptr);
}

void once(topos_runtime* runtime, const std::string& data, topos_status wanted) {
  topos_model* model = nullptr;
  topos_status status = load(runtime, data, 0, &model);
  if (status == TOPOS_OK) {
    const Picture picture;
    const uint64_t seed = 3;
    const topos_request request = request_of(picture, &seed, 1, false);
    topos_head* head = nullptr;
    status = topos_generate(model, &request, &head, 1, nullptr);
    topos_head_release(head);
    topos_model_release(model);
  }
  CHECK(status == wanted);
}

// The end of an allocation at every place, by NULL and by an exception, loses nothing.
void allocations_fail(topos_runtime* runtime, Memory& memory, const std::string& data) {
  memory.made = 0;
  once(runtime, data, TOPOS_OK);
  const int64_t count = memory.made, bytes = memory.bytes;
  for (int64_t at = 0; at < count; ++at) {
    memory.made = 0;
    memory.refuse_at = at;
    once(runtime, data, TOPOS_E_MEMORY);
    CHECK(memory.bytes == bytes);
    memory.refuse_at = -1;
    memory.made = 0;
    memory.throw_at = at;
    once(runtime, data, TOPOS_E_INTERNAL);
    CHECK(memory.bytes == bytes);
    memory.throw_at = -1;
  }
}

void damaged_packs(topos_runtime* runtime, const std::string& data) {
  for (size_t end = 0; end < data.size(); end += 1 + data.size() / 40) {
    topos_model* model = nullptr;
    CHECK(load(runtime, data.substr(0, end), 0, &model) == TOPOS_E_PACK || end == 0);
  }
  for (size_t at = 0; at < data.size(); at += 1 + data.size() / 40) {
    std::string damaged = data;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    topos_model* model = nullptr;
    CHECK(load(runtime, damaged, TOPOS_SOURCE_VERIFY, &model) == TOPOS_E_PACK);
  }
}

}  // namespace

int main(int count, char** words) {
  if (count < 2) return 2;
  std::ifstream file(words[1], std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::atomic<int> lines{0};
  Memory memory;
  TOPOS_STRUCT(topos_allocator, allocator);
  allocator.user = &memory;
  allocator.alloc = Memory::alloc;
  allocator.free = Memory::free;
  TOPOS_STRUCT(topos_runtime_options, options);
  options.log = logged;
  options.log_user = &lines;
  options.allocator = &allocator;
  options.num_threads = 2;
  options.ort_library = count > 2 ? words[2] : nullptr;
  options.flags = count > 2 ? 0 : TOPOS_RUNTIME_FAKE;
  topos_runtime* runtime = nullptr;
  TOPOS_STRUCT(topos_error, error);
  CHECK(topos_runtime_create(&options, &runtime, &error) == TOPOS_OK);
  if (runtime == nullptr) return std::fprintf(stderr, "%s\n", error.message), 1;

  topos_model* model = nullptr;
  CHECK(load(runtime, data, TOPOS_SOURCE_VERIFY, &model) == TOPOS_OK);
  if (model == nullptr) return 1;
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([model, number, fake = count == 2] { many_jobs(model, number, fake && number > 0); });
  }
  threads.emplace_back([runtime, &data] {  // models come and go beside
    for (int round = 0; round < 4; ++round) once(runtime, data, TOPOS_OK);
  });
  for (std::thread& thread : threads) thread.join();
  topos_model_release(model);
  damaged_packs(runtime, data);
  if (count == 2) allocations_fail(runtime, memory, data);
  topos_runtime_release(runtime);
  CHECK(memory.bytes == 0);
  std::printf("%d failures\n", failures.load());
  return failures == 0 ? 0 : 1;
}
