#pragma once

#include "CoreMinimal.h"
#include "ToposHandles.h"

/** A head in Unreal's axes and centimetres, with its blendshapes; no component and no renderer. */
struct TOPOSRT_API FToposMesh
{
	/** What a blendshape adds, for the vertices that it moves alone. */
	struct FShape
	{
		FName Name;
		TArray<uint32> Vertices;
		TArray<FVector3f> Offsets, Turns; // of positions and of normals
	};

	TArray<FVector> Positions, Normals;
	TArray<FVector2D> UVs;
	TArray<int32> Triangles;
	TArray<FShape> Shapes;

	/** Each returns whether it worked, and says why not. */
	bool ReadModel(topos_model* Model, FString& OutFailure);
	bool ReadHead(topos_model* Model, topos_head* Head, FString& OutFailure);
	bool ReadShapes(topos_model* Model, topos_head* Head, FString& OutFailure);

	/** The head with its blendshapes at some weights, one for each of Shapes. */
	void Pose(const TArray<float>& Weights, TArray<FVector>& OutPositions, TArray<FVector>& OutNormals) const;
};
