/* topos_rt.h - the C face of topos_rt: one portrait in, one animatable head with a fixed topology out.
 *
 * C99 and C++98 or later; no dependency but <stddef.h> and <stdint.h>. Licence: MIT.
 *
 * RULES THAT HOLD EVERYWHERE
 *
 * Handles     topos_runtime > topos_model > topos_job, topos_head. Opaque, counted: a child keeps its parents
 *             alive, so they may be released in any order. The release of the last one waits for threads that
 *             still end, which takes some milliseconds where a job was cancelled. No global state: two runtimes do
 *             not meet.
 *             (ONNX Runtime itself keeps one environment for each copy of its library in a process.)
 * Structs     Every struct that crosses the border starts with struct_size = sizeof(that struct); all other
 *             members zero means "the default". Later versions only append members; the library reads and
 *             writes no byte beyond struct_size. Arrays of structs are walked with the first one's struct_size.
 * Types       Fixed width only: no bool, no enum, no long inside a struct. Enumerations are int32_t/uint32_t.
 * Strings     UTF-8, ended by 0, paths too (also on Windows). Returned strings live as long as their handle.
 * Memory      Results are written into the caller's memory, never handed over to be freed. Sizes are asked for
 *             first. Write-combined memory (a mapped upload heap) is only written, in rising order, never read.
 * Errors      Functions return a topos_status; 0 is success, errors are negative. The last argument, where there
 *             is one, may be NULL and receives one line: what is wrong: got ...; expected ...; fix: ...
 *             On an error nothing was written to other outputs, except that handles are set to NULL.
 *             Jobs keep their own error. The library never calls abort, exit or std::terminate, throws no C++
 *             exception across this border, installs no signal handler and prints nothing.
 * Threads     Runtime, model and head may be used from any number of threads at once. A job: poll, cancel and
 *             take_preview from any thread; step and take_head from one at a time. Callbacks come from the thread
 *             that is documented with them, hold no lock, and may call anything but release of their own handle.
 *             Nothing runs in DllMain or in static constructors; the library may be unloaded once every handle
 *             is released.
 * Numbers     Mesh data: float32; frame and units are those of topos_layout. The same pack, seed, settings,
 *             ONNX Runtime build, number of threads and CPU give the same bytes as the Python package with
 *             decoder="engine", textures included; its default decoder is within 1e-5 of a head's radius of them.
 *             Where it was installed without a C++ compiler, rigs and fits to faces are rounded otherwise.
 * Floats      The caller's FPU state is left as it was.
 * Targets     64-bit only; sizes and offsets of all structs are the same on every one of them (sdk/tests/abi.c).
 */
#ifndef TOPOS_RT_H
#define TOPOS_RT_H

#include <stddef.h>
#include <stdint.h>

#define TOPOS_RT_VERSION_MAJOR 1
#define TOPOS_RT_VERSION_MINOR 0
#define TOPOS_RT_VERSION_PATCH 0
/* Raised only when a program built against an older header would break. A library is usable when
 * topos_abi_version() == TOPOS_ABI_VERSION; newer minor versions only add functions and struct members. */
#define TOPOS_ABI_VERSION 1u

#if defined(_WIN32)
#  define TOPOS_CALL __cdecl
#  if defined(TOPOS_RT_BUILD)
#    define TOPOS_API __declspec(dllexport)
#  elif defined(TOPOS_RT_STATIC)
#    define TOPOS_API
#  else
#    define TOPOS_API __declspec(dllimport)
#  endif
#else
#  define TOPOS_CALL
#  if defined(TOPOS_RT_BUILD) && (defined(__GNUC__) || defined(__clang__))
#    define TOPOS_API __attribute__((visibility("default")))
#  else
#    define TOPOS_API
#  endif
#endif

/* TOPOS_STRUCT(topos_request, request): a struct with every default. */
#ifdef __cplusplus
#  define TOPOS_STRUCT(type, name) type name = type(); (name).struct_size = (uint32_t)sizeof(type)
extern "C" {
#else
#  define TOPOS_STRUCT(type, name) type name = {.struct_size = (uint32_t)sizeof(type)}
#endif

typedef struct topos_runtime topos_runtime; /* ONNX Runtime, threads, allocator, log; usually one a program */
typedef struct topos_model topos_model;     /* a loaded engine pack; immutable */
typedef struct topos_job topos_job;         /* one request on its way */
typedef struct topos_head topos_head;       /* one finished head, or a preview; immutable */

/* ------------------------------------------------------------------------------------------------ status -- */

typedef int32_t topos_status;
enum {
    TOPOS_OK = 0,
    TOPOS_PENDING = 1,          /* not an error: a job that is not done, a preview that is not there yet */
    TOPOS_E_ARGUMENT = -1,      /* NULL, a struct_size that is too small, a number out of range */
    TOPOS_E_IMAGE = -2,         /* an image that cannot be used */
    TOPOS_E_PACK = -3,          /* damaged, of a foreign format, or made for a newer library */
    TOPOS_E_IO = -4,            /* a file that cannot be read or written, or a callback that failed */
    TOPOS_E_BACKEND = -5,       /* ONNX Runtime failed */
    TOPOS_E_UNAVAILABLE = -6,   /* ONNX Runtime is missing, too old, or no such library */
    TOPOS_E_UNSUPPORTED = -7,   /* this pack, build or backend cannot do that */
    TOPOS_E_CANCELLED = -8,
    TOPOS_E_MEMORY = -9,        /* an allocation failed, or a budget would be exceeded */
    TOPOS_E_CAPACITY = -10,     /* the caller's buffer is too small; nothing was written */
    TOPOS_E_NUMERIC = -11,      /* the networks made values that are not finite */
    TOPOS_E_STATE = -12,        /* a call that this handle does not allow now */
    TOPOS_E_INTERNAL = -13      /* our own mistake: please report it */
};

typedef struct topos_error {
    uint32_t struct_size;
    topos_status status;
    char message[504]; /* one line of UTF-8, cut at a character's border */
} topos_error;

/* The name of a status, "TOPOS_E_PACK"; never NULL. */
TOPOS_API const char *TOPOS_CALL topos_status_name(topos_status status);
TOPOS_API uint32_t TOPOS_CALL topos_abi_version(void);
/* "1.0.0 (linux-x86_64, gcc 12.2, 6c7936f)" */
TOPOS_API const char *TOPOS_CALL topos_version_string(void);

/* ----------------------------------------------------------------------------------------------- runtime -- */

/* Handles, jobs, heads and tables of a model are allocated here; ONNX Runtime, the tables of textures and what lives for
 * less than a stage, such as a picture that is being resized, use the heap. size > 0; alignment is a power of two; alloc may return
 * NULL. Any thread. */
typedef struct topos_allocator {
    uint32_t struct_size;
    uint32_t reserved;
    void *user;
    void *(TOPOS_CALL *alloc)(void *user, uint64_t size, uint64_t alignment);
    void (TOPOS_CALL *free)(void *user, void *memory, uint64_t size, uint64_t alignment);
} topos_allocator;

/* Threads of the host's making: names, priorities, affinities, engine registration. create starts a thread that
 * calls run(argument) once and returns a token other than NULL, or NULL on failure; join waits for its end. */
typedef struct topos_threads {
    uint32_t struct_size;
    uint32_t reserved;
    void *user;
    void *(TOPOS_CALL *create)(void *user, void (TOPOS_CALL *run)(void *argument), void *argument, const char *name);
    void (TOPOS_CALL *join)(void *user, void *token);
} topos_threads;

typedef int32_t topos_log_level;
enum { TOPOS_LOG_DEBUG = 0, TOPOS_LOG_INFO = 1, TOPOS_LOG_WARNING = 2, TOPOS_LOG_ERROR = 3, TOPOS_LOG_OFF = 4 };

/* Any thread, possibly several at once; ONNX Runtime's own lines come here too. Must not call the library. */
typedef void (TOPOS_CALL *topos_log_callback)(void *user, topos_log_level level, const char *line);

typedef struct topos_runtime_options {
    uint32_t struct_size;
    topos_log_level log_level;            /* 0: everything, where there is a callback */
    topos_log_callback log;               /* NULL: silence */
    void *log_user;
    const topos_allocator *allocator;     /* NULL: malloc; copied */
    const topos_threads *threads;         /* NULL: the system's threads; copied */
    uint32_t num_threads;                 /* for each network on the CPU, 1 to 256; 0: the usable cores, at most 8 */
    uint32_t flags;                       /* TOPOS_RUNTIME_* */
    /* Which ONNX Runtime, the first that is given: a base that the host has loaded already (the result of its
     * OrtGetApiBase: engines that ship their own copy should pass it), a path, or the library beside this one.
     * Never the one in the system's directories. 1.23 (API 23) or later is needed. */
    const void *ort_api_base;
    const char *ort_library;
    /* A folder that may be written, for graphs as they were optimised for this machine: the second load of a pack is
     * several times faster, and weights are then pages of its files, not memory of the process. NULL: nothing is
     * written to disk. Entries are named by what they were made of and are never removed: clear it when you like. */
    const char *cache_dir;
    /* The library of ONNX Runtime's plug-in provider for TensorRT-RTX, for TOPOS_BACKEND_TENSORRT_RTX; a full path.
     * NULL: that backend is not there. Experimental: no GPU has run it yet. */
    const char *rtx_library;
} topos_runtime_options;

enum {
    TOPOS_RUNTIME_SPIN = 1u,              /* idle threads spin: lower latency, a core each; off: games need cores */
    TOPOS_RUNTIME_FAKE = 2u               /* loads no ONNX Runtime; models have TOPOS_BACKEND_FAKE */
};

TOPOS_API topos_status TOPOS_CALL topos_runtime_create(
    const topos_runtime_options *options /* may be NULL */, topos_runtime **out, topos_error *error);
TOPOS_API void TOPOS_CALL topos_runtime_retain(topos_runtime *runtime);
TOPOS_API void TOPOS_CALL topos_runtime_release(topos_runtime *runtime); /* NULL does nothing */

typedef int32_t topos_backend;
enum {
    TOPOS_BACKEND_AUTO = 0,               /* what the runtime is for: the CPU, or FAKE */
    TOPOS_BACKEND_CPU = 1,
    TOPOS_BACKEND_TENSORRT_RTX = 2,       /* experimental: topos_runtime_options.rtx_library; GeForce RTX 30 and later */
    TOPOS_BACKEND_CUDA = 3,               /* experimental: the CUDA provider of an ONNX Runtime that has one */
    TOPOS_BACKEND_FAKE = 100              /* no network is run: the template head, which differs a little from latent to
                                             latent, and a face in the middle of every picture; for tests */
};

typedef struct topos_runtime_info {
    uint32_t struct_size;
    uint32_t num_threads;
    uint32_t ort_api;                     /* the ONNX Runtime API version in use */
    const char *ort_version;              /* "1.32.0" */
    const char *ort_library;              /* its path; "" where the host gave the base */
    uint64_t host_bytes, host_bytes_peak; /* allocated now and at most through the allocator */
} topos_runtime_info;

TOPOS_API topos_status TOPOS_CALL topos_runtime_get_info(topos_runtime *runtime, topos_runtime_info *out);

/* ------------------------------------------------------------------------------------------------- model -- */

/* Where an engine pack (.topos, made by `topos-rt pack`) is. A path is mapped, not read. Memory of the caller's
 * must stay as it is until topos_memory_release_callback is called, which is after the model's end, or at once on
 * an error; with NULL it must stay until topos_model_release returned for the last handle of any kind. */
typedef void (TOPOS_CALL *topos_memory_release_callback)(void *user, const void *data);
typedef struct topos_source {
    uint32_t struct_size;
    uint32_t flags;                       /* TOPOS_SOURCE_* */
    const char *path;                     /* or */
    const void *data;                     /* 64-byte aligned, or it is copied */
    uint64_t data_size;
    topos_memory_release_callback release;
    void *release_user;
    uint64_t offset, size;                /* of the pack inside the file (an archive); size 0: to the end */
} topos_source;

enum { TOPOS_SOURCE_VERIFY = 1u };        /* check every SHA-256 now; else sizes and the table's own hash only */

typedef struct topos_load_options {
    uint32_t struct_size;
    topos_backend backend;
    uint32_t flags;                       /* TOPOS_LOAD_* */
    uint32_t reserved;
    uint64_t host_budget;                 /* bytes of host_private and host_per_job; 0: no limit; TOPOS_E_MEMORY */
} topos_load_options;                     /* instead of exceeding it */

enum {
    TOPOS_LOAD_WARM_UP = 1u,              /* run every graph once, so that the first request is as fast as later */
    TOPOS_LOAD_NO_RIG = 2u,               /* heads have no skeleton and no blendshapes */
    TOPOS_LOAD_NO_FACES = 4u              /* without the networks that find faces: pictures must be cut already, and
                                             requests have TOPOS_CROP_NONE and TOPOS_REQUEST_NO_FACE_CHECK */
};

/* What loading will take, known before it. */
typedef struct topos_requirements {
    uint32_t struct_size;
    topos_backend backend;                /* what AUTO would take */
    uint64_t host_mapped;                 /* of the pack's file; the system may drop and share these pages */
    uint64_t host_private;                /* weights unpacked for the CPU, sessions; less with a cache_dir */
    uint64_t host_per_job;                /* an estimate, for each job in flight */
    uint32_t estimated;                   /* 0: the pack says what was measured; 1: all of it is estimated */
    uint32_t reserved;
} topos_requirements;

/* Loads nothing and needs no device. options may be NULL. */
TOPOS_API topos_status TOPOS_CALL topos_get_requirements(
    topos_runtime *runtime, const topos_source *source, const topos_load_options *options,
    topos_requirements *out, topos_error *error);

/* Blocks for a second or more: call it from a loading thread. */
TOPOS_API topos_status TOPOS_CALL topos_model_load(
    topos_runtime *runtime, const topos_source *source, const topos_load_options *options,
    topos_model **out, topos_error *error);
TOPOS_API void TOPOS_CALL topos_model_retain(topos_model *model);
TOPOS_API void TOPOS_CALL topos_model_release(topos_model *model);

typedef struct topos_model_info {
    uint32_t struct_size;
    topos_backend backend;
    const char *name;                     /* "mini" */
    const char *weights_licence;          /* show it where your product shows licences */
    uint8_t topology_id[32];              /* SHA-256: heads with equal ids have the same vertices, UVs, shapes */
    uint32_t num_vertices;                /* V of the topology; W >= V with UV seams split: topos_mesh_counts */
    uint32_t num_lods;                    /* levels 0 .. num_lods - 1 */
    uint32_t num_shapes;                  /* blendshapes: 52 of ARKit; 0 without rig */
    uint32_t num_joints;
    uint32_t latent_tokens, latent_channels;
    uint32_t image_width, image_height;   /* what the encoder sees: sending more pixels helps little */
    uint32_t features;                    /* TOPOS_FEATURE_* */
    uint32_t num_presets;
} topos_model_info;

enum {
    TOPOS_FEATURE_RIG = 1u,
    TOPOS_FEATURE_UVS = 2u,
    TOPOS_FEATURE_EVIDENCE = 4u,          /* the model takes more of a face than its pixels */
    TOPOS_FEATURE_BIOMETRIC = 8u,         /* of that, what people can be told apart by */
    TOPOS_FEATURE_TEXTURE = 16u           /* heads can have textures */
};

TOPOS_API topos_status TOPOS_CALL topos_model_get_info(topos_model *model, topos_model_info *out);
/* "reference", "balanced" ..., the number of topos_request.preset less one; NULL past the end. */
TOPOS_API const char *TOPOS_CALL topos_model_preset_name(topos_model *model, uint32_t preset);
/* The licences of what is in the pack, and of this library: SPDX's name, "MIT", and the whole text, which products that
 * ship the pack show where they show licences. text may be NULL. NULL past the end. */
TOPOS_API const char *TOPOS_CALL topos_model_licence(topos_model *model, uint32_t licence, const char **text);
/* ARKit's names, "jawOpen"; NULL past the end. */
TOPOS_API const char *TOPOS_CALL topos_model_shape_name(topos_model *model, uint32_t shape);
/* parent: -1 for a root; parents come before their children. NULL past the end. */
TOPOS_API const char *TOPOS_CALL topos_model_joint(topos_model *model, uint32_t joint, int32_t *parent);
/* Named vertices of the topology, such as "lips": rising, the same for every head. ids may be NULL. NULL past the end. */
TOPOS_API const char *TOPOS_CALL topos_model_region(
    topos_model *model, uint32_t region, const int32_t **ids, uint32_t *count);

/* --------------------------------------------------------------------------------------- requests, jobs -- */

typedef int32_t topos_pixel_format;
enum {
    TOPOS_PIXELS_ENCODED = 0,             /* the bytes of a PNG or JPEG file, where this build reads it; its orientation
                                             is applied, a colour profile is not: give pixels in sRGB then */
    TOPOS_PIXELS_RGB8 = 1, TOPOS_PIXELS_RGBA8 = 2, TOPOS_PIXELS_BGRA8 = 3, /* sRGB, rows from the top */
    TOPOS_PIXELS_R8 = 4                   /* of topos_texels alone */
};

/* At least 16 x 16 pixels, at most 64 megapixels. Alpha is straight, and what is transparent is black. */
typedef struct topos_image {
    uint32_t struct_size;
    topos_pixel_format format;
    const void *data;
    uint64_t data_size;
    uint32_t width, height;               /* these three are not of ENCODED */
    int32_t row_stride;                   /* bytes; 0: rows lie close; negative: data is the last row */
    uint32_t orientation;                 /* as in EXIF, 1..8; 0: upright, or as ENCODED says */
} topos_image;

/* 0: the pack's default; else 1 + the number of one of topos_model_preset_name. */
typedef uint32_t topos_preset;
typedef int32_t topos_solver;
enum {
    TOPOS_SOLVER_EULER = 0, TOPOS_SOLVER_HEUN = 1, TOPOS_SOLVER_AB2 = 2, TOPOS_SOLVER_AB3 = 3,
    TOPOS_SOLVER_DPMPP_2M = 4, TOPOS_SOLVER_UNIPC = 5
};

/* What replaces values of the preset: only members whose bit is set are read. */
enum {
    TOPOS_SET_STEPS = 1u, TOPOS_SET_SOLVER = 2u, TOPOS_SET_GUIDANCE = 4u, TOPOS_SET_SHIFT = 8u,
    TOPOS_SET_TEMPERATURE = 16u, TOPOS_SET_INTERVAL = 32u, TOPOS_SET_REUSE = 64u, TOPOS_SET_TIMES = 128u
};

typedef struct topos_progress {
    uint32_t struct_size;
    uint32_t step, steps;                 /* sampling steps done, of all */
    uint32_t item, items;                 /* which head of the request */
    uint32_t reserved;
    const char *stage;                    /* "image", "face", "evidence", "image_encoder", "dit_context", "dit_step",
                                             "vae_decoder", "rig", "fit", "texture" or "done"; as long as the library is loaded */
} topos_progress;

/* The thread that does the work, before each stage and after each step. Other than 0 cancels. */
typedef int32_t (TOPOS_CALL *topos_progress_callback)(void *user, const topos_progress *progress);

typedef int32_t topos_texture;
enum {
    TOPOS_TEXTURE_NONE = 0,
    TOPOS_TEXTURE_AUTO = 1,               /* PROJECTED where a face was seen, else BASE */
    TOPOS_TEXTURE_PROJECTED = 2,          /* the skin of the picture without its light, and the base material where the
                                             picture shows nothing; TOPOS_E_IMAGE for a picture without a face, or one
                                             that looks too far sideways */
    TOPOS_TEXTURE_BASE = 3                /* the base material of every head */
};

typedef struct topos_request {
    uint32_t struct_size;
    topos_preset preset;
    const topos_image *images;            /* copied where needed before submit returns */
    uint32_t num_images;                  /* 1 image and k seeds: k heads of it; n images: 1 or n seeds */
    uint32_t num_seeds;
    const uint64_t *seeds;                /* NULL: seed 0 */
    uint32_t set;                         /* TOPOS_SET_* */
    uint32_t steps;                       /* 1..1000 */
    topos_solver solver;
    uint32_t reuse;                       /* 1..1000 */
    double guidance;                      /* w of (1 + w) v_cond - w v_uncond, 0..1000; where
                                             the model's own is 0, the first request with another loads a graph */
    double shift, temperature;            /* 0.001..1000, 0..2 */
    double interval[2];                   /* the times, 0..1, at which guidance acts */
    const double *times;                  /* [num_times] that fall from 1 to 0, in place of steps and shift */
    uint32_t num_times;                   /* 2..1001 */
    uint32_t flags;                       /* TOPOS_REQUEST_* */
    uint32_t preview_every;               /* n: decode an estimate after every n-th step; 0: never */
    topos_progress_callback progress;     /* may be NULL: games poll instead */
    void *progress_user;
    uint32_t face;                        /* 0: the largest; k: number k + 1 from the largest, where there are more */
    uint32_t crop;                        /* TOPOS_CROP_*: what of the upright picture the model sees */
    int32_t crop_box[4];                  /* x, y, width and height in its pixels, for TOPOS_CROP_BOX */
    /* A latent of topos_head_get_latent to decode instead of images and seeds: [num_latents][tokens*channels]. */
    const float *latents;
    uint64_t num_latents;
    topos_texture texture;                /* what heads get: TOPOS_TEXTURE_* */
    uint32_t texture_size;                /* texels along a side: 512, 1024 or 2048; 0: 1024 */
} topos_request;

enum {
    TOPOS_CROP_AUTO = 0,                  /* a square around the head of the face that is found, its eyes level */
    TOPOS_CROP_NONE = 1,                  /* the whole picture: its largest centred part */
    TOPOS_CROP_BOX = 2
};

enum {
    TOPOS_REQUEST_MANUAL = 1u,            /* no thread is started: the host calls topos_job_step */
    TOPOS_REQUEST_NO_RIG = 2u,            /* heads without fitted shapes and joints: saves the fit */
    TOPOS_REQUEST_NO_FACE_CHECK = 4u      /* takes pictures without a face, or with one that looks sideways, too; with
                                             a crop other than AUTO none is looked for */
};

/* Checks the request, copies what it needs and returns at once. Jobs of one model run one after another in the
 * order of their submission (a device has one queue); manual jobs run when they are stepped. */
TOPOS_API topos_status TOPOS_CALL topos_submit(
    topos_model *model, const topos_request *request, topos_job **out, topos_error *error);

/* For a manual job: does one network evaluation's worth of work, or less, on this thread and returns TOPOS_PENDING,
 * or TOPOS_OK once all is done. Looking for a face takes a step for each look, of which one at a face that was found has
 * three evaluations of small networks. The tables of a texture's size, once, and a texture take a step each, of 0.1 s for
 * 1024. */
TOPOS_API topos_status TOPOS_CALL topos_job_step(topos_job *job);

/* TOPOS_PENDING, TOPOS_OK (every head is there) or the error that ended it. Never blocks. out may be NULL. */
TOPOS_API topos_status TOPOS_CALL topos_job_poll(topos_job *job, topos_progress *out);
/* As poll, but waits up to that long; UINT32_MAX: for ever. TOPOS_E_STATE for a manual job. */
TOPOS_API topos_status TOPOS_CALL topos_job_wait(topos_job *job, uint32_t milliseconds);
/* Asks to stop, also inside a network evaluation; the job then ends with TOPOS_E_CANCELLED. Any thread, any time.
 * Heads that are done stay. */
TOPOS_API void TOPOS_CALL topos_job_cancel(topos_job *job);
TOPOS_API topos_status TOPOS_CALL topos_job_get_error(topos_job *job, topos_error *out);

/* A reference to head `item` of the request. TOPOS_PENDING: it is not there yet. */
TOPOS_API topos_status TOPOS_CALL topos_job_take_head(topos_job *job, uint32_t item, topos_head **out);
/* The newest preview that was not taken yet; TOPOS_PENDING: none. Older ones are dropped: a slow taker skips.
 * step: after which it was made. A preview has positions and normals, but no rig. */
TOPOS_API topos_status TOPOS_CALL topos_job_take_preview(topos_job *job, topos_head **out, uint32_t *step);
/* Seconds of each stage: TOPOS_PENDING before the end; names as in topos_progress.stage, NULL past the end. */
TOPOS_API const char *TOPOS_CALL topos_job_timing(topos_job *job, uint32_t index, double *seconds);
/* Cancels a job that runs and leaves its thread to end by itself; never blocks. The job's memory goes with its last
 * user: heads and previews that were taken stay. */
TOPOS_API void TOPOS_CALL topos_job_release(topos_job *job);

/* submit, wait and take in one call, on this thread; heads: [images * seeds]. For tools and loading screens. */
TOPOS_API topos_status TOPOS_CALL topos_generate(
    topos_model *model, const topos_request *request, topos_head **heads, uint32_t num_heads, topos_error *error);

/* ------------------------------------------------------------------------------- meshes, for the renderer -- */

typedef int32_t topos_axes;
enum {
    TOPOS_AXES_GLTF = 0,                  /* metres, right-handed, +Y up, facing +Z; v of UVs from the top */
    TOPOS_AXES_UNITY = 1,                 /* metres, left-handed, +Y up, facing +Z; v from the bottom; clockwise */
    TOPOS_AXES_UNREAL = 2,                /* centimetres, left-handed, +Z up, facing +X; v from the top */
    TOPOS_AXES_OPENGL = 3,                /* as glTF, v from the bottom */
    TOPOS_AXES_GODOT = 4                  /* as glTF; clockwise */
};

/* How meshes are written. The head's own left is +X in glTF, -X in Unity and -Y in Unreal. Front faces, as they are
 * seen from outside, are counter-clockwise, but clockwise in the axes of Unity and Godot. */
typedef struct topos_layout {
    uint32_t struct_size;
    topos_axes axes;
    uint32_t lod;                         /* 0: full */
    uint32_t flags;                       /* TOPOS_LAYOUT_* */
    float unit;                           /* units a metre; 0: that of the axes */
    uint32_t reserved;
} topos_layout;

enum {
    TOPOS_LAYOUT_TOPOLOGY_ORDER = 1u,     /* V vertices without UVs instead of W with seams split */
    TOPOS_LAYOUT_ATLAS = 2u               /* the UVs of textures: W, the indices and the copies are others then */
};

typedef struct topos_mesh_counts {
    uint32_t struct_size;
    uint32_t num_vertices;                /* W; the first V are the topology's, in order, for every head */
    uint32_t num_indices;                 /* 3 a triangle; the same for every head */
    uint32_t num_shapes, num_joints;
    uint32_t reserved;
} topos_mesh_counts;

TOPOS_API topos_status TOPOS_CALL topos_model_counts(
    topos_model *model, const topos_layout *layout /* NULL: the default */, topos_mesh_counts *out);

typedef uint32_t topos_attribute;
enum {
    TOPOS_POSITION = 1, TOPOS_NORMAL = 2,
    TOPOS_TANGENT = 3,                    /* where u rises; w * cross(normal, tangent) goes up in the picture, as +Y of
                                             TOPOS_MAP_NORMAL does */
    TOPOS_TEXCOORD = 4, TOPOS_JOINTS = 5, TOPOS_WEIGHTS = 6, /* of the model: the same for every head */
    TOPOS_SOURCE_VERTEX = 7               /* which topology vertex each is; of the model */
};
typedef uint32_t topos_format;
enum {
    TOPOS_F32X2 = 1, TOPOS_F32X3 = 2, TOPOS_F32X4 = 3, TOPOS_F16X2 = 4, TOPOS_F16X4 = 5,
    TOPOS_SNORM8X4 = 6, TOPOS_SNORM16X4 = 7, TOPOS_UNORM16X2 = 8, TOPOS_UNORM8X4 = 9, TOPOS_UNORM16X4 = 10,
    TOPOS_U8X4 = 11, TOPOS_U16X4 = 12, TOPOS_U16 = 13, TOPOS_U32 = 14
};

/* One vertex attribute in the caller's memory: planar with its own data, or interleaved with equal data and stride
 * and different offsets. */
typedef struct topos_stream {
    uint32_t struct_size;
    topos_attribute attribute;
    topos_format format;
    uint32_t offset, stride;              /* bytes; stride 0: values lie close */
    uint32_t reserved;
    void *data;
    uint64_t capacity;                    /* bytes behind data */
} topos_stream;

/* Attributes of the model go with any head, or with head NULL. layout NULL: the default. weights: NULL at rest, or
 * [num_shapes] blendshape weights; rotations: NULL at rest, or [num_joints][4] quaternions x, y, z, w about the axes of
 * the glTF layout, of any length but zero. Both take a head with a rig. */
TOPOS_API topos_status TOPOS_CALL topos_write_vertices(
    topos_model *model, topos_head *head, const topos_layout *layout, const float *weights, const float *rotations,
    const topos_stream *streams, uint32_t num_streams, topos_error *error);
/* format: TOPOS_U16 (TOPOS_E_UNSUPPORTED above 65,535 vertices) or TOPOS_U32. */
TOPOS_API topos_status TOPOS_CALL topos_write_indices(
    topos_model *model, const topos_layout *layout, topos_format format, void *data, uint64_t capacity,
    topos_error *error);

/* --------------------------------------------------------------------------------------------------- rig -- */

/* The vertices that a shape moves: rising, the same for every head. ids NULL: only the number. */
TOPOS_API topos_status TOPOS_CALL topos_write_shape_vertices(
    topos_model *model, const topos_layout *layout, uint32_t shape, uint32_t *ids, uint64_t capacity,
    uint32_t *count);
/* Offsets of a shape on a head, and what to add to its normals; F32X3, F32X4 or F16X4. sparse 1: one for each of
 * topos_write_shape_vertices; 0: one for every vertex, as engines' morph targets want. Either stream may be NULL;
 * streams' attribute is ignored. TOPOS_E_UNSUPPORTED for a head without a rig. */
TOPOS_API topos_status TOPOS_CALL topos_write_shape(
    topos_head *head, const topos_layout *layout, uint32_t shape, uint32_t sparse, const topos_stream *positions,
    const topos_stream *normals, topos_error *error);
/* Joints at rest, [num_joints] each, NULL: not wanted. translations [3]: from the parent; joints are not turned at
 * rest. inverse_binds [16]: column-major. */
TOPOS_API topos_status TOPOS_CALL topos_write_joints(
    topos_head *head, const topos_layout *layout, float *translations, float *inverse_binds, topos_error *error);

/* -------------------------------------------------------------------------------------------------- heads -- */

typedef struct topos_head_info {
    uint32_t struct_size;
    uint32_t has_rig;
    uint32_t is_preview, step;
    uint64_t seed;                        /* 0 for a head of a latent */
    float bounds_min[3], bounds_max[3];   /* in the glTF layout */
    uint8_t topology_id[32];
    const char *metadata;                 /* JSON: model, backend, settings, origin of the weights */
} topos_head_info;

TOPOS_API topos_status TOPOS_CALL topos_head_get_info(topos_head *head, topos_head_info *out);
TOPOS_API void TOPOS_CALL topos_head_retain(topos_head *head);
TOPOS_API void TOPOS_CALL topos_head_release(topos_head *head);

/* What was seen of the face in the picture that a head was made of. Pixels are those of the upright picture. */
typedef struct topos_face {
    uint32_t struct_size;
    uint32_t found;                       /* 1 or 0; without a face, all but crop is zero */
    float box[4];                         /* x, y, width and height of the landmarks */
    float yaw, pitch, roll;               /* degrees; positive turns to the right of the picture, lifts, and turns
                                             counter-clockwise in it */
    float confidence;                     /* 0..1 */
    float crop[4];                        /* the square that the model saw: its middle, side and angle in radians */
    float scores[52];                     /* of ARKit's expressions; the first says how neutral it is */
    const float *landmarks;               /* [478][3]; NULL where it looks too far sideways; as long as the head */
    uint32_t fitted;                      /* 1: the camera and expression below were fitted to the landmarks */
    float residual;                       /* of the fit, percent of the distance of the outer corners of the eyes */
    float turn[9], shift[3];              /* rows: takes the head, metres in the glTF layout, to the camera's axes:
                                             +X right, +Y up, +Z back to the camera */
    float focal, centre[2];               /* pixels */
    uint32_t reserved;
} topos_face;

TOPOS_API topos_status TOPOS_CALL topos_head_get_face(topos_head *head, topos_face *out);
/* The fitted weights of the model's blendshapes, [num_shapes], that make the head look as in its picture. */
TOPOS_API topos_status TOPOS_CALL topos_head_get_expression(topos_head *head, float *out, uint64_t capacity);

/* [tokens * channels] floats (4 kB for "mini") that make this head again without its portrait, by
 * topos_request.latents with the same pack: for save games and for sending to other players. capacity in floats. */
TOPOS_API topos_status TOPOS_CALL topos_head_get_latent(topos_head *head, float *out, uint64_t capacity);

/* A head of positions and normals of the caller's, [V][3] each in the glTF layout, such as the Python package made;
 * the rig is fitted to it. normals may be NULL. It has no latent. */
TOPOS_API topos_status TOPOS_CALL topos_head_from_positions(
    topos_model *model, const float *positions, const float *normals, topos_head **out, topos_error *error);

/* ----------------------------------------------------------------------------------------------- textures -- */

/* Textures lie on the UVs of TOPOS_LAYOUT_ATLAS. Square pictures, whose first row is at the top. */
typedef uint32_t topos_map;
enum {
    TOPOS_MAP_ALBEDO = 1,                 /* sRGB: the colour under white light */
    TOPOS_MAP_ORM = 2,                    /* linear: occlusion, roughness, metalness */
    TOPOS_MAP_NORMAL = 3,                 /* linear: normals in tangent space, +Y up in the picture */
    TOPOS_MAP_CONFIDENCE = 4              /* 255: seen in the picture, about 128: mirrored, 0: made up; one channel */
};

typedef struct topos_texture_info {
    uint32_t struct_size;
    topos_texture texture;                /* PROJECTED, BASE, or NONE: all else is zero */
    uint32_t albedo_size, orm_size, normal_size, confidence_size; /* pixels along a side */
    float seen, mirrored;                 /* shares of the face */
    uint32_t turned;                      /* 1: the face was turned by more than 45 degrees */
    uint32_t spectacles;                  /* 1: spectacles were taken off */
} topos_texture_info;

TOPOS_API topos_status TOPOS_CALL topos_head_get_texture(topos_head *head, topos_texture_info *out);

/* One map in the caller's memory. */
typedef struct topos_texels {
    uint32_t struct_size;
    topos_map map;
    topos_pixel_format format;            /* RGB8, RGBA8 or BGRA8, with alpha 255; R8: the first channel alone */
    int32_t row_stride;                   /* bytes; 0: rows lie close; negative: data is the last row */
    uint32_t flags;                       /* TOPOS_TEXELS_* */
    uint32_t reserved;
    void *data;
    uint64_t capacity;                    /* bytes behind data */
} topos_texels;

enum { TOPOS_TEXELS_GREEN_DOWN = 1u };    /* +Y of normals down in the picture, for engines whose bitangents do */

/* TOPOS_E_UNSUPPORTED for a head without a texture. */
TOPOS_API topos_status TOPOS_CALL topos_head_write_texture(
    topos_head *head, const topos_texels *out, topos_error *error);

/* -------------------------------------------------------------------------------------------------- files -- */

/* Receives a file's bytes in order, on the calling thread; other than 0 stops with TOPOS_E_IO. */
typedef int32_t (TOPOS_CALL *topos_write_callback)(void *user, const void *data, uint64_t size);
enum {
    TOPOS_EXPORT_NO_RIG = 1u,             /* without skeleton, skin and blendshapes */
    TOPOS_EXPORT_NO_PARTS = 2u,           /* without teeth and lashes, in one material */
    TOPOS_EXPORT_NO_TEXTURE = 4u,         /* as a head without a texture */
    TOPOS_EXPORT_PNG = 8u                 /* colours without loss, in larger files; else JPEG, where the library was
                                             built with libjpeg-turbo */
};
/* glTF 2.0, binary: the bytes of the Python package's `HeadMesh.lod(lod).save("head.glb")`, but that PNG files
 * are compressed otherwise. */
TOPOS_API topos_status TOPOS_CALL topos_head_write_glb(
    topos_head *head, uint32_t lod, uint32_t flags, topos_write_callback write, void *user, topos_error *error);

#ifdef __cplusplus
}
#endif
#endif /* TOPOS_RT_H */
