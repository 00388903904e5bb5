/* The header is C99; structs have the same layout on every 64-bit system; functions refuse NULL. */
#include <stdio.h>
#include <string.h>

#include "topos_rt.h"

static int failures;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            ++failures; \
        } \
    } while (0)

static void layouts(void)
{
    CHECK(sizeof(topos_error) == 512);
    CHECK(sizeof(topos_allocator) == 32);
    CHECK(sizeof(topos_threads) == 32);
    CHECK(sizeof(topos_runtime_options) == 80);
    CHECK(sizeof(topos_runtime_info) == 48);
    CHECK(sizeof(topos_source) == 64);
    CHECK(sizeof(topos_load_options) == 24);
    CHECK(sizeof(topos_requirements) == 40);
    CHECK(sizeof(topos_model_info) == 96);
    CHECK(sizeof(topos_image) == 40);
    CHECK(sizeof(topos_progress) == 32);
    CHECK(sizeof(topos_request) == 176);
    CHECK(sizeof(topos_layout) == 24);
    CHECK(sizeof(topos_mesh_counts) == 24);
    CHECK(sizeof(topos_stream) == 40);
    CHECK(sizeof(topos_head_info) == 88);
    CHECK(sizeof(topos_face) == 344);
    CHECK(sizeof(topos_texture_info) == 40);
    CHECK(sizeof(topos_texels) == 40);
    CHECK(offsetof(topos_request, texture) == 168);
    CHECK(offsetof(topos_request, guidance) == 48);
    CHECK(offsetof(topos_request, progress) == 112);
    CHECK(offsetof(topos_stream, data) == 24);
    CHECK(offsetof(topos_error, message) == 8);
}

static void names(void)
{
    int status;
    CHECK(topos_abi_version() == TOPOS_ABI_VERSION);
    CHECK(strncmp(topos_version_string(), "1.0.0 (", 7) == 0);
    CHECK(strcmp(topos_status_name(TOPOS_OK), "TOPOS_OK") == 0);
    CHECK(strcmp(topos_status_name(TOPOS_PENDING), "TOPOS_PENDING") == 0);
    CHECK(strcmp(topos_status_name(TOPOS_E_INTERNAL), "TOPOS_E_INTERNAL") == 0);
    for (status = -13; status <= 1; ++status) CHECK(strncmp(topos_status_name(status), "TOPOS_", 6) == 0);
    CHECK(topos_status_name(99) != NULL && topos_status_name(-99) != NULL);
}

static void null_everywhere(void)
{
    TOPOS_STRUCT(topos_error, error);
    topos_runtime *runtime = (topos_runtime *)&error;
    topos_model *model = (topos_model *)&error;
    topos_job *job = (topos_job *)&error;
    topos_head *head = (topos_head *)&error;
    CHECK(topos_runtime_create(NULL, NULL, &error) == TOPOS_E_ARGUMENT);
    CHECK(error.status == TOPOS_E_ARGUMENT && strstr(error.message, "got NULL") != NULL);
    CHECK(topos_runtime_get_info(NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_get_requirements(NULL, NULL, NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_model_load(NULL, NULL, NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_model_load(NULL, NULL, NULL, &model, NULL) == TOPOS_E_ARGUMENT && model == NULL);
    CHECK(topos_model_get_info(NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_model_preset_name(NULL, 0) == NULL && topos_model_shape_name(NULL, 0) == NULL);
    CHECK(topos_model_licence(NULL, 0, NULL) == NULL);
    CHECK(topos_model_joint(NULL, 0, NULL) == NULL && topos_model_region(NULL, 0, NULL, NULL) == NULL);
    CHECK(topos_submit(NULL, NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_submit(NULL, NULL, &job, NULL) == TOPOS_E_ARGUMENT && job == NULL);
    CHECK(topos_job_step(NULL) == TOPOS_E_ARGUMENT && topos_job_poll(NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_job_wait(NULL, 0) == TOPOS_E_ARGUMENT && topos_job_get_error(NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_job_take_head(NULL, 0, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_job_take_head(NULL, 0, &head) == TOPOS_E_ARGUMENT && head == NULL);
    CHECK(topos_job_take_preview(NULL, &head, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_job_timing(NULL, 0, NULL) == NULL);
    CHECK(topos_generate(NULL, NULL, NULL, 0, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_model_counts(NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_write_vertices(NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_write_indices(NULL, NULL, TOPOS_U16, NULL, 0, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_write_shape_vertices(NULL, NULL, 0, NULL, 0, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_write_shape(NULL, NULL, 0, 0, NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_write_joints(NULL, NULL, NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_get_info(NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_get_latent(NULL, NULL, 0) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_get_face(NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_get_expression(NULL, NULL, 0) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_from_positions(NULL, NULL, NULL, &head, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_write_glb(NULL, 0, 0, NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_get_texture(NULL, NULL) == TOPOS_E_ARGUMENT);
    CHECK(topos_head_write_texture(NULL, NULL, NULL) == TOPOS_E_ARGUMENT);
    topos_runtime_retain(NULL), topos_model_retain(NULL), topos_head_retain(NULL);
    topos_runtime_release(NULL), topos_model_release(NULL), topos_head_release(NULL);
    topos_job_release(NULL), topos_job_cancel(NULL);
    (void)runtime;
}

static void wrong_libraries(const char *here)
{
    TOPOS_STRUCT(topos_error, error);
    TOPOS_STRUCT(topos_runtime_options, options);
    topos_runtime *runtime = NULL;
    options.ort_library = "libonnxruntime.so"; /* a bare name would be looked for in the system's directories */
    CHECK(topos_runtime_create(&options, &runtime, &error) == TOPOS_E_UNAVAILABLE && runtime == NULL);
    CHECK(strstr(error.message, "a name without a directory") != NULL);
    options.ort_library = "/nowhere/libonnxruntime.so";
    CHECK(topos_runtime_create(&options, &runtime, &error) == TOPOS_E_UNAVAILABLE);
    options.ort_library = here; /* no library */
    CHECK(topos_runtime_create(&options, &runtime, &error) == TOPOS_E_UNAVAILABLE);
    options.ort_library = NULL; /* none beside this library */
    CHECK(topos_runtime_create(&options, &runtime, &error) == TOPOS_E_UNAVAILABLE);
    CHECK(strstr(error.message, "no such file") != NULL);
    options.struct_size = 8;
    CHECK(topos_runtime_create(&options, &runtime, &error) == TOPOS_E_ARGUMENT);
    CHECK(strstr(error.message, "struct_size") != NULL);
}

int main(int count, char **arguments)
{
    layouts();
    names();
    null_everywhere();
    wrong_libraries(count > 0 ? arguments[0] : "");
    return failures == 0 ? 0 : 1;
}
