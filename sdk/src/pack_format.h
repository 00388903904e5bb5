// Engine packs as they lie in memory: docs/pack.md. The numbers are those of topos_rt/pack/sections.py.
#ifndef TOPOS_SDK_PACK_FORMAT_H
#define TOPOS_SDK_PACK_FORMAT_H

#include <cstdint>

namespace topos {

inline constexpr char kPackMagic[8] = {'T', 'O', 'P', 'O', 'S', 'P', 'K', '\n'};
inline constexpr uint32_t kPackVersion = 1;
inline constexpr uint64_t kPackAlign = 64;
inline constexpr uint32_t kMaxSections = 4096;
inline constexpr int kAtlasMesh = 16;  // added to a mesh's level where its UVs are the atlas's

struct PackHeader {
  char magic[8];
  uint32_t version, sections;
  uint64_t size, zero;
  uint8_t sha256[32];  // of the members before it, and the table
};
static_assert(sizeof(PackHeader) == 64);

struct PackRow {
  uint16_t kind, index, type, zero;
  uint64_t offset, size;
  uint32_t rows, columns;
  uint8_t sha256[32];
};
static_assert(sizeof(PackRow) == 64);

enum class PackType : uint16_t { kU8 = 1, kU16, kI32, kU32, kF16, kF32, kF64, kText, kBytes };

enum class Kind : uint16_t {
  kAbout = 1,
  kSizes = 2,
  kNumbers = 3,
  kRotation = 4,
  kTopologyId = 5,
  kSolverNames = 6,
  kPresetNames = 7,
  kPresetCounts = 8,
  kPresetNumbers = 9,
  kVariation = 10,
  kMemory = 11,
  kLicenceNames = 12,
  kLicenceTexts = 13,
  kPresetTimes = 14,
  kGraph = 20,
  kGraphFp16 = 21,
  kGraphLocations = 22,
  kGraphFp16Locations = 23,
  kGraphWeights = 24,
  kWeights = 25,
  kMeshVertices = 30,
  kMeshSource = 31,
  kMeshUvs = 32,
  kMeshTriangles = 33,
  kMeshSurfaces = 34,
  kMeshShade = 35,
  kRegionNames = 36,
  kRegionOffsets = 37,
  kRegionVertices = 38,
  kMeshParts = 39,
  kJointNames = 40,
  kJointHumanoid = 41,
  kJointParents = 42,
  kJointPositions = 43,
  kSkinJoints = 44,
  kSkinWeights = 45,
  kShapeNames = 46,
  kShapeIndex = 47,
  kShapeDelta = 48,
  kShapeOffsets = 49,
  kBindTemplate = 50,
  kBindJointIndex = 51,
  kBindJointWeight = 52,
  kBindJointOffsets = 53,
  kBindContactPairs = 54,
  kBindContactOffsets = 55,
  kBindParts = 56,
  kPartAnchors = 60,
  kPartWeights = 61,
  kPartPieces = 62,
  kPartHolders = 63,
  kPartQuads = 64,
  kPartUvs = 65,
  kPartRest = 66,
  kPartMotions = 67,
  kPartMotionPieces = 68,
  kPartMotionShapes = 69,
  kPartShade = 72,
  kPartPicture = 73,
  kAtlasLandmarkUvs = 82,
  kAtlasMasks = 83,
  kAtlasWarp = 85,
  kAtlasWarpVertices = 86,
  kAtlasWarpLandmarks = 87,
  kAtlasBase = 88,
  kAtlasSides = 89,
  kLandmarkVertices = 90,
  kLandmarkWeights = 91,
  kLandmarkNoise = 92,
  kLandmarkMirrored = 93,
  kLandmarkIrises = 94,
  kFaceGraph = 100,
  kFacePositions = 101,
  kFaceWeights = 102,
  kScoreNames = 105,
  kScorePoints = 106,
};

// Rows of kAbout, columns of kSizes and kNumbers.
enum About { kName, kDescription, kOrigin, kLicence, kWeightKind, kFaceLicence, kAtlasSource, kPartSource, kAbouts };
enum Size {
  kImageHeight, kImageWidth, kTokens, kTokenChannels, kLatentTokens, kLatentChannels, kVertices, kEvidence,
  kDefaultPreset, kSizesCount
};
enum Number {
  kSigmaMin, kGuidance, kTemperature, kRadius, kOpenTemperature, kSideCm, kMiddleX, kMiddleY, kMiddleZ, kMirror,
  kResidualScale, kNumbersCount
};
enum Measured { kPrivate, kPrivateCached, kPerJob, kMeasuredCount };  // columns of kMemory
enum FaceGraph { kFaceDetector, kFaceLandmarks, kFaceExpression, kFaceIdentity, kFaceGraphs };
enum Graph { kImageEncoder, kDitModulation, kDitContext, kDitStep, kDitStepGuided, kVaeDecoder, kGraphs };

}  // namespace topos

#endif
