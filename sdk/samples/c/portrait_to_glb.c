/* A portrait becomes a GLB file, with previews on the way; Ctrl-C cancels.
 *
 *   portrait_to_glb MODEL.topos PORTRAIT HEAD.glb [ONNXRUNTIME [SEED]]
 *
 * PORTRAIT is a PNG or JPEG file where the library was built with their decoders, or a binary PPM. ONNXRUNTIME is
 * the path of its library; without it the one beside topos_rt is taken. Plain C99 and nothing but topos_rt.h.
 */
#include "topos_rt.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t interrupted = 0;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Reads a whole file; NULL where it cannot be read. The caller frees it. */
static unsigned char *read_file(const char *path, size_t *size)
{
    unsigned char *data = NULL;
    long length;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) > 0 && fseek(file, 0, SEEK_SET) == 0) {
        *size = (size_t)length;
        data = malloc(*size);
        if (data != NULL && fread(data, 1, *size, file) != *size) {
            free(data);
            data = NULL;
        }
    }
    fclose(file);
    return data;
}

/* Describes the bytes of a file as an image: pixels of a PPM, all else as it is. 0 for a PPM that is damaged. */
static int describe(const unsigned char *data, size_t size, topos_image *image)
{
    unsigned numbers[3] = {0, 0, 0};
    size_t at = 2, k;
    if (size < 2 || data[0] != 'P' || data[1] != '6') {
        image->format = TOPOS_PIXELS_ENCODED;
        image->data = data;
        image->data_size = size;
        return 1;
    }
    for (k = 0; k < 3; ++k) { /* width, height and the largest value, apart by white space */
        while (at < size && (data[at] == ' ' || (data[at] >= '\t' && data[at] <= '\r'))) ++at;
        while (at < size && data[at] >= '0' && data[at] <= '9' && numbers[k] < 100000) {
            numbers[k] = 10 * numbers[k] + (unsigned)(data[at++] - '0');
        }
    }
    ++at;
    if (numbers[2] != 255 || at > size || size - at < (size_t)3 * numbers[0] * numbers[1]) return 0;
    image->format = TOPOS_PIXELS_RGB8;
    image->data = data + at;
    image->data_size = (uint64_t)3 * numbers[0] * numbers[1];
    image->width = numbers[0];
    image->height = numbers[1];
    return 1;
}

static int32_t TOPOS_CALL write_part(void *user, const void *data, uint64_t size)
{
    return fwrite(data, 1, (size_t)size, (FILE *)user) == size ? 0 : 1;
}

/* Waits for a job, tells of its previews, and cancels it on Ctrl-C. A game polls once a frame instead. */
static topos_status wait_for(topos_job *job, topos_error *error)
{
    topos_status status;
    do {
        topos_head *preview = NULL;
        uint32_t step = 0;
        status = topos_job_wait(job, 50);
        if (interrupted) topos_job_cancel(job);
        if (topos_job_take_preview(job, &preview, &step) == TOPOS_OK) {
            TOPOS_STRUCT(topos_head_info, info);
            if (topos_head_get_info(preview, &info) == TOPOS_OK) {
                printf("after step %u: %.0f mm tall\n", step, 1000.0 * (info.bounds_max[1] - info.bounds_min[1]));
                fflush(stdout);
            }
            topos_head_release(preview);
        }
    } while (status == TOPOS_PENDING);
    if (status != TOPOS_OK) topos_job_get_error(job, error);
    return status;
}

/* Gives a file the name of another, which is there or not; 0 where that succeeds. */
static int replace(const char *from, const char *to)
{
#ifdef _WIN32
    remove(to); /* rename replaces no file there */
#endif
    return rename(from, to);
}

/* Submits the picture, waits, and writes the head beside its place, then renames it: no half file is ever seen. */
static topos_status make(topos_model *model, const topos_image *image, uint64_t seed, const char *path, topos_error *error)
{
    topos_job *job = NULL;
    topos_head *head = NULL;
    FILE *file;
    char *beside;
    int closed;
    topos_status status;
    TOPOS_STRUCT(topos_request, request);
    request.images = image;
    request.num_images = 1;
    request.seeds = &seed;
    request.num_seeds = 1;
    request.preview_every = 4;
    request.texture = TOPOS_TEXTURE_AUTO; /* the skin of the picture */
    status = topos_submit(model, &request, &job, error);
    if (status == TOPOS_OK) status = wait_for(job, error);
    if (status == TOPOS_OK) status = topos_job_take_head(job, 0, &head);
    topos_job_release(job);
    if (status != TOPOS_OK) return status;

    beside = malloc(strlen(path) + 6);
    file = NULL;
    if (beside != NULL) {
        sprintf(beside, "%s.part", path);
        file = fopen(beside, "wb");
    }
    if (file == NULL) {
        status = TOPOS_E_IO;
        sprintf(error->message, "the output cannot be opened for writing");
    } else {
        status = topos_head_write_glb(head, 0, 0, write_part, file, error);
        closed = fclose(file) == 0;
        if (status == TOPOS_OK && (!closed || replace(beside, path) != 0)) {
            status = TOPOS_E_IO;
            sprintf(error->message, "the output cannot be written");
        }
        if (status != TOPOS_OK) remove(beside);
    }
    free(beside);
    topos_head_release(head);
    return status;
}

int main(int count, char **words)
{
    topos_runtime *runtime = NULL;
    topos_model *model = NULL;
    unsigned char *data = NULL;
    size_t size = 0;
    topos_status status;
    TOPOS_STRUCT(topos_error, error);
    TOPOS_STRUCT(topos_runtime_options, options);
    TOPOS_STRUCT(topos_source, source);
    TOPOS_STRUCT(topos_image, image);
    if (count < 4 || count > 6) {
        fprintf(stderr, "usage: %s MODEL.topos PORTRAIT HEAD.glb [ONNXRUNTIME [SEED]]\n", words[0]);
        return 2;
    }
    signal(SIGINT, interrupt);
    data = read_file(words[2], &size);
    if (data == NULL || !describe(data, size, &image)) {
        fprintf(stderr, "error: %s cannot be read, or is a damaged PPM\n", words[2]);
        free(data);
        return 1;
    }
    options.ort_library = count > 4 ? words[4] : NULL;
    source.path = words[1];
    status = topos_runtime_create(&options, &runtime, &error);
    if (status == TOPOS_OK) status = topos_model_load(runtime, &source, NULL, &model, &error);
    if (status == TOPOS_OK) {
        status = make(model, &image, count > 5 ? strtoull(words[5], NULL, 10) : 0, words[3], &error);
    }
    topos_model_release(model);
    topos_runtime_release(runtime);
    free(data);
    if (status != TOPOS_OK) {
        fprintf(stderr, "error: %s %s\n", topos_status_name(status), error.message);
        return 1;
    }
    printf("%s\n", words[3]);
    return 0;
}
