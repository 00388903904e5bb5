#include "ToposGenerateHead.h"

#include "Async/Async.h"
#include "ImageCore.h"
#include "ImageUtils.h"

UToposGenerateHead* UToposGenerateHead::GenerateHead(
	UObject* WorldContextObject, UToposHeadComponent* Component, const FString& Portrait, const FString& Pack, int32 Seed, int32 PreviewEvery)
{
	UToposGenerateHead* Node = NewObject<UToposGenerateHead>();
	Node->Shown = Component;
	Node->PortraitPath = Portrait;
	Node->PackPath = Pack;
	Node->WantedSeed = Seed;
	Node->Every = PreviewEvery;
	Node->RegisterWithGameInstance(WorldContextObject); // it lives until SetReadyToDestroy
	return Node;
}

void UToposGenerateHead::Activate()
{
	FToposModelPtr Known = Shown.IsValid() ? Shown->GetModel() : FToposModelPtr();
	Loading = Async(EAsyncExecution::Thread,
		[Portrait = PortraitPath, Pack = PackPath, Known] { return Load(Portrait, Pack, Known); });
	const FTickerDelegate Ticked = FTickerDelegate::CreateUObject(this, &UToposGenerateHead::Tick);
	Ticker = FTSTicker::GetCoreTicker().AddTicker(Ticked);
}

UToposGenerateHead::FLoaded UToposGenerateHead::Load(
	const FString& Portrait, const FString& Pack, FToposModelPtr Known)
{
	FLoaded Made;
	FImage Image;
	if (!FImageUtils::LoadImage(*Portrait, Image))
	{
		Made.Failure = Portrait + TEXT(" cannot be read as a picture");
		return Made;
	}
	Image.ChangeFormat(ERawImageFormat::BGRA8, EGammaSpace::sRGB);
	Made.Width = Image.SizeX;
	Made.Height = Image.SizeY;
	Made.Pixels.Append(Image.RawData.GetData(), 4 * Image.SizeX * Image.SizeY);
	Made.Model = Known;
	if (Known.IsValid())
	{
		return Made;
	}
	TOPOS_STRUCT(topos_error, Error);
	TOPOS_STRUCT(topos_source, Source);
	TOPOS_STRUCT(topos_load_options, Options);
	const FTCHARToUTF8 Path(*Pack);
	Source.path = Path.Get();
	Options.flags = TOPOS_LOAD_WARM_UP;
	topos_runtime* Runtime = nullptr;
	topos_model* Loaded = nullptr;
	topos_status Status = topos_runtime_create(nullptr, &Runtime, &Error);
	const FToposRuntimePtr Owned(Runtime); // a model keeps its runtime
	if (Status == TOPOS_OK)
	{
		Status = topos_model_load(Runtime, &Source, &Options, &Loaded, &Error);
	}
	if (Status == TOPOS_OK)
	{
		Made.Model = FToposModelPtr(Loaded, FToposRelease());
	}
	else
	{
		Made.Failure = ToposMessage(Status, Error);
	}
	return Made;
}

bool UToposGenerateHead::Tick(float)
{
	FString Failure;
	bool bDone = false;
	const bool bWorked = Advance(Failure, bDone);
	if (bWorked && !bDone)
	{
		return true; // and again in the next frame
	}
	Ticker.Reset();
	(bWorked ? Done : Failed).Broadcast(static_cast<int32>(Steps), Failure);
	End();
	return false;
}

/** One frame's worth: none of this waits. */
bool UToposGenerateHead::Advance(FString& OutFailure, bool& bOutDone)
{
	if (!Shown.IsValid())
	{
		OutFailure = TEXT("the component is gone");
		return false;
	}
	if (!Job.IsValid())
	{
		return !Loading.IsReady() || Submit(Loading.Get(), OutFailure);
	}
	TOPOS_STRUCT(topos_progress, Progress);
	const topos_status Status = topos_job_poll(Job.Get(), &Progress);
	Steps = Progress.step;
	if (Status < 0)
	{
		TOPOS_STRUCT(topos_error, Error);
		topos_job_get_error(Job.Get(), &Error);
		OutFailure = ToposMessage(Status, Error);
		return false;
	}
	bOutDone = Status == TOPOS_OK;
	topos_head* Taken = nullptr;
	uint32 Step = 0;
	if (bOutDone)
	{
		topos_job_take_head(Job.Get(), 0, &Taken);
	}
	else
	{
		topos_job_take_preview(Job.Get(), &Taken, &Step);
	}
	const FToposHeadPtr Head(Taken);
	if (!Head.IsValid())
	{
		return true;
	}
	if (!Shown->ShowHead(Model, Head.Get(), bOutDone, OutFailure))
	{
		return false;
	}
	if (!bOutDone)
	{
		Preview.Broadcast(static_cast<int32>(Step), FString());
	}
	return true;
}

bool UToposGenerateHead::Submit(const FLoaded& Loaded, FString& OutFailure)
{
	Model = Loaded.Model;
	if (!Loaded.Failure.IsEmpty())
	{
		OutFailure = Loaded.Failure;
		return false;
	}
	TOPOS_STRUCT(topos_image, Image);
	Image.format = TOPOS_PIXELS_BGRA8;
	Image.data = Loaded.Pixels.GetData();
	Image.data_size = static_cast<uint64>(Loaded.Pixels.Num());
	Image.width = static_cast<uint32>(Loaded.Width);
	Image.height = static_cast<uint32>(Loaded.Height);
	TOPOS_STRUCT(topos_request, Request);
	TOPOS_STRUCT(topos_error, Error);
	const uint64_t Seed = static_cast<uint64_t>(WantedSeed);
	Request.images = &Image;
	Request.num_images = 1;
	Request.seeds = &Seed;
	Request.num_seeds = 1;
	Request.preview_every = static_cast<uint32>(Every);
	topos_job* Started = nullptr;
	const topos_status Status = topos_submit(Model.Get(), &Request, &Started, &Error);
	Job = FToposJobPtr(Started);
	if (Status != TOPOS_OK)
	{
		OutFailure = ToposMessage(Status, Error);
	}
	return Status == TOPOS_OK;
}

void UToposGenerateHead::Cancel()
{
	if (Job.IsValid())
	{
		topos_job_cancel(Job.Get()); // the next poll tells, and Failed fires
	}
	else if (Ticker.IsValid())
	{
		End(); // a model that is being loaded is thrown away
	}
}

void UToposGenerateHead::End()
{
	if (Ticker.IsValid())
	{
		FTSTicker::GetCoreTicker().RemoveTicker(Ticker);
		Ticker.Reset();
	}
	Job.Reset();
	SetReadyToDestroy();
}

void UToposGenerateHead::BeginDestroy()
{
	if (Ticker.IsValid())
	{
		FTSTicker::GetCoreTicker().RemoveTicker(Ticker);
		Ticker.Reset();
	}
	Job.Reset();
	Super::BeginDestroy();
}
