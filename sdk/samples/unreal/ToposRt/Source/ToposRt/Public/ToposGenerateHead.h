#pragma once

#include "Async/Future.h"
#include "Containers/Ticker.h"
#include "CoreMinimal.h"
#include "Kismet/BlueprintAsyncActionBase.h"
#include "ToposHeadComponent.h"

#include "ToposGenerateHead.generated.h"

/** All pins of a node have one signature: the steps done, and why it failed. */
DECLARE_DYNAMIC_MULTICAST_DELEGATE_TwoParams(FToposHeadEvent, int32, Step, const FString&, Failure);

/** The Blueprint node "Generate Head": a picture becomes a head on a component while the game goes on. */
UCLASS()
class TOPOSRT_API UToposGenerateHead : public UBlueprintAsyncActionBase
{
	GENERATED_BODY()

public:
	/** An estimate of the head was shown. */
	UPROPERTY(BlueprintAssignable)
	FToposHeadEvent Preview;
	UPROPERTY(BlueprintAssignable)
	FToposHeadEvent Done;
	UPROPERTY(BlueprintAssignable)
	FToposHeadEvent Failed;

	/**
	 * @param Portrait A picture's file, of one face.
	 * @param Pack The engine pack, such as Content/mini.topos; a component that shows a head keeps its own.
	 * @param PreviewEvery Shows an estimate after every so many steps; 0: never.
	 */
	UFUNCTION(BlueprintCallable, Category = "Topos",
		meta = (BlueprintInternalUseOnly = "true", WorldContext = "WorldContextObject"))
	static UToposGenerateHead* GenerateHead(UObject* WorldContextObject, UToposHeadComponent* Component,
		const FString& Portrait, const FString& Pack, int32 Seed = 0, int32 PreviewEvery = 1);

	UFUNCTION(BlueprintCallable, Category = "Topos")
	void Cancel();

	virtual void Activate() override;
	virtual void BeginDestroy() override;

private:
	/** What another thread reads: the model, and the picture's pixels as BGRA. */
	struct FLoaded
	{
		FToposModelPtr Model;
		TArray<uint8> Pixels;
		int32 Width = 0, Height = 0;
		FString Failure;
	};

	static FLoaded Load(const FString& Portrait, const FString& Pack, FToposModelPtr Known);
	bool Tick(float DeltaTime);
	bool Advance(FString& OutFailure, bool& bOutDone);
	bool Submit(const FLoaded& Loaded, FString& OutFailure);
	void End();

	TWeakObjectPtr<UToposHeadComponent> Shown;
	FString PortraitPath, PackPath;
	int32 WantedSeed = 0, Every = 0;
	uint32 Steps = 0;
	TFuture<FLoaded> Loading;
	FToposModelPtr Model;
	FToposJobPtr Job;
	FTSTicker::FDelegateHandle Ticker;
};
