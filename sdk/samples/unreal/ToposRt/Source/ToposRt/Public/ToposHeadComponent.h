#pragma once

#include "CoreMinimal.h"
#include "ProceduralMeshComponent.h"
#include "ToposMesh.h"

#include "ToposHeadComponent.generated.h"

/** Shows a head as one section of a procedural mesh; blendshapes move it on the game thread. */
UCLASS(ClassGroup = (Topos), meta = (BlueprintSpawnableComponent))
class TOPOSRT_API UToposHeadComponent : public UProceduralMeshComponent
{
	GENERATED_BODY()

public:
	/** Sets a blendshape of ARKit's, such as jawOpen, from 0 to 1. False: the head has none of that name. */
	UFUNCTION(BlueprintCallable, Category = "Topos")
	bool SetShape(FName Name, float Weight);

	/** The same for many at once, which draws the head anew once; unknown names are left out. */
	UFUNCTION(BlueprintCallable, Category = "Topos")
	void SetShapes(const TMap<FName, float>& Named);

	UFUNCTION(BlueprintCallable, Category = "Topos")
	TArray<FName> GetShapeNames() const;

	/** Shows a head; with its blendshapes where it is finished, and without for a preview. */
	bool ShowHead(const FToposModelPtr& Model, topos_head* Head, bool bFinished, FString& OutFailure);

	const FToposModelPtr& GetModel() const { return Shown; }

private:
	bool Set(FName Name, float Weight);
	void Draw();

	FToposModelPtr Shown;
	FToposMesh Mesh;
	TArray<float> Weights;
	TArray<FVector> Positions, Normals; // kept, so that a frame allocates nothing
};
