/* A plug-in execution provider of ONNX Runtime by the name of TensorRT-RTX's, which leaves every node to the CPU.
 * -DDEVICES=0: as where there is no GPU. */
#include <onnxruntime_c_api.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const OrtApi *ort;
static const char *name(const OrtEpFactory *of) { (void)of; return "NvTensorRTRTXExecutionProvider"; }
static const char *vendor(const OrtEpFactory *of) { (void)of; return "topos_rt's tests"; }
static const char *version(const OrtEpFactory *of) { (void)of; return "0.1.0"; }
static uint32_t vendor_id(const OrtEpFactory *of) { (void)of; return 0; }

static OrtStatus *supported(OrtEpFactory *of, const OrtHardwareDevice *const *devices, size_t count,
                            OrtEpDevice **out, size_t most, size_t *found)
{
    *found = 0;
    if (DEVICES == 0 || count == 0 || most == 0) return NULL;
    OrtStatus *status = ort->GetEpApi()->CreateEpDevice(of, devices[0], NULL, NULL, &out[0]);
    *found = status == NULL;
    return status;
}

static OrtStatus *allocator(OrtEpFactory *of, const OrtMemoryInfo *info, const OrtKeyValuePairs *options,
                            OrtAllocator **out)
{
    (void)of, (void)info, (void)options;
    *out = NULL;
    return NULL;
}
static void release_allocator(OrtEpFactory *of, OrtAllocator *it) { (void)of, (void)it; }
static OrtStatus *data_transfer(OrtEpFactory *of, OrtDataTransferImpl **out)
{
    (void)of;
    *out = NULL;
    return NULL;
}
static bool stream_aware(const OrtEpFactory *of) { (void)of; return false; }

static const char *ep_name(const OrtEp *of) { (void)of; return "NvTensorRTRTXExecutionProvider"; }
static OrtStatus *capability(OrtEp *of, const OrtGraph *graph, OrtEpGraphSupportInfo *info)
{
    (void)of, (void)graph, (void)info;
    return NULL;
}
static OrtStatus *compile(OrtEp *of, const OrtGraph **graphs, const OrtNode **nodes, size_t count,
                          OrtNodeComputeInfo **infos, OrtNode **contexts)
{
    (void)of, (void)graphs, (void)nodes, (void)count, (void)infos, (void)contexts;
    return ort->CreateStatus(ORT_FAIL, "nothing was to be compiled");
}
static void release_infos(OrtEp *of, OrtNodeComputeInfo **infos, size_t count) { (void)of, (void)infos, (void)count; }

static OrtStatus *create(OrtEpFactory *of, const OrtHardwareDevice *const *devices,
                         const OrtKeyValuePairs *const *metadata, size_t count, const OrtSessionOptions *options,
                         const OrtLogger *logger, OrtEp **out)
{
    OrtEp *made = calloc(1, sizeof *made);
    (void)of, (void)devices, (void)metadata, (void)count, (void)options, (void)logger;
    made->ort_version_supported = NUMBER;
    made->GetName = ep_name;
    made->GetCapability = capability;
    made->Compile = compile;
    made->ReleaseNodeComputeInfos = release_infos;
    *out = made;
    return NULL;
}
static void release(OrtEpFactory *of, OrtEp *ep) { (void)of; free(ep); }

OrtStatus *CreateEpFactories(const char *registered, const OrtApiBase *base, const OrtLogger *logger,
                             OrtEpFactory **out, size_t most, size_t *count)
{
    static OrtEpFactory factory;
    (void)registered, (void)logger;
    ort = base->GetApi(NUMBER);
    *count = 0;
    if (ort == NULL || most == 0) return NULL;
    memset(&factory, 0, sizeof factory);
    factory.ort_version_supported = NUMBER;
    factory.GetName = name;
    factory.GetVendor = vendor;
    factory.GetVersion = version;
    factory.GetVendorId = vendor_id;
    factory.GetSupportedDevices = supported;
    factory.CreateEp = create;
    factory.CreateAllocator = allocator;
    factory.ReleaseAllocator = release_allocator;
    factory.CreateDataTransfer = data_transfer;
    factory.IsStreamAware = stream_aware;
    factory.ReleaseEp = release;
    out[0] = &factory;
    *count = 1;
    return NULL;
}

OrtStatus *ReleaseEpFactory(OrtEpFactory *of)
{
    (void)of;
    return NULL;
}
