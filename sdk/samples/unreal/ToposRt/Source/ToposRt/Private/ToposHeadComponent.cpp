#include "ToposHeadComponent.h"

bool UToposHeadComponent::ShowHead(
	const FToposModelPtr& Model, topos_head* Head, bool bFinished, FString& OutFailure)
{
	const bool bNew = Model != Shown;
	if (bNew)
	{
		Shown.Reset(); // until a head of the new model is there
		if (!Mesh.ReadModel(Model.Get(), OutFailure))
		{
			return false;
		}
	}
	Mesh.Shapes.Reset();
	if (!Mesh.ReadHead(Model.Get(), Head, OutFailure))
	{
		return false;
	}
	if (bFinished && !Mesh.ReadShapes(Model.Get(), Head, OutFailure))
	{
		return false;
	}
	Shown = Model;
	Weights.Reset();
	Weights.SetNumZeroed(Mesh.Shapes.Num());
	if (bNew)
	{
		CreateMeshSection(0, Mesh.Positions, Mesh.Triangles, Mesh.Normals, Mesh.UVs, TArray<FColor>(),
			TArray<FProcMeshTangent>(), false);
	}
	else
	{
		Draw();
	}
	return true;
}

bool UToposHeadComponent::SetShape(FName Name, float Weight)
{
	const bool bKnown = Set(Name, Weight);
	if (bKnown)
	{
		Draw();
	}
	return bKnown;
}

void UToposHeadComponent::SetShapes(const TMap<FName, float>& Named)
{
	for (const TPair<FName, float>& Each : Named)
	{
		Set(Each.Key, Each.Value);
	}
	Draw();
}

TArray<FName> UToposHeadComponent::GetShapeNames() const
{
	TArray<FName> Names;
	for (const FToposMesh::FShape& Shape : Mesh.Shapes)
	{
		Names.Add(Shape.Name);
	}
	return Names;
}

bool UToposHeadComponent::Set(FName Name, float Weight)
{
	const int32 Number =
		Mesh.Shapes.IndexOfByPredicate([Name](const FToposMesh::FShape& Each) { return Each.Name == Name; });
	if (Number == INDEX_NONE)
	{
		return false;
	}
	Weights[Number] = Weight;
	return true;
}

void UToposHeadComponent::Draw()
{
	Mesh.Pose(Weights, Positions, Normals);
	UpdateMeshSection(0, Positions, Normals, Mesh.UVs, TArray<FColor>(), TArray<FProcMeshTangent>());
}
