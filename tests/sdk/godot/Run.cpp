// Loads the extension and runs its node as Godot would, frame after frame, and writes the mesh that it made.
//   run PACK PPM OUT
#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "Godot.h"

#include "portrait_head.h"

using namespace godot;

extern "C" GDExtensionBool topos_rt_library_init(
    GDExtensionInterfaceGetProcAddress, GDExtensionClassLibraryPtr, GDExtensionInitialization*);

namespace {

Ref<Image> Picture(const char* path) {  // a PPM of three words and pixels
  Ref<Image> made;
  made.instantiate();
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int most = 0;
  file >> kind >> made->Width >> made->Height >> most;
  file.get();
  made->Pixels.resize(int64_t{3} * made->Width * made->Height);
  file.read(reinterpret_cast<char*>(made->Pixels.ptrw()), made->Pixels.size());
  return made;
}

struct Told {
  int previews = 0, finished = 0, failed = 0;
};

// Frames until a signal ends it; cancels after the first preview where that is wanted.
Told Frames(topos_godot::PortraitHead& node, bool cancel = false) {
  Told told;
  node.Emitted = [&](const std::string& signal, const std::vector<Variant>& values) {
    told.previews += signal == "preview";
    told.finished += signal == "finished";
    told.failed += signal == "failed";
    if (signal != "failed") return;
    std::printf("failure %s\n", std::any_cast<String>(values.at(0).Value).utf8().get_data());
  };
  for (int frame = 0; node.is_busy() && frame < 60000; ++frame) {
    node._process(0.001);
    if (cancel && told.previews > 0) node.cancel();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  node.Emitted = nullptr;
  std::printf("node %d %d %d %d\n", told.previews, told.finished, told.failed, node.is_busy());
  return told;
}

void Put(std::FILE* file, const PackedVector3Array& values) {
  std::fwrite(values.ptr(), sizeof(Vector3), static_cast<size_t>(values.size()), file);
}

const PackedVector3Array& Vectors(const Array& arrays, Mesh::ArrayType which) {
  return *std::any_cast<PackedVector3Array>(&arrays[which].Value);
}

void Write(const ArrayMesh& mesh, const char* path) {
  const auto uvs = std::any_cast<PackedVector2Array>(mesh.Surface[Mesh::ARRAY_TEX_UV].Value);
  const auto indices = std::any_cast<PackedInt32Array>(mesh.Surface[Mesh::ARRAY_INDEX].Value);
  const PackedVector3Array& positions = Vectors(mesh.Surface, Mesh::ARRAY_VERTEX);
  std::FILE* file = std::fopen(path, "wb");
  const int32_t counts[] = {static_cast<int32_t>(positions.size()), static_cast<int32_t>(indices.size()),
                            static_cast<int32_t>(mesh.Shapes.size()), 0};
  std::fwrite(counts, sizeof counts, 1, file);
  Put(file, positions), Put(file, Vectors(mesh.Surface, Mesh::ARRAY_NORMAL));
  std::fwrite(uvs.ptr(), sizeof(Vector2), static_cast<size_t>(uvs.size()), file);
  std::fwrite(indices.ptr(), sizeof(int32_t), static_cast<size_t>(indices.size()), file);
  std::string names = "shapes";
  for (int64_t at = 0; at < mesh.Shapes.size(); ++at) {
    const auto shape = std::any_cast<Array>(mesh.Shapes[at].Value);
    Put(file, Vectors(shape, Mesh::ARRAY_VERTEX)), Put(file, Vectors(shape, Mesh::ARRAY_NORMAL));
    names += " " + mesh.Names.at(static_cast<size_t>(at));
  }
  std::fclose(file);
  std::printf("%s\nmode %d\n", names.c_str(), mesh.Mode);
}

}  // namespace

int main(int, char** words) {
  GDExtensionInitialization initialization;
  if (!topos_rt_library_init(nullptr, nullptr, &initialization) || !ClassDB::Complete) return 1;
  for (const std::string& signal : ClassDB::Signals) std::printf("signal %s\n", signal.c_str());
  topos_godot::PortraitHead node;
  const Ref<Image> portrait = Picture(words[2]);
  node.generate(portrait, "nowhere.topos", 3, 1);
  Frames(node);
  node.generate(portrait, words[1], 3, 1);
  if (Frames(node).finished != 1) return 1;
  const Ref<ArrayMesh> mesh = node.get_mesh();
  Write(**mesh, words[3]);
  node.generate(portrait, words[1], 4, 1);
  Frames(node, true);
  std::printf("left %zu shapes, %d surface\n", mesh->Names.size(), mesh->Surfaces);
  int failed = 0;
  node.Emitted = [&](const std::string& signal, const auto&) { failed += signal == "failed"; };
  node.generate(Ref<Image>(), words[1], 4, 1);
  std::printf("empty %d\n", failed);
  return mesh->Bad ? 1 : 0;
}
