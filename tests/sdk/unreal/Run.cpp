// Runs the Blueprint node as Unreal would, frame after frame, and writes the mesh that the component has.
//   run PACK PPM OUT
#include <cstdio>
#include <cstring>
#include <thread>

#include "Unreal.h"

#include "ToposGenerateHead.h"

IModuleInterface* MakeModule();

namespace {

struct Told {
  int previews = 0, done = 0, failed = 0;
  std::string failure;
};

Told Generate(UToposHeadComponent* component, const char* picture, const char* pack, int cancel_after = -1) {
  Told told;
  UToposGenerateHead* node = UToposGenerateHead::GenerateHead(
      component, component, UTF8_TO_TCHAR(picture), UTF8_TO_TCHAR(pack), 3, 1);
  node->Preview.Called = [&](int32, const FString&) { ++told.previews; };
  node->Done.Called = [&](int32, const FString&) { ++told.done; };
  node->Failed.Called = [&](int32, const FString& failure) {
    ++told.failed;
    told.failure = FTCHARToUTF8(*failure).Get();
  };
  node->Activate();
  for (int frame = 0; FTSTicker::GetCoreTicker().Count() > 0 && frame < 60000; ++frame) {
    FTSTicker::GetCoreTicker().Tick(0.001F);
    if (cancel_after >= 0 && told.previews > cancel_after) node->Cancel();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::printf("node %d %d %d ", told.previews, told.done, told.failed);
  std::printf("%d %d\n", node->bRegistered, node->bReady);
  if (!told.failure.empty()) std::printf("failure %s\n", told.failure.c_str());
  node->BeginDestroy();
  delete node;
  return told;
}

void Put(std::FILE* file, double value) {
  const auto number = static_cast<float>(value);
  std::fwrite(&number, sizeof number, 1, file);
}

void Put(std::FILE* file, const TArray<FVector>& values) {
  for (const FVector& value : values) Put(file, value.X), Put(file, value.Y), Put(file, value.Z);
}

}  // namespace

int main(int, char** words) {
  std::unique_ptr<IModuleInterface> module(MakeModule());
  module->StartupModule();
  UToposHeadComponent component;
  const Told told = Generate(&component, words[2], words[1]);
  if (told.done != 1 || told.failed != 0 || component.Bad) return 1;
  const auto rest = component.Kept;
  std::FILE* file = std::fopen(words[3], "wb");
  const TArray<FName> names = component.GetShapeNames();
  const int32 counts[] = {rest.Vertices.Num(), rest.Triangles.Num(), names.Num(), 0};
  std::fwrite(counts, sizeof counts, 1, file);
  Put(file, rest.Vertices), Put(file, rest.Normals);
  for (const FVector2D& uv : rest.UVs) Put(file, uv.X), Put(file, uv.Y);
  for (const int32 vertex : rest.Triangles) std::fwrite(&vertex, sizeof vertex, 1, file);
  std::string told_names = "shapes";
  for (const FName& name : names) {  // what the component draws with a shape at 1, less the head at rest
    told_names += " " + name.Plain();
    component.SetShape(name, 1.0F);
    for (int32 at = 0; at < rest.Vertices.Num(); ++at) component.Kept.Vertices[at] += rest.Vertices[at] * -1;
    for (int32 at = 0; at < rest.Vertices.Num(); ++at) component.Kept.Normals[at] += rest.Normals[at] * -1;
    Put(file, component.Kept.Vertices), Put(file, component.Kept.Normals);
    component.SetShape(name, 0.0F);
  }
  std::fclose(file);
  std::printf("%s\n", told_names.c_str());
  TMap<FName, float> many;
  many.Add(TEXT("jawOpen"), 0.5F), many.Add(TEXT("noSuchShape"), 1.0F);
  const int before = component.Updated;
  component.SetShapes(many);
  std::printf("many %d %d\n", component.Updated - before, component.SetShape(TEXT("noSuchShape"), 1.0F));
  // Another head of the same model, a picture that is none, and one that is cancelled.
  const Told again = Generate(&component, words[2], words[1]);
  std::printf("again %d created %d\n", again.done, component.Created);
  Generate(&component, words[1], words[1]);
  Generate(&component, words[2], words[1], 0);
  module->ShutdownModule();
  return component.Bad ? 1 : 0;
}
